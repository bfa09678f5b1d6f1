// For whoever has no mouse or no eyes for it: axe-core on every room, light and dark, and the keyboard alone.

import { accessible, fits, holds, PHONE, same, say } from './browser.mjs';
import { Server } from './server.mjs';

const ROOMS = ['approvals', 'agents', 'seeds', 'memory', 'skills', 'files', 'files/notes/a.md', 'schedule', 'spaces', 'status', 'settings', 'keys', 'audit', 'model'];

async function furnished() {
  // A long name in the settings.
  const server = await Server.start({ env: { OXIOS_SECURITY__MAX_EXECUTION_TIME_SECS: '300', OXIOS_SECURITY__LANDLOCK: 'off' } });
  await server.call('POST', 'api/memory', { content: 'The pump was serviced on 3 May', tags: ['pump'] });
  await server.call('PUT', 'api/workspace/file/notes/a.md', '# Notes\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n```\ncode\n```\n');
  await server.call('POST', 'api/cron-jobs', { name: 'Morning', schedule: '0 7 * * *', content: 'list files' });
  await server.call('POST', 'api/spaces', { name: 'House' });
  await server.call('POST', 'api/personas', { name: 'Short', prompt: 'Be short.' });
  return server;
}

async function every(browser, options, name) {
  const server = await furnished();
  const page = await browser.page(options);
  await page.goto(server.url);
  await page.locator('.login').waitFor();
  await accessible(page, 'the login');
  await page.getByLabel('Key or one-time code').fill(server.key);
  await page.keyboard.press('Enter');
  await page.locator('.house').waitFor();
  await accessible(page, 'a new conversation');
  await say(page, 'task say hi; list files criteria: names the kettle; says hi');
  await say(page, 'write notes/a.md: # Other', { state: 'waiting' });
  await page.locator('.diff').waitFor();
  await accessible(page, 'a conversation');
  if (options.isMobile) await fits(page, 'a conversation');
  await browser.shoot(`chat-${name}`, page);
  const [seed] = (await server.call('GET', 'api/seeds')).items;
  for (const room of [...ROOMS, `seeds/${seed.id}`]) {
    await page.evaluate((hash) => (location.hash = hash), `#/${room}`);
    await page.locator('.room .inside').waitFor();
    await page.waitForFunction(() => !document.querySelector('.inside .waiting'));
    await accessible(page, room);
    if (options.isMobile) await fits(page, room);
    await browser.shoot(`${room.replace(seed.id, 'one').replaceAll('/', '-')}-${name}`, page);
  }
}

export default [
  ['axe-core finds nothing in any room, light', (browser) => every(browser, { colorScheme: 'light' }, 'light')],
  ['axe-core finds nothing in any room, dark', (browser) => every(browser, { colorScheme: 'dark' }, 'dark')],
  ['axe-core finds nothing in any room, on a phone', (browser) => every(browser, { ...PHONE, colorScheme: 'light' }, 'phone')],
  ['the keyboard alone is enough', async (browser) => {
    const server = await Server.start();
    const page = await browser.page();
    await page.goto(server.url);
    await page.locator('#key').waitFor();
    await page.keyboard.type(server.key);
    await page.keyboard.press('Enter');
    await page.locator('.house').waitFor();
    // The field for a message has the focus.
    await page.keyboard.type('write notes/keys.md: by hand');
    await page.keyboard.press('Enter');
    await page.getByRole('button', { name: 'Approve' }).waitFor();
    const to = async (name, key = 'Tab') => {
      for (let i = 0; i < 120; i++) {
        await page.keyboard.press(key);
        const now = await page.evaluate(() => {
          const node = document.activeElement;
          // Behind the last one is the browser's own frame.
          if (node === document.body) return { name: '', visible: true };
          const style = getComputedStyle(node);
          return { name: (node.getAttribute('aria-label') ?? node.textContent ?? '').trim(), visible: node.matches(':focus-visible') && (style.outlineStyle !== 'none' || getComputedStyle(node.closest('.composer') ?? node).borderColor !== '') };
        });
        holds(now.visible, `the focus is seen on ${now.name}`);
        if (now.name.startsWith(name)) return;
      }
      throw new Error(`${name} is out of reach of the keyboard`);
    };
    await to('Approve', 'Shift+Tab');
    await page.keyboard.press('Enter');
    await page.locator('article[data-state=done]').waitFor();
    await to('Memory');
    await page.keyboard.press('Enter');
    await page.getByRole('heading', { name: 'Memory' }).waitFor();
    await to('Add');
    await page.keyboard.press('Enter');
    await page.getByRole('dialog').waitFor();
    await page.keyboard.press('Escape');
    await page.getByRole('dialog').waitFor({ state: 'hidden' });
    same(await page.evaluate(() => document.activeElement.textContent), 'Add', 'the focus goes back');
    await page.keyboard.press('Control+k');
    same(await page.evaluate(() => document.activeElement.getAttribute('aria-label')), 'Search conversations', 'the search');
    // The end of a dialog is told later than it is seen: whoever has gone on until then is not called back.
    await page.getByRole('button', { name: 'Add', exact: true }).click();
    const at = await page.evaluate(async () => {
      const box = document.querySelector('dialog');
      const told = new Promise((resolve) => box.addEventListener('close', resolve));
      box.close();
      document.querySelector('[aria-label="Search conversations"]').focus();
      await told;
      return document.activeElement.getAttribute('aria-label');
    });
    same(at, 'Search conversations', 'after a dialog');
  }],
  ['landmarks, labels and live regions are there for a screen reader', async (browser) => {
    const server = await Server.start();
    const page = await browser.enter(server);
    for (const [role, name] of [['complementary', 'Conversations and rooms'], ['navigation', 'Rooms'], ['main', undefined], ['region', 'Conversation']]) await page.getByRole(role, name ? { name, exact: true } : {}).first().waitFor();
    await say(page, 'echo something to hear');
    await page.locator('#said').getByText('something to hear').waitFor();
  }],
];

// Issue "sessions": titles, search, rename, spaces, export, delete; thousands of them.

import { holds, same, say } from './browser.mjs';
import { Server } from './server.mjs';

export default [
  ['search, rename, move, export and delete', async (browser) => {
    const server = await Server.start();
    await server.call('POST', 'api/spaces', { name: 'House' });
    await server.call('POST', 'api/chat', { content: 'echo the kettle is red' });
    await server.call('POST', 'api/chat', { content: 'echo the pump is green' });
    const page = await browser.enter(server);
    const list = page.locator('.session');
    await list.nth(1).waitFor();
    await page.getByLabel('Search conversations').fill('kettle');
    await page.waitForFunction(() => document.querySelectorAll('.session').length === 1);
    await list.getByText('kettle').first().waitFor();
    await list.locator('a').click();
    await page.locator('article.turn').waitFor();
    const menu = async (item) => {
      await page.locator('.bar').getByRole('button', { name: 'More about this conversation' }).click();
      await page.locator('.bar .menu').getByText(item).click();
    };
    await menu('Rename');
    await page.getByRole('dialog').getByLabel('Name').fill('About the kettle');
    await page.keyboard.press('Enter');
    await page.getByRole('heading', { name: 'About the kettle' }).waitFor();
    await page.getByLabel('Search conversations').fill('');
    await list.getByText('About the kettle').waitFor();
    await menu('Move to a space');
    await page.getByRole('dialog').getByLabel('Space').selectOption({ label: 'House' });
    await page.getByRole('button', { name: 'Save' }).click();
    await page.getByRole('dialog').waitFor({ state: 'hidden' });
    await page.locator('.finder select').selectOption({ label: 'House' });
    await page.waitForFunction(() => document.querySelectorAll('.session').length === 1);
    await page.locator('.finder select').selectOption('');
    const download = page.waitForEvent('download');
    await menu('Export as Markdown');
    holds((await download).suggestedFilename().endsWith('.md'), 'a file');
    await menu('Delete');
    await page.getByRole('dialog').getByRole('button', { name: 'Delete' }).click();
    await page.getByRole('heading', { name: 'New conversation' }).waitFor();
    await page.waitForFunction(() => document.querySelectorAll('.session').length === 1);
  }],
  ['two thousand conversations stay fluid', async (browser) => {
    const server = await Server.start();
    const made = { user_messages: [{ content: 'echo n', timestamp: '2026-01-01T00:00:00Z' }], agent_responses: [{ content: 'n', timestamp: '2026-01-01T00:00:01Z' }] };
    const { id } = await server.call('POST', 'api/sessions/import', made);
    for (let n = 0; n < 2000; n += 8) await Promise.all(Array.from({ length: 8 }, () => server.call('POST', `api/sessions/${id}/fork`, {})));
    const page = await browser.enter(server);
    await page.locator('.session').first().waitFor();
    const { worst, most } = await page.evaluate(async () => {
      const scroller = document.querySelector('.sessions');
      let worst = 0, most = 0, last = performance.now();
      for (let i = 0; i < 120; i++) {
        scroller.scrollTop += scroller.scrollHeight / 100;
        await new Promise(requestAnimationFrame);
        worst = Math.max(worst, performance.now() - last);
        most = Math.max(most, document.querySelectorAll('.session').length);
        last = performance.now();
      }
      return { worst, most };
    });
    console.log(`measured page: 2,001 conversations, ${most} rows at most in the document, worst frame ${Math.round(worst)} ms`);
    holds(most < 80, `only what is near is in the document: ${most}`);
    await page.locator('.session').last().waitFor();
    await say(page, 'hello');
  }],
];

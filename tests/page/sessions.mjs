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
  ['a new name goes to the conversation that the menu was of', async (browser) => {
    const server = await Server.start();
    const { session_id: one } = await server.call('POST', 'api/chat', { content: 'echo one' });
    const { session_id: two } = await server.call('POST', 'api/chat', { content: 'echo two' });
    const page = await browser.enter(server, { hash: `#/s/${two}` });
    await page.locator('.bubble').getByText('echo two').waitFor();
    await page.evaluate((id) => (location.hash = `#/s/${id}`), one);
    await page.locator('.bubble').getByText('echo one').waitFor();
    await page.locator('.bar').getByRole('button', { name: 'More about this conversation' }).click();
    await page.locator('.bar .menu').getByText('Rename').click();
    await page.getByRole('dialog').getByLabel('Name').fill('The first');
    await page.goBack();
    await page.locator('.bubble').getByText('echo two').waitFor();
    await Promise.all([page.waitForResponse((answer) => answer.request().method() === 'PATCH'), page.getByRole('dialog').getByRole('button', { name: 'Save' }).click()]);
    const { items } = await server.call('GET', 'api/sessions');
    same([one, two].map((id) => items.find((item) => item.id === id).title), ['The first', 'echo two'], 'titles');
  }],
  ['a conversation stays in its space, also in one that was put away', async (browser) => {
    const server = await Server.start();
    const { id: space } = await server.call('POST', 'api/spaces', { name: 'House' });
    const { session_id: id } = await server.call('POST', 'api/chat', { content: 'echo one', space_id: space });
    await server.call('POST', `api/spaces/${space}/archive`);
    const page = await browser.enter(server, { hash: `#/s/${id}` });
    const asked = [];
    page.on('request', (request) => request.method() === 'PATCH' && asked.push(request.url()));
    await page.locator('.bubble').waitFor();
    const move = async () => {
      await page.locator('.bar').getByRole('button', { name: 'More about this conversation' }).click();
      await page.locator('.bar .menu').getByText('Move to a space').click();
      same(await page.getByRole('dialog').getByLabel('Space').evaluate((select) => select.selectedOptions[0].textContent), 'House', 'where it is');
    };
    await move();
    await page.getByRole('button', { name: 'Save' }).click();
    await page.getByRole('dialog').waitFor({ state: 'hidden' });
    same(asked, [], 'nothing was asked for');
    await move();
    await page.getByRole('dialog').getByLabel('Space').selectOption('');
    await Promise.all([page.waitForResponse((answer) => answer.request().method() === 'PATCH'), page.getByRole('button', { name: 'Save' }).click()]);
    same((await server.call('GET', `api/sessions/${id}`)).space_id, null, 'it is in none');
  }],
  ['an open menu and the focus outlive what happens meanwhile', async (browser) => {
    const server = await Server.start();
    await server.call('POST', 'api/chat', { content: 'echo one' });
    const page = await browser.enter(server);
    const mine = page.locator('.session', { hasText: 'echo one' });
    await mine.hover();
    await mine.getByRole('button', { name: 'More about this conversation' }).click();
    const listed = () => page.waitForResponse((answer) => answer.url().includes('api/sessions?'));
    await Promise.all([listed(), server.call('POST', 'api/chat', { content: 'echo two' })]);
    await page.locator('.sessions .menu').getByText('Rename').waitFor();
    same(await page.locator('.session').count(), 1, 'conversations while the menu is open');
    await page.keyboard.press('Escape');
    await page.locator('.session').nth(1).waitFor();
    await mine.locator('a').focus();
    await server.call('POST', 'api/chat', { content: 'echo three' });
    await page.locator('.session').nth(2).waitFor();
    same(await page.evaluate(() => document.activeElement.querySelector('.title')?.textContent), 'echo one', 'the focus');
  }],
  ['a list that cannot be had says so', async (browser) => {
    const server = await Server.start();
    await server.call('POST', 'api/chat', { content: 'echo one' });
    const page = await browser.page();
    browser.expected.push(/status of 500/);
    await page.route('**/api/sessions?*', (route) => route.fulfill({ status: 500, json: { error: 'no' } }));
    await page.goto(server.url);
    await page.getByLabel('Key or one-time code').fill(server.key);
    await page.keyboard.press('Enter');
    await page.locator('.finder').getByText('No.').waitFor();
    await page.unroute('**/api/sessions?*');
    await page.locator('.finder').getByRole('button', { name: 'Try again' }).click();
    await page.locator('.session').waitFor();
    same(await page.locator('.finder .note').count(), 0, 'notes');
  }],
  ['the side is alive again in a wider window', async (browser) => {
    const server = await Server.start();
    const page = await browser.enter(server, { viewport: { width: 600, height: 800 } });
    holds(await page.evaluate(() => document.getElementById('side').inert), 'the drawer is closed');
    await page.setViewportSize({ width: 1200, height: 800 });
    await page.waitForFunction(() => !document.getElementById('side').inert);
    await page.setViewportSize({ width: 600, height: 800 });
    await page.waitForFunction(() => document.getElementById('side').inert);
  }],
  ['times name the right day, and go on', async (browser) => {
    const server = await Server.start();
    const page = await browser.page();
    await page.clock.install({ time: new Date(2026, 4, 5, 14, 30) });
    await page.goto(server.url);
    const said = await page.evaluate(async () => {
      const { time } = await import(new URL('assets/dom.js', document.baseURI));
      const at = (...parts) => new Date(2026, ...parts).toISOString();
      const clock = (h, m) => new Intl.DateTimeFormat(undefined, { timeStyle: 'short' }).format(new Date(2026, 4, 5, h, m));
      const texts = [at(4, 5, 0, 10), at(4, 4, 20, 0), at(4, 3, 23, 0), at(4, 5, 14, 30, 20), at(4, 5, 14, 35)].map((text) => time(text).textContent);
      const ahead = [at(4, 5, 14, 30, 20), at(4, 5, 23, 0), at(4, 6, 1, 0)].map((text) => time(text, true).textContent);
      document.body.append(time(at(4, 5, 14, 30)));
      return [texts[0] === clock(0, 10), ...texts.slice(1), ahead[0], ahead[1] === clock(23, 0), ahead[2]];
    });
    same(said, [true, 'yesterday', '2 days ago', 'just now', 'just now', 'in a moment', true, 'tomorrow'], 'what is said');
    await page.clock.runFor(121000);
    same(await page.locator('time').last().textContent(), '2 min. ago', 'two minutes later');
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

// What somebody met who used the page for an hour: hands on a phone, lists with code, long names, a slow line.

import { fits, holds, PHONE, same, say } from './browser.mjs';
import { startModel } from './model.mjs';
import { Server } from './server.mjs';

const shown = (page, text) =>
  page.evaluate(async (text) => {
    const { markdown } = await import(new URL('assets/markdown.js', document.baseURI));
    const made = markdown(text);
    made.querySelectorAll('figcaption').forEach((one) => one.remove());
    return made.innerHTML.replace(/ (tabindex|role|aria-label|class|dir|rel|target)="[^"]*"/g, '');
  }, text);

export default [
  ['whoever goes up while an answer comes stays there', async (browser) => {
    const model = await startModel();
    const server = await Server.start({ env: model.env });
    for (const [by, options] of [['wheel', {}], ['keys', {}], ['touch', PHONE]]) {
      const page = await browser.enter(server, options);
      await say(page, Array.from({ length: 60 }, (_, i) => `- line ${i}`).join('\n'));
      await page.getByLabel('Message', { exact: true }).fill('slow 100');
      await page.getByRole('button', { name: 'Send', exact: true }).click();
      await page.locator('article').last().getByText('w5').waitFor();
      const talk = page.locator('.talk');
      const box = await talk.boundingBox();
      const [x, y] = [box.x + box.width / 2, box.y + box.height / 2];
      // By little each time, as a hand does it.
      if (by === 'wheel') {
        await page.mouse.move(x, y);
        for (let i = 0; i < 10; i++) await page.mouse.wheel(0, -40);
      } else if (by === 'keys') {
        await talk.focus();
        for (let i = 0; i < 8; i++) await page.keyboard.press('ArrowUp');
      } else {
        const hand = await page.context().newCDPSession(page);
        const touch = (type, points) => hand.send('Input.dispatchTouchEvent', { type, touchPoints: points });
        await touch('touchStart', [{ x, y }]);
        for (let i = 1; i <= 25; i++) await touch('touchMove', [{ x, y: y + i * 10 }]);
        await touch('touchEnd', []);
      }
      await page.getByRole('button', { name: 'To the newest message' }).waitFor();
      await page.locator('article').last().getByText('w99').waitFor();
      holds(await talk.evaluate((one) => one.scrollHeight - one.scrollTop - one.clientHeight > 60), `${by}: nothing pulls back to the end`);
      await page.getByRole('button', { name: 'To the newest message' }).click();
      await page.context().close();
    }
  }],
  ['lists, tables, code and links are read as people write them', async (browser) => {
    const page = await browser.enter(await Server.start());
    const code = 'import os\n\n\ndef f():\n    return 1';
    const within = code.replace(/^(?=.)/gm, '   ');
    same(await shown(page, `1. Install:\n\n   \`\`\`python\n${within}\n   \`\`\`\n\n2. Run it.\n\nThe end, **bold**.`), `<ol><li><p>Install:</p><figure><pre><code>${code}</code></pre></figure></li><li>Run it.</li></ol><p>The end, <strong>bold</strong>.</p>`, 'code in a list');
    same(await shown(page, 'Steps:\n1. one\n2. two'), '<p>Steps:</p><ol><li>one</li><li>two</li></ol>', 'a list below its title');
    same(await shown(page, 'In\n2019. it was'), '<p>In<br>2019. it was</p>', 'a year begins no list');
    same(await shown(page, 'Here:\n| a | b |\n|---|---|\n| - | - |\n| 1 | 2 |\n- x'), '<p>Here:</p><div><table><thead><tr><th>a</th><th>b</th></tr></thead><tbody><tr><td>-</td><td>-</td></tr><tr><td>1</td><td>2</td></tr></tbody></table></div><ul><li>x</li></ul>', 'a table below its title, with a row of dashes');
    same(await shown(page, '[w](https://e.org/Foo_(bar)) and ***both***'), '<p><a href="https://e.org/Foo_(bar)">w</a> and <strong><em>both</em></strong></p>', 'brackets in an address, bold and soft at once');
    same(await shown(page, '```\nnever closed\n- a'), '<figure><pre><code>never closed\n- a</code></pre></figure>', 'an open block');
  }],
  ['long names leave every button in reach on a phone', async (browser) => {
    const server = await Server.start();
    const name = `${'long_name_'.repeat(18)}.txt`;
    await server.call('PUT', `api/workspace/file/${name}`, 'text');
    const page = await browser.enter(server, { hash: `#/files/${name}`, ...PHONE });
    await page.getByRole('button', { name: 'Delete this file' }).click();
    const cancel = await page.getByRole('dialog').getByRole('button', { name: 'Cancel' }).boundingBox();
    holds(cancel.x >= 0 && cancel.x + cancel.width <= PHONE.viewport.width, 'Cancel is on the screen');
    await fits(page, 'the question');
    await page.getByRole('dialog').getByRole('button', { name: 'Delete' }).click();
    await page.getByText('Choose a file.').waitFor();
    await page.goto(`${server.url}/#/`);
    await page.getByLabel('Text files', { exact: true }).setInputFiles({ name, mimeType: 'text/plain', buffer: Buffer.from('text') });
    const out = await page.getByRole('button', { name: `Leave out ${name}` }).boundingBox();
    holds(out.x + out.width <= PHONE.viewport.width, 'so is what takes a file out again');
  }],
  ['a room that could not be loaded is loaded when somebody asks again', async (browser) => {
    const server = await Server.start();
    browser.expected.push(/Failed to (load resource|fetch)/);
    const page = await browser.enter(server);
    await server.kill();
    await page.getByRole('link', { name: 'Memory' }).click();
    await page.getByText('could not be loaded').waitFor();
    await server.restart();
    await page.getByRole('link', { name: 'Memory' }).click();
    await page.getByRole('heading', { name: 'Memory' }).waitFor();
  }],
  ['logged out in a dialog: the login is in reach', async (browser) => {
    const server = await Server.start();
    browser.expected.push(/401/);
    const { id, key } = await server.call('POST', 'api/keys', { name: 'guest', scopes: ['read', 'write', 'chat'] });
    const page = await browser.page();
    await page.goto(`${server.url}/#/memory`);
    await page.getByLabel('Key or one-time code').fill(key);
    await page.keyboard.press('Enter');
    await page.getByRole('button', { name: 'Add' }).click();
    await page.getByRole('dialog').getByLabel('What is to be remembered').fill('something');
    await server.call('DELETE', `api/keys/${id}`);
    // Seen, and not beneath anything.
    await page.getByLabel('Key or one-time code').click();
    await page.getByLabel('Key or one-time code').fill(server.key);
    await page.keyboard.press('Enter');
    await page.getByRole('heading', { name: 'Memory' }).waitFor();
  }],
  ['a message on a slow line is on its way, and stopping keeps the place', async (browser) => {
    const model = await startModel();
    const server = await Server.start({ env: model.env });
    const page = await browser.enter(server);
    let go;
    const held = new Promise((done) => (go = done));
    await page.route('**/api/chat', async (route) => (await held, route.continue()));
    const field = page.getByLabel('Message', { exact: true });
    await field.fill('slow 2000');
    await page.keyboard.press('Enter');
    await page.getByPlaceholder('Sending…').waitFor();
    go();
    await page.locator('.reply > .md').getByText('w3').waitFor();
    await page.getByPlaceholder('Message the agent').waitFor();
    await page.getByRole('button', { name: 'Stop the answer' }).focus();
    await page.keyboard.press('Enter');
    await page.locator('article[data-state=cancelled]').waitFor();
    holds(await field.evaluate((one) => one === document.activeElement), 'the focus is where one goes on');
  }],
  ['rooms show what became true meanwhile', async (browser) => {
    const server = await Server.start();
    const page = await browser.enter(server, { hash: '#/memory' });
    await page.getByText('Nothing is remembered yet').waitFor();
    await server.call('POST', 'api/chat', { content: 'remember: the key is under the mat' });
    await page.locator('.card').getByText('under the mat').waitFor();
    await page.goto(`${server.url}/#/seeds`);
    await page.getByText('No task has been worked on yet').waitFor();
    const { session_id } = await server.call('POST', 'api/chat', { content: 'task say hi criteria: says hi' });
    await page.locator('.card.link').waitFor();
    await page.goto(`${server.url}/#/s/${session_id}`);
    await page.locator('article').waitFor();
    const rows = page.locator('.session');
    const before = await rows.count();
    await server.call('DELETE', `api/sessions/${session_id}`);
    await page.getByRole('heading', { name: 'Nothing here' }).waitFor();
    await page.waitForFunction((before) => document.querySelectorAll('.session').length < before, before);
  }],
];

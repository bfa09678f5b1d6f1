// Issue "rooms": each does what it shows.

import { holds, same, say } from './browser.mjs';
import { startModel } from './model.mjs';
import { Server } from './server.mjs';

async function room(page, name) {
  const link = page.getByRole('navigation', { name: 'Rooms' }).getByRole('link', { name });
  await link.click();
  // The one before is there until this one is.
  await link.and(page.locator('[aria-current=page]')).waitFor();
}

export default [
  ['memory: add, find, edit, forget', async (browser) => {
    const server = await Server.start();
    const page = await browser.enter(server);
    await room(page, 'Memory');
    await page.getByRole('button', { name: 'Add' }).click();
    await page.getByLabel('What is to be remembered').fill('The pump was serviced on 3 May');
    await page.getByLabel('Tags').fill('pump, house');
    await page.getByRole('button', { name: 'Save' }).click();
    await page.locator('.cards').getByText('serviced on 3 May').waitFor();
    await page.getByLabel('Search memories').fill('pump');
    await page.locator('#said').getByText('1 memory, ranked by').waitFor();
    await page.getByRole('button', { name: 'Edit' }).click();
    await page.getByLabel('What is to be remembered').fill('The pump was serviced on 4 May');
    await page.getByRole('button', { name: 'Save' }).click();
    await page.locator('.cards').getByText('4 May').waitFor();
    await page.getByRole('button', { name: 'Forget' }).click();
    await page.getByRole('dialog').getByRole('button', { name: 'Forget' }).click();
    await page.locator('#main').getByText('0 memories').waitFor();
    // Where more was said than a list shows, the list says so.
    await server.call('POST', 'api/memory', { content: 'long '.repeat(50) });
    await page.reload();
    await page.locator('.cards').getByText(/ long…$/).waitFor();
  }],
  ['skills: read, write, switch off', async (browser) => {
    const server = await Server.start();
    const page = await browser.enter(server);
    await room(page, 'Skills');
    await page.getByRole('button', { name: 'Write one' }).click();
    await page.getByLabel('Name').fill('boil-water');
    await page.getByLabel('When it is of use').fill('When somebody wants tea');
    await page.getByLabel('What to do').fill('# Boil\n\nFill the kettle.');
    await page.getByRole('button', { name: 'Save' }).click();
    const card = page.locator('.card', { hasText: 'boil-water' });
    await card.getByRole('button', { name: 'Read' }).click();
    await page.getByRole('dialog').getByText('Fill the kettle').waitFor();
    await page.keyboard.press('Escape');
    await card.getByRole('switch').click();
    await card.getByText('off', { exact: true }).waitFor();
    same((await server.call('GET', 'api/skills/boil-water')).status, 'disabled', 'the server knows');
  }],
  ['files: tree, view, edit, delete', async (browser) => {
    const server = await Server.start();
    await server.call('PUT', 'api/workspace/file/notes/a%20b.md', '# Hello');
    const page = await browser.enter(server);
    await room(page, 'Files');
    await page.getByText('notes').click();
    await page.getByRole('link', { name: 'a b.md' }).click();
    await page.locator('.fileview .md').getByText('Hello').waitFor();
    await page.getByRole('button', { name: 'Edit' }).click();
    await page.locator('.editor').fill('# Changed');
    await page.getByRole('button', { name: 'Save' }).click();
    await page.locator('.fileview .md').getByText('Changed').waitFor();
    same(await server.call('GET', 'api/workspace/file/notes/a%20b.md'), '# Changed', 'the file');
    await page.getByRole('button', { name: 'New file' }).click();
    await page.getByLabel('Path').fill('notes/new.txt');
    await page.keyboard.press('Enter');
    await page.getByRole('heading', { name: 'notes/new.txt' }).waitFor();
    await page.getByRole('button', { name: 'Delete this file' }).click();
    await page.getByRole('dialog').getByRole('button', { name: 'Delete' }).click();
    await page.getByText('Choose a file').waitFor();
  }],
  ['settings: a change is in force, a wrong one is told at its field', async (browser) => {
    const server = await Server.start();
    const page = await browser.enter(server);
    browser.expected.push(/400 .*api\/config/);
    await room(page, 'Settings');
    await page.getByLabel('memory.max_recall').fill('7');
    await page.getByLabel('gateway.max_waiting').fill('4999');
    await page.getByRole('button', { name: 'Save 2 changes' }).click();
    await page.getByText('Saved. After a restart: gateway.max_waiting').waitFor();
    same((await server.call('GET', 'api/config')).memory.max_recall, 7, 'in force');
    await page.getByText('In force after a restart: gateway.max_waiting').waitFor();
    await page.getByLabel('security.cors_origins').fill('not an origin');
    await page.getByRole('button', { name: /Save/ }).click();
    await page.locator('.field', { hasText: 'security.cors_origins' }).getByText('expected a list of origins').waitFor();
    holds(await page.getByLabel('security.cors_origins').getAttribute('aria-invalid'), 'the field is marked');
    await browser.shoot('settings', page);
    await page.reload();
    await page.getByLabel('gateway.base_path').fill('no slash here');
    await page.getByLabel('security.cors_origins').fill('not an origin');
    await page.getByRole('button', { name: 'Save 2 changes' }).click();
    await page.getByText('Nothing was changed: see the marked fields.').waitFor();
    const field = page.locator('.field', { hasText: 'gateway.base_path' });
    await field.getByText('not below /api').waitFor();
    const [mine, bar] = [await field.getByRole('textbox').boundingBox(), await page.locator('.sticky').boundingBox()];
    holds(mine.y + mine.height <= bar.y, `the marked field is seen above the bar: ${JSON.stringify([mine, bar])}`);
    await browser.shoot('settings-refused', page);
  }],
  ['model: a form connects one, and what does not answer is told', async (browser) => {
    const model = await startModel();
    const server = await Server.start({ env: { OXIOS_ENGINE__DEFAULT_MODEL: '' }, config: '[security]\nlandlock = "off"\n' });
    const page = await browser.enter(server);
    browser.expected.push(/50[24] .*api\/engine/);
    await page.getByRole('link', { name: 'Connect a model' }).click();
    await page.getByLabel('OpenAI-compatible').check();
    await page.getByLabel('Address').fill('http://127.0.0.1:9/v1');
    await page.getByRole('button', { name: 'Try it and use it' }).click();
    await page.locator('.note.bad').waitFor();
    await browser.shoot('model', page);
    await page.getByLabel('Address').fill(model.url);
    await page.getByRole('button', { name: 'Try it and use it' }).click();
    await page.getByText('answers from now on').waitFor();
    await page.getByRole('button', { name: 'Ask which models' }).click();
    await page.getByText('There are: scripted').waitFor();
    await page.getByRole('link', { name: 'New conversation' }).click();
    const turn = await say(page, 'are you there?');
    await turn.getByText('You said: are you there?').waitFor();
  }],
  ['model: what is typed for one provider never reaches another', async (browser) => {
    const [old, fresh] = [await startModel(), await startModel()];
    const server = await Server.start({ env: { OXIOS_ENGINE__DEFAULT_MODEL: '' }, config: `[security]\nlandlock = "off"\n[engine]\ndefault_model = "openai/scripted"\nbase_url = "${old.url}"\napi_key = "sk-old"\n` });
    const page = await browser.enter(server, { hash: '#/model' });
    browser.expected.push(/50[24] .*api\/engine/);
    const asked = [];
    page.on('request', (request) => request.method() === 'PUT' && asked.push([new URL(request.url()).pathname, request.postDataJSON()]));
    await page.getByLabel('Anthropic').check();
    await page.getByLabel('Model', { exact: true }).fill('claude');
    const ways = [['', ''], ['', 'sk-new'], [fresh.url, 'sk-new']];
    // No stranger is asked.
    await page.route('**/api/engine/model', (route) => (route.request().postDataJSON().base_url ? route.continue() : route.fulfill({ status: 502, json: { error: 'no' } })));
    for (const [address, key] of ways) {
      await page.getByLabel('Address').fill(address);
      await page.getByLabel('Key', { exact: true }).fill(key);
      await Promise.all([page.waitForResponse('**/api/engine/model'), page.getByRole('button', { name: 'Try it and use it' }).click()]);
      await page.locator('.note.bad').waitFor();
    }
    const path = '/api/engine/model', model = 'anthropic/claude';
    same(asked, [[path, { model, base_url: null, api_key: null }], [path, { model, base_url: null, api_key: 'sk-new' }], [path, { model, base_url: fresh.url, api_key: 'sk-new' }]], 'what the server was asked for');
    holds(!JSON.stringify(old.seen).includes('sk-new') && !JSON.stringify(fresh.seen).includes('sk-old'), 'no key went astray');
    same((await server.call('GET', 'api/engine/config')).base_url, old.url, 'what answers stays');
  }],
  ['files: nothing is written over unseen, and nothing that was typed is lost', async (browser) => {
    const server = await Server.start();
    const file = 'api/workspace/file/a.txt';
    await server.call('PUT', file, 'one\r\ntwo\r\n');
    const page = await browser.enter(server, { hash: '#/files/a.txt' });
    browser.expected.push(/412 .*api\/workspace/);
    const area = page.locator('.editor'), save = page.getByRole('button', { name: 'Save' });
    await page.getByRole('button', { name: 'Edit' }).click();
    await area.fill('one\nthree\n');
    await save.click();
    await page.locator('.fileview pre').getByText('three').waitFor();
    same(await server.call('GET', file), 'one\r\nthree\r\n', 'its ends of lines');
    // A link and a reload.
    await page.getByRole('button', { name: 'Edit' }).click();
    await area.fill('mine');
    await page.getByRole('link', { name: 'Memory' }).click();
    await page.getByRole('heading', { name: 'Memory' }).waitFor();
    await page.goBack();
    await page.getByText('not saved yet').waitFor();
    same(await area.inputValue(), 'mine', 'the draft');
    await page.reload();
    await area.waitFor();
    // Somebody else writes meanwhile.
    await server.call('PUT', file, 'theirs');
    await save.click();
    await page.getByRole('dialog').getByText('changed since you opened it').waitFor();
    await browser.shoot('conflict', page);
    await page.getByRole('dialog').getByRole('button', { name: 'Cancel' }).click();
    same([await server.call('GET', file), await area.inputValue()], ['theirs', 'mine'], 'both are there');
    await save.click();
    await page.getByRole('dialog').getByRole('button', { name: 'Replace' }).click();
    await page.locator('.fileview pre').getByText('mine').waitFor();
    same(await server.call('GET', file), 'mine', 'replaced');
    await server.call('PUT', file, 'others');
    await page.getByRole('button', { name: 'Delete this file' }).click();
    await page.getByRole('dialog').getByRole('button', { name: 'Delete' }).click();
    await page.getByText('another one than you saw').waitFor();
    // A file of the same name from elsewhere.
    const upload = () => page.setInputFiles('.bar input[type=file]', { name: 'a.txt', mimeType: 'text/plain', buffer: Buffer.from('new') });
    await upload();
    await page.getByRole('dialog').getByRole('button', { name: 'Cancel' }).click();
    same(await server.call('GET', file), 'others', 'kept');
    await upload();
    await page.getByRole('dialog').getByRole('button', { name: 'Replace' }).click();
    await page.getByText('a.txt is there.').waitFor();
    same(await server.call('GET', file), 'new', 'replaced');
  }],
  ['files: a large one is not read to be told that it is large', async (browser) => {
    const server = await Server.start();
    await server.call('PUT', 'api/workspace/file/large.txt', 'x'.repeat(700 * 1024));
    const page = await browser.enter(server, { hash: '#/files/large.txt' });
    browser.expected.push(/ERR_ABORTED/);
    await page.getByText('Too long to be shown here.').waitFor();
    same(await page.locator('.filehead .small').textContent(), '700.0 kB', 'its size');
  }],
  ['approvals: a question stays where it is while others come and go', async (browser) => {
    const server = await Server.start();
    const ask = (text) => server.call('POST', 'api/chat', { content: text });
    await ask('write one.md: 1');
    const page = await browser.enter(server, { hash: '#/approvals' });
    const card = page.locator('.approval', { hasText: 'one.md' });
    await card.locator('.diff').waitFor();
    const answer = card.getByRole('button', { name: 'Approve' });
    await answer.focus();
    const place = await answer.boundingBox();
    await ask('write two.md: 2');
    await page.locator('.approval').nth(1).waitFor();
    same([await answer.boundingBox(), await answer.evaluate((button) => button === document.activeElement)], [place, true], 'the place and the focus');
    const [first] = (await server.call('GET', 'api/approvals')).filter((one) => one.resource === 'one.md');
    const second = page.locator('.approval', { hasText: 'two.md' }).getByRole('button', { name: 'Approve' });
    await page.locator('.approval', { hasText: 'two.md' }).locator('.diff').waitFor();
    const below = await second.boundingBox();
    await server.call('POST', `api/approvals/${first.id}/approve`);
    await card.getByText('Approved').waitFor();
    same(await second.boundingBox(), below, 'the next one is where it was');
    await second.click();
    await page.locator('.approval').nth(1).getByText('Approved').waitFor();
  }],
  ['approvals: what is shown is what the answer is bound to', async (browser) => {
    const server = await Server.start();
    const ask = (text) => server.call('POST', 'api/chat', { content: text });
    await server.call('PUT', 'api/workspace/file/a.md', 'one\n');
    await ask('write a.md: two');
    await ask('write b.md: \u202efdp.exe');
    await server.call('PUT', 'api/workspace/file/a.md', 'other\n');
    const page = await browser.enter(server, { hash: '#/approvals' });
    const card = page.locator('.approval', { hasText: 'a.md' });
    await card.locator('.diff').waitFor();
    same(await card.locator('.minus, .plus').allTextContents(), ['-one', '+two (no line end)'], 'the change that was asked about');
    // A sign that turns text around does not turn it here.
    await page.locator('.approval', { hasText: 'b.md' }).locator('.plus', { hasText: '\ufffdfdp.exe' }).waitFor();
  }],
  ['approvals: where the old file cannot be read, what would be written is shown', async (browser) => {
    const server = await Server.start();
    browser.expected.push(/status of 503/);
    await server.call('PUT', 'api/workspace/file/large.md', 'x'.repeat(20000));
    await server.call('POST', 'api/chat', { content: 'write large.md: short' });
    const page = await browser.page();
    await page.route('**/api/workspace/**', (route) => route.fulfill({ status: 503, json: { error: 'busy' } }));
    await page.goto(`${server.url}/#/approvals`);
    await page.getByLabel('Key or one-time code').fill(server.key);
    await page.keyboard.press('Enter');
    await page.getByText('Busy.').waitFor();
    await page.locator('.approval .values').getByText('short').waitFor();
  }],
  ['settings: nothing that was typed hides, and an added server says what it needs', async (browser) => {
    const server = await Server.start({ env: { OXIOS_SECURITY__LANDLOCK: 'off' } });
    const page = await browser.enter(server, { hash: '#/settings' });
    await page.getByLabel('gateway.max_waiting').fill('9999999');
    await page.getByLabel('Find a setting').fill('memory');
    await page.getByRole('button', { name: 'Save 1 change' }).click();
    await page.waitForFunction(() => document.activeElement.name === 'gateway.max_waiting');
    await page.getByRole('button', { name: 'Add a tool server' }).click();
    await page.getByRole('dialog').getByText('that are not saved are dropped').waitFor();
    await page.getByRole('dialog').getByLabel('Name').fill('house');
    await page.getByRole('dialog').getByLabel('Its address').fill('http://127.0.0.1:9/mcp');
    await page.getByRole('dialog').getByRole('button', { name: 'Save' }).click();
    await page.getByText('Saved and in force.').waitFor();
    await page.getByText('Tool server house').waitFor();
  }],
  ['settings: what can be set can be taken out, and what is no JSON is told', async (browser) => {
    const server = await Server.start({ config: '[engine]\napi_key = "sk-old"\n[mcp.servers.house]\nurl = "http://127.0.0.1:9/mcp"\n' });
    const page = await browser.enter(server, { hash: '#/settings' });
    await page.getByLabel('engine.fallback_models').fill('openai/a\nopenai/b');
    await page.locator('.field', { hasText: 'engine.api_key' }).getByLabel('Remove it').check();
    await page.getByLabel('mcp.servers.house.headers').fill('{');
    await page.getByRole('button', { name: 'Save 3 changes' }).click();
    await page.locator('.field', { hasText: 'mcp.servers.house.headers' }).getByText('Write it as JSON').waitFor();
    await page.getByLabel('mcp.servers.house.headers').fill('{}');
    await page.getByRole('button', { name: 'Save 2 changes' }).click();
    await page.getByText('Saved').waitFor();
    const { engine } = await server.call('GET', 'api/config');
    same([engine.fallback_models, engine.api_key_set], [['openai/a', 'openai/b'], false], 'in force');
    await page.getByRole('button', { name: 'Remove this server' }).click();
    await page.getByRole('dialog').getByRole('button', { name: 'Remove' }).click();
    await page.getByRole('group', { name: 'Tool server house' }).waitFor({ state: 'detached' });
    same((await server.call('GET', 'api/config')).mcp.servers, {}, 'tool servers');
  }],
  ['a switch shows what is, also after a refusal', async (browser) => {
    const server = await Server.start();
    await server.call('POST', 'api/skills', { name: 'tea', description: 'When somebody wants tea' });
    const page = await browser.enter(server, { hash: '#/skills' });
    browser.expected.push(/status of 503/);
    await page.route('**/disable', (route) => route.fulfill({ status: 503, json: { error: 'busy' } }));
    const on = page.locator('.card', { hasText: 'tea' }).getByRole('switch');
    await on.click();
    await page.getByText('Busy.').waitFor();
    holds(await on.isChecked(), 'it is on');
    // The server knows better, and the focus is where it was.
    await page.unroute('**/disable');
    await on.click();
    await page.locator('.card', { hasText: 'tea' }).getByText('off', { exact: true }).waitFor();
    same(await page.evaluate(() => document.activeElement.getAttribute('role')), 'switch', 'the focus');
  }],
  ['what was logged out asks no more', async (browser) => {
    const server = await Server.start();
    const page = await browser.page();
    await page.clock.install();
    browser.expected.push(/401/);
    await page.goto(server.url);
    let arrived, go;
    const here = new Promise((done) => (arrived = done)), let_go = new Promise((done) => (go = done));
    await page.route('**/metrics', async (route) => (arrived(), await let_go, route.continue()));
    await page.getByLabel('Key or one-time code').fill(server.key);
    await page.keyboard.press('Enter');
    await here;
    await page.getByRole('button', { name: 'Log out' }).click();
    await page.getByLabel('Key or one-time code').waitFor();
    await Promise.all([page.waitForResponse('**/metrics'), go()]);
    let asked = 0;
    page.on('request', (request) => request.url().endsWith('/metrics') && asked++);
    await page.clock.runFor(60000);
    same(asked, 0, 'questions');
  }],
  ['keys, schedule, spaces, agents, audit, status', async (browser) => {
    const server = await Server.start();
    const page = await browser.enter(server);
    await say(page, 'hello');
    await room(page, 'Keys');
    await page.getByRole('button', { name: 'Make a key' }).click();
    await page.getByLabel('Name').fill('phone');
    await page.getByRole('button', { name: 'Make', exact: true }).click();
    const key = await page.locator('.key').textContent();
    same((await fetch(`${server.url}/api/status`, { headers: { authorization: `Bearer ${key}` } })).status, 200, 'the key works');
    await page.getByRole('button', { name: 'Done' }).click();
    const row = page.locator('tr', { hasText: 'phone' });
    await row.getByRole('button', { name: 'Revoke' }).click();
    await page.getByRole('dialog').getByRole('button', { name: 'Revoke' }).click();
    await row.getByText('revoked').waitFor();
    same((await fetch(`${server.url}/api/status`, { headers: { authorization: `Bearer ${key}` } })).status, 401, 'it is revoked');
    await room(page, 'Schedule');
    await page.getByRole('button', { name: 'Add' }).click();
    await page.getByLabel('Name').fill('Morning');
    await page.getByLabel('Time zone').fill('UTC');
    await page.getByLabel('What is sent to the agent').fill('list files');
    await page.getByRole('button', { name: 'Save' }).click();
    await page.getByRole('button', { name: 'Run now' }).click();
    await page.getByRole('link', { name: 'its conversation' }).waitFor();
    await room(page, 'Spaces');
    await page.getByRole('button', { name: 'Add' }).first().click();
    await page.getByLabel('Name').fill('House');
    await page.getByRole('button', { name: 'Save' }).click();
    await page.locator('.cards').getByText('House').waitFor();
    await page.getByRole('button', { name: 'Put away' }).click();
    await page.getByRole('button', { name: 'Delete' }).click();
    await page.getByRole('dialog').getByRole('button', { name: 'Delete' }).click();
    await page.getByText('No spaces yet.').waitFor();
    await room(page, 'Agents');
    await page.locator('.tree').getByText('stopped').first().waitFor();
    await room(page, 'Audit');
    await page.getByText('The chain is whole').waitFor();
    // How it begins, and what is shown, find it.
    await page.getByLabel('What').fill('mess');
    const said = page.locator('tr', { has: page.locator('td', { hasText: /^message$/ }) }).first();
    await said.waitFor();
    const [on, by] = await said.locator('code').allTextContents();
    await page.getByLabel('What').fill('');
    await page.getByLabel('On (id or name)').fill(on);
    await page.getByLabel('Key (id)').fill(by);
    await page.waitForFunction(([on, by]) => [...document.querySelectorAll('tbody tr')].every((row) => row.textContent.includes(on) && row.textContent.includes(by)) && document.querySelector('tbody tr'), [on, by]);
    await room(page, 'Status');
    await page.getByText('healthy').first().waitFor();
    await browser.shoot('status', page);
  }],
  ['status: the charts go on after a reload, in another tab and after a restart of the server', async (browser) => {
    const server = await Server.start();
    const page = await browser.enter(server);
    for (let i = 0; i < 5; i++) await say(page, `echo ${i}`);
    await page.goto(`${server.url}/#/status`);
    // Differences: one less than samples.
    const drawn = async (at, points) => {
      await at.waitForFunction((points) => document.querySelector('.chart polyline')?.points.length >= points, points);
      const lines = await at.locator('.chart polyline').evaluateAll((all) => all.map((line) => [...line.points].map(({ x, y }) => [x, y])));
      holds(lines.flat().every(([x, y]) => x >= 0 && x <= 300 && y >= 6.9 && y <= 77.1), `within its chart: ${JSON.stringify(lines)}`);
    };
    for (const points of [1, 2]) {
      await page.reload();
      await drawn(page, points);
    }
    const tab = await page.context().newPage();
    await tab.goto(`${server.url}/#/status`);
    await drawn(tab, 3);
    await tab.close();
    browser.expected.push(/ERR_CONNECTION_REFUSED|ERR_INCOMPLETE_CHUNKED|ERR_EMPTY_RESPONSE|ERR_CONNECTION_RESET/);
    await server.kill();
    await server.restart();
    await page.reload();
    await drawn(page, 4);
    const kept = () => page.evaluate(() => JSON.parse(localStorage.getItem('oxios.metrics/')));
    holds((await kept()).flatMap((one) => Object.values(one).flat()).every((n) => typeof n === 'number'), 'nothing but numbers is kept');
    // An hour later, and with a clock that was put back, what does not belong to this hour is gone.
    const [one] = await kept();
    await page.evaluate((one) => localStorage.setItem('oxios.metrics/', JSON.stringify([-7200e3, -1800e3, 7200e3].map((ms) => ({ ...one, at: Date.now() + ms })))), one);
    await page.reload();
    await drawn(page, 1);
    await page.getByText('30 min ago').first().waitFor();
    same((await kept()).length, 2, 'samples');
  }],
];

// Issue "rooms": each does what it shows.

import { holds, same, say } from './browser.mjs';
import { startModel } from './model.mjs';
import { Server } from './server.mjs';

async function room(page, name) {
  await page.getByRole('navigation', { name: 'Rooms' }).getByRole('link', { name }).click();
  await page.locator('.room h1').waitFor();
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
    await page.getByText('1 memory, ranked by').waitFor();
    await page.getByRole('button', { name: 'Edit' }).click();
    await page.getByLabel('What is to be remembered').fill('The pump was serviced on 4 May');
    await page.getByRole('button', { name: 'Save' }).click();
    await page.locator('.cards').getByText('4 May').waitFor();
    await page.getByRole('button', { name: 'Forget' }).click();
    await page.getByRole('dialog').getByRole('button', { name: 'Forget' }).click();
    await page.getByText('0 memories').waitFor();
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
    await page.getByLabel('gateway.port').fill('4999');
    await page.getByRole('button', { name: 'Save 2 changes' }).click();
    await page.getByText('Saved. After a restart: gateway.port').waitFor();
    same((await server.call('GET', 'api/config')).memory.max_recall, 7, 'in force');
    await page.getByText('In force after a restart: gateway.port').waitFor();
    await page.getByLabel('security.cors_origins').fill('not an origin');
    await page.getByRole('button', { name: /Save/ }).click();
    await page.locator('.field', { hasText: 'security.cors_origins' }).getByText('expected a list of origins').waitFor();
    holds(await page.getByLabel('security.cors_origins').getAttribute('aria-invalid'), 'the field is marked');
    await browser.shoot('settings', page);
  }],
  ['model: a form connects one, and what does not answer is told', async (browser) => {
    const model = await startModel();
    const server = await Server.start({ env: { OXIOS_ENGINE__DEFAULT_MODEL: '' } });
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
    await room(page, 'Agents');
    await page.locator('.tree').getByText('stopped').first().waitFor();
    await room(page, 'Audit');
    await page.getByText('The chain is whole').waitFor();
    await page.getByLabel('What').fill('message');
    await page.locator('td', { hasText: /^message$/ }).first().waitFor();
    await room(page, 'Status');
    await page.getByText('healthy').first().waitFor();
    await browser.shoot('status', page);
  }],
];

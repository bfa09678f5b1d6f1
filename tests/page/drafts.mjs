// Issue "drafts": what was written is sent once, into the conversation that it was written for, or it is still there.

import { holds, same, say } from './browser.mjs';
import { Server } from './server.mjs';

const REFUSED = /the server responded with a status of 503|ERR_FAILED/;
const field = (page) => page.getByLabel('Message', { exact: true });
const send = (page) => page.getByRole('button', { name: 'Send', exact: true });

/** Requests like this wait until they are let go with `how(route)`. */
async function held(page, url, method) {
  let arrived, go;
  const self = { here: new Promise((done) => (arrived = done)), let: (how = (route) => route.continue()) => go(how) };
  const how = new Promise((done) => (go = done));
  await page.route(url, async (route) => {
    if (route.request().method() !== method) return route.continue();
    arrived();
    await (await how)(route);
  });
  return self;
}

/** The server takes it, and its answer is lost. */
async function saidInVain(page, text) {
  const chat = await held(page, '**/api/chat', 'POST');
  await field(page).fill(text);
  await send(page).click();
  await chat.here;
  chat.let(async (route) => (await route.fetch(), route.abort()));
  await page.getByText('The server cannot be reached').waitFor();
  await page.unroute('**/api/chat');
}

export default [
  ['an answer that comes late is not painted into another conversation', async (browser) => {
    const server = await Server.start();
    const page = await browser.enter(server);
    await say(page, 'echo one');
    const first = page.url();
    await page.getByRole('link', { name: 'New conversation' }).click();
    await page.getByRole('heading', { name: 'New conversation' }).waitFor();
    const chat = await held(page, '**/api/chat', 'POST');
    await field(page).fill('echo two');
    await send(page).click();
    await chat.here;
    await page.goto(first);
    await page.locator('.bubble').getByText('echo one').waitFor();
    await field(page).fill('my other draft');
    chat.let();
    await page.locator('.session').nth(1).waitFor();
    same([page.url(), await page.locator('.bubble').allTextContents(), await field(page).inputValue()], [first, ['echo one'], 'my other draft'], 'what is open');
    await page.getByRole('link', { name: 'New conversation' }).click();
    await page.getByRole('heading', { name: 'New conversation' }).waitFor();
    same(await field(page).inputValue(), '', 'it was sent');
  }],
  ['what could not be sent goes back to where it was written', async (browser) => {
    const server = await Server.start();
    const page = await browser.enter(server);
    browser.expected.push(REFUSED);
    await say(page, 'echo one');
    const first = page.url();
    await page.getByRole('link', { name: 'New conversation' }).click();
    await page.getByRole('heading', { name: 'New conversation' }).waitFor();
    const chat = await held(page, '**/api/chat', 'POST');
    await field(page).fill('echo two');
    await send(page).click();
    await chat.here;
    await page.goto(first);
    await page.locator('.bubble').getByText('echo one').waitFor();
    await field(page).fill('my other draft');
    chat.let((route) => route.fulfill({ status: 503, json: { error: 'busy' } }));
    await page.getByText('Busy.').waitFor();
    same(await field(page).inputValue(), 'my other draft', 'the other draft');
    await page.getByRole('link', { name: 'New conversation' }).click();
    await page.getByRole('heading', { name: 'New conversation' }).waitFor();
    same(await field(page).inputValue(), 'echo two', 'the text is there');
  }],
  ['whoever comes back to a message that is on its way does not send it twice', async (browser) => {
    const server = await Server.start();
    const page = await browser.enter(server);
    await say(page, 'echo one');
    const first = page.url();
    const chat = await held(page, '**/api/chat', 'POST');
    await field(page).fill('echo two');
    await send(page).click();
    await chat.here;
    await page.getByRole('link', { name: 'New conversation' }).click();
    await page.getByRole('heading', { name: 'New conversation' }).waitFor();
    await page.goto(first);
    await page.locator('.bubble').getByText('echo one').waitFor();
    same(await field(page).inputValue(), 'echo two', 'it is not lost');
    chat.let();
    await page.locator('article[data-state=done]').nth(1).waitFor();
    await page.waitForFunction(() => document.querySelector('#message').value === '');
  }],
  ['a first message whose answer was lost is not said twice', async (browser) => {
    const server = await Server.start();
    const page = await browser.enter(server);
    browser.expected.push(REFUSED);
    await saidInVain(page, 'echo once');
    await send(page).click();
    await page.locator('article[data-state=done]').waitFor();
    same(await page.locator('.bubble').allTextContents(), ['echo once'], 'said once');
    same((await server.call('GET', 'api/sessions')).total, 1, 'conversations');
  }],
  ['nor is one that somebody left meanwhile', async (browser) => {
    const server = await Server.start();
    const page = await browser.enter(server);
    browser.expected.push(REFUSED);
    await saidInVain(page, 'echo once');
    await page.getByRole('link', { name: 'Memory' }).click();
    await page.getByRole('heading', { name: 'Memory' }).waitFor();
    await page.getByRole('link', { name: 'New conversation' }).click();
    await send(page).click();
    await page.locator('article[data-state=done]').waitFor();
    same((await server.call('GET', 'api/sessions')).total, 1, 'conversations');
    await page.keyboard.type('and on');
    same(await field(page).inputValue(), 'and on', 'the next words go where the last ones went');
  }],
  ['text that comes with a picture is pasted, a file is attached', async (browser) => {
    const server = await Server.start();
    const page = await browser.enter(server);
    const paste = (text, name, type) =>
      field(page).evaluate((node, [text, name, type]) => {
        const clipboardData = new DataTransfer();
        if (text) clipboardData.setData('text/plain', text);
        clipboardData.items.add(new File(['words'], name, { type }));
        return node.dispatchEvent(new ClipboardEvent('paste', { clipboardData, cancelable: true, bubbles: true }));
      }, [text, name, type]);
    same(await paste('from a table', 'image.png', 'image/png'), true, 'it is left to the browser');
    same(await paste('a.txt', 'a.txt', 'text/plain'), false, 'it is attached');
    await page.locator('.chips').getByText('a.txt').waitFor();
  }],
  ['two clicks ask once', async (browser) => {
    const server = await Server.start();
    const page = await browser.enter(server);
    const turn = await say(page, 'echo one');
    for (const name of ['Ask again', 'New conversation from here']) {
      await turn.hover();
      await turn.getByRole('button', { name }).evaluate((button) => (button.click(), button.click()));
      if (name === 'Ask again') await page.locator('article[data-state=done]').nth(1).waitFor();
      else await page.waitForFunction(() => document.querySelectorAll('article.turn').length === 1);
    }
    const { items } = await server.call('GET', 'api/sessions');
    same(items.map((item) => item.message_count).sort(), [1, 2], 'messages of each conversation');
  }],
  ['an edited message that is refused stays in its dialog, and leaves no branch behind', async (browser) => {
    const server = await Server.start();
    const page = await browser.enter(server);
    browser.expected.push(REFUSED);
    await say(page, 'echo one');
    const turn = await say(page, 'echo two');
    const total = async () => (await server.call('GET', 'api/sessions')).total;
    const dialog = page.getByRole('dialog');
    const edit = async (text) => {
      await turn.hover();
      await turn.getByRole('button', { name: 'Edit this message in a new branch' }).click();
      await dialog.getByLabel('Message').fill(text);
      await dialog.getByRole('button', { name: 'Send in a new branch' }).click();
    };
    await page.route('**/api/chat', (route) => route.fulfill({ status: 503, json: { error: 'busy' } }));
    await edit('echo three');
    await dialog.getByText('Busy.').waitFor();
    same(await dialog.getByLabel('Message').inputValue(), 'echo three', 'the text');
    await Promise.all([page.waitForResponse((answer) => answer.request().method() === 'DELETE'), dialog.getByRole('button', { name: 'Cancel' }).click()]);
    same(await total(), 1, 'conversations');
    await edit('echo four');
    await dialog.getByText('Busy.').waitFor();
    await page.unroute('**/api/chat');
    await dialog.getByRole('button', { name: 'Send in a new branch' }).click();
    await page.locator('.bubble').getByText('echo four').waitFor();
    same(await total(), 2, 'one branch, after two tries');
  }],
  ['a text that is too long is told, not cut', async (browser) => {
    const server = await Server.start();
    const page = await browser.enter(server);
    const long = 'x'.repeat(70000);
    await field(page).focus();
    await page.keyboard.insertText(long);
    same((await field(page).inputValue()).length, long.length, 'characters');
    await send(page).click();
    await page.getByText('64 KiB at most').waitFor();
    same((await field(page).inputValue()).length, long.length, 'characters');
  }],
  ['a file goes along with the message that it was chosen for', async (browser) => {
    const server = await Server.start();
    const page = await browser.enter(server);
    await say(page, 'echo one');
    const first = page.url();
    await page.getByRole('link', { name: 'New conversation' }).click();
    await page.getByRole('heading', { name: 'New conversation' }).waitFor();
    const file = await held(page, '**/api/workspace/file/**', 'PUT');
    const chosen = (text) => page.setInputFiles('.composer input[type=file]', { name: 'notes.txt', mimeType: 'text/plain', buffer: Buffer.from(text) });
    await field(page).fill('what is in it');
    await chosen('one');
    await file.here;
    holds(await send(page).isDisabled(), 'it waits for the file');
    await page.goto(first);
    await page.locator('.bubble').getByText('echo one').waitFor();
    file.let();
    await field(page).fill('another');
    await page.locator('.composer button[type=submit]:enabled').waitFor();
    same(await page.locator('.composer .chips li').count(), 0, 'files of another conversation');
    await page.getByRole('link', { name: 'New conversation' }).click();
    await page.locator('.composer .chips').getByText('notes.txt').waitFor();
    // Also another one of the same name, and the same one again.
    await chosen('two');
    await page.locator('.composer .chips li').nth(1).waitFor();
    const turn = await say(page, 'what is in them');
    const paths = await turn.locator('.bubble .chips a').evaluateAll((all) => all.map((one) => one.getAttribute('href').replace('#/files/', '')));
    same(await Promise.all(paths.map((path) => server.call('GET', `api/workspace/file/${path}`))), ['one', 'two'], 'the files');
  }],
];

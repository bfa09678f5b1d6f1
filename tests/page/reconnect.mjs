// Issue "chat": a killed server, a closed laptop: the whole answer, without a reload, without a doubled or missing word.

import { holds, same, say } from './browser.mjs';
import { startModel } from './model.mjs';
import { startProxy } from './proxy.mjs';
import { Server } from './server.mjs';

const words = (n) => Array.from({ length: n }, (_, i) => `w${i}`).join(' ');
const BROKEN = /ERR_CONNECTION_REFUSED|ERR_INCOMPLETE_CHUNKED|ERR_EMPTY_RESPONSE|ERR_CONNECTION_RESET|ERR_SOCKET_NOT_CONNECTED/;

export default [
  ['the line breaks in the middle of an answer and comes back', async (browser) => {
    const model = await startModel();
    const server = await Server.start({ env: model.env });
    const proxy = await startProxy(server.url);
    const page = await browser.enter(server, { base: proxy.url });
    browser.expected.push(BROKEN);
    await page.evaluate(() => (window.sameDocument = true));
    await page.getByLabel('Message', { exact: true }).fill('slow 150');
    await page.keyboard.press('Enter');
    await page.locator('.reply > .md').getByText('w20 ').waitFor();
    proxy.close();
    await page.locator('.line.waiting').waitFor();
    await browser.shoot('reconnecting', page);
    // The answer goes on without a reader.
    const [{ id }] = (await server.call('GET', 'api/sessions')).items;
    await server.call('GET', `api/sessions/${id}/events?until=done`);
    proxy.open();
    await page.locator('article[data-state=done]').waitFor();
    same((await page.locator('.reply > .md').textContent()).trim(), words(150), 'every word once');
    await page.locator('.line.live').waitFor();
    holds(await page.evaluate(() => window.sameDocument), 'without a reload');
  }],
  ['the server is killed in the middle of an answer and started again', async (browser) => {
    const model = await startModel();
    const server = await Server.start({ env: model.env });
    const page = await browser.enter(server);
    browser.expected.push(BROKEN);
    await page.evaluate(() => (window.sameDocument = true));
    await page.getByLabel('Message', { exact: true }).fill('slow 3000');
    await page.keyboard.press('Enter');
    await page.locator('.reply > .md').getByText('w40 ').waitFor();
    await server.kill();
    await page.locator('.line.waiting').waitFor();
    const seen = (await page.locator('.reply > .md').textContent()).trim().split(' ').length;
    await server.restart();
    await page.locator('article[data-state=interrupted]').waitFor();
    const kept = (await page.locator('.reply > .md').textContent()).trim();
    const n = kept.split(' ').length;
    same(kept, words(n), 'every word once');
    holds(n >= seen, `nothing that was seen is gone: ${n} of ${seen}`);
    await page.getByText('The server was stopped while it answered').waitFor();
    const again = await say(page, 'slow 5');
    same((await again.locator('.reply > .md').textContent()).trim(), words(5), 'and it goes on');
    holds(await page.evaluate(() => window.sameDocument), 'without a reload');
  }],
  ['a machine without a network is no broken line: its own server answers', async (browser) => {
    const server = await Server.start();
    const page = await browser.page();
    browser.expected.push(BROKEN);
    await page.addInitScript(() => Object.defineProperty(Navigator.prototype, 'onLine', { get: () => false }));
    await page.goto(server.url);
    await page.getByLabel('Key or one-time code').fill(server.key);
    await page.keyboard.press('Enter');
    await page.locator('.line.live').waitFor();
    await say(page, 'echo here');
    await page.locator('.line.live').waitFor();
    await server.kill();
    await page.locator('.line.off').getByText('No network').waitFor();
  }],
  ['what is written while the server is away is not lost', async (browser) => {
    const server = await Server.start();
    const page = await browser.enter(server);
    browser.expected.push(BROKEN);
    await say(page, 'echo one');
    await server.kill();
    await page.getByLabel('Message', { exact: true }).fill('echo two');
    await page.keyboard.press('Enter');
    await page.getByText('The server cannot be reached').first().waitFor();
    same(await page.getByLabel('Message', { exact: true }).inputValue(), 'echo two', 'the text is still there');
    await server.restart();
    await page.locator('.line.live').waitFor();
    await say(page, 'echo two');
    same(await page.locator('.bubble').allTextContents(), ['echo one', 'echo two'], 'said once');
  }],
  ['a hidden page holds no stream, but a while for an answer that is written', async (browser) => {
    const model = await startModel();
    const server = await Server.start({ env: model.env });
    const page = await browser.page();
    const open = new Set();
    let changed = () => {};
    const told = () => changed();
    page.on('request', (request) => /api\/events|\/events\?after=\d+$/.test(request.url()) && (open.add(request), told()));
    for (const name of ['requestfailed', 'requestfinished']) page.on(name, (request) => open.delete(request) && told());
    const streams = async (n) => {
      while (open.size !== n) await new Promise((done) => (changed = done));
    };
    const hide = (hidden) => page.evaluate((hidden) => {
      Object.defineProperty(document, 'hidden', { value: hidden, configurable: true });
      document.dispatchEvent(new Event('visibilitychange'));
    }, hidden);
    await page.goto(server.url);
    await page.getByLabel('Key or one-time code').fill(server.key);
    await page.keyboard.press('Enter');
    await say(page, 'hello');
    await streams(2);
    await hide(true);
    await streams(0);
    // Neither does what is opened there.
    await page.evaluate(() => (location.hash = '#/'));
    await page.getByRole('heading', { name: 'New conversation' }).waitFor();
    await page.goBack();
    await page.locator('.bubble').getByText('hello').waitFor();
    same(open.size, 0, 'streams');
    await hide(false);
    await streams(2);
    await page.getByLabel('Message', { exact: true }).fill('slow 100');
    await page.keyboard.press('Enter');
    await page.locator('.reply > .md').getByText('w5 ').waitFor();
    await hide(true);
    await streams(1);
    await page.locator('#said').getByText('Answer: w0 w1').waitFor({ state: 'attached' });
    await hide(false);
    await page.locator('article[data-state=done]').nth(1).waitFor();
    same((await page.locator('article.turn').nth(1).locator('.reply > .md').textContent()).trim(), words(100), 'every word once');
  }],
  ['a conversation that there is not is told once', async (browser) => {
    const server = await Server.start();
    const page = await browser.enter(server);
    browser.expected.push(/40[04] .*api\/sessions/);
    let asked = 0;
    page.on('request', (request) => request.url().includes('/events?') && asked++);
    await page.clock.install();
    await page.evaluate(() => (location.hash = '#/s/abc'));
    await page.getByRole('heading', { name: 'Nothing here' }).waitFor();
    await page.clock.runFor(10000);
    same([asked, await page.locator('.toast').count(), await page.getByText('Reading what was said').isVisible()], [1, 0, false], 'questions, notes, waiting');
  }],
  ['whoever is not logged in when the server answers again is asked for a key', async (browser) => {
    const server = await Server.start();
    const page = await browser.page();
    browser.expected.push(/ERR_FAILED/);
    await page.route('**/api/login', (route) => route.abort());
    await page.goto(server.url);
    await page.getByText('The server does not answer').waitFor();
    await page.unroute('**/api/login');
    await page.getByLabel('Key or one-time code').waitFor();
  }],
];

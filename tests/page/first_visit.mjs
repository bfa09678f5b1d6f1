// Issue "first visit": a link, a key, nothing in a URL, a strict policy.

import { spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { holds, same, say } from './browser.mjs';
import { startProxy } from './proxy.mjs';
import { Server } from './server.mjs';

export default [
  ['a printed link logs in once, and its code reaches no server', async (browser) => {
    const server = await Server.start();
    const printed = spawnSync(process.env.OXIOS_BINARY, ['login-code', '--home', server.home], { encoding: 'utf8' });
    const link = /http:\/\/\S+#code=(\w+)/.exec(printed.stderr);
    holds(link, `no link: ${printed.stderr}`);
    const page = await browser.page();
    const asked = [];
    page.on('request', (request) => asked.push(request.url()));
    await page.goto(link[0]);
    await page.locator('.house').waitFor();
    holds(!page.url().includes(link[1]), 'the code is out of the address');
    holds(!asked.some((url) => url.split('#')[0].includes(link[1])), 'the code is in no address that was asked for');
    const [cookie] = await page.context().cookies();
    same([cookie.httpOnly, cookie.sameSite], [true, 'Strict'], 'the cookie');
    // A second time it is worth nothing.
    browser.expected.push(/api\/login/);
    const other = await browser.page();
    await other.goto(link[0]);
    await other.getByText('used already').waitFor();
    await other.locator('.login').waitFor();
  }],
  ['serve on a terminal prints a link that logs in', async (browser) => {
    const home = mkdtempSync(join(tmpdir(), 'oxios-page-'));
    const terminal = 'import pty, sys; pty.spawn(sys.argv[1:])';
    const env = { PATH: process.env.PATH, HOME: home, OXIOS_ENGINE__DEFAULT_MODEL: 'offline' };
    const serve = spawn('python3', ['-c', terminal, resolve(process.env.OXIOS_BINARY), 'serve', '--listen', '127.0.0.1:0', '--home', home], { env });
    const ended = new Promise((done) => serve.once('exit', done));
    let said = '';
    const link = await new Promise((found, lost) => {
      serve.stdout.on('data', (bytes) => {
        said += bytes;
        const link = /http:\/\/\S+#code=\w+/.exec(said);
        if (link) found(link[0]);
      });
      serve.once('exit', () => lost(new Error(`no link: ${said}`)));
    });
    const page = await browser.page();
    await page.goto(link);
    await page.locator('.house').waitFor();
    // Ctrl-C, as at any terminal.
    browser.expected.push(/ERR_CONNECTION_REFUSED|ERR_INCOMPLETE_CHUNKED|ERR_EMPTY_RESPONSE|ERR_CONNECTION_RESET/);
    serve.stdin.write('\x03');
    await ended;
    rmSync(home, { recursive: true });
  }],
  ['a wrong key is told in a sentence, a right one is asked for until it comes', async (browser) => {
    const server = await Server.start();
    // A wrong key; and what the page still asked when it was logged out at once.
    browser.expected.push(/401 .*api\//);
    const page = await browser.page();
    await page.goto(server.url);
    await browser.shoot('login', page);
    await page.getByLabel('Key or one-time code').fill('oxk_wrong');
    await page.getByRole('button', { name: 'Log in' }).click();
    await page.getByRole('alert').getByText('does not know').waitFor();
    await page.getByLabel('Key or one-time code').fill(server.key);
    await page.getByRole('button', { name: 'Log in' }).click();
    await page.locator('.house').waitFor();
    const kept = await page.evaluate(() => JSON.stringify({ ...localStorage, ...sessionStorage }));
    holds(!kept.includes(server.key), 'the key is kept nowhere');
    await page.getByRole('button', { name: 'Log out' }).click();
    await page.locator('.login').waitFor();
  }],
  ['an open page goes on after the server was restarted, without another login', async (browser) => {
    const server = await Server.start();
    const page = await browser.enter(server);
    await say(page, 'hello');
    browser.expected.push(/ERR_CONNECTION_REFUSED|ERR_INCOMPLETE_CHUNKED|ERR_EMPTY_RESPONSE|ERR_CONNECTION_RESET/);
    await server.kill();
    await server.restart();
    await page.locator('.line.live').waitFor();
    await say(page, 'echo again');
    same(await page.locator('article.turn').count(), 2, 'turns');
  }],
  ['beneath a path of a reverse proxy that takes it away', (browser) => behindProxy(browser, true)],
  ['beneath a path of a reverse proxy that leaves it', (browser) => behindProxy(browser, false)],
];

async function behindProxy(browser, strips) {
  const server = await Server.start({ config: '[gateway]\nbase_path = "/tools/ox"\n' });
  const proxy = await startProxy(server.url, { path: '/tools/ox', strips });
  const page = await browser.enter(server, { base: proxy.url });
  await say(page, 'hello');
  await page.getByRole('link', { name: 'Memory' }).click();
  await page.getByRole('heading', { name: 'Memory' }).waitFor();
  // A deep address finds its files, too.
  await page.goto(`${proxy.url}/some/where`);
  await page.locator('.house').waitFor();
  // So does the path without its slash, and the server's own address, each in a browser of its own.
  for (const place of [proxy.url, server.url]) {
    const other = await browser.page();
    await other.goto(place);
    await other.getByLabel('Key or one-time code').fill(server.key);
    await other.keyboard.press('Enter');
    await other.locator('.house').waitFor();
    await say(other, 'hello');
    await other.getByRole('link', { name: 'Memory' }).click();
    await other.getByRole('heading', { name: 'Memory' }).waitFor();
    await other.goto(place);
    await other.locator('.house').waitFor();
    same((await other.context().cookies()).map((cookie) => cookie.path), ['/tools/ox/'], 'the path of the cookie');
  }
}

// Chromium from Debian through playwright-core, and what holds for every page: a console without errors, no report of the policy.

import { mkdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join, resolve } from 'node:path';

const require = createRequire(resolve(process.env.OXIOS_NODE_MODULES ?? 'tests/.cache/node/node_modules', 'x.js'));
const { chromium } = require('playwright-core');
const AXE = readFileSync(require.resolve('axe-core/axe.min.js'), 'utf8');
const SHOTS = join(import.meta.dirname ?? new URL('.', import.meta.url).pathname, '../.cache/page');
mkdirSync(SHOTS, { recursive: true });

export const PHONE = { viewport: { width: 390, height: 780 }, hasTouch: true, isMobile: true, deviceScaleFactor: 2 };

export async function openBrowser() {
  const chrome = await chromium.launch({ executablePath: process.env.OXIOS_CHROMIUM ?? '/usr/bin/chromium', args: ['--no-sandbox', '--disable-dev-shm-usage'] });
  const self = { chrome, said: [], pages: [], expected: [] };

  /** A fresh browser for one person. */
  self.page = async (options = {}) => {
    const context = await chrome.newContext({ viewport: { width: 1280, height: 820 }, ...options });
    await context.addInitScript(() => addEventListener('securitypolicyviolation', (event) => console.error(`CSP ${event.violatedDirective} ${event.blockedURI} ${event.sourceFile}:${event.lineNumber}`)));
    const page = await context.newPage();
    page.setDefaultTimeout(20000);
    page.on('console', (message) => ['error', 'warning'].includes(message.type()) && self.said.push(`${message.type()}: ${message.text()} ${message.location().url ?? ''}`));
    page.on('pageerror', (error) => self.said.push(`uncaught: ${error.stack}`));
    page.on('request', (request) => {
      const url = new URL(request.url());
      if (url.protocol.startsWith('http') && url.hostname !== '127.0.0.1') self.said.push(`asked elsewhere: ${url.href}`);
    });
    self.pages.push(page);
    return page;
  };

  /** Opens the page and logs in with the first key. */
  self.enter = async (server, { hash = '#/', base = server.url, ...options } = {}) => {
    const page = await self.page(options);
    await page.goto(`${base}/${hash}`);
    await page.getByLabel('Key or one-time code').fill(server.key);
    await page.keyboard.press('Enter');
    await page.locator('.house').waitFor();
    return page;
  };

  /** Nothing was said in the console but what a scenario brought about itself. */
  self.quiet = () => {
    const loud = self.said.filter((line) => !self.expected.some((fine) => fine.test(line)));
    if (loud.length) throw new Error(`the console is not quiet:\n${loud.join('\n')}`);
  };

  self.shoot = async (name, page = self.pages.at(-1)) => page?.screenshot({ path: join(SHOTS, `${name}.png`) });
  return self;
}

export const closeBrowser = (browser) => browser.chrome.close();

/** axe-core without a violation; rules of WCAG 2.2 A and AA, and best practices. */
export async function accessible(page, where) {
  // Through the debugger: the page's own policy lets no such script in.
  await page.evaluate(AXE + ';0');
  const { violations } = await page.evaluate(() => axe.run(document, { resultTypes: ['violations'] }));
  if (violations.length) throw new Error(`axe in ${where}:\n${violations.map((one) => `${one.id} (${one.impact}): ${one.help}\n${one.nodes.slice(0, 4).map((node) => `    ${node.html.slice(0, 200)}\n      ${node.failureSummary.replaceAll('\n', ' ').slice(0, 260)}`).join('\n')}`).join('\n')}`);
}

/** Nothing is wider than a phone, whose `innerWidth` grows along with what is, and no room is pushed sideways. */
export async function fits(page, where) {
  const wide = await page.evaluate(() => [document.documentElement.scrollWidth - screen.width, ...[...document.querySelectorAll('.inside, .talk, .body')].map((one) => one.scrollWidth - one.clientWidth)]);
  holds(wide.every((more) => more <= 0), `${where} is wider than the screen: ${wide}`);
}

export function same(found, wanted, what) {
  const [a, b] = [JSON.stringify(found), JSON.stringify(wanted)];
  if (a !== b) throw new Error(`${what}: found ${a}, expected ${b}`);
}

export function holds(good, what) {
  if (!good) throw new Error(what);
}

/** Says something and waits until the answer is over. */
export async function say(page, text, { state = 'done' } = {}) {
  const before = await page.locator('article.turn').count();
  await page.getByLabel('Message', { exact: true }).fill(text);
  await page.getByRole('button', { name: 'Send', exact: true }).click();
  const turn = page.locator('article.turn').nth(before);
  await turn.and(page.locator(`[data-state="${state}"]`)).waitFor();
  return turn;
}

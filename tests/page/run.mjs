// The page in a real browser: `node tests/page/run.mjs BINARY [WORD…]` runs the scenarios whose names contain one of the words.
// OXIOS_NODE_MODULES names where playwright-core and axe-core are. Screenshots go to tests/.cache/page.

import { closeBrowser, openBrowser } from './browser.mjs';
import { stopAll } from './server.mjs';

const [binary, ...words] = process.argv.slice(2);
if (!binary) {
  console.error('usage: node tests/page/run.mjs BINARY [WORD…]');
  process.exit(2);
}
process.env.OXIOS_BINARY = binary;
/** A scenario that takes longer hangs. */
const PATIENCE_MS = 240000;

const files = ['first_visit', 'chat', 'drafts', 'reconnect', 'sessions', 'rooms', 'met', 'long', 'access'];
let passed = 0;
let failed = 0;
for (const file of files) {
  const { default: scenarios } = await import(`./${file}.mjs`);
  for (const [name, scenario] of scenarios) {
    if (words.length && !words.some((word) => `${file} ${name}`.includes(word))) continue;
    const began = Date.now();
    const browser = await openBrowser();
    try {
      let timer;
      const late = new Promise((_, reject) => (timer = setTimeout(() => reject(new Error('it takes too long')), PATIENCE_MS)));
      await Promise.race([scenario(browser), late]);
      clearTimeout(timer);
      browser.quiet();
      passed++;
      console.log(`ok      ${file}: ${name} (${((Date.now() - began) / 1000).toFixed(1)} s)`);
    } catch (error) {
      failed++;
      console.log(`FAILED  ${file}: ${name}\n${error.stack}`);
      await browser.shoot(`failed-${file}-${passed + failed}`).catch(() => {});
      for (const line of browser.said) console.log(`  browser: ${line}`);
    } finally {
      await closeBrowser(browser);
      stopAll();
    }
  }
}
console.log(`test result: ${failed ? 'FAILED' : 'ok'}. ${passed} passed; ${failed} failed`);
process.exit(failed ? 1 : 0);

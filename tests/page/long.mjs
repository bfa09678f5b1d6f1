// A conversation of 5,000 turns: opened at its end, scrolled to its beginning, measured.

import { holds, same } from './browser.mjs';
import { Server } from './server.mjs';

const TURNS = 5000;

export default [
  ['5,000 turns stay fluid', async (browser) => {
    const server = await Server.start();
    const at = (n) => new Date(Date.UTC(2026, 0, 1) + n * 60000).toISOString();
    const session = {
      user_messages: Array.from({ length: TURNS }, (_, n) => ({ content: `question ${n}`, timestamp: at(n) })),
      agent_responses: Array.from({ length: TURNS }, (_, n) => ({ content: `answer ${n}\n\n- **first** point\n- second point with \`code\`\n`, timestamp: at(n + 0.5) })),
    };
    const { id } = await server.call('POST', 'api/sessions/import', session);
    const page = await browser.enter(server);
    const began = Date.now();
    await page.evaluate((hash) => (location.hash = hash), `#/s/${id}`);
    await page.getByText(`answer ${TURNS - 1}`).waitFor();
    const opened = Date.now() - began;
    const { frames, most } = await page.evaluate(async () => {
      const scroller = document.querySelector('.talk');
      let last = performance.now(), most = 0;
      const frames = [];
      for (let i = 0; i < 4000; i++) {
        scroller.scrollTop -= 3000;
        await new Promise(requestAnimationFrame);
        frames.push(performance.now() - last);
        last = performance.now();
        most = Math.max(most, document.querySelectorAll('article.turn').length);
        if (scroller.scrollTop < 1 && document.querySelector('article.turn .bubble')?.textContent === 'question 0') break;
      }
      return { frames: frames.sort((a, b) => a - b).map(Math.round), most };
    });
    await page.locator('.bubble').getByText('question 0', { exact: true }).waitFor();
    console.log(`measured page: 5,000 turns, opened in ${opened} ms; to the beginning in ${frames.length} frames of ${frames[frames.length >> 1]} ms (median), worst ${frames.at(-1)} ms, ${most} turns at most in the document`);
    // Bounds that a busy machine keeps, too; a page that holds everything is far beyond them.
    holds(opened < 10000, `it opens at once: ${opened} ms`);
    holds(most <= 200, `only what is near is in the document: ${most}`);
    holds(frames[frames.length >> 1] < 150, `it is fluid: ${frames[frames.length >> 1]} ms a frame`);
    const order = await page.locator('.bubble').allTextContents();
    same(order, order.map((_, i) => `question ${i}`), 'in order, none twice');
    await page.getByRole('button', { name: 'To the newest message' }).click();
    await page.getByText(`answer ${TURNS - 1}`).waitFor();
  }],
];

// Issue "chat": streaming, approval with its difference, stop, edit and fork, drafts, files, keyboard.

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fits, holds, PHONE, same, say } from './browser.mjs';
import { startModel } from './model.mjs';
import { Server } from './server.mjs';

const MARKDOWN = '# Title\n\nSome **bold**, *soft* and `code` <img src=x onerror=alert(1)> [bad](javascript:alert(1)) [good](https://example.org/)\n\n- one\n  - two\n\n1. first\n2. second\n\n```js\nlet a = "<b>";\n```\n\n| a | b |\n|---|--:|\n| 1 | 2 |\n\n> said';

const PUMP = 'write notes/pump.md: # Pump\n\n- installed 2019\n- serviced on 3 May\n- filter: F7';

export default [
  ['an answer is streamed word by word', async (browser) => {
    const model = await startModel();
    const server = await Server.start({ env: model.env });
    const page = await browser.enter(server);
    await page.getByLabel('Message', { exact: true }).fill('slow 100');
    await page.keyboard.press('Enter');
    const answer = page.locator('article.turn .reply > .md');
    await answer.getByText('w5').waitFor();
    const early = (await answer.textContent()).trim().split(/\s+/).length;
    holds(early < 100, `it comes piece by piece, not at once: ${early}`);
    await page.locator('article[data-state=done]').waitFor();
    same((await answer.textContent()).trim(), Array.from({ length: 100 }, (_, i) => `w${i}`).join(' '), 'the answer');
    holds(/#\/s\/[0-9a-f-]{36}$/.test(page.url()), 'the address carries the conversation');
  }],
  ['stop ends the answer and keeps what was written', async (browser) => {
    const model = await startModel();
    const server = await Server.start({ env: model.env });
    const page = await browser.enter(server);
    await page.getByLabel('Message', { exact: true }).fill('slow 2000');
    await page.keyboard.press('Enter');
    await page.locator('.reply > .md').getByText('w9').waitFor();
    await page.getByRole('button', { name: 'Stop the answer' }).click();
    await page.locator('article[data-state=cancelled]').waitFor();
    await page.getByText('what was written is kept').waitFor();
    holds((await page.locator('.reply > .md').textContent()).startsWith('w0 w1 w2'), 'what was written is there');
    holds(await page.getByRole('button', { name: 'Stop the answer' }).isHidden(), 'there is nothing to stop any more');
  }],
  ['Markdown is shown and no HTML of a model reaches the document', async (browser) => {
    const model = await startModel();
    const server = await Server.start({ env: model.env });
    const page = await browser.enter(server);
    const turn = await say(page, MARKDOWN);
    const md = turn.locator('.reply > .md');
    for (const [what, n] of [['strong', 1], ['em', 1], ['ul ul li', 1], ['ol > li', 2], ['figure.code pre', 1], ['td', 2], ['blockquote', 1], ['img', 0], ['script', 0]]) same(await md.locator(what).count(), n, what);
    same(await md.locator('a').evaluateAll((all) => all.map((one) => one.href)), ['https://example.org/'], 'links');
    holds((await md.textContent()).includes('<img src=x onerror=alert(1)>'), 'HTML is text');
    await md.getByRole('button', { name: 'Copy' }).click();
    await page.getByText('Copied.').waitFor();
    await browser.shoot('markdown', page);
  }],
  ['lines of any length are shown in time that grows with them', async (browser) => {
    const page = await browser.enter(await Server.start());
    // With a way back for every character each of these would take minutes, and the scenario its patience.
    const shown = await page.evaluate(async () => {
      const { markdown } = await import(new URL('assets/markdown.js', document.baseURI));
      const far = ' '.repeat(200000);
      const lines = [`# a${far}x`, `a|b\n-${far}x`, `a|b\n|-${far}|${far}x`, '- '.repeat(100000) + 'x', '**a '.repeat(20000), '['.repeat(100000), '`'.repeat(100000)];
      return lines.map((line) => markdown(line).textContent.length > 0);
    });
    same(shown, Array(7).fill(true), 'each is shown');
    same(await page.evaluate(async () => (await import(new URL('assets/markdown.js', document.baseURI))).markdown('# One #\n\n| a |\n| --- |\n| b |').innerHTML.match(/<(h3|td)\b[^<]*/g)), ['<h3 dir="auto">One', '<td>b'], 'a heading and a table');
  }],
  ['a file is written after its difference was shown and approved', async (browser) => {
    const server = await Server.start();
    await server.call('PUT', 'api/workspace/file/notes/pump.md', '# Pump\n\n- installed 2019\n- serviced in April\n- filter: F7\n');
    const page = await browser.enter(server);
    const turn = await say(page, PUMP, { state: 'waiting' });
    await turn.locator('.diff').waitFor();
    same(await turn.locator('.diff .minus').allTextContents(), ['-- serviced in April', '-- filter: F7'], 'removed');
    // What is said has no line end behind it: the last line changes, too.
    same(await turn.locator('.diff .plus').allTextContents(), ['+- serviced on 3 May', '+- filter: F7 (no line end)'], 'added');
    await page.locator('.count').getByText('1').waitFor();
    await page.locator('.session').getByText('write notes/pump.md').waitFor();
    await browser.shoot('approval', page);
    await turn.getByRole('button', { name: 'Approve' }).click();
    await turn.and(page.locator('[data-state=done]')).waitFor();
    same(readFileSync(join(server.home, 'workspace/files/notes/pump.md'), 'utf8'), '# Pump\n\n- installed 2019\n- serviced on 3 May\n- filter: F7', 'the file');
    // And the other answer.
    const other = await say(page, 'write notes/pump.md: nothing', { state: 'waiting' });
    await other.getByRole('button', { name: 'Reject' }).click();
    await other.and(page.locator('[data-state=done]')).waitFor();
    holds(readFileSync(join(server.home, 'workspace/files/notes/pump.md'), 'utf8').startsWith('# Pump'), 'a rejected change is not made');
    await page.locator('.count').waitFor({ state: 'hidden' });
  }],
  ['no change of a file is hidden in its difference', async (browser) => {
    const page = await browser.enter(await Server.start());
    const shown = await page.evaluate(async () => {
      const { diffView } = await import(new URL('assets/diff.js', document.baseURI));
      const pairs = [['hello\n', 'hello'], ['', 'a\n\n'], ['', ''], ['a\r\nb\r\n', 'a\nb\r\n'], ['a\nb\n', 'b\n'], ['\n', '']];
      return pairs.map((pair) => [...diffView(...pair).querySelectorAll('.small, .line')].map((one) => one.textContent));
    });
    const nothing = ['nothing changes'];
    same(shown, [['1 added, 1 removed', '-hello', '+hello (no line end)'], ['2 added, 0 removed', '+a', '+'], nothing, ['1 added, 1 removed', '-a␍', '+a', ' b␍'], ['0 added, 1 removed', '-a', ' b'], ['0 added, 1 removed', '-']], 'what is shown');
  }],
  ['a task shows its phases, its tools and its specification', async (browser) => {
    const server = await Server.start();
    const page = await browser.enter(server);
    const turn = await say(page, 'task say hi; list files criteria: names the kettle; says hi');
    same((await turn.locator('.phases li').allTextContents()).map((text) => text.replace(/[\d %]+$|repaired/, '')), ['Understand', 'Specify', 'Work', 'Judge', 'Improve', 'Work', 'Judge'], 'phases');
    const tool = turn.locator('details.tool').filter({ hasText: 'recall' });
    await tool.locator('summary').click();
    await tool.getByText('names the kettle').first().waitFor();
    await tool.getByText('nothing remembered').waitFor();
    await browser.shoot('task', page);
    await turn.getByRole('link', { name: 'Specification' }).click();
    await page.getByRole('heading', { name: 'Evolution' }).waitFor();
    same(await page.locator('.tree .card').count(), 2, 'generations');
  }],
  ['edit and fork make branches, and the first conversation stays', async (browser) => {
    const server = await Server.start();
    const page = await browser.enter(server);
    await say(page, 'echo one');
    const second = await say(page, 'echo two');
    const first = page.url();
    await second.hover();
    await second.getByRole('button', { name: 'Edit this message in a new branch' }).click();
    await page.getByRole('dialog').getByLabel('Message').fill('echo three');
    await page.getByRole('button', { name: 'Send in a new branch' }).click();
    await page.waitForURL((url) => url.href !== first);
    await page.locator('article.turn').nth(1).and(page.locator('[data-state=done]')).waitFor();
    same(await page.locator('.bubble').allTextContents(), ['echo one', 'echo three'], 'the branch');
    await page.locator('article.turn').first().hover();
    await page.getByRole('button', { name: 'New conversation from here' }).first().click();
    await page.waitForFunction(() => document.querySelectorAll('article.turn').length === 1);
    await page.goto(first);
    await page.locator('article.turn').nth(1).waitFor();
    same(await page.locator('.bubble').allTextContents(), ['echo one', 'echo two'], 'the first one');
  }],
  ['drafts and text files are kept until they are sent', async (browser) => {
    const server = await Server.start();
    const page = await browser.enter(server);
    await page.setInputFiles('.composer input[type=file]', { name: 'readings of may.txt', mimeType: 'text/plain', buffer: Buffer.from('12 bar\n') });
    await page.getByLabel('Message', { exact: true }).fill('what is in it');
    await page.locator('.composer .chips').getByText('readings of may.txt').waitFor();
    await page.reload();
    await page.locator('.composer .chips').getByText('readings of may.txt').waitFor();
    same(await page.getByLabel('Message', { exact: true }).inputValue(), 'what is in it', 'the draft');
    const turn = await say(page, 'what is in it');
    await turn.locator('.bubble .chips').getByText('readings of may.txt').waitFor();
    same(await page.getByLabel('Message', { exact: true }).inputValue(), '', 'it was sent');
    await page.setInputFiles('.composer input[type=file]', { name: 'x.bin', mimeType: 'application/octet-stream', buffer: Buffer.from([1, 0, 2]) });
    await page.getByText('x.bin is no text file').waitFor();
  }],
  ['on a phone everything is in reach', async (browser) => {
    const server = await Server.start();
    await server.call('PUT', 'api/workspace/file/notes/pump.md', '# Pump\n\n- installed 2019\n- serviced in April\n- filter: F7\n');
    const page = await browser.enter(server, PHONE);
    await browser.shoot('phone', page);
    await page.getByLabel('Message', { exact: true }).fill(PUMP);
    await page.getByRole('button', { name: 'Send' }).tap();
    await page.locator('.diff').waitFor();
    await browser.shoot('phone-approval', page);
    await page.getByRole('button', { name: 'Approve' }).tap();
    await page.locator('article[data-state=done]').waitFor();
    await page.locator('.opener:not(.asked)').waitFor();
    await fits(page, 'a conversation');
    await browser.shoot('phone-approved', page);
    await page.getByRole('button', { name: 'Menu' }).tap();
    await page.getByRole('link', { name: 'Settings' }).tap();
    await page.getByRole('heading', { name: 'Settings' }).waitFor();
    await fits(page, 'settings');
  }],
  ['in a low window the rooms and the conversations are apart, and each is in reach', async (browser) => {
    const server = await Server.start();
    await server.call('POST', 'api/spaces', { name: 'House' });
    for (const text of ['one', 'two', 'three', 'four', 'five']) await server.call('POST', 'api/chat', { content: `echo ${text}` });
    const page = await browser.enter(server);
    for (const [width, height] of [[844, 390], [667, 375], [390, 450]]) {
      await page.setViewportSize({ width, height });
      if (width < 820) await page.getByRole('button', { name: 'Menu', exact: true }).click();
      await page.locator('.session').first().waitFor();
      const [list, rooms] = [await page.locator('.sessions').boundingBox(), await page.locator('.places').boundingBox()];
      holds(list.height >= 80 && list.y + list.height <= rooms.y, `${width}x${height}: ${JSON.stringify([list, rooms])}`);
      for (const link of await page.locator('.places a').all()) {
        await link.scrollIntoViewIfNeeded();
        holds(await link.evaluate((one) => { const { x, y, width, height } = one.getBoundingClientRect(); return one.contains(document.elementFromPoint(x + width / 2, y + height / 2)); }), `${width}x${height}: ${await link.textContent()} is under something`);
      }
      await browser.shoot(`low-${width}`, page);
      if (width < 820) await page.keyboard.press('Escape');
    }
  }],
  ['an answer that failed says why, and what to do', async (browser) => {
    const model = await startModel();
    const server = await Server.start({ env: model.env });
    const page = await browser.enter(server);
    const turn = await say(page, 'fail', { state: 'failed' });
    const note = turn.locator('.note');
    const text = await note.textContent();
    holds(/^This answer failed: .+ Try again · Connect another model$/.test(text), text);
    same(await note.getByRole('link').getAttribute('href'), '#/model', 'the link');
    await page.getByLabel('Message', { exact: true }).fill('slow 2000');
    await page.keyboard.press('Enter');
    await page.locator('.reply > .md').getByText('w9').waitFor();
    await page.getByRole('button', { name: 'Stop the answer' }).click();
    same(await page.locator('article[data-state=cancelled] .note').textContent(), 'Stopped; what was written is kept. Try again', 'a stopped one');
  }],
  ['code within a line is no block, however many ticks it has', async (browser) => {
    const page = await browser.enter(await Server.start());
    const shown = await page.evaluate(async () => {
      const { markdown } = await import(new URL('assets/markdown.js', document.baseURI));
      const md = markdown('```npm install``` then run it\n\n```js\nlet a;\n```\n\n~~~ a`b\nc\n~~~\nend');
      return [md.querySelector('p').textContent, [...md.querySelectorAll('pre')].map((one) => one.textContent), md.lastElementChild.textContent];
    });
    same(shown, ['npm install then run it', ['let a;', 'c'], 'end'], 'what is shown');
  }],
  ['a draft that was folded stays folded, and only its end is made anew', async (browser) => {
    const page = await browser.enter(await Server.start());
    const found = await page.evaluate(async () => {
      const [{ TurnView }, { Turn }] = await Promise.all(['turn', 'turns'].map((name) => import(new URL(`assets/${name}.js`, document.baseURI))));
      const turn = new Turn('x');
      let seq = 0;
      const said = (text, attempt = 1) => turn.take({ seq: ++seq, kind: 'draft', attempt, text });
      said('one\n\ntwo');
      const view = new TurnView(turn, {});
      const first = view.draft.querySelector('.md > p');
      const folded = [view.draft.open];
      view.draft.open = false;
      said(' more');
      view.update();
      folded.push(view.draft.open, first === view.draft.querySelector('.md > p'), view.draft.querySelector('.md').textContent);
      said('another', 2);
      view.update();
      return [...folded, view.draft.open];
    });
    same(found, [true, false, true, 'onetwo more', true], 'open, folded, the same paragraph, its text, open again for another attempt');
  }],
];

// A model server that speaks OpenAI's form and says what it is asked to: `slow N` is N numbered words, one every 20 ms; anything else
// is repeated, and `fail` is refused. `seen`: the header fields of each question.

import { createServer } from 'node:http';
import { closing } from './server.mjs';

export async function startModel() {
  const seen = [];
  const server = createServer((request, response) => {
    seen.push(request.headers);
    let body = '';
    request.on('data', (bytes) => (body += bytes));
    request.on('end', () => {
      if (request.url.endsWith('/models')) return response.end(JSON.stringify({ data: [{ id: 'scripted' }] }));
      const said = [...JSON.parse(body).messages].reverse().find((one) => one.role === 'user')?.content ?? '';
      const text = typeof said === 'string' ? said : said.map((part) => part.text ?? '').join('');
      if (text === 'fail') return response.writeHead(400).end('{}');
      const slow = /slow (\d+)/.exec(text);
      const words = slow ? Array.from({ length: Number(slow[1]) }, (_, i) => `w${i} `) : [`You said: ${text}`];
      response.writeHead(200, { 'content-type': 'text/event-stream' });
      let i = 0;
      const timer = setInterval(() => {
        if (i < words.length) return response.write(`data: ${JSON.stringify({ choices: [{ index: 0, delta: { content: words[i++] } }] })}\n\n`);
        clearInterval(timer);
        response.write(`data: ${JSON.stringify({ choices: [{ index: 0, delta: {}, finish_reason: 'stop' }] })}\n\n`);
        response.end('data: [DONE]\n\n');
      }, slow ? 20 : 1);
      response.on('close', () => clearInterval(timer));
    });
  });
  await new Promise((ready) => server.listen(0, '127.0.0.1', ready));
  closing.push(() => (server.closeAllConnections(), server.close()));
  const url = `http://127.0.0.1:${server.address().port}/v1`;
  return { url, seen, env: { OXIOS_ENGINE__DEFAULT_MODEL: 'openai/scripted', OXIOS_ENGINE__BASE_URL: url, OPENAI_API_KEY: 'sk-test' } };
}

// A reverse proxy with the page beneath a path of its own, whose line can be cut.

import { createServer, request as ask } from 'node:http';
import { closing } from './server.mjs';

/** `strips`: it takes the path away, else it leaves it. */
export async function startProxy(target, { path = '', strips = true } = {}) {
  const sockets = new Set();
  const self = { cut: false };
  const server = createServer((request, response) => {
    if (!request.url.startsWith(path)) return response.writeHead(404).end();
    const to = ask(target + (strips ? request.url.slice(path.length) || '/' : request.url), { method: request.method, headers: request.headers }, (answer) => {
      response.writeHead(answer.statusCode, answer.headers);
      answer.pipe(response);
    });
    to.on('error', () => response.destroy());
    response.on('close', () => to.destroy());
    request.pipe(to);
  });
  server.on('connection', (socket) => {
    if (self.cut) return socket.destroy();
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket));
  });
  await new Promise((ready) => server.listen(0, '127.0.0.1', ready));
  closing.push(() => (server.closeAllConnections(), server.close()));
  self.url = `http://127.0.0.1:${server.address().port}${path}`;
  /** As when a laptop is closed. */
  self.close = () => ((self.cut = true), sockets.forEach((socket) => socket.destroy()));
  self.open = () => (self.cut = false);
  return self;
}

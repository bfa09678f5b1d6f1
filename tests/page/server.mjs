// The real binary with a home of its own; it can be killed and started again at the same place.

import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { createInterface } from 'node:readline';

const all = new Set();

export class Server {
  /** `config`: lines of config.toml; `env`: more of the environment. */
  static async start({ config = '', env = {} } = {}) {
    const server = new Server();
    server.home = mkdtempSync(join(tmpdir(), 'oxios-page-'));
    server.env = env;
    writeFileSync(join(server.home, 'config.toml'), config);
    all.add(server);
    await server.run('127.0.0.1:0');
    return server;
  }

  async run(listen) {
    const env = { PATH: process.env.PATH, HOME: this.home, OXIOS_HOME: this.home, OXIOS_SECURITY__RATE_LIMIT_PER_MINUTE: '0', OXIOS_ENGINE__DEFAULT_MODEL: 'offline', ...this.env };
    // While the page is worked on: its files as they lie there, without another build (and with the policy of an own page).
    if (process.env.OXIOS_WEB__DIST) env.OXIOS_WEB__DIST = process.env.OXIOS_WEB__DIST;
    this.child = spawn(resolve(process.env.OXIOS_BINARY), ['serve', '--listen', listen], { env, stdio: ['ignore', 'pipe', 'pipe'] });
    this.log = '';
    this.child.stderr.on('data', (bytes) => (this.log += bytes));
    const lines = createInterface(this.child.stdout);
    this.url = await new Promise((found, lost) => {
      lines.on('line', (line) => line.startsWith('listening on ') && found(line.slice(13)));
      this.child.once('exit', (code) => lost(new Error(`the server ended with ${code}\n${this.log}`)));
    });
  }

  get key() {
    return readFileSync(join(this.home, 'token'), 'utf8').trim();
  }

  /** Kill -9. */
  async kill() {
    const ended = new Promise((done) => this.child.once('exit', done));
    this.child.kill('SIGKILL');
    await ended;
  }

  restart() {
    return this.run(new URL(this.url).host);
  }

  /** Calls the API as its owner. */
  async call(method, path, body, headers = {}) {
    const answer = await fetch(`${this.url}/${path}`, { method, headers: { authorization: `Bearer ${this.key}`, 'content-type': 'application/json', ...headers }, body: body === undefined ? undefined : typeof body === 'string' ? body : JSON.stringify(body) });
    const text = await answer.text();
    if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${text}`);
    return answer.headers.get('content-type')?.startsWith('application/json') ? JSON.parse(text) : text;
  }

  stop() {
    this.child.kill('SIGKILL');
    rmSync(this.home, { recursive: true, force: true });
    if (this.log.includes('panicked')) throw new Error(`a panic is in the server's log\n${this.log}`);
  }
}

export function stopAll() {
  for (const server of all) server.stop();
  all.clear();
  for (const close of closing.splice(0)) close();
}

/** What else ends with a scenario. */
export const closing = [];

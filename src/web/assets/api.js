// The one door to the server this page was loaded from, with the browser's cookie. Nothing names another one.

// Where the page's root is; behind a proxy that is not `/`.
export const BASE = new URL('./', document.baseURI);
export const at = (path) => new URL(path.replace(/^\//, ''), BASE).href;

// What went wrong, and what to do.
export class Refused extends Error {
	constructor(status, message) {
		super(message);
		this.status = status;
	}

	// No waiting mends it.
	get final() {
		return this.status >= 400 && this.status < 500 && this.status !== 429;
	}
}

let onLoggedOut;
// Told when the server no longer knows this browser.
export const whenLoggedOut = (tell) => (onLoggedOut = tell);

const HINTS = {
	0: 'The server cannot be reached. What you wrote is kept; try again when the connection is back.',
	401: 'You are logged out. Log in again; nothing is lost.',
	404: 'There is no such thing any more; it may have been deleted elsewhere.',
	413: 'That is larger than the server takes.',
	429: 'Too many requests at once; wait a moment and try again.',
	500: 'The server made a mistake; its log has it. Try again.',
	502: 'Look at the address and the key under “Connect a model”.',
	503: 'The server is busy or stopping; try again in a moment.',
	507: 'Make room on the server’s disk, then try again.',
};

async function sentence(response) {
	let text = '';
	try {
		text = (await response.json()).error ?? '';
	} catch {
		// Some refusals have no body (API A1).
	}
	const hint = HINTS[response.status] ?? `The server answered ${response.status}.`;
	// A proxy’s own.
	if (!text) return response.status === 502 ? HINTS[503] : hint;
	const said = text.charAt(0).toUpperCase() + text.slice(1) + (/[.!?]$/.test(text) ? '' : '.');
	return [502, 507].includes(response.status) ? `${said} ${hint}` : said;
}

// Asks, and gives the raw answer; refusals are thrown.
export async function ask(method, path, {body, headers = {}, raw, signal} = {}) {
	const init = {method, headers, signal, credentials: 'same-origin', cache: 'no-store'};
	if (raw !== undefined) init.body = raw;
	else if (body !== undefined) (init.body = JSON.stringify(body)), (headers['content-type'] = 'application/json');
	let response;
	try {
		response = await fetch(at(path), init);
	} catch (error) {
		if (error.name === 'AbortError') throw error;
		throw new Refused(0, HINTS[0]);
	}
	if (response.ok) return response;
	const refused = new Refused(response.status, await sentence(response));
	if (response.status === 401 && path !== 'api/login') onLoggedOut?.();
	throw refused;
}

// The same as JSON; null where there is no body.
export async function call(method, path, body, more) {
	const text = await (await ask(method, path, {body, ...more})).text();
	return text ? JSON.parse(text) : null;
}

export const get = (path, more) => call('GET', path, undefined, more);
export const post = (path, body, more) => call('POST', path, body, more);
export const put = (path, body) => call('PUT', path, body);
export const patch = (path, body) => call('PATCH', path, body);
export const del = (path) => call('DELETE', path);

// A random UUID; the browser's own way needs HTTPS.
export function newId() {
	const b = crypto.getRandomValues(new Uint8Array(16));
	b[6] = (b[6] & 0x0f) | 0x40;
	b[8] = (b[8] & 0x3f) | 0x80;
	return Array.from(b, (n, i) => ([4, 6, 8, 10].includes(i) ? '-' : '') + n.toString(16).padStart(2, '0')).join('');
}

// A file path in a URL: slashes stay.
export const filePath = (path) => path.split('/').map(encodeURIComponent).join('/');

// Events of a stream as they come; `alive` is called for comments, too.
export async function* events(path, {signal, alive}) {
	const response = await ask('GET', path, {signal, headers: {accept: 'text/event-stream'}});
	alive?.();
	const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
	let rest = '';
	try {
		for (;;) {
			const {value, done} = await reader.read();
			if (done) return;
			alive?.();
			rest += value;
			const frames = rest.split('\n\n');
			rest = frames.pop();
			for (const frame of frames) {
				const data = frame.split('\n').filter((line) => line.startsWith('data:')).map((line) => line.slice(5).trimStart()).join('\n');
				if (data) yield JSON.parse(data);
			}
		}
	} finally {
		reader.cancel().catch(() => {});
	}
}

// A stream that survives sleep, bad lines and restarts, from its cursor on. It is closed while nobody looks: browsers open six
// connections to a server, in all tabs together.

import {events} from './api.js';

// The server writes every 10 s: such a line is dead.
const SILENCE_MS = 35000;
// A hidden page may want to tell that an answer is there.
const HIDDEN_MS = 60000;
const WAIT_MS = [300, 1000, 2000, 4000, 8000, 15000];

const states = new Map();
const watchers = new Set();

// Told when the connection's state changes: `live`, `waiting` or `off`.
export function onConnection(tell) {
	watchers.add(tell);
	tell(connection());
	return () => watchers.delete(tell);
}

export function connection() {
	return ![...states.values()].includes('waiting') ? 'live' : navigator.onLine ? 'waiting' : 'off';
}

function note(feed, state) {
	const before = connection();
	if (state) states.set(feed, state);
	else states.delete(feed);
	if (connection() !== before) watchers.forEach((tell) => tell(connection()));
}

for (const name of ['online', 'offline']) addEventListener(name, () => watchers.forEach((tell) => tell(connection())));

// Follows a stream. `path()` names the cursor for each connection; `onGone` is told of a refusal that no waiting mends. While
// `stays()`, it goes on for a while in a hidden page; nothing is begun there.
export function follow({path, onEvent, onGone, onOpen, stays}) {
	let abort = null, ended = false, tries = 0, timer = 0, silence = 0, hidden = 0;
	const self = {};

	async function run() {
		clearTimeout(timer);
		if (ended || abort || document.hidden) return;
		const own = (abort = new AbortController());
		const {signal} = own;
		const alive = () => {
			clearTimeout(silence);
			silence = setTimeout(() => own.abort(), SILENCE_MS);
			if (tries >= 0) (tries = -1), note(self, 'live'), onOpen?.();
		};
		try {
			silence = setTimeout(() => own.abort(), SILENCE_MS);
			for await (const event of events(path(), {signal, alive})) {
				if (signal.aborted || ended) break;
				onEvent(event);
			}
		} catch (error) {
			if (error.final) {
				ended = true;
				onGone(error);
			}
		}
		// Another took its place, or it is not wanted any more.
		if (abort !== own) return;
		if (ended || document.hidden) return rest();
		clearTimeout(silence);
		abort = null;
		tries++;
		note(self, 'waiting');
		timer = setTimeout(run, WAIT_MS[Math.min(tries, WAIT_MS.length - 1)]);
	}

	function rest() {
		abort?.abort();
		abort = null;
		clearTimeout(timer), clearTimeout(silence);
		note(self, null);
	}

	const wake = () => {
		clearTimeout(hidden);
		if (document.hidden) return void (hidden = setTimeout(rest, stays?.() ? HIDDEN_MS : 0));
		tries = 0;
		run();
	};
	const gone = new AbortController();
	document.addEventListener('visibilitychange', wake, gone);
	addEventListener('online', wake, gone);
	run();

	self.close = () => {
		ended = true;
		clearTimeout(hidden);
		gone.abort();
		rest();
	};
	return self;
}

// What the kernel does: one stream for the whole page.
const listeners = new Set();
let kernel = null;

// Told of each event (API A4), and of `{type: 'again'}` when some may have been missed.
export function onKernel(tell) {
	listeners.add(tell);
	return () => listeners.delete(tell);
}

export function startKernel() {
	kernel ??= follow({
		path: () => 'api/events',
		onOpen: () => listeners.forEach((tell) => tell({type: 'again'})),
		onEvent: (event) => listeners.forEach((tell) => tell(event.type === 'resync' ? {type: 'again'} : event)),
		onGone: () => (kernel = null),
	});
}

export function stopKernel() {
	kernel?.close();
	kernel = null;
}

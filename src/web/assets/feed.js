// A stream that survives sleep, bad lines and restarts: it goes on from its cursor, and is closed while nobody looks. (Browsers open
// six connections to a server, in all tabs together.)

import {events} from './api.js';

// The server writes every 10 s: a line that is silent for so long is dead.
const SILENCE_MS = 35000;
// A hidden page may want to tell that an answer is there: it stays for a while.
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
	if (!navigator.onLine) return 'off';
	return [...states.values()].some((state) => state === 'waiting') ? 'waiting' : 'live';
}

function note(feed, state) {
	const before = connection();
	if (state) states.set(feed, state);
	else states.delete(feed);
	if (connection() !== before) watchers.forEach((tell) => tell(connection()));
}

for (const name of ['online', 'offline']) addEventListener(name, () => watchers.forEach((tell) => tell(connection())));

/**
 * Follows a stream. `path()` is asked anew for each connection, so that it names the cursor; `onEvent` gets what comes; `onGone` is
 * told of a refusal that no waiting mends.
 */
export function follow({path, onEvent, onGone = () => {}, onOpen = () => {}}) {
	let abort = null, ended = false, tries = 0, timer = 0, silence = 0, hidden = 0;
	const self = {};

	async function run() {
		clearTimeout(timer);
		if (ended || abort) return;
		abort = new AbortController();
		const {signal} = abort;
		const alive = () => {
			clearTimeout(silence);
			silence = setTimeout(() => abort?.abort(), SILENCE_MS);
			if (tries >= 0) (tries = -1), note(self, 'live'), onOpen();
		};
		try {
			silence = setTimeout(() => abort?.abort(), SILENCE_MS);
			for await (const event of events(path(), {signal, alive})) {
				if (signal.aborted || ended) break;
				onEvent(event);
			}
		} catch (error) {
			if (error.status >= 400 && error.status < 500 && error.status !== 429) {
				ended = true;
				onGone(error);
			}
		}
		clearTimeout(silence);
		abort = null;
		if (ended) return note(self, null);
		if (document.hidden && hidden === -1) return;
		tries = Math.max(tries, 0) + (tries < 0 ? 0 : 1);
		note(self, 'waiting');
		timer = setTimeout(run, WAIT_MS[Math.min(tries, WAIT_MS.length - 1)]);
	}

	const wake = () => {
		clearTimeout(hidden);
		hidden = 0;
		if (document.hidden) {
			hidden = setTimeout(() => ((hidden = -1), abort?.abort(), clearTimeout(timer), note(self, null)), HIDDEN_MS);
		} else {
			tries = 0;
			run();
		}
	};
	const gone = new AbortController();
	document.addEventListener('visibilitychange', wake, gone);
	addEventListener('online', wake, gone);
	run();

	self.close = () => {
		ended = true;
		abort?.abort();
		clearTimeout(timer), clearTimeout(hidden), clearTimeout(silence);
		gone.abort();
		note(self, null);
	};
	return self;
}

// What the kernel does, for whoever wants to know: one stream for the whole page.
const listeners = new Set();
let kernel = null;

// Called with each event of the kernel (API A4), and with `{type: 'again'}` when some may have been missed.
export function onKernel(tell) {
	listeners.add(tell);
	return () => listeners.delete(tell);
}

export function startKernel() {
	kernel ??= follow({
		path: () => 'api/events',
		onOpen: () => listeners.forEach((tell) => tell({type: 'again'})),
		onEvent: (event) => listeners.forEach((tell) => tell(event)),
		onGone: () => (kernel = null),
	});
}

export function stopKernel() {
	kernel?.close();
	kernel = null;
}

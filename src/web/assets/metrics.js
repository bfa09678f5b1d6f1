// What `/metrics` says, every few seconds, kept for an hour in this browser, for all its tabs.

import {ask, BASE} from './api.js';
import {stored} from './composer.js';

const EVERY_MS = 15000;
const KEPT_MS = 3600e3;
const SLOT = `oxios.metrics${BASE.pathname}`;

let list = [];
const watchers = new Set();
export let BUCKETS = [];

export const samples = () => list;

export function watchMetrics(tell) {
	watchers.add(tell);
	return () => watchers.delete(tell);
}

// One line of the Prometheus text: `name{labels} value`.
const LINE = /^([a-z_]+)(?:\{(.*)\})? (\S+)$/;

function read(text) {
	const one = {at: Date.now(), requests: 0, tokensIn: 0, tokensOut: 0, memory: 0, active: 0};
	const buckets = new Map();
	for (const line of text.split('\n')) {
		const [, name, labels = '', value] = LINE.exec(line) ?? [];
		const n = Number(value);
		if (name === 'oxios_http_requests_total') one.requests += n;
		else if (name === 'oxios_model_tokens_total') one[labels.includes('direction="in"') ? 'tokensIn' : 'tokensOut'] += n;
		else if (name === 'process_resident_memory_bytes') one.memory = n;
		else if (name === 'oxios_runs_active') one.active = n;
		else if (name === 'oxios_http_request_duration_seconds_bucket') {
			const bound = /le="([^"]+)"/.exec(labels)[1];
			const at = bound === '+Inf' ? Infinity : Number(bound);
			buckets.set(at, (buckets.get(at) ?? 0) + n);
		}
	}
	BUCKETS = [...buckets.keys()].sort((a, b) => a - b);
	one.buckets = BUCKETS.map((bound) => buckets.get(bound));
	return one;
}

let timer = null;

export function startMetrics() {
	stopMetrics();
	const look = async () => {
		const mine = (timer = {});
		if (!document.hidden) {
			try {
				const one = read(await (await ask('GET', 'metrics')).text());
				// A clock may be put back.
				list = [...(stored.get(SLOT) ?? []).filter(({at}) => at < one.at - EVERY_MS / 2 && at > one.at - KEPT_MS), one].slice(-480);
				stored.set(SLOT, list);
				watchers.forEach((tell) => tell());
			} catch {
				// A gap in the drawing; the connection's state is told elsewhere.
			}
		}
		// Stopped while it asked.
		if (timer === mine) timer = setTimeout(look, EVERY_MS);
	};
	look();
}

export const stopMetrics = () => (clearTimeout(timer), (timer = null));

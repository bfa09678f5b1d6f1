import {at, get} from './api.js';
import {badge, bytes, count, field, fill, h, loading, room, svg} from './dom.js';
import {stored} from './composer.js';
import {BUCKETS, samples, watchMetrics} from './metrics.js';

const HOUR = 3600e3, LEAST = 300e3;

export function statusRoom() {
	const now = h('div'), charts = h('div.charts');
	const prices = stored.get('oxios.prices') ?? {in: 0, out: 0};
	const [priceIn, priceOut] = [['in', 'read'], ['out', 'written']].map(([name, word]) => field(`Price of a million tokens ${word}`, {kind: 'number', min: 0, step: 'any', value: prices[name] || '', oninput: (event) => ((prices[name] = Number(event.target.value) || 0), stored.set('oxios.prices', prices), draw())}));
	const {node} = room('Status', {}, now, h('h2', 'The last hour'), h('p.small', 'Kept in this browser, while the page is open.'), charts, h('div.filters', priceIn.node, priceOut.node));
	const reload = loading(now, async () => {
		const [status, ready, engine] = await Promise.all([get('api/status'), fetch(at('health/ready')).then((answer) => answer.json()), get('api/engine/config').catch(() => null)]);
		const parts = {'State store': status.components.state_store, Events: status.components.event_bus, Memory: ready.components?.memory};
		const {agents} = status.components;
		return h('div.facts', fact('State', badge(ready.status, ready.status === 'healthy' ? 'good' : 'bad')), fact('Up', status.uptime), fact('Version', status.version), engine && fact('Model', h('a', {href: '#/model'}, engine.default_model)), fact('Agents', `${agents.active_count} active, ${count(agents.total_completed)} done, ${count(agents.total_failed)} failed`), fact('Memories', count(status.components.memory.total_entries)),
			Object.entries(parts).filter(([, part]) => part?.healthy === false).map(([name, part]) => fact(name, part.detail ?? 'not healthy')));
	});
	const fact = (name, value) => h('div.card.fact', h('small', name), h('span', value));

	function draw() {
		const list = samples();
		const rate = (name, per = 60) => list.slice(1).map((one, i) => ({at: one.at, value: Math.max(0, one[name] - list[i][name]) / ((one.at - list[i].at) / 1000) * per}));
		const level = (name) => list.map((one) => ({at: one.at, value: one[name]}));
		const latency = (part) => list.slice(1).map((one, i) => ({at: one.at, value: quantile(one.buckets.map((n, k) => Math.max(0, n - (list[i].buckets[k] ?? 0))), part)}));
		const cost = rate('tokensIn').map((one, i) => ({at: one.at, value: (one.value * prices.in + rate('tokensOut')[i].value * prices.out) / 1e6}));
		fill(charts, chart('Requests a minute', [rate('requests')], round), chart('Tokens a minute', [rate('tokensIn'), rate('tokensOut')], round, ['read', 'written']), chart('Cost a minute', [cost], (n) => n.toFixed(4)), chart('Latency of requests', [latency(0.5), latency(0.95)], ms, ['half within', '95 % within']), chart('Memory', [level('memory')], bytes), chart('Answers at work', [level('active')], count));
	}

	const stop = watchMetrics(() => (draw(), reload()));
	draw();
	return {node, close: stop};
}

const round = (n) => count(Math.round(n));
const ms = (n) => (n < 1000 ? `${n < 10 ? n.toFixed(1) : Math.round(n)} ms` : `${(n / 1000).toFixed(1)} s`);

// In milliseconds, from counts by bucket (summed up, as Prometheus has them).
function quantile(cumulative, part) {
	const all = cumulative.at(-1);
	if (!all) return 0;
	const i = cumulative.findIndex((n) => n >= all * part);
	const [low, high] = [i > 0 ? BUCKETS[i - 1] : 0, BUCKETS[i] === Infinity ? BUCKETS[i - 1] : BUCKETS[i]];
	const [before, within] = [i > 0 ? cumulative[i - 1] : 0, cumulative[i]];
	return (low + (high - low) * (within === before ? 1 : (all * part - before) / (within - before))) * 1000;
}

function chart(title, lines, say, names = []) {
	const now = Date.now();
	const span = Math.min(HOUR, Math.max(LEAST, now - (lines[0][0]?.at ?? now)));
	const max = Math.max(...lines.flat().map((one) => one.value), 0);
	const picture = svg('svg', {viewBox: '0 0 300 80', preserveAspectRatio: 'none', role: 'img', 'aria-label': `${title}: ${lines.map((line, i) => `${names[i] ?? 'now'} ${say(line.at(-1)?.value ?? 0)}`).join(', ')}; most ${say(max)}`});
	lines.forEach((line, i) => picture.append(svg('polyline', {class: `line${i}`, points: line.map((one) => `${(300 - ((now - one.at) / span) * 300).toFixed(1)},${(77 - (max ? one.value / max : 0) * 70).toFixed(1)}`).join(' ')})));
	return h('figure.card.chart', h('figcaption', h('span', title), h('span.now', lines.map((line, i) => h('span', {class: `line${i}`}, `${names[i] ? names[i] + ' ' : ''}${say(line.at(-1)?.value ?? 0)}`)))), picture, h('div.axis', h('span', `${Math.round(span / 60e3)} min ago`), h('span', `most ${say(max)}`), h('span', 'now')));
}

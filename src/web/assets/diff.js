// What a change does to a text, line by line.

import {h, plural} from './dom.js';

// More lines are shown as two halves: the exact way takes their product.
const EXACT = 2000;
const AROUND = 3;

// `[['=' | '-' | '+', line]]`.
export function diff(before, after) {
	const [a, b] = [split(before), split(after)];
	let start = 0;
	while (start < a.length && start < b.length && a[start] === b[start]) start++;
	let end = 0;
	while (end < a.length - start && end < b.length - start && a[a.length - 1 - end] === b[b.length - 1 - end]) end++;
	const [x, y] = [a.slice(start, a.length - end), b.slice(start, b.length - end)];
	const same = (lines) => lines.map((line) => ['=', line]);
	const middle = x.length <= EXACT && y.length <= EXACT ? exact(x, y) : [...x.map((line) => ['-', line]), ...y.map((line) => ['+', line])];
	return [...same(a.slice(0, start)), ...middle, ...same(a.slice(a.length - end))];
}

// Each with its end: a last one without is another line.
const split = (text) => text.match(/[^\n]*\n|[^\n]+/g) ?? [];

function exact(a, b) {
	const width = b.length + 1;
	const table = new Uint16Array((a.length + 1) * width);
	for (let i = a.length - 1; i >= 0; i--)
		for (let j = b.length - 1; j >= 0; j--) table[i * width + j] = a[i] === b[j] ? table[(i + 1) * width + j + 1] + 1 : Math.max(table[(i + 1) * width + j], table[i * width + j + 1]);
	const out = [];
	let [i, j] = [0, 0];
	while (i < a.length || j < b.length) {
		if (i < a.length && j < b.length && a[i] === b[j]) out.push(['=', a[i]]), i++, j++;
		else if (j >= b.length || (i < a.length && table[(i + 1) * width + j] >= table[i * width + j + 1])) out.push(['-', a[i++]]);
		else out.push(['+', b[j++]]);
	}
	return out;
}

const SAY = {'+': ['plus', 'added'], '-': ['minus', 'removed'], '=': ['same']};

// As a person reads it: signs and words, not colour alone; long equal stretches are folded.
export function diffView(before, after) {
	const lines = diff(before, after);
	const near = new Set(lines.flatMap(([sign], i) => (sign === '=' ? [] : Array.from({length: 2 * AROUND + 1}, (_, k) => i + k - AROUND))));
	const rows = [];
	let folded = 0;
	const fold = () => folded && (rows.push(h('div.fold', plural(folded, 'unchanged line'))), (folded = 0));
	lines.forEach(([sign, line], i) => {
		if (!near.has(i)) return void folded++;
		fold();
		const [kind, says] = SAY[sign];
		rows.push(h(`div.line.${kind}`, h('span.mark', says ? {says, role: 'img'} : {'aria-hidden': 'true'}, says ? sign : ' '), h('span', line.replace('\n', '').replaceAll('\r', '␍'), !line.endsWith('\n') && h('small', ' (no line end)'))));
	});
	fold();
	const [plus, minus] = ['+', '-'].map((wanted) => lines.filter(([sign]) => sign === wanted).length);
	const total = plus + minus ? `${plus} added, ${minus} removed` : 'nothing changes';
	return h('div.diff', h('p.small', total), h('div.lines', {tabindex: '0', role: 'region', says: `The change: ${total}`}, rows));
}

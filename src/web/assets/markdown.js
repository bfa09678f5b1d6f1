// Markdown as elements. SECURITY: a stranger's text: nodes are made one by one, HTML in it is text, links lead to http, https and
// mailto only, in a window that knows nothing of this one.

import {copyText, h, icon} from './dom.js';

// Ticks with more of them on their line are code within it.
const FENCE = /^ {0,3}(`{3,}(?=[^`]*$)|~{3,})\s*([^\s`]*)/;
// These meet lines of any length: each takes time in proportion to it.
const HEAD = /^ {0,3}(#{1,6})\s+(.*)$/;
const RULE = /^ {0,3}([-*_])(\s*\1){2,}\s*$/;
const QUOTE = /^ {0,3}> ?/;
const ITEM = /^( *)([-*+]|\d{1,9}[.)])(\s+|$)/;
const CELLS = /^(?=[^-]*-)[-|:\s]+$/;
// Lists and quotes within each other; deeper ones are shown as text.
const DEEP = 8;

// The parts of a text: `[{raw, node()}]`. While an answer grows only its last ones change: the nodes of the others are kept.
export const parts = (text) => own(text.replace(/\r\n?/g, '\n').split('\n')).map((lines) => ({raw: lines.join('\n'), node: () => Object.assign(part(lines, 0), {dir: 'auto'})}));

function own(lines) {
	const found = [];
	for (let i = 0, end; i < lines.length; i = end) {
		end = partEnd(lines, i);
		if (lines.slice(i, end).some((line) => line.trim())) found.push(lines.slice(i, end));
	}
	return found;
}

export const markdown = (text) => h('div.md', parts(text).map((one) => one.node()));

function partEnd(lines, i) {
	const line = lines[i];
	if (FENCE.test(line)) return fenceEnd(lines, i);
	if (!line.trim() || HEAD.test(line) || RULE.test(line)) return i + 1;
	const kind = QUOTE.test(line) ? 'quote' : ITEM.test(line) ? 'list' : heads(lines, i) ? 'table' : 'text';
	const ordered = /^ *\d/.test(line);
	// A list of the other kind is another list.
	const other = (next) => /^ ?\S/.test(next) && ITEM.test(next) && /^ *\d/.test(next) !== ordered;
	let j = i + 1;
	for (; j < lines.length; j++) {
		const next = lines[j];
		if (kind === 'list') {
			if (/^ /.test(next) && FENCE.test(next.trim())) {
				j = fenceEnd(lines, j) - 1;
				continue;
			}
			// It goes on over one empty line where what follows belongs to it.
			if (!next.trim()) {
				if (j + 1 < lines.length && ((ITEM.test(lines[j + 1]) && !other(lines[j + 1])) || /^ {2,}\S/.test(lines[j + 1]))) continue;
				break;
			}
			if (other(next) || !ITEM.test(next) && !/^ +/.test(next) && (HEAD.test(next) || FENCE.test(next) || QUOTE.test(next))) break;
			continue;
		}
		if (!next.trim() || HEAD.test(next) || FENCE.test(next) || RULE.test(next)) break;
		if ((kind === 'text' && heads(lines, j)) || (kind !== 'quote' && (QUOTE.test(next) || (ITEM.test(next) && !/^ *(?!1\D)\d/.test(next))))) break;
	}
	return j;
}

const heads = (lines, i) => lines[i].includes('|') && CELLS.test(lines[i + 1] ?? '');

// Where the block of code ends that begins here; within a list it stands deeper.
function fenceEnd(lines, i) {
	const [, mark] = FENCE.exec(lines[i].trim());
	do i++;
	while (i < lines.length && (!lines[i].trim().startsWith(mark) || lines[i].trim().slice(mark.length).trim()));
	return Math.min(i + 1, lines.length);
}

function part(lines, depth) {
	const first = lines[0];
	const fence = FENCE.exec(first);
	if (fence) {
		const last = lines.length > 1 && lines.at(-1).trim().startsWith(fence[1]);
		return code(lines.slice(1, last ? -1 : undefined).join('\n'), fence[2]);
	}
	const head = HEAD.exec(first);
	// The page itself has the first two levels.
	if (head) return h(`h${Math.min(head[1].length + 2, 6)}`, inline(head[2].trim().replace(/(^|\s)#+$/, '')));
	if (RULE.test(first)) return h('hr');
	if (QUOTE.test(first) && depth < DEEP) return h('blockquote', blocks(lines.map((line) => line.replace(QUOTE, '')), depth + 1));
	if (ITEM.test(first) && depth < DEEP) return list(lines, depth);
	if (heads(lines, 0)) return table(lines);
	return h('p', inline(lines.map((line) => line.trim()).join('\n')));
}

const blocks = (lines, depth) => own(lines).map((one) => part(one, depth));

function list(lines, depth) {
	const [, indent, mark] = ITEM.exec(lines[0]);
	const ordered = /\d/.test(mark);
	const items = [];
	for (const line of lines) {
		const item = ITEM.exec(line);
		if (item && item[1].length < indent.length + 2) items.push([line.slice(item[0].length)]);
		else items.at(-1).push(line.replace(new RegExp(`^ {0,${indent.length + mark.length + 1}}`), ''));
	}
	const start = parseInt(mark, 10);
	return h(ordered ? 'ol' : 'ul', {start: ordered && start !== 1 ? start : null}, items.map((lines) => {
		const task = /^\[([ xX])\]\s+/.exec(lines[0]);
		if (task) lines[0] = lines[0].slice(task[0].length);
		const made = blocks(lines, depth + 1);
		// An item of one paragraph is a line.
		const inner = made.length && made[0].tagName === 'P' && !lines.some((line, i) => i && !line.trim()) ? [...made[0].childNodes, ...made.slice(1)] : made;
		return h('li', task && h('span.task', {role: 'img', says: task[1] === ' ' ? 'open' : 'done'}, task[1] === ' ' ? '☐ ' : '☑ '), inner);
	}));
}

function cells(line) {
	return line.trim().replace(/^\||\|$/g, '').split(/(?<!\\)\|/).map((cell) => cell.trim().replaceAll('\\|', '|'));
}

function table([head, marks, ...rows]) {
	const sides = cells(marks).map((mark) => (/^:-*:$/.test(mark) ? 'mid' : /:$/.test(mark) ? 'end' : ''));
	const row = (line, tag) => h('tr', cells(line).slice(0, 64).map((cell, i) => h(tag, {class: sides[i] || null}, inline(cell))));
	return h('div.scroll', {tabindex: '0', role: 'region', says: 'Table'}, h('table', h('thead', row(head, 'th')), h('tbody', rows.map((line) => row(line, 'td')))));
}

export function code(text, language = '') {
	return h('figure.code', h('figcaption', h('span', language || 'text'), h('button.quiet', {onclick: () => copyText(text)}, icon('copy'), 'Copy')), h('pre', {tabindex: '0', says: `Code${language ? ', ' + language : ''}`}, h('code', text)));
}

const LINK = /^\[([^\[\]]*(?:\[[^\[\]]*\][^\[\]]*)*)\]\(\s*<?((?:\([^\s()]*\)|[^\s<>()])+)>?(?:\s+"[^"]*")?\s*\)/;
const BARE = /^https?:\/\/[^\s<>"'`]+[^\s<>"'`.,;:!?)\]}]/;

function link(target, inner) {
	let url;
	try {
		url = new URL(target);
	} catch {
		return null;
	}
	if (!['http:', 'https:', 'mailto:'].includes(url.protocol)) return null;
	return h('a', {href: url.href, target: '_blank', rel: 'noopener noreferrer nofollow'}, inner);
}

// Emphasis, code, links and line breaks within a line.
function inline(text, depth = 0) {
	const out = [];
	let plain = '';
	const flush = () => plain && (out.push(plain), (plain = ''));
	const put = (node) => (flush(), out.push(node));
	for (let i = 0; i < text.length; ) {
		const rest = text.slice(i, i + 1000);
		const c = rest[0];
		const within = /\w/.test(text[i - 1] ?? '');
		if (c === '\\' && /[\\`*_{}[\]()#+\-.!|~<>]/.test(rest[1] ?? '')) {
			plain += rest[1];
			i += 2;
			continue;
		}
		if (c === '`') {
			const ticks = /^`+/.exec(rest)[0];
			const end = text.indexOf(ticks, i + ticks.length);
			if (end > 0 && text[end + ticks.length] !== '`') {
				put(h('code', text.slice(i + ticks.length, end).replace(/^ (.+) $/s, '$1')));
				i = end + ticks.length;
			} else {
				plain += ticks;
				i += ticks.length;
			}
			continue;
		}
		const strong = depth < DEEP && /^(\*\*|__|~~)(?=\S)([^]*?\S)\1(?!\*)/.exec(rest);
		if (strong && !(c === '_' && within)) {
			put(h(c === '~' ? 'del' : 'strong', inline(strong[2], depth + 1)));
			i += strong[0].length;
			continue;
		}
		const soft = depth < DEEP && /^([*_])(?=[^\s*_])([^]*?[^\s*_])\1(?![*_])/.exec(rest);
		if (soft && !(c === '_' && (within || /\w/.test(rest[soft[0].length] ?? '')))) {
			put(h('em', inline(soft[2], depth + 1)));
			i += soft[0].length;
			continue;
		}
		const image = c === '!' && rest[1] === '[';
		const named = (c === '[' || image) && LINK.exec(image ? rest.slice(1) : rest);
		if (named) {
			// A picture is loaded from nowhere: its text leads to it.
			const made = depth < DEEP && link(named[2], inline(named[1] || named[2], depth + 1));
			if (made) put(made);
			else plain += named[0];
			i += named[0].length + (image ? 1 : 0);
			continue;
		}
		const bare = (c === 'h' || c === '<') && !within && BARE.exec(c === '<' ? rest.slice(1) : rest);
		if (bare) {
			put(link(bare[0], bare[0]) ?? bare[0]);
			i += bare[0].length + (c === '<' ? 1 : 0);
			if (c === '<' && text[i] === '>') i++;
			continue;
		}
		if (c === '\n') put(h('br'));
		else plain += c;
		i++;
	}
	flush();
	return out;
}

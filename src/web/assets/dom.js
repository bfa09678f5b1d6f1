// Elements, signs, fields, tables and rooms: what all of them look like. No string becomes markup anywhere in this page.

import {del, patch, post} from './api.js';

const isNothing = (value) => value === null || value === undefined || value === false;
const some = (children) => children.flat(3).filter((child) => !isNothing(child));
// Those that no attribute of a name tells.
const OWN = ['value', 'checked', 'disabled', 'hidden', 'open'];

// An element: `h('button.primary', {onclick, says}, 'Save')`; `says` is for a screen reader. What is null or false is left out.
export function h(name, props, ...children) {
	const [tag, ...classes] = name.split('.');
	const node = document.createElement(tag || 'div');
	// One that does not say so would send the form it stands in.
	if (tag === 'button') node.type = 'button';
	if (classes.length) node.className = classes.join(' ');
	if (props && (typeof props !== 'object' || props instanceof Node || Array.isArray(props))) children.unshift(props), (props = null);
	for (const [key, value] of Object.entries(props ?? {})) {
		if (isNothing(value)) continue;
		if (key.startsWith('on')) node.addEventListener(key.slice(2), value);
		else if (key === 'class') node.className = [node.className, value].join(' ').trim();
		else if (OWN.includes(key)) node[key] = value;
		else node.setAttribute(key === 'says' ? 'aria-label' : key, value === true ? '' : value);
	}
	node.append(...some(children));
	return node;
}

export const fill = (node, ...children) => (node.replaceChildren(...some(children)), node);

// What `work` makes anew has the focus where it was: at the same place of the thing with the same `data-id`.
export function kept(within, work) {
	const held = (document.activeElement === document.body && working) || document.activeElement;
	const thing = within.contains(held) && held.closest('[data-id]');
	const places = (one) => [...one.querySelectorAll('a, button, input, summary')];
	const i = thing && places(thing).indexOf(held);
	work();
	const now = thing && !held.isConnected && within.querySelector(`[data-id="${thing.dataset.id}"]`);
	if (now) places(now)[i]?.focus({preventScroll: true});
}

// What had the focus until it was switched off for its work.
let working = null;

const SHAPES = {
	plus: 'M12 5v14M5 12h14', search: 'M11 4a7 7 0 1 0 .1 0M16 16l5 5', menu: 'M4 7h16M4 12h16M4 17h16',
	close: 'M6 6l12 12M18 6 6 18', send: 'M4 12 20 4l-5 16-3.5-6.5z', stop: 'M7 7h10v10H7z', copy: 'M9 9h10v11H9zM15 9V4H5v11h4', check: 'M5 12.5 10 17.5 19 7',
	edit: 'M5 19l1-4L16 5l3 3L9 18zM14 7l3 3', fork: 'M7 4v10a4 4 0 0 0 4 4h6M7 8a6 6 0 0 1 6-4h4M14 15l3 3-3 3M14 1l3 3-3 3', retry: 'M19 8a8 8 0 1 0 1 6M20 4v5h-5',
	clip: 'M19 11l-8 8a5 5 0 0 1-7-7l8-8a3.3 3.3 0 0 1 5 5l-8 8a1.6 1.6 0 0 1-2-2l7-7', trash: 'M5 7h14M10 7V4h4v3M7 7l1 13h8l1-13',
	memory: 'M12 3a7 7 0 0 0-4 12.7V19h8v-3.3A7 7 0 0 0 12 3M9 22h6', skill: 'M12 3l3 6 6 1-4.5 4 1 6-5.5-3-5.5 3 1-6L3 10l6-1z',
	seed: 'M12 21v-9c0-5 3-8 8-8 0 5-3 8-8 8M12 15c0-4-3-6-7-6 0 4 3 6 7 6', agent: 'M5 9h14v10H5zM12 9V5M9 13v2M15 13v2M12 5h.01', hand: 'M12 3l8 3v6c0 5-4 8-8 9-4-1-8-4-8-9V6zM9 12l2.2 2.2L15.5 10',
	clock: 'M12 4a8 8 0 1 0 .1 0M12 8v5l3 2', file: 'M6 3h8l5 5v13H6zM14 3v5h5', folder: 'M3 6h6l2 2h10v11H3z', space: 'M4 4h7v7H4zM13 4h7v7h-7zM4 13h7v7H4zM13 13h7v7h-7z',
	gear: 'M5 7h8M17 7h2M5 12h2M11 12h8M5 17h9M18 17h1M15 5v4M9 10v4M16 15v4', key: 'M8 11a4 4 0 1 0 .1 0M11 12l9-9M16 7l3 3', audit: 'M9 6H5v15h14V6h-4M9 4h6v4H9zM9 13h6M9 17h4',
	chart: 'M4 4v16h16M8 15l4-5 3 3 5-7', more: 'M5 11v2M12 11v2M19 11v2', down: 'M12 5v13M6 12l6 6 6-6', tool: 'M14 6a4 4 0 0 1 5-1l-2 3 1 1 2-3a4 4 0 0 1-5 5l-8 8-2-2 8-8',
	warn: 'M12 4 3 20h18zM12 10v4M12 17h.01', out: 'M14 4h6v16h-6M4 12h10M10 8l4 4-4 4', pin: 'M9 4h6l-1 6 3 3H7l3-3zM12 13v7', up: 'M12 19V6M6 12l6-6 6 6', model: 'M12 3l8 4.5v9L12 21l-8-4.5v-9zM12 12l8-4.5M12 12v9M12 12 4 7.5',
};

export function svg(name, props, ...children) {
	const node = document.createElementNS('http://www.w3.org/2000/svg', name);
	for (const [key, value] of Object.entries(props)) node.setAttribute(key, value);
	node.append(...children);
	return node;
}

// A drawn sign; it says nothing to a screen reader, the text beside it does.
export const icon = (name) => svg('svg', {viewBox: '0 0 24 24', 'aria-hidden': true, class: 'icon'}, svg('path', {d: SHAPES[name]}));

// A button with a sign; `label` is shown on hover.
export const signButton = (sign, label, onclick, kind = 'quiet') => h(`button.sign.${kind}`, {title: label, says: label, onclick}, icon(sign));

export const button = (text, onclick, {kind = '', sign, ...props} = {}) => h(`button${kind ? '.' + kind : ''}`, {onclick, ...props}, sign && icon(sign), text);

// Tells whoever hears instead of sees.
export const announce = (text) => (document.getElementById('said').textContent = text);

// A sentence that goes by itself; one about a failure stays longer.
export function toast(text, bad = false) {
	const note = h(`p.toast${bad ? '.bad' : ''}`, text, signButton('close', 'Close this note', () => note.remove()));
	document.getElementById('toasts').append(note);
	setTimeout(() => note.remove(), bad ? 12000 : 5000);
}

// Runs what a click started; what goes wrong is told in a sentence.
export const trying = (work) => async (event) => {
	event?.preventDefault?.();
	const by = event?.currentTarget?.matches?.('button, form, input') ? event.currentTarget : null;
	const busy = by?.matches('form') ? by.querySelector('[type=submit]') : by;
	const held = busy && busy === document.activeElement;
	if (held) working = busy;
	if (busy) busy.disabled = true;
	try {
		return await work(event);
	} catch (error) {
		if (error.name !== 'AbortError') toast(error.message, true);
	} finally {
		if (busy) busy.disabled = false;
		// Whoever went on stays there.
		if (held) (working = null), document.activeElement === document.body && busy.focus();
	}
};

// Resolves with what `done` was given, or null where it was closed. The browser gives the focus back.
export function dialog(title, build, kind = '') {
	return new Promise((resolve) => {
		let result = null;
		const box = h(`dialog${kind}`, {says: title, onclose: () => (box.remove(), resolve(result))});
		const done = (value) => ((result = value), box.close());
		box.append(h('header', h('h2', title), signButton('close', 'Close', () => box.close())), build(done));
		document.body.append(box);
		box.showModal();
	});
}

export const confirmed = (title, text, act = 'Delete') =>
	dialog(title, (done) => h('div.body', h('p', text), h('div.acts', button('Cancel', () => done(false)), button(act, () => done(true), {kind: 'danger'}))));

const WHEN = new Intl.DateTimeFormat(undefined, {dateStyle: 'medium', timeStyle: 'short'});
const CLOCK = new Intl.DateTimeFormat(undefined, {timeStyle: 'short'});
const SINCE = new Intl.RelativeTimeFormat(undefined, {numeric: 'auto', style: 'short'});

// A time as people say it; the exact one on hover. Only one that is `ahead` is to come: a server's clock may be ahead of ours.
export const time = (text, ahead = false) => (text ? said(h('time', {datetime: text, 'data-ahead': ahead, title: WHEN.format(new Date(text))})) : '–');

function said(node) {
	const at = new Date(node.dateTime);
	const secs = Math.min((at - Date.now()) / 1000, 'ahead' in node.dataset ? Infinity : 0);
	const far = Math.abs(secs);
	const days = Math.round((midnight(at) - midnight(new Date())) / 86400e3);
	node.textContent = far < 60 ? (secs > 0 ? 'in a moment' : 'just now') : far < 3600 ? SINCE.format(Math.round(secs / 60), 'minute') : !days ? CLOCK.format(at) : Math.abs(days) < 7 ? SINCE.format(days, 'day') : WHEN.format(at);
	return node;
}

const midnight = (at) => new Date(at).setHours(0, 0, 0, 0);
setInterval(() => document.querySelectorAll('time').forEach(said), 60e3);

export const bytes = (n) => (n < 1024 ? `${n} B` : n < 1048576 ? `${(n / 1024).toFixed(1)} kB` : `${(n / 1048576).toFixed(1)} MB`);
export const count = (n) => new Intl.NumberFormat().format(n);
export const plural = (n, one, many = one + 's') => `${count(n)} ${n === 1 ? one : many}`;

export async function copyText(text) {
	try {
		await navigator.clipboard.writeText(text);
	} catch {
		// Without HTTPS there is no other.
		const area = h('textarea', {value: text, class: 'unseen'});
		(document.querySelector('dialog[open]') ?? document.body).append(area);
		area.select();
		document.execCommand('copy');
		area.remove();
	}
	toast('Copied.');
}

// Calls at most every `ms`, the last time included.
export function seldom(ms, work) {
	let timer = 0;
	return () => (timer ||= setTimeout(() => ((timer = 0), work()), ms));
}

let numbers = 0;

// A labelled field; `as` makes a value of its text.
export function field(label, {kind = 'text', value = '', hint = '', options = [], as = (text) => text, ...props} = {}) {
	const id = `f${++numbers}`;
	const described = hint ? `${id}h` : null;
	const common = {id, 'aria-describedby': described, ...props};
	let input;
	if (kind === 'area') input = h('textarea', {rows: 6, value, ...common});
	else if (kind === 'select') (input = h('select', common, options.map((option) => (Array.isArray(option) ? h('option', {value: option[0]}, option[1]) : h('option', option))))), (input.value = value);
	else if (kind === 'check') input = h('input', {type: 'checkbox', checked: Boolean(value), ...common});
	else input = h('input', {type: kind, value: value ?? '', ...common});
	const note = hint && h('p.small', {id: described}, hint);
	const node = kind === 'check' ? h('div.field.check', input, h('div', h('label', {for: id}, label), note)) : h('div.field', h('label', {for: id}, label), input, note);
	return {node, input, get value() {return kind === 'check' ? input.checked : as(input.value);}};
}

// Texts apart by commas, or by something else.
export const list = (text, by = ',') => text.split(by).map((one) => one.trim()).filter(Boolean);

export const seek = (says, oninput) => h('input', {type: 'search', placeholder: says, says, oninput});

// Asks for values, then `save(values)`; what it refuses is shown in place. Null where it was closed.
export const edited = (title, fields, save, act = 'Save') =>
	dialog(title, (done) => {
		const note = h('p.note.bad', {role: 'alert', hidden: true});
		const submit = trying(async () => {
			try {
				done((await save(Object.fromEntries(Object.entries(fields).map(([name, one]) => [name, one.value])))) ?? true);
			} catch (error) {
				note.textContent = error.message;
				note.hidden = false;
			}
		});
		return h('form.body', {onsubmit: submit}, Object.values(fields).map((one) => one.node), note, h('div.acts', button('Cancel', () => done(null)), h('button.primary', {type: 'submit'}, act)));
	});

// The same for one of the things at `path`, or a new one.
export const entered = (what, path, one, fields, change = patch) => edited(`${one ? 'Edit' : 'Add'} a ${what}`, fields, (body) => (one ? change(`${path}/${one.id}`, body) : post(path, body)));

export const remover = (label, title, text, path, then, act) => signButton('trash', label, trying(async () => (await confirmed(title, text, act)) && (await del(path), then())));

// A switch; where it is refused it shows what is.
export function toggle(label, on, work) {
	const input = h('input', {type: 'checkbox', role: 'switch', checked: on, onchange: trying(() => work().catch((error) => {
		input.checked = on;
		throw error;
	}))});
	return h('label.switch', input, label);
}

// Its heading, what can be done in it, its content.
export function room(title, {acts = [], intro = ''} = {}, ...content) {
	const body = h('div.inside', {tabindex: '-1'}, intro && h('p.lead', intro), content);
	const node = h('div.room', h('header.bar', h('h1', title), h('div.tools', acts)), body);
	return {node, body};
}

export const failed = (error, run) => h('p.note.bad', icon('warn'), error.message, ' ', h('button.link', {onclick: run}, 'Try again'));

// Fills a part of a room with what is loaded, or with why not; again with what it gives, there with another page of a list.
export function loading(into, load) {
	let turn = 0, page = 1;
	const run = async (to) => {
		const mine = ++turn;
		if (to > 0) page = to;
		if (!into.childElementCount) fill(into, h('p.waiting', 'Loading…'));
		try {
			const made = await load(page);
			if (mine === turn) kept(into, () => fill(into, made));
		} catch (error) {
			if (mine === turn && error.name !== 'AbortError') fill(into, failed(error, run));
		}
	};
	run();
	return run;
}

// `columns`: `[title, (item) => content, class?]`.
export const table = (label, columns, items, empty = 'Nothing here yet.') =>
	items.length
		? h('div.scroll', {tabindex: '0', role: 'region', says: label}, h('table.list', h('thead', h('tr', columns.map(([title, , kind]) => h('th', {scope: 'col', class: kind}, title || h('span.unseen', 'Actions'))))), h('tbody', items.map((item) => h('tr', columns.map(([, show, kind]) => h('td', {class: kind}, show(item))))))))
		: h('p.empty', empty);

export function pager({page, limit, total}, turn) {
	const last = Math.max(1, Math.ceil(total / limit));
	return last > 1 && h('nav.pager', {says: 'Pages', 'data-id': 'pages'}, button('Earlier page', () => turn(page - 1), {disabled: page <= 1}), h('span', `Page ${page} of ${last}`), button('Next page', () => turn(page + 1), {disabled: page >= last}));
}

export const badge = (text, kind = '') => h(`span.badge${kind ? '.' + kind : ''}`, text);

// Fields, tables and rooms: what all of them look like.

import {del} from './api.js';
import {button, confirmed, dialog, fill, h, icon, signButton, trying} from './dom.js';

let numbers = 0;

// A labelled field. `kind`: text, password, number, area, select, check; `as` makes a value of its text.
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

// Texts apart by commas.
export const list = (text) => text.split(',').map((one) => one.trim()).filter(Boolean);

// Asks for values in a dialog, then `save(values)`; what it refuses is shown in place. Null where it was closed.
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

// A button that deletes after a question.
export const remover = (label, title, text, path, then, act) => signButton('trash', label, trying(async () => (await confirmed(title, text, act)) && (await del(path), then())));

// A switch that something is on or off.
export const toggle = (label, on, work) => h('label.switch', h('input', {type: 'checkbox', role: 'switch', checked: on, onchange: trying(work)}), label);

// A room: its heading, what can be done in it, its content.
export function room(title, {acts = [], intro = ''} = {}, ...content) {
	const body = h('div.inside', {tabindex: '-1'}, intro && h('p.lead', intro), content);
	const node = h('div.room', h('header.bar', h('h1', title), h('div.tools', acts)), body);
	return {node, body};
}

// Fills a part of a room with what is loaded, or with why not.
export function loading(into, load) {
	let turn = 0;
	const run = async () => {
		const mine = ++turn;
		if (!into.childElementCount) fill(into, h('p.waiting', 'Loading…'));
		try {
			const made = await load();
			if (mine === turn) fill(into, made);
		} catch (error) {
			if (mine === turn && error.name !== 'AbortError') fill(into, h('p.note.bad', icon('warn'), error.message, ' ', h('button.link', {onclick: run}, 'Try again')));
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

// Pages of a list: the way to the next and the one before.
export function pager({page, limit, total}, turn) {
	const last = Math.max(1, Math.ceil(total / limit));
	if (last < 2) return null;
	return h('nav.pager', {says: 'Pages'}, button('Earlier page', () => turn(page - 1), {disabled: page <= 1}), h('span', `Page ${page} of ${last}`), button('Next page', () => turn(page + 1), {disabled: page >= last}));
}

export const badge = (text, kind = '') => h(`span.badge${kind ? '.' + kind : ''}`, text);

// The list of conversations: of thousands only the visible ones are in the document; and what can be done with one.

import {at, del, get, patch, post} from './api.js';
import {confirmed, edited, failed, field, fill, h, icon, seek, seldom, signButton, time, toast, trying} from './dom.js';
import {onKernel} from './feed.js';
import {Rows} from './windowed.js';

const SIZE = 100;

export class Sessions {
	constructor({go}) {
		this.query = '';
		this.space = '';
		this.current = null;
		this.search = seek('Search conversations', () => this.sought());
		this.spaces = h('select', {says: 'Space', hidden: true, onchange: () => ((this.space = this.spaces.value), this.refresh())});
		this.scroller = h('div.sessions', {role: 'region', says: 'Conversations', tabindex: '-1'});
		this.rows = new Rows(this.scroller, {
			height: 56,
			size: SIZE,
			load: async (page) => {
				const wanted = new URLSearchParams({page: page + 1, limit: SIZE});
				if (this.query) wanted.set('q', this.query);
				if (this.space) wanted.set('space_id', this.space);
				const found = await get(`api/sessions?${wanted}`);
				found.items.forEach((item) => known.set(item.id, item));
				return found;
			},
			make: (item) => {
				const [opener, menu] = sessionMenu(() => known.get(item.id) ?? item, {go, changed: () => this.refresh()});
				return h('div.session', {'data-id': item.id}, h('a', {href: `#/s/${item.id}`, 'aria-current': item.id === this.current && 'page'}, h('span.title', titleOf(item)), h('small', item.snippet ?? [time(item.updated_at), item.message_count > 1 ? ` · ${item.message_count} messages` : ''])), opener, menu);
			},
			empty: () => h('p.empty', this.query || this.space ? 'Nothing was found.' : 'No conversations yet. What you say to the agent is kept here.'),
		});
		this.node = h('div.finder', h('div.search', icon('search'), this.search), this.spaces, this.scroller);
		this.sought = seldom(250, () => ((this.query = this.search.value.trim().slice(0, 400)), (this.scroller.scrollTop = 0), this.refresh()));
		this.again = seldom(300, () => this.node.isConnected && this.refresh());
		this.close = onKernel((event) => {
			if (['again', 'message_received', 'agent_stopped', 'agent_failed', 'space_created', 'space_archived', 'spaces_merged'].includes(event.type)) this.again();
			if (event.type.startsWith('space') || event.type === 'again') this.loadSpaces();
		});
	}

	async loadSpaces() {
		const {items} = await get('api/spaces?limit=500').catch(() => ({items: []}));
		// A list that somebody has open stays as it is.
		const now = JSON.stringify(items);
		if (now === this.shown) return;
		this.shown = now;
		this.spaces.hidden = !items.length;
		fill(this.spaces, h('option', {value: ''}, 'All spaces'), items.map((space) => h('option', {value: space.id}, space.name || 'Without a name')));
		this.spaces.value = this.space;
	}

	refresh() {
		return this.rows.refresh().catch((error) => fill(this.rows.note, failed(error, () => this.refresh())));
	}

	mark(id) {
		this.current = id;
		for (const node of this.scroller.querySelectorAll('.session')) {
			node.firstChild.ariaCurrent = node.dataset.id === id ? 'page' : null;
		}
	}
}

// What the lists have told of conversations, by id.
export const known = new Map();

export const titleOf = (item) => item?.title || 'Conversation';

// A menu beneath its button. `changed(item)` is told; with null after deletion.
export function sessionMenu(session, {go, changed}) {
	const menu = h('div.menu', {popover: 'auto'});
	const opener = signButton('more', 'More about this conversation', () => open());
	const act = (text, sign, work) => h('button', {onclick: () => (menu.hidePopover(), trying(work)())}, icon(sign), text);
	const told = (item) => (item && known.set(item.id, item), changed(item));
	const file = (text, format) => h('a', {href: at(`api/sessions/${session().id}/export?format=${format}`), download: true, onclick: () => menu.hidePopover()}, icon('down'), text);

	function open() {
		fill(menu,
			act('Rename', 'edit', async () => {
				const {id, title} = session();
				const name = await asked('Rename the conversation', 'Name', title);
				if (name !== null) told(await patch(`api/sessions/${id}`, {title: name.trim() || null}));
			}),
			act('Move to a space', 'space', async () => {
				let {id, space_id: now} = session();
				// No list has told of it.
				if (now === undefined) now = (await get(`api/sessions/${id}`)).space_id;
				const space = await chosenSpace(now);
				if (space !== now) told(await patch(`api/sessions/${id}`, {space_id: space}));
			}),
			act('Fork', 'fork', async () => {
				const made = await post(`api/sessions/${session().id}/fork`, {});
				toast('A copy, to go on in another way.');
				told(made);
				go(`#/s/${made.id}`);
			}),
			file('Export as Markdown', 'markdown'),
			file('Export as JSON', 'json'),
			act('Delete', 'trash', async () => {
				const {id, title} = session();
				if (!(await confirmed('Delete this conversation?', `“${title}” and all that was said in it. What runs in it is stopped. This cannot be taken back.`))) return;
				await del(`api/sessions/${id}`);
				told(null);
				if (location.hash.includes(id)) go('#/');
			}),
		);
		menu.showPopover();
		const {bottom, right} = opener.getBoundingClientRect();
		menu.style.top = `${Math.min(bottom + 4, innerHeight - menu.offsetHeight - 8)}px`;
		menu.style.left = `${Math.max(8, right - menu.offsetWidth)}px`;
		menu.firstChild.focus();
	}
	return [opener, menu];
}

// One line from a person; null where it was closed.
export const asked = async (title, label, value = '', hint = '') => (await edited(title, {text: field(label, {value, hint})}, ({text}) => ({text})))?.text ?? null;

// A space's id, null for none; the one that it is in, also one that was put away, where it was closed.
async function chosenSpace(now) {
	const {items} = await get('api/spaces?limit=500');
	const options = [['', 'No space'], ...items.filter((space) => space.status === 'active' || space.id === now).map((space) => [space.id, space.name || 'Without a name'])];
	const chosen = await edited('Move to a space', {space: field('Space', {kind: 'select', options, value: now ?? ''})}, ({space}) => [space || null]);
	return chosen ? chosen[0] : now;
}

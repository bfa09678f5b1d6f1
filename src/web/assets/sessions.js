// The list of conversations: thousands of them, of which only the visible ones are in the document.

import {get} from './api.js';
import {h, icon, seldom, time} from './dom.js';
import {onKernel} from './feed.js';
import {known, sessionMenu, titleOf} from './session.js';
import {Rows} from './windowed.js';

const SIZE = 100;

export class Sessions {
	constructor({go}) {
		this.query = '';
		this.space = '';
		this.current = null;
		this.search = h('input', {type: 'search', placeholder: 'Search conversations', says: 'Search conversations', oninput: () => this.sought()});
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
				const [opener, menu] = sessionMenu(() => known.get(item.id) ?? item, {go, changed: (now) => (now && known.set(now.id, now), this.refresh())});
				return h('div.session', {class: item.id === this.current ? 'current' : null, 'data-id': item.id}, h('a', {href: `#/s/${item.id}`, 'aria-current': item.id === this.current ? 'page' : null}, h('span.title', titleOf(item)), h('small', item.snippet ?? [time(item.updated_at), item.message_count > 1 ? ` · ${item.message_count} messages` : ''])), opener, menu);
			},
			empty: () => h('p.empty', this.query ? 'Nothing was found.' : 'No conversations yet. What you say to the agent is kept here.'),
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
		this.spaces.hidden = !items.length;
		this.spaces.replaceChildren(h('option', {value: ''}, 'All spaces'), ...items.map((space) => h('option', {value: space.id}, space.name || 'Without a name')));
		this.spaces.value = this.space;
	}

	refresh() {
		return this.rows.refresh().catch(() => {});
	}

	mark(id) {
		this.current = id;
		for (const node of this.scroller.querySelectorAll('.session')) {
			const is = node.dataset.id === id;
			node.classList.toggle('current', is);
			if (is) node.firstChild.setAttribute('aria-current', 'page');
			else node.firstChild.removeAttribute('aria-current');
		}
	}
}

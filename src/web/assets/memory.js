import {get, patch, post} from './api.js';
import {announce, badge, button, entered, field, h, icon, list, loading, pager, plural, remover, room, seek, seldom, signButton, time, trying} from './dom.js';

const KINDS = [['fact', 'Fact'], ['episode', 'Episode'], ['knowledge', 'Knowledge']];

export function memoryRoom() {
	let query = '';
	const into = h('div');
	const search = seek('Search memories', seldom(250, () => ((query = search.value.trim()), reload())));
	const {node} = room('Memory', {acts: [button('Add', () => edit(null), {kind: 'primary', sign: 'plus'})], intro: 'What the agent keeps beyond one conversation. What fits a question is given to it.'}, h('div.search', icon('search'), search), into);

	const reload = loading(into, async (page) => {
		if (query) {
			const {entries, engine} = await post('api/memory/semantic', {query, limit: 50});
			const found = `${plural(entries.length, 'memory', 'memories')}, ranked by ${engine}`;
			announce(found);
			return [h('p.small', found), cards(entries.map((entry) => ({...entry, name: entry.id, category: entry.type, preview: entry.content})))];
		}
		const found = await get(`api/memory?page=${page}&limit=50`);
		if (!found.total) return h('p.empty', 'Nothing is remembered yet. Say “remember …” to the agent, or add something here.');
		return [cards(found.items), pager(found, reload)];
	});

	const cards = (items) => h('ul.cards', items.map((item) => h('li.card', {'data-id': item.name}, h('p.text', item.preview), h('footer', badge(item.category), item.pinned && badge('pinned', 'good'), item.tags?.map((tag) => badge(tag)), h('span.small', time(item.created_at)), h('span.grow'),
		signButton('pin', item.pinned ? 'Unpin' : 'Pin: it goes along with every question', trying(async () => (await patch(`api/memory/${item.name}`, {pinned: !item.pinned}), reload()))),
		signButton('edit', 'Edit', trying(async () => edit(await get(`api/memory/${item.name}`)))),
		remover('Forget', 'Forget this?', item.preview, `api/memory/${item.name}`, () => reload(), 'Forget')))));

	async function edit(entry) {
		const fields = {
			content: field('What is to be remembered', {kind: 'area', value: entry?.content, required: true}),
			memory_type: field('Kind', {kind: 'select', options: KINDS, value: entry ? entry.category.replace(/s$/, '') : 'fact'}),
			tags: field('Tags', {value: entry?.tags.join(', '), hint: 'Apart by commas.', as: list}),
			importance: field('Importance, 0 to 1', {kind: 'number', min: 0, max: 1, step: 0.1, value: entry?.importance ?? 0.5, as: Number}),
		};
		if (await entered('memory', 'api/memory', entry, fields)) reload();
	}
	return {node, refresh: () => reload(), on: ['memory_stored']};
}

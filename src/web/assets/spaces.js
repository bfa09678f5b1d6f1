import {get, post, put} from './api.js';
import {badge, button, edited, entered, field, h, loading, remover, room, signButton, trying} from './dom.js';

export function spacesRoom() {
	const spaces = h('div'), personas = h('div');
	const {node} = room('Spaces and personas', {}, h('section', h('header.part', h('h2', 'Spaces'), button('Add', () => editSpace(null), {sign: 'plus'})), h('p.small', 'What conversations belong to; its context is told to the agent in each of them.'), spaces), h('section', h('header.part', h('h2', 'Personas'), button('Add', () => editPersona(null), {sign: 'plus'})), h('p.small', 'A manner of answering for new conversations.'), personas));
	let all = [];
	const again = loading(spaces, async () => {
		all = (await get('api/spaces?limit=500')).items;
		if (!all.length) return h('p.empty', 'No spaces yet.');
		const act = (space, word) => trying(async () => (await post(`api/spaces/${space.id}/${word}`), again()));
		return h('ul.cards', all.map((space) => h('li.card', h('header', h('strong', space.name || 'Without a name'), space.current && badge('for new conversations', 'good'), space.status !== 'active' && badge(space.status)), space.description && h('p', space.description), space.context && h('p.small.text', space.context), h('footer', h('span.grow'),
			space.status === 'active' ? [!space.current && button('Use for new ones', act(space, 'activate')), button('Put away', act(space, 'archive')), all.length > 1 && button('Merge into…', trying(() => merge(space)))] : [button('Take out', act(space, 'restore')), remover('Delete', 'Delete this space?', 'Conversations stay.', `api/spaces/${space.id}`, again)], signButton('edit', 'Edit', () => editSpace(space))))));
	});
	const others = loading(personas, async () => {
		const {items} = await get('api/personas?limit=500');
		if (!items.length) return h('p.empty', 'No personas yet; the agent answers in its own manner.');
		return h('ul.cards', items.map((one) => h('li.card', h('header', h('strong', one.name), one.active && badge('for new conversations', 'good')), one.description && h('p', one.description), h('p.small.text', one.prompt), h('footer', h('span.grow'), button(one.active ? 'Use none' : 'Use for new ones', trying(async () => (await put('api/personas/active', {id: one.active ? null : one.id}), others()))), signButton('edit', 'Edit', () => editPersona(one)), remover('Delete', `Delete ${one.name}?`, 'Conversations that have it go on without.', `api/personas/${one.id}`, () => others())))));
	});

	async function editSpace(space) {
		const fields = {name: field('Name', {value: space?.name, required: true}), description: field('What it is for', {value: space?.description}), context: field('What the agent is told', {kind: 'area', value: space?.context})};
		if (await entered('space', 'api/spaces', space, fields)) again();
	}

	async function merge(space) {
		const options = all.filter((other) => other.id !== space.id && other.status === 'active').map((other) => [other.id, other.name]);
		if (await edited(`Merge ${space.name}`, {into: field('It becomes a part of', {kind: 'select', options, value: options[0]?.[0]})}, ({into}) => post('api/spaces/merge', {from: space.id, into}), 'Merge')) again();
	}

	async function editPersona(one) {
		const fields = {name: field('Name', {value: one?.name, required: true}), description: field('In a few words', {value: one?.description}), prompt: field('What the agent is told', {kind: 'area', value: one?.prompt, required: true})};
		if (await entered('persona', 'api/personas', one, fields, put)) others();
	}
	return {node};
}

import {get, post} from './api.js';
import {badge, button, dialog, edited, field, h, loading, remover, room, toggle, trying} from './dom.js';
import {markdown} from './markdown.js';

const SOURCE = {bundled: 'bundled', managed: 'installed', workspace: 'own'};
const STATE = {ready: ['ready', 'good'], needs_setup: ['needs setup', 'warn'], disabled: ['off', '']};
const NEEDS = {bins: 'program', anyBins: 'one of the programs', env: 'variable', config: 'setting'};

export function skillsRoom() {
	const list = h('div');
	const {node} = room('Skills', {acts: [button('Write one', write, {kind: 'primary', sign: 'plus'})], intro: 'Instructions that the agent reads when they fit. They are texts; nothing in them is run.'}, list);
	const reload = loading(list, async () => h('ul.cards', (await get('api/skills?limit=500')).items.map(card)));

	function card(skill) {
		const missing = Object.entries(NEEDS).flatMap(([kind, word]) => (skill.missing[kind]?.length ? [`${word} ${skill.missing[kind].join(', ')}`] : []));
		const [state, kind] = STATE[skill.status];
		const on = skill.status !== 'disabled';
		return h('li.card', {'data-id': skill.name}, h('header', h('strong', skill.emoji && `${skill.emoji} `, skill.name), badge(state, kind), badge(SOURCE[skill.source])), h('p', skill.description), skill.problem && h('p.note.bad', skill.problem), missing.length > 0 && h('p.note', `Missing: ${missing.join('; ')}`),
			h('footer', toggle('Offered to the agent', on, async () => (await post(`api/skills/${skill.name}/${on ? 'disable' : 'enable'}`), reload())), h('span.grow'), button('Read', trying(() => read(skill))), !skill.bundled && remover(`Delete ${skill.name}`, `Delete ${skill.name}?`, 'The skill and its files. This cannot be taken back.', `api/skills/${skill.name}`, reload)));
	}

	async function read(skill) {
		const {content} = await get(`api/skills/${skill.name}/content`);
		await dialog(skill.name, () => h('div.body', h('p.small', `${skill.file_path} · ${skill.format}`), markdown(content)), '.wide');
	}

	async function write() {
		const fields = {
			name: field('Name', {required: true, pattern: '[A-Za-z0-9_\\-]+', hint: 'Letters, digits, - and _.'}),
			description: field('When it is of use, in a sentence', {required: true}),
			content: field('What to do', {kind: 'area', rows: 10, hint: 'Markdown.', as: (text) => text || undefined}),
		};
		if (await edited('Write a skill', fields, (body) => post('api/skills', body))) reload();
	}
	return {node};
}

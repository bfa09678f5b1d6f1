import {get} from './api.js';
import {badge, h, loading, pager, plural, room, time} from './dom.js';

export function seedsRoom({rest: id}) {
	const into = h('div');
	const {node} = room('Specifications', {intro: id ? '' : 'Before a task is worked on it is written down: goal, constraints, criteria. One that falls short is repaired and worked on again.'}, into);
	const reload = loading(into, (page) => (id ? detail(id) : list(page)));

	async function list(page) {
		const found = await get(`api/seeds?page=${page}&limit=50`);
		if (!found.total) return h('p.empty', 'No task has been worked on yet. Say “task …” to the agent.');
		return [h('ul.cards', found.items.map((seed) => h('li.card.link', h('a', {href: `#/seeds/${seed.id}`}, seed.goal || 'Without a goal'), h('footer', h('span.small', time(seed.created_at)), seed.constraints_count > 0 && badge(plural(seed.constraints_count, 'constraint')))))), pager(found, reload)];
	}

	async function detail(seedId) {
		const [seed, line] = await Promise.all([get(`api/seeds/${seedId}`), get(`api/seeds/${seedId}/evolution`)]);
		const part = (title, items) => items?.length > 0 && [h('h3', title), h('ul', items.map((item) => h('li', typeof item === 'string' ? item : `${item.name} (${item.entity_type}): ${item.description}`)))];
		return h('div.two', h('section', {says: 'Evolution'}, h('h2', 'Evolution'), tree(line, seedId)), h('section.card', {says: 'Specification'}, h('h2', seed.goal), h('p.small', `Generation ${seed.generation} · `, time(seed.created_at)), seed.original_request && [h('h3', 'What was asked'), h('p.text', seed.original_request)], part('Constraints', seed.constraints), part('Criteria', seed.acceptance_criteria), part('Terms', seed.ontology)));
	}

	// From the root to the leaves; a branch where two were made from one.
	function tree(line, current) {
		const children = (parent) => line.filter((one) => one.parent_id === parent);
		const known = new Set(line.map((one) => one.id));
		const roots = line.filter((one) => !one.parent_id || !known.has(one.parent_id));
		const branch = (one) => {
			const score = one.score === undefined ? null : Math.round(one.score * 100);
			const state = one.passed === true ? ['passed', 'good'] : one.passed === false ? ['not passed', 'bad'] : ['not judged', ''];
			return h('li', h('a.card', {href: `#/seeds/${one.id}`, 'aria-current': one.id === current && 'true'}, h('header', h('strong', one.generation ? `Repair ${one.generation}` : 'First'), badge(...state)), score !== null && h('meter', {min: 0, max: 100, value: score, says: `Score ${score} %`}), h('span.small', score === null ? 'without a score' : `${score} %`), h('span', one.goal)), children(one.id).length > 0 && h('ul', children(one.id).map(branch)));
		};
		return h('ul.tree', roots.map(branch));
	}
	return {node, refresh: reload, on: ['seed_', 'evaluation_']};
}

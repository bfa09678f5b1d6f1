import {get, post} from './api.js';
import {badge, button, h, loading, pager, room, time, trying} from './dom.js';

const STATE = {starting: 'warn', running: 'good', idle: 'warn', failed: 'bad', stopped: ''};

export function agentsRoom() {
	const list = h('div');
	const {node} = room('Agents', {intro: 'Each message is worked on by an agent; a task with several criteria may be split among a group.'}, list);
	const reload = loading(list, async (page) => {
		const found = await get(`api/agents?page=${page}&limit=50`);
		if (!found.total) return h('p.empty', 'No agent has worked yet.');
		const known = new Set(found.items.map((agent) => agent.id));
		const row = (agent) => {
			const group = found.items.filter((other) => other.parent_id === agent.id);
			const working = ['starting', 'running', 'idle'].includes(agent.status);
			return h('li', h('div.card', {'data-id': agent.id}, h('header', h('strong', agent.name), badge(agent.status, STATE[agent.status]), group.length > 0 && badge(`group of ${group.length}`), h('span.small', time(agent.created_at)), h('span.grow'), agent.session_id && h('a', {href: `#/s/${agent.session_id}`}, 'Conversation'), agent.seed_id && h('a', {href: `#/seeds/${agent.seed_id}`}, 'Specification'), working && button('Stop', trying(async () => (await post(`api/agents/${agent.id}/kill`), reload())), {sign: 'stop'}))), group.length > 0 && h('ul', group.map(row)));
		};
		return [h('ul.tree', found.items.filter((agent) => !agent.parent_id || !known.has(agent.parent_id)).map(row)), pager(found, reload)];
	});
	return {node, refresh: reload, on: ['agent_']};
}

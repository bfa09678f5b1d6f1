import {get} from './api.js';
import {approvalCard} from './approval.js';
import {badge, h, loading, room, table, time} from './dom.js';

// What waits for a person, and what was decided.
export function approvalsRoom() {
	const list = h('div');
	const {node} = room('Approvals', {intro: 'Whatever changes something outside a conversation waits here until somebody decides. A “yes” in a chat decides nothing.'}, list);
	const reload = loading(list, async () => {
		const all = await get('api/approvals');
		const open = await Promise.all(all.filter((one) => one.status === 'pending').map((one) => get(`api/approvals/${one.id}`).catch(() => null)));
		const waiting = open.filter(Boolean).map((one) => approvalCard({...one, expires: one.expires_at}, {onDecided: reload, place: h('a.small', {href: `#/s/${one.session_id}`}, 'Conversation')}));
		return [waiting.length ? h('div.stack', waiting) : h('p.empty', 'Nothing waits for you.'), h('h2', 'Decided'), table('Decided questions', [['What', (one) => `${one.action} `], ['On', (one) => h('code', one.resource)], ['Asked', (one) => time(one.created_at)], ['', (one) => badge(one.status, {approved: 'good', rejected: 'bad'}[one.status])], ['', (one) => h('a', {href: `#/s/${one.session_id}`}, 'Conversation')]], all.filter((one) => one.status !== 'pending').slice(0, 100), 'Nothing was decided yet.')];
	});
	return {node, refresh: reload, on: ['approval_']};
}

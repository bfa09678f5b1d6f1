import {get} from './api.js';
import {approvalCard} from './approval.js';
import {badge, h, loading, room, table, time} from './dom.js';

export function approvalsRoom() {
	const list = h('div'), stack = h('div.stack'), cards = new Map();
	const link = (one) => h('a', {href: `#/s/${one.session_id}`}, 'Conversation');
	const {node} = room('Approvals', {intro: 'Whatever changes something outside a conversation waits here until somebody decides. A “yes” in a chat decides nothing.'}, stack, list);
	const reload = loading(list, async () => {
		const all = await get('api/approvals');
		const open = await Promise.all(all.filter((one) => one.status === 'pending' && !cards.has(one.id)).map((one) => get(`api/approvals/${one.id}`)));
		// A card stays where it is, also once it is decided; others come below: no answer moves under a hand.
		for (const one of open) {
			if (cards.has(one.id)) continue;
			const card = approvalCard({...one, expires: one.expires_at}, {onDecided: reload, place: link(one)});
			cards.set(one.id, card);
			stack.append(card);
		}
		for (const one of all) if (one.status !== 'pending') cards.get(one.id)?.settle(one.status);
		return [!cards.size && h('p.empty', 'Nothing waits for you.'), h('h2', 'Decided'), table('Decided questions', [['What', (one) => one.action], ['On', (one) => h('code', one.resource)], ['Asked', (one) => time(one.created_at)], ['', (one) => badge(one.status, {approved: 'good', rejected: 'bad'}[one.status])], ['', link]], all.filter((one) => one.status !== 'pending').slice(0, 100), 'Nothing was decided yet.')];
	});
	return {node, refresh: reload, on: ['approval_']};
}

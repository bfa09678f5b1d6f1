import {ask, get} from './api.js';
import {badge, button, field, h, icon, loading, pager, plural, room, seldom, table, time, trying} from './dom.js';

export function auditRoom() {
	const state = h('div'), list = h('div');
	const fields = {what: field('What', {placeholder: 'message'}), on: field('On (id or name)', {}), key: field('Key (id)', {}), outcome: field('Outcome', {placeholder: 'done, 200 …'})};
	const again = seldom(300, () => reload(1));
	const {node} = room('Audit', {acts: [button('Check', () => check(), {sign: 'check'}), button('Export', trying(save), {sign: 'down'})], intro: 'Who did what, and what came of it; never what was said. Each record holds the hash of the one before.'}, state, h('div.filters', {oninput: again}, Object.values(fields).map((one) => one.node)), list);
	const check = loading(state, async () => {
		const verdict = await get('api/audit/verify');
		return h('div.card.chain', {class: verdict.valid ? 'good' : 'bad'}, icon(verdict.valid ? 'check' : 'warn'), h('div', h('strong', verdict.valid ? 'The chain is whole' : 'The chain is broken'), h('p.small', `${plural(verdict.records, 'record')}, the first ${verdict.signed} behind a signature. ${verdict.note}`), verdict.findings.length > 0 && h('ul', verdict.findings.map((finding) => h('li', finding))), h('p.small', 'Head ', h('code', verdict.head))));
	});
	const reload = loading(list, async (page) => {
		const wanted = new URLSearchParams({page, limit: 50});
		for (const [name, one] of Object.entries(fields)) if (one.value.trim()) wanted.set(name, one.value.trim());
		const found = await get(`api/audit/entries?${wanted}`);
		return [table('Records', [['No.', (one) => one.n, 'num'], ['When', (one) => time(one.time)], ['What', (one) => one.what], ['On', (one) => one.on && h('code', one.on)], ['Key', (one) => one.key && h('code', one.key.slice(0, 8))], ['Outcome', (one) => badge(one.outcome, /^(2|done|ok|approved)/.test(one.outcome) ? 'good' : /^[45]/.test(one.outcome) ? 'bad' : '')]], found.items, 'No record fits.'), pager(found, reload)];
	});
	async function save() {
		const blob = await (await ask('POST', 'api/audit/export', {body: {}})).blob();
		const link = h('a', {href: URL.createObjectURL(blob), download: 'audit.ndjson'});
		link.click();
		setTimeout(() => URL.revokeObjectURL(link.href), 1000);
	}
	return {node};
}

import {del, get, post} from './api.js';
import {badge, button, confirmed, copyText, count, dialog, edited, field, h, loading, room, table, time, trying} from './dom.js';

const SCOPES = [['read', 'see everything of yours'], ['chat', 'send messages and stop them'], ['write', 'change sessions, files, memory, skills'], ['approve', 'decide what waits for a person'], ['admin', 'change settings, keys, audit']];

export function keysRoom() {
	const list = h('div');
	const {node} = room('Keys', {acts: [button('Make a key', trying(make), {kind: 'primary', sign: 'plus'})], intro: 'A key is shown once. Revoking one ends all that is open with it within a second, browsers included.'}, list);
	const reload = loading(list, async () => {
		const {items} = await get('api/keys?limit=500');
		return table('Keys', [['Name', (key) => h('strong', key.name)], ['', (key) => badge(key.status, key.status === 'active' ? 'good' : '')], ['May', (key) => key.scopes.join(', ')], ['Made', (key) => time(key.created_at)], ['Ends', (key) => (key.expires_at ? time(key.expires_at, true) : 'never')], ['Tokens', (key) => (key.token_budget ? `${count(key.token_budget.used)} of ${count(key.token_budget.tokens)} a ${key.token_budget.per}` : '–'), 'num'],
			['', (key) => key.status === 'active' && h('div.acts', button('Rotate', trying(async () => show(await post(`api/keys/${key.id}/rotate`, {overlap_secs: 3600}), 'The old key goes on for an hour.'))), button('Revoke', trying(async () => (await confirmed(`Revoke ${key.name}?`, 'Whatever uses it is shut out at once.', 'Revoke')) && (await del(`api/keys/${key.id}`), reload())), {kind: 'danger'}))]], items);
	});

	async function make() {
		const some = (text) => Number(text) || null;
		const fields = {
			name: field('Name', {required: true, placeholder: 'phone'}),
			...Object.fromEntries(SCOPES.map(([scope, says]) => [scope, field(`May ${says}`, {kind: 'check', value: ['read', 'chat'].includes(scope)})])),
			days: field('Days that it lasts', {kind: 'number', min: 1, max: 3650, hint: 'Empty: until it is revoked.', as: some}),
			rate: field('Requests a minute', {kind: 'number', min: 1, hint: 'Empty: as everybody.', as: some}),
			tokens: field('Tokens a day', {kind: 'number', min: 1, hint: 'What its model calls may use. Empty: no limit.', as: some}),
		};
		const made = await edited('Make a key', fields, ({name, days, rate, tokens, ...may}) => post('api/keys', {name, scopes: Object.keys(may).filter((scope) => may[scope]), expires_in_secs: days && days * 86400, rate_limit_per_minute: rate, token_budget: tokens && {tokens, per: 'day'}}), 'Make');
		if (made) await show(made, '');
	}

	async function show(made, more) {
		reload();
		await dialog('The new key', (done) => h('div.body', h('p', 'It is shown this once. ', more), h('p', h('code.key', made.key)), h('div.acts', button('Copy', () => copyText(made.key), {sign: 'copy'}), button('Done', () => done(true), {kind: 'primary'}))));
	}
	return {node};
}

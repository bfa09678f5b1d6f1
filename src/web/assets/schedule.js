import {get, patch, post} from './api.js';
import {badge, button, entered, field, h, loading, remover, room, signButton, time, toast, toggle, trying} from './dom.js';

const EXAMPLES = [['0 7 * * *', 'every day at 7'], ['*/30 * * * *', 'every half hour'], ['0 9 * * 1', 'Mondays at 9'], ['@monthly', 'on the first of each month']];

export function scheduleRoom() {
	const list = h('div');
	const {node} = room('Scheduled tasks', {acts: [button('Add', () => edit(null), {kind: 'primary', sign: 'plus'})], intro: 'A message that is sent to the agent by the clock. Each run is a conversation of its own.'}, list);
	const reload = loading(list, async () => {
		const {items} = await get('api/cron-jobs?limit=500');
		return items.length ? h('ul.cards', items.map(card)) : h('p.empty', 'Nothing is scheduled.');
	});

	const card = (job) => h('li.card', {'data-id': job.id}, h('header', h('strong', job.name), badge(job.enabled ? 'on' : 'off', job.enabled ? 'good' : ''), h('code', job.schedule), h('span.small', job.time_zone)), h('p.text', job.content), h('p.small', job.next_run_at ? ['Next ', time(job.next_run_at, true)] : 'Does not run by itself', job.last_run && [' · last ', time(job.last_run.started_at), job.last_run.status && ` (${job.last_run.status})`], job.last_run?.session_id && [' · ', h('a', {href: `#/s/${job.last_run.session_id}`}, 'its conversation')]),
		h('footer', toggle('Runs by itself', job.enabled, async () => (await patch(`api/cron-jobs/${job.id}`, {enabled: !job.enabled}), reload())), h('span.grow'), button('Run now', trying(async () => (await post(`api/cron-jobs/${job.id}/trigger`), toast('It runs.'), reload()))), signButton('edit', 'Edit', () => edit(job)), remover('Delete', `Delete ${job.name}?`, 'Its conversations stay.', `api/cron-jobs/${job.id}`, reload)));

	async function edit(job) {
		const fields = {
			name: field('Name', {value: job?.name, required: true}),
			schedule: field('When', {value: job?.schedule ?? '0 7 * * *', required: true, hint: `Minute, hour, day, month, weekday. ${EXAMPLES.map(([text, says]) => `${text} is ${says}`).join('; ')}.`}),
			time_zone: field('Time zone', {value: job?.time_zone ?? Intl.DateTimeFormat().resolvedOptions().timeZone ?? 'UTC', as: (text) => text || 'UTC'}),
			content: field('What is sent to the agent', {kind: 'area', value: job?.content, required: true}),
			missed: field('Runs missed while the server was down', {kind: 'select', options: [['skip', 'are left out'], ['once', 'are made up for once']], value: job?.missed ?? 'skip'}),
		};
		if (await entered('scheduled task', 'api/cron-jobs', job, fields)) reload();
	}
	return {node, refresh: reload, on: ['agent_']};
}

// What the agent does as cards: a tool call, and a question to a person.

import {ask, filePath, post} from './api.js';
import {diffView} from './diff.js';
import {announce, button, fill, h, icon, time, toast, trying} from './dom.js';
import {code} from './markdown.js';

const SAID = {approved: 'Approved', rejected: 'Rejected', expired: 'Nobody answered in time'};

// Exactly what will happen, and the two answers. `question`: `{id, action, resource, reason, shown, decision, expires}`.
export function approvalCard(question, {onDecided, place}) {
	// Signs that turn texts around are shown.
	question = JSON.parse(JSON.stringify(question).replace(/[\u202a-\u202e\u2066-\u2069]/g, '\ufffd'));
	const what = h('div.what', h('p.waiting', 'Reading what is there now…'));
	const foot = h('div.acts');
	const title = question.action === 'write_file' ? 'wants to write a file' : `wants to use ${question.action}`;
	const card = h(`section.card.approval${question.decision ? '' : '.open'}`, {tabindex: '-1', says: `Question: ${title} ${question.resource}`},
		h('header', icon('hand'), h('div', h('strong', `The agent ${title}`), h('code', question.resource)), place),
		question.reason && h('p.small', question.reason), what, foot);
	settle(question.decision);
	// What was decided on is no difference any more.
	if (question.decision) fill(what, h('details', h('summary.small', 'What was decided on'), values(question.shown)));
	else show(question).then((nodes) => fill(what, nodes), (error) => fill(what, h('p.note.bad', error.message), values(question.shown)));
	card.settle = settle;
	return card;

	function settle(decision) {
		card.classList.toggle('open', !decision);
		question.decision = decision;
		if (decision) return fill(foot, h('p.verdict', {class: decision}, icon(decision === 'approved' ? 'check' : 'close'), SAID[decision] ?? decision));
		const decide = (word) => trying(async () => {
			const held = foot.contains(document.activeElement);
			try {
				await post(`api/approvals/${question.id}/${word}`);
			} catch (error) {
				if (![404, 409].includes(error.status)) throw error;
				toast('This question was decided already, or is too old.', true);
				return onDecided(null);
			}
			const decision = word === 'approve' ? 'approved' : 'rejected';
			settle(decision);
			// The buttons are gone; whoever has no mouse stays here.
			if (held) card.focus();
			announce(SAID[decision]);
			onDecided(decision);
		});
		fill(foot, button('Approve', decide('approve'), {kind: 'primary', sign: 'check'}), button('Reject', decide('reject'), {sign: 'close'}), question.expires && h('span.small', 'Lapses ', time(question.expires, true)));
	}
}

async function show({shown, action}) {
	if (typeof shown?.path === 'string' && typeof shown?.content === 'string') {
		// A large file is not kept with the question.
		const old = shown.exists ? (shown.old_content ?? (await (await ask('GET', `api/workspace/file/${filePath(shown.path)}`)).text())) : '';
		return [h('p.small', `${shown.exists ? 'Changes a file' : 'A new file'}: `, h('code', shown.path)), diffView(old, shown.content)];
	}
	return [h('p.small', `It would run ${action} with exactly this:`), values(shown)];
}

const WORDS = {ok: 'done', error: 'failed', denied: 'not allowed', rejected: 'not allowed', unknown: 'outcome unknown', cancelled: 'stopped'};

function values(args) {
	if (args === null || typeof args !== 'object') return code(String(args ?? ''));
	const entries = Object.entries(args);
	if (!entries.length) return h('p.small', 'without arguments');
	return h('dl.values', entries.map(([name, value]) => [h('dt', name), h('dd', typeof value === 'string' ? (value.includes('\n') || value.length > 120 ? code(value) : h('code', value)) : h('code', JSON.stringify(value)))]));
}

function brief(args) {
	const texts = Object.values(args ?? {}).filter((value) => typeof value === 'string' || typeof value === 'number');
	const text = texts.join(' · ').replace(/\s+/g, ' ');
	return text.length > 90 ? `${text.slice(0, 89)}…` : text;
}

export function toolCard(step, {over, group, open, onToggle}) {
	const state = step.outcome ? (WORDS[step.outcome] ?? step.outcome) : over ? 'without a result' : 'running…';
	const good = step.outcome === 'ok';
	return h(`details.card.tool${step.outcome && !good ? '.bad' : ''}${step.outcome || over ? '' : '.busy'}`, {open, ontoggle: (event) => onToggle(event.target.open)},
		h('summary', icon(step.risky ? 'hand' : 'tool'), h('strong', step.name), group && h('span.tag', group), h('span.brief', brief(step.args)), h('span.state', state)),
		h('h4', 'Given'), values(step.args),
		step.result !== undefined && [h('h4', 'Came back'), code(step.result || '(nothing)', step.cut ? 'its beginning' : 'result')]);
}

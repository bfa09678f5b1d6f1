// A tool call as a card: its name, what it was given, what came back.

import {h, icon} from './dom.js';
import {code} from './markdown.js';

const WORDS = {ok: 'done', error: 'failed', denied: 'not allowed', rejected: 'not allowed', unknown: 'outcome unknown', cancelled: 'stopped'};

// Arguments as a person reads them.
export function values(args) {
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

import {filePath} from './api.js';
import {approvalCard, toolCard} from './approval.js';
import {copyText, fill, h, icon, plural, signButton, time, trying} from './dom.js';
import {parts} from './markdown.js';

const PHASE = {Interview: 'Understand', Seed: 'Specify', Execute: 'Work', Evaluate: 'Judge', Evolve: 'Improve'};
const ENDS = {failed: 'This answer failed', cancelled: 'Stopped; what was written is kept', interrupted: 'The server was stopped while it answered; what was written is kept'};

// A turn on the screen, kept up to date. `acts`: edit, fork, retry, decided; two clicks begin one once.
export class TurnView {
	constructor(turn, acts) {
		// Also when it is made again.
		turn.open ??= new Set();
		Object.assign(this, {turn, acts, cards: new Map()});
		this.said = h('div.said');
		this.timeline = h('ol.phases', {says: 'Phases'});
		this.steps = h('div.steps');
		this.answer = h('div.md');
		this.draft = h('details.draft', h('summary', 'Draft, still to be judged'), h('div.md'));
		this.note = h('p.note');
		this.foot = h('div.foot');
		this.node = h('article.turn', {says: `Message: ${(turn.content ?? '').slice(0, 80)}`}, this.said, h('div.reply', {role: 'group', says: 'Answer'}, this.timeline, this.steps, this.draft, this.answer, this.note, this.foot));
		this.saidOnce();
		this.update();
	}

	saidOnce() {
		const {turn, acts} = this;
		const text = turn.content ?? '';
		this.said.append(h('div.bubble', {role: 'group', says: 'You said'}, h('p', text), turn.attachments.length > 0 && h('ul.chips', turn.attachments.map((path) => h('li', icon('clip'), h('a', {href: `#/files/${filePath(path)}`}, path.split('/').pop()))))),
			h('div.acts.hover', h('span.small', time(turn.time)), signButton('copy', 'Copy this message', () => copyText(text)), signButton('edit', 'Edit this message in a new branch', trying(() => acts.edit(turn))), signButton('fork', 'New conversation from here', trying(() => acts.fork(turn)))));
	}

	update() {
		const {turn, acts} = this;
		this.node.classList.toggle('busy', turn.state === 'running');
		this.node.dataset.state = turn.state;
		this.phases();
		this.stepCards();
		this.text(this.answer, turn.text);
		const draft = turn.draft?.text && !turn.text;
		this.draft.hidden = !draft;
		if (draft) {
			// Each attempt is shown; one that was folded stays so.
			if (this.attempt !== turn.draft.attempt) this.draft.open = true;
			this.attempt = turn.draft.attempt;
			this.text(this.draft.lastChild, turn.draft.text);
		}
		const waitsForFirst = turn.state === 'running' && !turn.text && !draft;
		this.note.className = `note${turn.state === 'failed' ? ' bad' : ''}`;
		this.note.hidden = !waitsForFirst && !ENDS[turn.state] && !(turn.state === 'done' && turn.passed === false);
		if (waitsForFirst) fill(this.note, h('span.dots', {'aria-hidden': 'true'}), 'Working…');
		else if (ENDS[turn.state]) fill(this.note, icon('warn'), `${ENDS[turn.state]}${turn.error?.message && turn.state === 'failed' ? `: ${turn.error.message}.` : '.'} `, h('button.link', {onclick: trying(() => acts.retry(turn))}, 'Try again'), turn.error?.code === 'model' && [' · ', h('a', {href: '#/model'}, 'Connect another model')]);
		else if (!this.note.hidden) fill(this.note, icon('warn'), 'This is the best of several attempts; not every criterion is met.');
		if (turn.over && !this.foot.childElementCount) {
			this.foot.append(h('div.acts.hover', turn.text && signButton('copy', 'Copy this answer', () => copyText(turn.text)), signButton('retry', 'Ask again', trying(() => acts.retry(turn))),
				h('span.small', [turn.tokens ? plural(turn.tokens, 'token') : null, turn.model, turn.ended && turn.time ? took(turn.time, turn.ended) : null].filter(Boolean).join(' · ')),
				turn.seed && h('a.small', {href: `#/seeds/${turn.seed}`}, 'Specification')));
		}
	}

	phases() {
		const {phases, over} = this.turn;
		// A plain conversation needs no timeline.
		this.timeline.hidden = phases.length < 2;
		if (this.timeline.hidden) return;
		const stamp = JSON.stringify([phases, over]);
		if (stamp === this.stamp) return;
		this.stamp = stamp;
		fill(this.timeline, phases.map((phase) => {
			const verdict = Number.isFinite(phase.score) ? `${Math.round(phase.score * 100)} %` : phase.verdict && !['direct', 'result', 'task'].includes(phase.verdict) ? phase.verdict : '';
			const bad = phase.verdict === 'failed';
			return h('li', {class: phase.ended || over ? (bad ? 'bad' : 'done') : 'now', 'aria-current': phase.ended || over ? null : 'step'}, h('span', PHASE[phase.name] ?? phase.name), verdict && h('small', verdict));
		}));
	}

	stepCards() {
		const groups = [...new Set(this.turn.steps.map((step) => step.agent).filter(Boolean))];
		this.turn.steps.forEach((step, i) => {
			const stamp = `${step.outcome}|${step.decision}|${this.turn.over}`;
			const known = this.cards.get(i);
			if (known?.stamp === stamp) return;
			const node = step.kind === 'approval'
				? approvalCard({...step, decision: step.decision ?? (this.turn.over ? 'expired' : undefined)}, {onDecided: this.acts.decided})
				: toolCard(step, {over: this.turn.over, group: step.agent ? `agent ${groups.indexOf(step.agent) + 1}` : null, open: this.turn.open.has(i), onToggle: (open) => (open ? this.turn.open.add(i) : this.turn.open.delete(i))});
			const held = known?.node.contains(document.activeElement);
			if (known) known.node.replaceWith(node);
			else this.steps.append(node);
			if (held) node.querySelector('summary')?.focus();
			this.cards.set(i, {stamp, node});
		});
	}

	// Only what has changed is made anew: a selection stays.
	text(into, text) {
		const now = parts(text), old = into.parts ?? [];
		let same = 0;
		while (same < now.length && now[same].raw === old[same]?.raw) same++;
		while (into.childElementCount > same) into.lastElementChild.remove();
		for (const part of now.slice(same)) into.append(part.node());
		into.parts = now;
	}
}

function took(from, to) {
	const secs = (new Date(to) - new Date(from)) / 1000;
	return secs < 10 ? `${secs.toFixed(1)} s` : secs < 120 ? `${Math.round(secs)} s` : `${Math.round(secs / 60)} min`;
}

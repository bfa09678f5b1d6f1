// The conversation: the session's log, followed from a cursor. What is shown is what it says.

import {del, events, newId, post} from './api.js';
import {Composer} from './composer.js';
import {announce, button, edited, field, fill, h, icon, signButton, toast, trying} from './dom.js';
import {follow} from './feed.js';
import {known, sessionMenu, titleOf} from './sessions.js';
import {TurnView} from './turn.js';
import {Turns} from './turns.js';
import {Windowed} from './windowed.js';

// How much of a log is read at a time, in seqs.
const PAGE = 1500;
// A cursor beyond every end is answered with the last seq.
const BEYOND = 9007199254740991;

const TRIES = ['What can you do here?', 'remember that the pump was serviced on 3 May', 'write notes/today.md: first line', 'task say hi; list files criteria: says hi'];

export class Chat {
	constructor({go, relist}) {
		Object.assign(this, {go, relist, id: null, turns: new Turns(), feed: null, start: 0});
		this.heading = h('h1', 'New conversation');
		this.tools = h('div.tools');
		this.scroller = h('div.talk', {tabindex: '0', role: 'region', says: 'Conversation'});
		this.intro = h('div.intro');
		this.older = h('p.waiting', {hidden: true}, 'Reading what was said before…');
		this.down = signButton('down', 'To the newest message', () => this.list.toEnd(), 'round');
		this.down.hidden = true;
		this.scroller.append(this.older, this.intro);
		this.list = new Windowed(this.scroller, {make: (turn) => (turn.view = new TurnView(turn, this.acts)).node, drop: (turn) => (turn.view = null), onTop: () => this.readOlder()});
		this.list.onStuck = (stuck) => (this.down.hidden = stuck);
		this.composer = new Composer({send: (...said) => this.send(...said), stop: trying(() => this.stop())});
		this.node = h('div.room.chat', h('header.bar', this.heading, this.tools), this.scroller, this.down, h('div.below', this.composer.node));
	}

	open(id) {
		if (id === this.id && id !== null) return;
		this.close();
		this.id = id;
		this.composer.open(id);
		this.setTitle(id ? 'Conversation' : 'New conversation');
		this.welcome(!id);
		if (id) this.read(id);
		this.focus();
	}

	// On a phone a keyboard would cover what is to be read.
	focus() {
		if (!matchMedia('(pointer: coarse)').matches) this.composer.field.focus({preventScroll: true});
	}

	close() {
		this.feed?.close();
		this.reading?.abort();
		this.feed = this.reading = null;
		// Whoever waited looks whether this is still the same.
		this.place = {};
		this.older.hidden = true;
		this.restart();
		this.composer.busy(false);
		cancelAnimationFrame(this.frame);
		this.frame = 0;
	}

	restart() {
		this.turns.clear();
		this.list.clear();
		this.start = 0;
	}

	setTitle(title) {
		this.heading.textContent = title;
		document.title = `${title} – oxios`;
		fill(this.tools, this.id && sessionMenu(() => ({...known.get(this.id), id: this.id, title: this.heading.textContent}), {go: this.go, changed: (item) => {
			if (item?.id === this.id) this.setTitle(titleOf(item));
			this.relist();
		}}));
	}

	welcome(shown) {
		this.intro.hidden = !shown;
		if (shown) fill(this.intro, h('h2', 'What is to be done?'), h('p', 'The answer is kept even if you close this page while it is written.'), h('div.tries', TRIES.map((text) => button(text, () => (this.composer.set(text, this.composer.files), this.composer.field.focus())))), this.noModel);
	}

	// Whoever has no model is told how to get one.
	setModel(label) {
		this.noModel = label === 'offline' ? h('p.card.hint', icon('model'), h('span', 'No language model is connected: the built-in helper answers, which knows a few commands. ', h('a', {href: '#/model'}, 'Connect a model'))) : null;
		if (!this.intro.hidden) this.welcome(true);
	}

	// The end first; what came before when somebody scrolls up.
	async read(id, again) {
		const reading = (this.reading = new AbortController());
		this.older.hidden = false;
		try {
			const last = await this.lastSeq(id, reading.signal);
			const start = Math.max(0, last - PAGE);
			const records = await this.span(id, start, last, reading.signal);
			if (reading.signal.aborted) return;
			this.start = start;
			records.forEach((record) => this.turns.take(record));
			this.turns.lastSeq = Math.max(this.turns.lastSeq, start);
			this.about(records);
			this.list.prepend(this.turns.shown);
			this.list.toEnd();
			this.older.hidden = true;
			this.state();
			this.listen(id);
			// A log may have large holes.
			if (this.turns.shown.length < 8) this.readOlder();
			this.name(id);
		} catch (error) {
			if (error.name === 'AbortError' || reading.signal.aborted) return;
			this.older.hidden = true;
			if (error.status === 401) return;
			if (error.final) return this.gone(error.status === 404 ? undefined : error.message);
			if (!again) toast(error.message, true);
			setTimeout(() => this.reading === reading && this.read(id, true), 3000);
		}
	}

	async lastSeq(id, signal) {
		for await (const event of events(`api/sessions/${id}/events?after=${BEYOND}`, {signal})) return event.last_seq ?? event.seq ?? 0;
		return 0;
	}

	// Records behind `after`, up to and with `last`.
	async span(id, after, last, signal) {
		const records = [];
		if (last <= after) return records;
		for await (const record of events(`api/sessions/${id}/events?after=${after}&until=idle`, {signal})) {
			if (record.seq <= last) records.push(record);
			if (record.seq >= last) break;
		}
		return records;
	}

	async readOlder() {
		if (this.busyOlder || this.start === 0 || !this.id) return;
		this.busyOlder = true;
		const {id, reading} = this;
		this.older.hidden = false;
		try {
			let step = PAGE, fresh = 0;
			while (fresh < 10 && this.start > 0) {
				const from = Math.max(0, this.start - step);
				const records = await this.span(id, from, this.start, reading.signal);
				if (this.reading !== reading) return;
				const first = this.turns.shown[0];
				this.turns.before(records);
				this.start = from;
				const now = this.turns.shown;
				const until = first ? now.indexOf(first) : now.length;
				this.list.prepend(now.slice(0, until));
				fresh += until;
				step *= 2;
			}
		} catch (error) {
			if (error.name !== 'AbortError') toast(error.message, true);
		} finally {
			this.busyOlder = false;
			if (this.reading === reading) this.older.hidden = true;
		}
	}

	// Live, from the cursor on; also after an hour of sleep.
	listen(id) {
		this.feed = follow({
			path: () => `api/sessions/${id}/events?after=${this.turns.lastSeq}`,
			stays: () => this.running.length > 0,
			onEvent: (record) => this.id === id && this.take(record),
			onGone: (error) => this.id === id && (error.status === 404 ? this.gone() : toast(error.message, true)),
		});
	}

	take(record) {
		if (record.kind === 'deleted') return this.gone();
		if (record.kind === 'resync') {
			// The log is another one (a restored backup).
			return this.restart();
		}
		const turn = this.turns.take(record);
		this.about([record]);
		if (!turn || turn.content === null) return;
		if (record.kind === 'message') {
			this.welcome(false);
			this.list.append(turn);
		}
		if (record.kind === 'approval_requested') announce(`The agent asks: ${record.action} ${record.resource}. Approve or reject.`);
		if (turn.over && record.kind === turn.state) announce(turn.state === 'done' ? `Answer: ${turn.text.slice(0, 400)}` : `The answer ${turn.state === 'failed' ? 'failed' : 'was stopped'}.`);
		this.changed.add(turn);
		// Pieces come faster than a screen is drawn; a hidden one waits.
		this.frame ||= requestAnimationFrame(() => this.draw());
	}

	changed = new Set();

	draw() {
		this.frame = 0;
		const turns = [...this.changed];
		this.changed.clear();
		this.list.keep(() => turns.forEach((turn) => turn.view?.update()));
		this.state();
	}

	get running() {
		return this.turns.list.filter((turn) => !turn.over);
	}

	state() {
		this.composer.busy(this.running.length > 0);
	}

	about(records) {
		const about = records.findLast((record) => record.kind === 'about');
		if (about?.title) this.setTitle(about.title);
	}

	// As the list knows it, else from its first message.
	async name(id) {
		if (this.heading.textContent !== 'Conversation') return;
		let title = known.get(id)?.title;
		if (!title) {
			const [first] = await this.span(id, 0, 1, this.reading?.signal).catch(() => []);
			title = first?.content?.split('\n')[0].slice(0, 80);
		}
		if (title && this.id === id && this.heading.textContent === 'Conversation') this.setTitle(title);
	}

	gone(text = 'There is no such conversation; it may have been deleted.') {
		this.close();
		this.relist();
		this.id = null;
		this.setTitle('Conversation');
		this.intro.hidden = false;
		fill(this.intro, h('h2', 'Nothing here'), h('p', text), h('a.button', {href: '#/'}, 'Begin a new one'));
	}

	async send(content, attachments, key) {
		const {id, place} = this;
		// A name of our own: the page knows where to look before the server answers. Another try has the same: only there a message
		// is found by its key.
		if (this.fresh?.key !== key) this.fresh = {key, id: newId()};
		const session = id ?? this.fresh.id;
		await say(session, content, attachments, key);
		if (this.place !== place) return this.relist();
		this.list.toEnd();
		this.focus();
		if (id) return;
		this.id = session;
		this.composer.named(session);
		this.setTitle(content.split('\n')[0].slice(0, 80));
		history.replaceState(null, '', `#/s/${session}`);
		this.listen(session);
		this.go(null);
		this.relist();
	}

	async stop() {
		for (const turn of this.running.reverse()) {
			await post(`api/chat/${turn.id}/cancel`).catch((error) => {
				if (![404, 409].includes(error.status)) throw error;
			});
		}
		this.focus();
	}

	acts = {
		decided: () => this.state(),
		retry: async (turn) => {
			turn.key ??= newId();
			await this.send(turn.content, turn.attachments, turn.key);
			turn.key = null;
		},
		fork: async (turn) => {
			if (!turn.over) throw new Error('Wait for the answer, or stop it; then a conversation can begin from here.');
			const made = await post(`api/sessions/${this.id}/fork`, {message_id: turn.id});
			toast('A new conversation that begins with this one.');
			this.go(`#/s/${made.id}`);
		},
		edit: (turn) => this.edit(turn),
	};

	// The same conversation up to here, and then another word.
	async edit(turn) {
		const {id} = this;
		const i = this.turns.list.indexOf(turn);
		if (i === 0 && this.start > 0) throw new Error('Scroll up first, so that what came before is read.');
		const before = this.turns.list.slice(0, i).findLast((other) => other.over);
		let branch = null, said = {};
		// What fails leaves the text there; another try goes into the same branch.
		const done = await edited('Edit the message', {text: field('Message', {kind: 'area', rows: 8, value: turn.content, required: true, hint: 'This conversation stays as it is; the edited message goes into a new one that begins with what was said before.'})}, async ({text}) => {
			branch ??= before ? (await post(`api/sessions/${id}/fork`, {message_id: before.id})).id : newId();
			if (said.text !== text) said = {text, key: newId()};
			await say(branch, text, turn.attachments, said.key);
		}, 'Send in a new branch');
		if (done) this.go(`#/s/${branch}`);
		// Nothing was said in it.
		else if (branch && before) await del(`api/sessions/${branch}`);
	}
}

async function say(session_id, content, attachments, key) {
	const body = {content, session_id, user_id: 'web-user'};
	if (attachments?.length) body.attachments = attachments;
	await post('api/chat', body, {headers: {prefer: 'respond-async', 'idempotency-key': key}});
}

// Records of a log in, turns out: a message of the user and all that became of it.

export class Turn {
	constructor(id) {
		Object.assign(this, {id, records: [], content: null, attachments: [], time: null, phases: [], steps: [], text: '', draft: null, state: 'running', error: null, tokens: 0, model: null});
	}

	get over() {
		return !['running', 'waiting'].includes(this.state);
	}

	take(record) {
		switch (record.kind) {
			case 'message':
				this.content = record.content;
				this.attachments = record.attachments ?? [];
				this.time = record.time;
				break;
			case 'phase':
				if (record.state === 'started') this.phases.push({name: record.phase, seed: record.seed_id});
				else Object.assign(this.phases.findLast((phase) => phase.name === record.phase && !phase.ended) ?? {}, {ended: true, verdict: record.verdict, score: record.score, seed: record.seed_id});
				// Between attempts what was drafted is judged, and perhaps thrown away.
				if (record.phase === 'Evolve' && record.state === 'ended') this.draft = null;
				break;
			case 'token':
				this.text += record.text;
				this.draft = null;
				break;
			case 'draft':
				if (this.draft?.attempt !== record.attempt) this.draft = {attempt: record.attempt, text: ''};
				this.draft.text += record.text;
				break;
			case 'tool_call':
				this.steps.push({kind: 'tool', id: record.call_id, name: record.name, args: record.arguments, risky: record.risky, agent: record.agent_id});
				break;
			case 'tool_result':
				Object.assign(this.steps.findLast((step) => step.kind === 'tool' && step.id === record.call_id) ?? {}, {outcome: record.outcome, result: record.content, cut: Boolean(record.blob)});
				break;
			case 'approval_requested':
				this.steps.push({kind: 'approval', id: record.approval_id, call: record.call_id, action: record.action, resource: record.resource, reason: record.reason, shown: record.shown, expires: record.expires_at});
				this.state = 'waiting';
				break;
			case 'approval_resolved':
				Object.assign(this.steps.find((step) => step.kind === 'approval' && step.id === record.approval_id) ?? {}, {decision: record.decision});
				this.state = 'running';
				break;
			case 'usage':
				this.tokens += record.input_tokens + record.output_tokens;
				this.model = record.model;
				break;
			case 'done':
			case 'failed':
			case 'cancelled':
			case 'interrupted':
				// Its text stands for all pieces, seen or not.
				Object.assign(this, {state: record.kind, text: record.text, error: record.error ?? null, passed: record.evaluation_passed, seed: record.seed_id, draft: null, ended: record.time});
				break;
		}
		// Needed again when its beginning is read.
		if (this.content === null || this.records.length) this.records.push(record);
	}
}

export class Turns {
	constructor() {
		this.clear();
	}

	clear() {
		this.list = [];
		this.byId = new Map();
		this.lastSeq = 0;
	}

	// A record behind all others; one that was seen is passed over: no word comes twice.
	take(record) {
		if (record.seq <= this.lastSeq) return null;
		this.lastSeq = record.seq;
		if (!record.message_id) return null;
		let turn = this.byId.get(record.message_id);
		if (!turn) {
			turn = new Turn(record.message_id);
			this.byId.set(turn.id, turn);
			this.list.push(turn);
		}
		turn.take(record);
		return turn;
	}

	// Records before all others.
	before(records) {
		const earlier = new Turns();
		for (const record of records) earlier.take(record);
		let fresh = 0;
		for (const turn of earlier.list) {
			const known = this.byId.get(turn.id);
			if (!known) {
				this.byId.set(turn.id, turn);
				this.list.splice(fresh++, 0, turn);
				continue;
			}
			const whole = new Turn(turn.id);
			for (const record of [...records.filter((one) => one.message_id === turn.id), ...known.records]) whole.take(record);
			whole.records = whole.content === null ? whole.records : [];
			this.byId.set(turn.id, whole);
			this.list[this.list.indexOf(known)] = whole;
		}
	}

	// Those that can be shown: their beginning is known.
	get shown() {
		const first = this.list.findIndex((turn) => turn.content !== null);
		return first < 0 ? [] : this.list.slice(first);
	}
}

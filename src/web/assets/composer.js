// Where a message is written: drafts are kept for each conversation, text files go along.

import {ask, filePath} from './api.js';
import {h, icon, signButton, toast, trying} from './dom.js';

// The server's own limits (API A3, A7).
const CONTENT_MAX = 64 * 1024, FILES_MAX = 8, FILE_MAX = 1024 * 1024;

const slot = (session) => `oxios.draft.${session ?? 'new'}`;

// Storage may be full or forbidden: a draft that is not kept is no reason to stop.
export const stored = {
	get(key) {
		try {
			return JSON.parse(localStorage.getItem(key));
		} catch {
			return null;
		}
	},
	set(key, value) {
		try {
			if (value === null) localStorage.removeItem(key);
			else localStorage.setItem(key, JSON.stringify(value));
		} catch {
			// See above.
		}
	},
};

export class Composer {
	constructor({send, stop}) {
		this.session = null;
		this.files = [];
		this.field = h('textarea', {id: 'message', rows: '1', placeholder: 'Message the agent', says: 'Message', enterkeyhint: 'send', maxlength: CONTENT_MAX});
		this.chips = h('ul.chips', {says: 'Attached files'});
		this.picker = h('input', {type: 'file', multiple: true, hidden: true, says: 'Text files', onchange: () => this.attach(this.picker.files)});
		this.stopButton = signButton('stop', 'Stop the answer', stop, 'stop');
		this.sendButton = h('button.sign.primary', {type: 'submit', title: 'Send', says: 'Send'}, icon('send'));
		this.node = h('form.composer', {onsubmit: (event) => (event.preventDefault(), this.submit(send))}, this.chips, h('div.row', signButton('clip', 'Attach text files', () => this.picker.click()), this.picker, this.field, this.stopButton, this.sendButton));
		this.field.addEventListener('input', () => (this.grow(), this.save()));
		this.field.addEventListener('keydown', (event) => {
			// On a phone the key makes a line; there is a button beside it.
			if (event.key === 'Enter' && !event.shiftKey && !event.isComposing && !matchMedia('(pointer: coarse)').matches) event.preventDefault(), this.submit(send);
		});
		this.field.addEventListener('paste', (event) => event.clipboardData.files.length && (event.preventDefault(), this.attach(event.clipboardData.files)));
		for (const kind of ['dragover', 'drop']) this.node.addEventListener(kind, (event) => event.dataTransfer.types.includes('Files') && (event.preventDefault(), kind === 'drop' && this.attach(event.dataTransfer.files)));
		this.busy(false);
	}

	// Another conversation: its draft.
	open(session) {
		this.session = session;
		const draft = stored.get(slot(session));
		this.set(draft?.text ?? '', draft?.files ?? []);
	}

	set(text, files = []) {
		this.field.value = text;
		this.files = files;
		this.drawFiles();
		this.grow();
		this.save();
	}

	save() {
		const text = this.field.value;
		stored.set(slot(this.session), text || this.files.length ? {text, files: this.files} : null);
		this.sendButton.disabled = !text.trim();
	}

	busy(running) {
		this.stopButton.hidden = !running;
	}

	grow() {
		this.field.style.height = 'auto';
		this.field.style.height = `${Math.min(this.field.scrollHeight, innerHeight * 0.4)}px`;
	}

	async submit(send) {
		const text = this.field.value;
		if (!text.trim() || this.sending) return;
		if (new TextEncoder().encode(text).length > CONTENT_MAX) return toast('A message has 64 KiB at most; attach the rest as a file.', true);
		this.sending = true;
		const files = this.files;
		// Sent again after a broken line, it is found by this key instead of being another message.
		if (this.key?.text !== text) this.key = {text, key: crypto.randomUUID?.() ?? String(Math.random())};
		try {
			this.set('');
			await send(text, files.map((file) => file.path), this.key.key);
			this.key = null;
		} catch (error) {
			this.set(text, files);
			toast(error.message, true);
		} finally {
			this.sending = false;
		}
	}

	attach = trying(async (list) => {
		for (const file of list) {
			if (this.files.length >= FILES_MAX) throw new Error(`A message takes ${FILES_MAX} files at most.`);
			if (file.size > FILE_MAX) throw new Error(`${file.name} is larger than 1 MiB.`);
			const raw = new Uint8Array(await file.arrayBuffer());
			// The agent reads text; what is none would only cost words.
			if (raw.includes(0)) throw new Error(`${file.name} is no text file.`);
			const path = `uploads/${new Date().toISOString().slice(0, 10)}/${file.name.replace(/[/\\\u0000-\u001f\u007f]/g, '_').replace(/^\.+/, '_') || 'file'}`;
			await ask('PUT', `api/workspace/file/${filePath(path)}`, {raw});
			this.files = [...this.files.filter((known) => known.path !== path), {path, name: file.name}];
			this.drawFiles();
			this.save();
		}
		this.picker.value = '';
		this.field.focus();
	});

	drawFiles() {
		this.chips.hidden = !this.files.length;
		this.chips.replaceChildren(...this.files.map((file) => h('li', icon('clip'), file.name, signButton('close', `Leave out ${file.name}`, () => ((this.files = this.files.filter((other) => other !== file)), this.drawFiles(), this.save())))));
	}
}

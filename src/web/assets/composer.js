// Where a message is written: drafts are kept for each conversation, text files go along.

import {ask, filePath, newId} from './api.js';
import {fill, h, icon, signButton, toast, trying} from './dom.js';

// The server's own limits (API A3, A7).
const ASKS = 'Message the agent';
const CONTENT_MAX = 64 * 1024, FILES_MAX = 8, FILE_MAX = 1024 * 1024;

const slot = (session) => `oxios.draft.${session ?? 'new'}`;
const draftOf = (session) => stored.get(slot(session)) ?? {text: '', files: []};
const keep = (session, text, files) => stored.set(slot(session), text || files.length ? {text, files} : null);

// What storage does not take, full or forbidden, is kept while the page is open.
const rest = new Map();

export const stored = {
	get(key) {
		try {
			return rest.get(key) ?? JSON.parse(localStorage.getItem(key));
		} catch {
			return null;
		}
	},
	set(key, value) {
		try {
			rest.delete(key);
			if (value === null) localStorage.removeItem(key);
			else localStorage.setItem(key, JSON.stringify(value));
		} catch {
			rest.set(key, value);
		}
	},
};

export class Composer {
	constructor({send, stop}) {
		this.session = null;
		this.files = [];
		this.coming = 0;
		this.field = h('textarea', {id: 'message', rows: '1', placeholder: ASKS, says: 'Message', enterkeyhint: 'send'});
		this.chips = h('ul.chips', {says: 'Attached files'});
		this.picker = h('input', {type: 'file', multiple: true, hidden: true, says: 'Text files', onchange: () => this.attach(this.picker.files)});
		this.stopButton = signButton('stop', 'Stop the answer', stop, 'stop');
		this.sendButton = h('button.sign.primary', {type: 'submit', title: 'Send', says: 'Send'}, icon('send'));
		this.node = h('form.composer', {onsubmit: (event) => (event.preventDefault(), this.submit(send))}, this.chips, h('div.row', signButton('clip', 'Attach text files', () => this.picker.click()), this.picker, this.field, this.stopButton, this.sendButton));
		this.field.addEventListener('input', () => this.set(this.field.value, this.files));
		this.field.addEventListener('keydown', (event) => {
			// On a phone the key makes a line; there is a button beside it.
			if (event.key === 'Enter' && !event.shiftKey && !event.isComposing && !matchMedia('(pointer: coarse)').matches) event.preventDefault(), this.submit(send);
		});
		this.field.addEventListener('paste', (event) => {
			const {files, types} = event.clipboardData;
			// Word and the like put a picture beside their text.
			if (files[0] && !(files[0].type.startsWith('image/') && types.includes('text/plain'))) event.preventDefault(), this.attach(files);
		});
		for (const kind of ['dragover', 'drop']) this.node.addEventListener(kind, (event) => event.dataTransfer.types.includes('Files') && (event.preventDefault(), kind === 'drop' && this.attach(event.dataTransfer.files)));
		this.busy(false);
	}

	open(session) {
		this.session = session;
		const {text, files} = draftOf(session);
		this.show(text, files);
	}

	show(text, files = []) {
		if (this.field.value !== text) this.field.value = text;
		this.files = files;
		this.field.style.height = 'auto';
		this.field.style.height = `${Math.min(this.field.scrollHeight, innerHeight * 0.4)}px`;
		this.chips.hidden = !files.length;
		fill(this.chips, files.map((file) => h('li', icon('clip'), file.name, signButton('close', `Leave out ${file.name}`, () => this.set(this.field.value, this.files.filter((other) => other !== file))))));
		this.ready();
	}

	set(text, files = []) {
		this.show(text, files);
		keep(this.session, text, files);
	}

	ready() {
		this.sendButton.disabled = this.coming > 0 || !this.field.value.trim();
	}

	// What was written meanwhile goes with the new conversation.
	named(session) {
		keep(this.session, '', []);
		this.session = session;
		this.set(this.field.value, this.files);
	}

	busy(running) {
		this.stopButton.hidden = !running;
	}

	async submit(send) {
		const text = this.field.value;
		if (!text.trim() || this.sending) return;
		if (this.coming) return toast('The files are on their way; send it when they are there.');
		if (new TextEncoder().encode(text).length > CONTENT_MAX) return toast('A message has 64 KiB at most; attach the rest as a file.', true);
		this.sending = true;
		const {files, session} = this;
		// Sent again after a broken line it is found by its key, and is no other message.
		if (this.key?.text !== text) this.key = {text, key: newId()};
		try {
			// The draft is kept until it was taken.
			this.show('');
			this.field.placeholder = 'Sending…';
			await send(text, files.map((file) => file.path), this.key.key);
			this.key = null;
			if (draftOf(session).text === text) keep(session, '', []);
			if (this.session === session && this.field.value === text) this.show('');
		} catch (error) {
			// Its writer may be elsewhere, or at the next one.
			const now = draftOf(session);
			if (now.text !== text) keep(session, [text, now.text].filter(Boolean).join('\n\n'), [...files, ...now.files]);
			if (this.session === session) this.open(session);
			toast(error.message, true);
		} finally {
			this.sending = false;
			this.field.placeholder = ASKS;
		}
	}

	attach = trying(async (list) => {
		const {session} = this;
		this.coming++;
		this.ready();
		try {
			for (const file of [...list]) await this.upload(session, file);
		} finally {
			this.coming--;
			this.ready();
			this.picker.value = '';
		}
		this.field.focus();
	});

	// Goes along with the draft that it was chosen for.
	async upload(session, file) {
		const draft = () => (this.session === session ? {text: this.field.value, files: this.files} : draftOf(session));
		if (draft().files.length >= FILES_MAX) throw new Error(`A message takes ${FILES_MAX} files at most.`);
		if (file.size > FILE_MAX) throw new Error(`${file.name} is larger than 1 MiB.`);
		const raw = new Uint8Array(await file.arrayBuffer());
		// The agent reads text; what is none would only cost words.
		if (raw.includes(0)) throw new Error(`${file.name} is no text file.`);
		// Another file of the same name is another file.
		const path = `uploads/${new Date().toISOString().slice(0, 10)}/${newId().slice(0, 8)}/${file.name.replace(/[/\\\u0000-\u001f\u007f]/g, '_').replace(/^\.+/, '_') || 'file'}`;
		await ask('PUT', `api/workspace/file/${filePath(path)}`, {raw});
		const {text, files} = draft();
		const now = [...files, {path, name: file.name}];
		if (this.session === session) this.set(text, now);
		else keep(session, text, now);
	}
}

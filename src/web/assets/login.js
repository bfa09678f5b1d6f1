// A printed link, or a key: neither is kept; the browser keeps a cookie that no script reads.

import {call} from './api.js';
import {h, icon, trying} from './dom.js';

// The one-time code is taken out of the address at once.
export function codeOfAddress() {
	const code = /^#code=([0-9A-Za-z_-]+)$/.exec(location.hash)?.[1] ?? null;
	if (code) history.replaceState(null, '', '#/');
	return code;
}

export const logIn = (credential) => call('POST', 'api/login', credential);

export function loginView(done, why = '') {
	const field = h('input', {id: 'key', type: 'password', autocomplete: 'current-password', spellcheck: 'false', autocapitalize: 'off', required: true});
	const note = h('p.note.bad', {role: 'alert', hidden: !why}, why);
	const submit = trying(async () => {
		note.hidden = true;
		const text = field.value.trim();
		try {
			await logIn(/^[0-9a-f]{64}$/.test(text) ? {code: text} : {key: text});
			field.value = '';
		} catch (error) {
			note.textContent = error.status === 401 ? 'The server does not know this key or code. A code works once, for five minutes.' : error.status === 429 ? 'Too many wrong tries from here; wait a minute.' : error.message;
			note.hidden = false;
			return field.select();
		}
		await done();
	});
	queueMicrotask(() => field.focus());
	return h('main.login', h('form.card', {onsubmit: submit}, h('img', {src: 'assets/icon.svg', alt: '', width: '44', height: '44'}), h('h1', 'Log in to oxios'), h('label', {for: 'key'}, 'Key or one-time code'), field, note, h('button.primary', {type: 'submit'}, icon('key'), 'Log in'),
		h('p.small', 'The first key is in the file ', h('code', 'token'), ' of the server’s home. ', h('code', 'oxios-edge login-code'), ' prints a link that logs a browser in without it.')));
}

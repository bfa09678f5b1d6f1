import {ask, at, filePath, get, post} from './api.js';
import {stored} from './composer.js';
import {button, bytes, confirmed, fill, h, icon, loading, room, signButton, toast, trying} from './dom.js';
import {code, markdown} from './markdown.js';
import {asked} from './sessions.js';

// Text up to this length is shown and edited here; the rest is downloaded.
const SHOWN_MAX = 512 * 1024;

export function filesRoom({rest, go}) {
	const path = decodeURIComponent(rest);
	const tree = h('div.filetree');
	const view = h('section.fileview', {says: 'File'});
	const picker = h('input', {type: 'file', multiple: true, hidden: true, says: 'Files to upload', onchange: trying(upload)});
	const {node} = room('Files', {acts: [button('New file', trying(make), {sign: 'plus'}), button('Upload', () => picker.click(), {sign: 'up'}), picker]}, h('div.two.files', h('nav', {says: 'Files'}, tree), view));
	const place = (name) => `api/workspace/file/${filePath(name)}`;
	const open = new Set(path.split('/').slice(0, -1).map((_, i, all) => all.slice(0, i + 1).join('/')));
	const reload = loading(tree, () => level(''));
	if (path) loading(view, () => show(path));
	else fill(view, h('p.empty', 'Choose a file.'));

	async function level(dir) {
		const items = await get(`api/workspace/tree?dir=${encodeURIComponent(dir)}`);
		if (!items.length) return h('p.empty', dir ? 'Empty.' : 'No files yet. What the agent writes is found here.');
		return h('ul', items.map((item) => {
			const full = dir ? `${dir}/${item.name}` : item.name;
			if (!item.is_dir) return h('li', h('a', {href: `#/files/${filePath(full)}`, 'aria-current': full === path && 'page'}, icon('file'), item.name, h('small', bytes(item.size))));
			const inner = h('div');
			const load = () => inner.childElementCount || loading(inner, () => level(full));
			const folder = h('details', {open: open.has(full), ontoggle: () => folder.open && load()}, h('summary', icon('folder'), item.name), inner);
			if (folder.open) load();
			return h('li', folder);
		}));
	}

	async function show(name) {
		const url = place(name);
		const response = await ask('GET', url);
		const size = Number(response.headers.get('content-length') ?? 0);
		// Whatever is done goes out from what was seen.
		let seen = (response.headers.get('etag') ?? '*').replace('W/', '');
		const head = (...acts) => h('header.filehead', h('h2', name), h('span.small', bytes(size)), h('span.grow'), acts, h('a.button', {href: at(url), download: name.split('/').pop()}, icon('down'), 'Download'), signButton('trash', 'Delete this file', trying(async () => (await confirmed(`Delete ${name}?`, 'This cannot be taken back.')) && (await ask('DELETE', url, {headers: {'if-match': seen}}), go('#/files'), reload()))));
		const raw = size <= SHOWN_MAX ? new Uint8Array(await response.arrayBuffer()) : null;
		let text = null;
		try {
			text = raw && !raw.includes(0) ? new TextDecoder('utf-8', {fatal: true, ignoreBOM: true}).decode(raw) : null;
		} catch {
			// It is no text; it can be downloaded.
		}
		if (!raw) response.body.cancel();
		if (text === null) return [head(), h('p.empty', size > SHOWN_MAX ? 'Too long to be shown here.' : 'This is no text.')];
		// What is not saved yet outlives a click on a link and a reload.
		const slot = `oxios.file.${name}`;
		const leave = () => (stored.set(slot, null), loading(view, () => show(name)));
		const editor = (now) => {
			const area = h('textarea.editor', {value: now, says: `Content of ${name}`, spellcheck: 'false', oninput: () => stored.set(slot, {text: area.value, seen})});
			const save = trying(async () => {
				// A field has one kind of line end.
				const raw = text.includes('\r\n') ? area.value.replaceAll('\n', '\r\n') : area.value;
				if (!(await write(name, raw, {'if-match': seen}, 'It was changed since you opened it. To see that change first: cancel, copy your text, press Cancel above it.'))) return;
				toast('Saved.');
				leave();
			});
			area.addEventListener('keydown', (event) => (event.ctrlKey || event.metaKey) && event.key === 's' && save(event));
			return [h('header.filehead', h('h2', name), h('span.grow'), button('Cancel', leave), button('Save', save, {kind: 'primary'})), area];
		};
		const draft = stored.get(slot);
		if (draft) {
			seen = draft.seen;
			toast('This text is not saved yet: save or cancel it.');
			return editor(draft.text);
		}
		return [head(button('Edit', () => fill(view, editor(text)).lastChild.focus(), {sign: 'edit'})), /\.(md|markdown)$/i.test(name) ? markdown(text) : code(text, name.split('.').pop())];
	}

	async function make() {
		const name = await asked('New file', 'Path', '', 'Directories in it are made. A name with a slash at its end makes a directory.');
		if (!name?.trim()) return;
		const dir = name.trim().endsWith('/');
		const clean = name.trim().replace(/^\/+|\/+$/g, '');
		await post(place(clean), {is_dir: dir});
		if (dir) reload();
		else go(`#/files/${filePath(clean)}`);
	}

	// Writes where what is there is what was seen, else asks first. False where it is left as it is.
	async function write(name, raw, headers, why) {
		try {
			await ask('PUT', place(name), {raw, headers});
		} catch (error) {
			if (error.status !== 412) throw error;
			if (!(await confirmed(`Replace ${name}?`, why, 'Replace'))) return false;
			await ask('PUT', place(name), {raw});
		}
		return true;
	}

	async function upload() {
		try {
			for (const file of picker.files) {
				if (file.size > 1048576) throw new Error(`${file.name} is larger than 1 MiB.`);
				if (await write(file.name, await file.arrayBuffer(), {'if-none-match': '*'}, 'There is a file of this name. What is in it would be lost.')) toast(`${file.name} is there.`);
			}
		} finally {
			picker.value = '';
			reload();
		}
	}
	return {node};
}

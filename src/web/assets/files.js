import {ask, at, call, del, filePath, get} from './api.js';
import {button, bytes, confirmed, fill, h, icon, loading, room, signButton, toast, trying} from './dom.js';
import {code, markdown} from './markdown.js';
import {asked} from './sessions.js';

// Text up to this length is shown and edited here; the rest is downloaded.
const SHOWN_MAX = 512 * 1024;

// The files that the agent and its user share.
export function filesRoom({rest, go}) {
	const path = decodeURIComponent(rest ?? '');
	const tree = h('div.filetree');
	const view = h('section.fileview', {says: 'File'});
	const picker = h('input', {type: 'file', multiple: true, hidden: true, says: 'Files to upload', onchange: trying(upload)});
	const {node} = room('Files', {acts: [button('New file', trying(make), {sign: 'plus'}), button('Upload', () => picker.click(), {sign: 'up'}), picker]}, h('div.two.files', h('nav', {says: 'Files'}, tree), view));
	const open = new Set(path.split('/').slice(0, -1).map((_, i, all) => all.slice(0, i + 1).join('/')));
	const reload = loading(tree, () => level(''));
	if (path) loading(view, () => show(path));
	else fill(view, h('p.empty', 'Choose a file.'));

	async function level(dir) {
		const items = await get(`api/workspace/tree?dir=${encodeURIComponent(dir)}`);
		if (!items.length) return h('p.empty', dir ? 'Empty.' : 'No files yet. What the agent writes is found here.');
		return h('ul', items.map((item) => {
			const full = dir ? `${dir}/${item.name}` : item.name;
			if (!item.is_dir) return h('li', h('a', {href: `#/files/${filePath(full)}`, 'aria-current': full === path ? 'page' : null}, icon('file'), item.name, h('small', bytes(item.size))));
			const inner = h('div');
			const load = () => inner.childElementCount || loading(inner, () => level(full));
			const folder = h('details', {open: open.has(full), ontoggle: () => folder.open && load()}, h('summary', icon('folder'), item.name), inner);
			if (folder.open) load();
			return h('li', folder);
		}));
	}

	async function show(name) {
		const url = `api/workspace/file/${filePath(name)}`;
		const response = await ask('GET', url);
		const size = Number(response.headers.get('content-length') ?? 0);
		const head = (...acts) => h('header.filehead', h('h2', name), h('span.small', bytes(size)), h('span.grow'), acts, h('a.button', {href: at(url), download: name.split('/').pop()}, icon('up'), 'Download'), signButton('trash', 'Delete this file', trying(async () => (await confirmed(`Delete ${name}?`, 'This cannot be taken back.')) && (await del(url), go('#/files'), reload()))));
		const raw = size <= SHOWN_MAX ? new Uint8Array(await response.arrayBuffer()) : null;
		let text = null;
		try {
			text = raw && !raw.includes(0) ? new TextDecoder('utf-8', {fatal: true, ignoreBOM: true}).decode(raw) : null;
		} catch {
			// It is no text; it can be downloaded.
		}
		if (text === null) return [head(), h('p.empty', size > SHOWN_MAX ? 'Too long to be shown here.' : 'This is no text.')];
		const edit = () => {
			const area = h('textarea.editor', {value: text, says: `Content of ${name}`, spellcheck: 'false'});
			const save = trying(async () => {
				await ask('PUT', url, {raw: area.value});
				toast('Saved.');
				loading(view, () => show(name));
			});
			area.addEventListener('keydown', (event) => (event.ctrlKey || event.metaKey) && event.key === 's' && save(event));
			fill(view, h('header.filehead', h('h2', name), h('span.grow'), button('Cancel', () => loading(view, () => show(name))), button('Save', save, {kind: 'primary'})), area);
			area.focus();
		};
		return [head(button('Edit', edit, {sign: 'edit'})), /\.(md|markdown)$/i.test(name) ? markdown(text) : code(text, name.split('.').pop())];
	}

	async function make() {
		const name = await asked('New file', 'Path', '', 'Directories in it are made. A name with a slash at its end makes a directory.');
		if (!name?.trim()) return;
		const dir = name.trim().endsWith('/');
		const clean = name.trim().replace(/^\/+|\/+$/g, '');
		await call('POST', `api/workspace/file/${filePath(clean)}`, {is_dir: dir});
		if (dir) reload();
		else go(`#/files/${filePath(clean)}`);
	}

	async function upload() {
		for (const file of picker.files) {
			if (file.size > 1048576) throw new Error(`${file.name} is larger than 1 MiB.`);
			await ask('PUT', `api/workspace/file/${filePath(file.name)}`, {raw: await file.arrayBuffer()});
		}
		picker.value = '';
		toast('Uploaded.');
		reload();
	}
	return {node};
}

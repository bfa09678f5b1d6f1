import {get, put, Refused} from './api.js';
import {badge, button, confirmed, edited, field, fill, h, icon, list, loading, plural, room, seek, toast, trying} from './dom.js';

const SECTION = {kernel: 'Storage', gateway: 'Gateway', engine: 'Model', security: 'Security', session: 'Conversations', orchestrator: 'Tasks', memory: 'Memory', audit: 'Audit', metrics: 'Metrics', web: 'Page', logging: 'Log'};
const DROPPED = 'Other changes here that are not saved are dropped.';

export function settingsRoom() {
	const into = h('div');
	const {node} = room('Settings', {acts: [h('a.button', {href: '#/model'}, icon('model'), 'Connect a model')]}, into);
	const reload = loading(into, async () => {
		const [{keys}, config] = await Promise.all([get('api/config/keys'), get('api/config')]);
		const fields = [];
		const names = Object.keys(config.mcp?.servers ?? {});
		const rows = keys.flatMap((key) => (key.path.includes('<name>') ? names.map((name) => ({...key, at: key.path.replace('<name>', name)})) : [{...key, at: key.path}]));
		const sections = {};
		for (const key of rows) (sections[group(key)] ??= []).push(key);
		const search = seek('Find a setting', () => narrow(search.value.toLowerCase()));
		const waiting = h('p.note', {hidden: !config.restart_required?.length}, icon('warn'), 'In force after a restart: ', (config.restart_required ?? []).join(', '));
		const problem = h('div.note.bad', {role: 'alert', hidden: true});
		const save = h('button.primary', {type: 'submit', disabled: true}, 'Save');
		const form = h('form.settings', {onsubmit: trying(store), oninput: changed}, waiting, h('div.search', icon('search'), search), Object.entries(sections).map(([name, own]) => {
				const server = name.split('.')[2];
				return h('fieldset.card', h('legend', server ? `Tool server ${server}` : (SECTION[name] ?? name)), own.map(row), server && button('Remove this server', trying(() => removeServer(server)), {kind: 'danger', sign: 'trash'}));
			}),
			h('div.acts', button('Add a tool server', trying(addServer), {sign: 'plus'})), h('div.sticky', problem, h('div.acts', save)));
		form.addEventListener('invalid', () => ((search.value = ''), narrow('')), true);
		return form;

		function group(key) {
			return key.path.startsWith('mcp.') ? key.at.split('.').slice(0, 3).join('.') : key.path.split('.')[0];
		}

		function value(path) {
			return path.split('.').reduce((inner, name) => inner?.[name], config);
		}

		function row(key) {
			const now = value(key.at);
			const hint = [key.meaning, key.default !== '' && `Default: ${key.default}.`].filter(Boolean).join(' ');
			const number = () => ({kind: 'number', value: now, min: key.bounds[0], max: key.bounds[1], step: key.kind === 'whole' ? 1 : 'any'});
			const kinds = {
				bool: () => ({kind: 'check', value: now}),
				word: () => ({kind: 'select', options: key.words, value: now}),
				whole: number,
				decimal: number,
				list: () => ({kind: 'area', rows: 2, value: (now ?? []).join('\n'), hint: `${hint} One a line.`}),
				secrets: () => ({kind: 'area', rows: 2, value: JSON.stringify(now ?? {}), hint: `${hint} As JSON; *** keeps what is there.`}),
				text: () => (key.secret ? {kind: 'password', autocomplete: 'new-password', placeholder: now ? 'set; leave empty to keep it' : 'not set'} : {value: now}),
			};
			const made = field(key.at, {hint, disabled: Boolean(key.set_by), name: key.at, ...kinds[key.kind]()});
			made.node.append(h('div.tags', !key.live && badge('needs a restart', 'warn'), key.set_by && badge(`set by ${key.set_by}`)));
			const gone = key.secret && key.kind !== 'secrets' && now && !key.set_by && h('input', {type: 'checkbox'});
			if (gone) made.node.append(h('label.switch', gone, 'Remove it'));
			const error = h('p.small.bad', {hidden: true, id: `${made.input.id}e`});
			made.node.append(error);
			fields.push({key, made, gone, error, before: made.value, text: `${key.at} ${key.meaning}`.toLowerCase()});
			return made.node;
		}

		function parsed({key, made, gone}) {
			const text = made.value;
			if (gone?.checked) return null;
			if (key.kind === 'whole' || key.kind === 'decimal') return text === '' ? null : Number(text);
			if (key.kind === 'list') return list(text, '\n');
			try {
				if (key.kind === 'secrets') return JSON.parse(text || '{}');
			} catch {
				throw new Refused(400, `${key.at}: Write it as JSON, as {"NAME":"value"}.`);
			}
			return text === '' ? null : text;
		}

		function different() {
			return fields.filter(({made, gone, before}) => made.value !== before || gone?.checked);
		}

		function changed() {
			const n = different().length;
			save.disabled = !n;
			save.textContent = n ? `Save ${plural(n, 'change')}` : 'Save';
		}

		async function store() {
			fields.forEach(({error, made}) => ((error.hidden = true), made.input.removeAttribute('aria-invalid')));
			problem.hidden = true;
			try {
				const wanted = {};
				for (const one of different()) {
					const names = one.key.at.split('.');
					const last = names.pop();
					names.reduce((inner, name) => (inner[name] ??= {}), wanted)[last] = parsed(one);
				}
				await saved(wanted);
			} catch (error) {
				if (error.status !== 400) throw error;
				// "section.key: expected …; section.key: …"
				const rest = [];
				for (const part of error.message.split('; ')) {
					const [path, ...says] = part.split(': ');
					const own = fields.find(({key}) => key.at.toLowerCase() === path.toLowerCase());
					if (!own) rest.push(part);
					else {
						own.error.textContent = says.join(': ');
						own.error.hidden = false;
						own.made.input.setAttribute('aria-invalid', 'true');
						own.made.input.setAttribute('aria-describedby', `${own.made.input.id}h ${own.error.id}`);
					}
				}
				fill(problem, rest.length ? rest.join('; ') : 'Nothing was changed: see the marked fields.');
				problem.hidden = false;
				fields.find(({error: text}) => !text.hidden)?.made.input.focus();
			}
		}

		async function saved(wanted) {
			const {restart_required: late, overridden_by_env: over} = await put('api/config', wanted);
			toast(late.length ? `Saved. After a restart: ${late.join(', ')}.` : 'Saved and in force.');
			if (over?.length) toast(`The environment goes before: ${over.join(', ')}.`, true);
			reload();
		}

		function narrow(words) {
			for (const {made, text} of fields) made.node.hidden = !text.includes(words);
			form.querySelectorAll('fieldset').forEach((set) => (set.hidden = ![...set.querySelectorAll('.field')].some((one) => !one.hidden)));
		}

		async function removeServer(name) {
			if (!(await confirmed(`Remove ${name}?`, `Its tools are offered no more. ${DROPPED}`, 'Remove'))) return;
			await saved({mcp: {servers: {[name]: null}}});
		}

		async function addServer() {
			const fields = {name: field('Name', {required: true, hint: 'Letters, digits, - and _.'}), place: field('Its address (http…), or the path of its program', {required: true, hint: DROPPED})};
			await edited('Add a tool server', fields, ({name, place}) => saved({mcp: {servers: {[name.trim()]: {[/^https?:/.test(place) ? 'url' : 'command']: place.trim()}}}}));
		}
	});
	return {node};
}

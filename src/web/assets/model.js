import {get, put} from './api.js';
import {button, field, fill, h, icon, loading, room, toast, trying} from './dom.js';

const WAYS = [
	{name: 'openai', title: 'OpenAI-compatible', says: 'llama.cpp, Ollama, LM Studio, vLLM, OpenAI …', address: 'http://127.0.0.1:11434/v1'},
	{name: 'anthropic', title: 'Anthropic', says: 'Needs a key.'},
	{name: 'offline', title: 'Built-in helper', says: 'No language model: a few commands, no network.'},
];

export function modelRoom({modelChanged}) {
	const into = h('div');
	const {node} = room('Connect a model', {intro: 'It is asked a word before it is kept; where that fails, what answers now stays.'}, into);
	const reload = loading(into, async () => {
		const [config, {providers}] = await Promise.all([get('api/engine/config'), get('api/engine/providers')]);
		const [nowWay] = config.default_model.split('/');
		let way = nowWay;
		const form = h('form', {onsubmit: trying(save)});
		const rest = h('div');
		const verdict = h('p.note', {role: 'status', hidden: true});
		let address, key, model;
		const choice = h('fieldset.ways', h('legend', 'Who answers'), WAYS.map((one) => h('label.card', h('input', {type: 'radio', name: 'way', value: one.name, checked: one.name === way, onchange: () => ((way = one.name), draw())}), h('strong', one.title), h('span.small', one.says))));
		form.append(h('p', 'Now: ', h('strong', config.default_model)), choice, rest, verdict, h('div.acts', h('button.primary', {type: 'submit'}, 'Try it and use it')));
		draw();
		return form;

		function draw() {
			const own = WAYS.find((one) => one.name === way);
			const provider = providers.find((one) => one.name === way);
			if (way === 'offline') return fill(rest);
			const active = way === nowWay;
			const names = h('datalist', {id: 'models'});
			address = field('Address', {kind: 'url', value: active ? config.base_url : '', placeholder: provider?.base_url, hint: `With its version segment, for example ${own.address || provider?.base_url}. Empty: the provider’s own (${provider?.base_url}).`});
			key = field('Key', {kind: 'password', autocomplete: 'new-password', placeholder: provider?.api_key_set ? 'set; leave empty to keep it' : 'local servers need none'});
			model = field('Model', {value: active ? config.default_model.split('/').slice(1).join('/') : '', list: 'models', placeholder: 'auto', hint: way === 'openai' ? 'Empty: the first one that the server lists.' : 'For example claude-sonnet-4-5.'});
			// A provider is asked for its models where its address is in force.
			fill(rest, address.node, key.node, model.node, names, active && button('Ask which models there are', trying(async () => {
				const {models} = await get(`api/engine/models?provider=${way}`);
				const found = models.map((one) => one.split('/').slice(1).join('/'));
				fill(names, found.map((value) => h('option', {value})));
				say(found.length ? `There are: ${found.join(', ')}` : 'The server lists none.');
			})));
		}

		function say(text, bad = false) {
			fill(verdict, icon(bad ? 'warn' : 'check'), text);
			verdict.className = `note${bad ? ' bad' : ''}`;
			verdict.hidden = false;
		}

		async function save() {
			say('Trying it; a small machine may take a while to load a model…');
			const wanted = {model: way};
			if (way !== 'offline') {
				wanted.model += `/${model.value.trim() || 'auto'}`;
				// The address and the key of one provider are nothing for another.
				const other = way !== nowWay;
				if (other || address.value !== (config.base_url ?? '')) wanted.base_url = address.value || null;
				if (other || key.value) wanted.api_key = key.value || null;
			}
			try {
				const {model: now} = await put('api/engine/model', wanted);
				toast(`${now} answers from now on.`);
				modelChanged();
				reload();
			} catch (error) {
				say(error.message, true);
			}
		}
	});
	return {node};
}

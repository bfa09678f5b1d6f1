// Who looks at the page, where they are, and what is around the room they are in.

import {get, post, whenLoggedOut} from './api.js';
import {Chat} from './chat.js';
import {fill, h, icon, seldom, signButton, toast, trying} from './dom.js';
import {onConnection, onKernel, startKernel, stopKernel} from './feed.js';
import {codeOfAddress, logIn, loginView} from './login.js';
import {startMetrics, stopMetrics} from './metrics.js';
import {Sessions} from './sessions.js';

// Each is a file of its name, loaded when somebody first enters.
const ROOMS = [
	['Approvals', 'hand'],
	['Agents', 'agent'],
	['Specifications', 'seed', 'seeds'],
	['Memory', 'memory'],
	['Skills', 'skill'],
	['Files', 'file'],
	['Schedule', 'clock'],
	['Spaces', 'space'],
	['Status', 'chart'],
	['Settings', 'gear'],
	['Keys', 'key'],
	['Audit', 'audit'],
	['Model'],
].map(([title, sign, name = title.toLowerCase()]) => ({title, sign, name}));
// The style sheet makes a drawer of the side there.
const narrow = matchMedia('(max-width: 820px)');
const SAYS = {live: 'Connected', waiting: 'Reconnecting…', off: 'No network'};

const app = document.getElementById('app');
let house = null;

class House {
	constructor() {
		const go = (hash) => this.go(hash);
		this.sessions = new Sessions({go});
		this.chat = new Chat({go, relist: () => this.sessions.refresh()});
		this.badges = {approvals: h('span.count', {hidden: true})};
		this.links = new Map();
		this.line = h('span.line');
		this.main = h('main', {id: 'main', tabindex: '-1'});
		const link = ({name, title, sign}) => {
			const node = h('a', {href: `#/${name}`, onclick: () => this.room || location.hash !== node.hash || this.enter()}, icon(sign), h('span', title), this.badges[name]);
			this.links.set(name, node);
			return h('li', node);
		};
		this.side = h('aside.side', {id: 'side', says: 'Conversations and rooms'},
			h('div.top', h('a.brand', {href: '#/'}, h('img', {src: 'assets/icon.svg', alt: '', width: '24', height: '24'}), 'oxios'), this.line, signButton('close', 'Close the menu', () => this.drawer(false), 'quiet.narrow')),
			h('a.button.new', {href: '#/', onclick: () => this.chat.id || this.drawer(false)}, icon('plus'), 'New conversation'), this.sessions.node,
			h('nav', {says: 'Rooms'}, h('ul.places', ROOMS.filter((one) => one.sign).map(link), h('li', h('button', {onclick: trying(async () => (await post('api/logout'), leave('')))}, icon('out'), h('span', 'Log out'))))));
		this.menu = signButton('menu', 'Menu', () => this.drawer(true), 'quiet.narrow.opener');
		this.menu.setAttribute('aria-controls', 'side');
		this.shade = h('div.shade', {onclick: () => this.drawer(false)});
		this.node = h('div.house', h('a.skip', {href: '#main', onclick: (event) => (event.preventDefault(), this.main.focus())}, 'To the content'), this.side, this.shade, this.menu, this.main);
		this.stops = [
			onConnection((state) => {
				this.line.className = `line ${state}`;
				fill(this.line, h('span.dot'), h('span', SAYS[state]));
				this.line.title = SAYS[state];
				this.node.dataset.line = state;
			}),
			onKernel((event) => this.hear(event)),
			() => this.sessions.close(),
		];
		this.lookForQuestions = seldom(300, () => this.questions());
		this.refreshRoom = seldom(400, () => this.room?.refresh?.());
		this.gone = new AbortController();
		addEventListener('hashchange', () => this.enter(), this.gone);
		narrow.addEventListener('change', () => this.drawer(false), this.gone);
		addEventListener('keydown', (event) => this.key(event), this.gone);
		this.sessions.refresh();
		this.sessions.loadSpaces();
		this.questions();
		this.modelChanged();
		this.enter();
	}

	leave() {
		this.gone.abort();
		this.stops.forEach((stop) => stop());
		this.chat.close();
		this.room?.close?.();
	}

	go(hash) {
		if (hash === null) return this.mark();
		if (location.hash === hash || (hash === '#/' && !location.hash)) this.enter();
		else location.hash = hash;
	}

	drawer(open) {
		this.node.classList.toggle('open', open);
		this.side.inert = !open && narrow.matches;
		if (open) this.side.querySelector('a, button').focus();
		else if (this.side.contains(document.activeElement)) this.menu.focus();
	}

	mark() {
		const [, name] = location.hash.split('/');
		for (const [room, node] of this.links) node.ariaCurrent = room === name ? 'page' : null;
		this.sessions.mark(this.chat.id);
	}

	async enter() {
		const [, name = '', ...rest] = location.hash.split('/');
		this.drawer(false);
		const place = ROOMS.find((one) => one.name === name);
		const turn = (this.turn = {});
		if (!place) {
			this.room?.close?.();
			this.room = null;
			if (!this.chat.node.isConnected) fill(this.main, this.chat.node);
			this.chat.open(name === 's' && rest[0] ? rest[0] : null);
			return this.mark();
		}
		try {
			const {[`${name}Room`]: make} = await import(`./${name}.js`);
			if (turn !== this.turn) return;
			this.room?.close?.();
			// Its stream is closed while nobody looks; coming back reads on.
			this.chat.close();
			this.chat.id = null;
			this.room = make({rest: rest.join('/'), go: (hash) => this.go(hash), modelChanged: () => this.modelChanged()});
			fill(this.main, this.room.node);
			document.title = `${place.title} – oxios`;
			this.mark();
			this.main.focus({preventScroll: true});
		} catch (error) {
			toast(error instanceof TypeError ? 'This part of the page could not be loaded; reload it.' : error.message, true);
		}
	}

	hear(event) {
		if (event.type.startsWith('approval_') || event.type === 'again') this.lookForQuestions();
		if (this.room?.on?.some((start) => event.type.startsWith(start)) || (event.type === 'again' && this.room?.on)) this.refreshRoom();
	}

	async questions() {
		const open = await get('api/approvals').then((all) => all.filter((one) => one.status === 'pending').length, () => null);
		if (open === null) return;
		this.badges.approvals.hidden = !open;
		fill(this.badges.approvals, String(open), h('span.unseen', ' waiting'));
		this.menu.classList.toggle('asked', open > 0);
	}

	async modelChanged() {
		const engine = await get('api/engine/config').catch(() => null);
		this.chat.setModel(engine?.default_model);
	}

	key(event) {
		const typing = event.target.closest?.('input, textarea, select, dialog');
		if (event.key === 'Escape' && this.node.classList.contains('open')) this.drawer(false);
		if ((event.ctrlKey || event.metaKey) && event.key === 'k') event.preventDefault(), this.drawer(true), this.sessions.search.focus();
		else if (event.key === '/' && !typing) event.preventDefault(), this.chat.node.isConnected && this.chat.composer.field.focus();
		else if (event.key === 'n' && event.altKey) event.preventDefault(), this.go('#/');
	}
}

function leave(why) {
	if (!house && app.querySelector('#key')) return;
	document.querySelector('dialog')?.close();
	house?.leave();
	house = null;
	stopKernel();
	stopMetrics();
	fill(app, loginView(arrive, why));
}

async function arrive() {
	try {
		const {logged_in} = await get('api/login');
		if (!logged_in) return leave('');
	} catch (error) {
		// No answer is no reason to ask for a key.
		fill(app, h('main.login', h('div.card', h('h1', 'The server does not answer'), h('p', error.message), h('p.small', 'It is tried again by itself.'))));
		return setTimeout(arrive, 3000);
	}
	house = new House();
	fill(app, house.node);
	if (house.chat.node.isConnected) house.chat.focus();
	startKernel();
	startMetrics();
}

whenLoggedOut(() => house && leave('You were logged out. Drafts are kept; log in to go on.'));

const code = codeOfAddress();
if (code) await logIn({code}).catch((error) => error.status === 401 && toast('That link was used already or is too old. Log in with a key, or print another link: oxios-edge login-code', true));
await arrive();
// A link to log in may be opened where the page is open already.
addEventListener('hashchange', async () => {
	const fresh = codeOfAddress();
	if (fresh && !house) await logIn({code: fresh}).then(arrive, (error) => toast(error.message, true));
});

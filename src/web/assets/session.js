// One conversation among many: its name, and what can be done with it as a whole.

import {at, del, get, patch, post} from './api.js';
import {confirmed, h, icon, toast, trying} from './dom.js';
import {edited, field} from './form.js';

// What the lists have told of conversations, by id.
export const known = new Map();

export const titleOf = (item) => item?.title || 'Conversation';

// A menu beneath its button. `changed(item)` is told; with null after deletion.
export function sessionMenu(session, {go, changed}) {
	const menu = h('div.menu', {popover: 'auto'});
	const opener = h('button.sign.quiet', {title: 'More', says: 'More about this conversation', onclick: () => open()}, icon('more'));
	const act = (text, sign, work) => h('button', {onclick: () => (menu.hidePopover(), trying(work)())}, icon(sign), text);
	const file = (text, format) => h('a', {href: at(`api/sessions/${session().id}/export?format=${format}`), download: true, onclick: () => menu.hidePopover()}, icon('up'), text);

	function open() {
		menu.replaceChildren(
			act('Rename', 'edit', async () => {
				const title = await asked('Rename the conversation', 'Name', session().title);
				if (title !== null) changed(await patch(`api/sessions/${session().id}`, {title: title.trim() || null}));
			}),
			act('Move to a space', 'space', async () => {
				const space = await chosenSpace(session().space_id);
				if (space !== undefined) changed(await patch(`api/sessions/${session().id}`, {space_id: space}));
			}),
			act('Fork', 'fork', async () => {
				const made = await post(`api/sessions/${session().id}/fork`, {});
				toast('A copy, to go on in another way.');
				changed(made);
				go(`#/s/${made.id}`);
			}),
			file('Export as Markdown', 'markdown'),
			file('Export as JSON', 'json'),
			act('Delete', 'trash', async () => {
				const {id, title} = session();
				if (!(await confirmed('Delete this conversation?', `“${title}” and all that was said in it. What runs in it is stopped. This cannot be taken back.`))) return;
				await del(`api/sessions/${id}`);
				changed(null);
				if (location.hash.includes(id)) go('#/');
			}),
		);
		menu.showPopover();
		const {bottom, right} = opener.getBoundingClientRect();
		menu.style.top = `${Math.min(bottom + 4, innerHeight - menu.offsetHeight - 8)}px`;
		menu.style.left = `${Math.max(8, right - menu.offsetWidth)}px`;
		menu.firstChild.focus();
	}
	return [opener, menu];
}

// One line from a person; null where it was closed.
export const asked = async (title, label, value = '', hint = '') => (await edited(title, {text: field(label, {value, hint})}, ({text}) => ({text})))?.text ?? null;

// A space's id, null for none, undefined where it was closed.
async function chosenSpace(now) {
	const {items} = await get('api/spaces?limit=500');
	const options = [['', 'No space'], ...items.filter((space) => space.status === 'active').map((space) => [space.id, space.name])];
	const chosen = await edited('Move to a space', {space: field('Space', {kind: 'select', options, value: now ?? ''})}, ({space}) => [space || null]);
	return chosen?.[0];
}

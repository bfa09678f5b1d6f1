// Of long lists only what is near the window is in the document.

import {fill, h, kept} from './dom.js';

// Items of a block, which is filled and emptied as one, and what they are taken to be high.
const BLOCK = 10, ITEM = 180;

// Items of unknown height, newest at the bottom. `make(item)` gives an item's node, `drop(item)` is told that it is gone. Whoever
// reads in the middle does not feel what happens above; whoever is at the end stays there.
export class Windowed {
	constructor(scroller, {make, drop, onTop}) {
		Object.assign(this, {scroller, make, drop, stuck: true});
		this.inner = h('div.window');
		scroller.append(this.inner);
		this.observer = new IntersectionObserver((entries) => this.keep(() => entries.forEach((entry) => this.show(entry.target.block, entry.isIntersecting, entry.boundingClientRect.height))), {root: scroller, rootMargin: '120% 0px'});
		this.sizes = new ResizeObserver(() => this.stuck && this.toEnd());
		this.sizes.observe(this.inner);
		this.sizes.observe(scroller);
		// Only a hand takes somebody from the end.
		scroller.addEventListener('scroll', () => {
			const {scrollTop, clientHeight, scrollHeight} = scroller;
			if (this.last === undefined || Math.abs(scrollTop - this.last) > 1) this.stuck = scrollHeight - scrollTop - clientHeight < (scrollTop < this.last ? 1 : 60);
			this.last = scrollTop;
			if (scrollTop < clientHeight) onTop();
		}, {passive: true});
		// What a hand opens stays under it.
		scroller.addEventListener('click', (event) => event.target.closest('summary') && (this.stuck = false));
	}

	get stuck() {
		return this.atEnd;
	}

	set stuck(now) {
		this.atEnd = now;
		this.onStuck?.(now);
	}

	toEnd() {
		this.stuck = true;
		this.scroller.scrollTop = this.scroller.scrollHeight;
		this.last = this.scroller.scrollTop;
	}

	// Does something to the list without moving what is being read.
	keep(work) {
		if (this.stuck) {
			work();
			return this.toEnd();
		}
		const top = this.scroller.getBoundingClientRect().top;
		const anchor = [...this.inner.querySelectorAll('[data-item]')].find((node) => node.getBoundingClientRect().bottom > top);
		const was = anchor?.getBoundingClientRect().top;
		work();
		if (anchor?.isConnected) this.scroller.scrollTop += anchor.getBoundingClientRect().top - was;
		this.last = this.scroller.scrollTop;
	}

	show(block, shown, height) {
		if (block.shown === shown) return;
		// What is in use is left alone: a field, a selection, an open menu.
		if (!shown && (block.node.contains(document.activeElement) || getSelection().containsNode(block.node, true) && !getSelection().isCollapsed)) return;
		block.shown = shown;
		if (shown) {
			fill(block.node, block.items.map((item) => this.node(item)));
			block.node.style.height = '';
		} else {
			block.node.style.height = `${height}px`;
			fill(block.node);
			block.items.forEach(this.drop);
		}
	}

	node(item) {
		const node = this.make(item);
		node.dataset.item = '';
		return node;
	}

	// A block's node; it is filled when it comes near.
	block(items) {
		const node = h('div');
		node.block = {items, shown: false, node};
		node.style.height = `${items.length * ITEM}px`;
		this.observer.observe(node);
		return node;
	}

	append(item) {
		this.keep(() => {
			const {block} = this.inner.lastChild ?? {};
			if (!block || block.items.length >= BLOCK) return this.inner.append(this.block([item]));
			block.items.push(item);
			if (block.shown) block.node.append(this.node(item));
			else block.node.style.height = `${parseFloat(block.node.style.height) + ITEM}px`;
		});
	}

	prepend(items) {
		this.keep(() => {
			for (let end = items.length; end > 0; end -= BLOCK) this.inner.prepend(this.block(items.slice(Math.max(0, end - BLOCK), end)));
		});
	}

	clear() {
		this.observer.disconnect();
		fill(this.inner);
		this.stuck = true;
	}
}

// Any number of rows of one height. `load(page)` gives `{items, total}`.
export class Rows {
	constructor(scroller, {height, size, load, make, empty}) {
		Object.assign(this, {scroller, height, size, load, make, empty, total: 0, pages: new Map(), asked: new Set(), made: new Map(), turn: 0});
		this.inner = h('ul.rows', {role: 'list'});
		this.note = h('div');
		scroller.append(this.note, this.inner);
		scroller.addEventListener('scroll', () => this.draw(), {passive: true});
		this.sizes = new ResizeObserver(() => this.draw());
		this.sizes.observe(scroller);
	}

	// Everything anew; what is shown stays until the new is there.
	async refresh() {
		const turn = ++this.turn;
		this.asked.clear();
		const page = await this.load(0);
		// No menu closes under a hand.
		for (let menu; (menu = this.inner.querySelector(':popover-open')); ) await new Promise((done) => menu.addEventListener('toggle', done, {once: true}));
		if (turn !== this.turn) return;
		this.asked.clear();
		this.pages = new Map([[0, page.items]]);
		this.total = page.total;
		kept(this.inner, () => {
			fill(this.inner);
			fill(this.note, !this.total && this.empty());
			this.made.clear();
			this.draw();
		});
	}

	draw() {
		this.inner.style.height = `${this.total * this.height}px`;
		const [top, tall] = [Math.max(0, this.scroller.scrollTop - this.inner.offsetTop), this.scroller.clientHeight || 600];
		const first = Math.max(0, Math.floor(top / this.height) - 10);
		const last = Math.min(this.total, Math.ceil((top + tall) / this.height) + 10);
		for (const [i, node] of this.made) if ((i < first || i >= last) && !node.contains(document.activeElement)) node.remove(), this.made.delete(i);
		for (let i = first; i < last; i++) {
			const n = Math.floor(i / this.size);
			const item = this.pages.get(n)?.[i % this.size];
			if (!this.pages.has(n)) this.fetch(n);
			if (!item || this.made.has(i)) continue;
			const node = h('li', {'aria-setsize': this.total, 'aria-posinset': i + 1}, this.make(item));
			node.style.top = `${i * this.height}px`;
			node.style.height = `${this.height}px`;
			// In their order: the keyboard goes through them as the eye does.
			const behind = [...this.made.keys()].filter((other) => other > i).sort((a, b) => a - b)[0];
			this.inner.insertBefore(node, behind === undefined ? null : this.made.get(behind));
			this.made.set(i, node);
		}
	}

	async fetch(page) {
		if (this.asked.has(page)) return;
		const turn = this.turn;
		this.asked.add(page);
		try {
			const found = await this.load(page);
			if (turn !== this.turn) return;
			this.pages.set(page, found.items);
			this.total = found.total;
			this.draw();
		} catch {
			// It is asked for again when it comes near again.
			this.asked.delete(page);
		}
	}
}

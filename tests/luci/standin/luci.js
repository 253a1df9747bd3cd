// SPDX-License-Identifier: GPL-2.0-or-later
// A small stand-in for LuCI's client side, for tests where there is no LuCI: the calls that Tandem's views make,
// with the same names and results, and no more. The class system, the loader, rpc, uci, form and ui are LuCI's
// in their behaviour only; the genuine LuCI runs the same tests where a root file system with it is present.
'use strict';

window.TR = window.TR || {};

function _(text) {
	return text;
}

function N_(n, one, many) {
	return n === 1 ? one : many;
}

function escaped(text) {
	return String(text).replace(/[&<>"']/g, (c) => '&#' + c.charCodeAt(0) + ';');
}

String.prototype.format = function(...values) {
	return this.replace(/%([%sdh])/g, (_all, kind) => kind === '%' ? '%' : kind === 'h' ? escaped(values.shift()) : kind === 'd' ? String(parseInt(values.shift(), 10)) : String(values.shift()));
};

function E(first, second, third) {
	if (Array.isArray(first)) {
		const fragment = document.createDocumentFragment();
		append(fragment, third !== undefined ? third : Array.isArray(second) ? second : first);
		return fragment;
	}
	const node = /^</.test(first) ? new DOMParser().parseFromString(first, 'text/html').body.firstChild : document.createElement(first);
	const attributes = second !== null && typeof second === 'object' && !Array.isArray(second) && !(second instanceof Node) ? second : null;
	Object.entries(attributes || {}).forEach(([ name, value ]) => {
		if (typeof value === 'function')
			node.addEventListener(name, value);
		else if (value != null)
			node.setAttribute(name, value);
	});
	append(node, attributes ? third : second);
	return node;
}

function append(node, children) {
	if (children == null)
		return;
	for (const child of Array.isArray(children) ? children : [ children ])
		if (Array.isArray(child))
			append(node, child);
		else if (child != null)
			node.append(child instanceof Node ? child : String(child));
}

// Classes: `extend` makes one.

function Base() { }
Base.extend = function(members) {
	const parent = this;
	const made = function(...given) {
		if (this.__init__)
			this.__init__(...given);
	};
	made.prototype = Object.create(parent.prototype);
	Object.assign(made.prototype, members, { constructor: made });
	made.extend = parent.extend;
	made.parent = parent;
	return made;
};

const instances = new WeakMap();
const L = window.L = {
	env: window.ENV,
	url: (path) => '/cgi-bin/luci/' + path,
	resource: (path) => '/luci-static/resources/' + path,
	bind: (fn, self, ...first) => fn.bind(self, ...first),
	resolveDefault: (value, otherwise) => Promise.resolve(value).catch(() => otherwise),
	toArray: (value) => value == null ? [] : Array.isArray(value) ? value : String(value).trim().split(/\s+/),
	require: (name) => load(name),
	dom: { findClassInstance: (node) => instances.get(node.closest('.cbi-map')), content: (node, children) => { node.replaceChildren(); append(node, children); } }
};

// rpc

let serial = 0;
let waiting = null;

function post(call) {
	if (!waiting) {
		waiting = [];
		queueMicrotask(flush);
	}
	return new Promise((resolve, reject) => waiting.push({ call, resolve, reject }));
}

async function flush() {
	const batch = waiting;
	waiting = null;
	try {
		const response = await fetch('/ubus', { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(batch.map((one) => one.call)) });
		if (!response.ok)
			throw new Error('RPC call failed with HTTP error ' + response.status);
		const answers = await response.json();
		batch.forEach((one, index) => one.resolve(answers[index]));
	} catch (error) {
		batch.forEach((one) => one.reject(error));
	}
}

const rpc = {
	declare: (options) => async (...values) => {
		const params = {};
		(options.params || []).forEach((name, index) => { if (values[index] !== undefined) params[name] = values[index]; });
		const answer = await post({ jsonrpc: '2.0', id: ++serial, method: 'call', params: [ L.env.sessionid, options.object, options.method, params ] });
		if (answer.error)
			throw new Error('RPC call to ' + options.object + '/' + options.method + ' failed with error ' + answer.error.code + ': ' + answer.error.message);
		let result = answer.result.length > 1 ? answer.result[1] : answer.result[0];
		for (const [ key, otherwise ] of Object.entries(options.expect || {})) {
			if (key && result != null)
				result = result[key];
			if (Object.prototype.toString.call(result) !== Object.prototype.toString.call(otherwise))
				result = otherwise;
		}
		return result;
	}
};

// uci: the file as the router has it, and what was changed here

const call = (method, params, expect) => rpc.declare({ object: 'uci', method, params, expect });
const uciCalls = { get: call('get', [ 'config' ], { values: {} }), set: call('set', [ 'config', 'section', 'values' ]), add: call('add', [ 'config', 'type', 'name', 'values' ]), remove: call('delete', [ 'config', 'section', 'options' ]), apply: call('apply', [], {}) };

const uci = {
	state: {}, touched: {}, made: {}, gone: {},
	load: async (config) => {
		if (!uci.state[config])
			uci.state[config] = await uciCalls.get(config);
	},
	unload: (config) => { delete uci.state[config]; },
	sections: (config, type) => Object.values(uci.state[config] || {}).filter((one) => !type || one['.type'] === type)
		.sort((a, b) => a['.index'] - b['.index']),
	get: (config, section, option) => (uci.state[config][section] || {})[option],
	set: (config, section, option, value) => {
		if (value == null || value === '')
			return uci.unset(config, section, option);
		uci.state[config][section][option] = value;
		(uci.touched[section] = uci.touched[section] || {})[option] = value;
	},
	unset: (config, section, option) => {
		if (uci.state[config][section][option] == null)
			return;
		delete uci.state[config][section][option];
		(uci.touched[section] = uci.touched[section] || {})[option] = null;
	},
	add: (config, type, name) => {
		const id = name || 'new' + String(++serial).padStart(6, '0');
		uci.state[config][id] = { '.name': id, '.type': type, '.anonymous': !name, '.index': 1000 + serial };
		uci.made[id] = type;
		return id;
	},
	remove: (config, section) => {
		delete uci.state[config][section];
		uci.gone[section] = true;
	},
	save: async () => {
		for (const section of Object.keys(uci.gone))
			if (!uci.made[section])
				await uciCalls.remove('tandem', section);
		for (const [ id, type ] of Object.entries(uci.made))
			if (!uci.gone[id])
				await uciCalls.add('tandem', type, /^new/.test(id) ? undefined : id, Object.fromEntries(Object.entries(uci.state.tandem[id]).filter(([ name ]) => name[0] !== '.')));
		for (const [ section, options ] of Object.entries(uci.touched)) {
			if (uci.made[section] || uci.gone[section])
				continue;
			const given = Object.fromEntries(Object.entries(options).filter(([ , value ]) => value != null));
			const unset = Object.keys(options).filter((name) => options[name] == null);
			if (Object.keys(given).length)
				await uciCalls.set('tandem', section, given);
			if (unset.length)
				await uciCalls.remove('tandem', section, unset);
		}
		uci.touched = {};
		uci.made = {};
		uci.gone = {};
		uci.state.tandem = await uciCalls.get('tandem');
	}
};

// ui

const ui = {
	showModal: (title, children) => {
		ui.hideModal();
		const box = E('div', { 'class': 'modal', 'role': 'dialog', 'aria-modal': 'true' }, [ E('h4', {}, [ title ]), ...children ]);
		document.body.append(E('div', { 'id': 'modal_overlay' }, [ box ]));
	},
	hideModal: () => document.querySelectorAll('#modal_overlay').forEach((node) => node.remove()),
	changes: { apply: () => uciCalls.apply() }
};

// form

function html(node, text) {
	node.innerHTML = text;
	return node;
}

const AbstractValue = Base.extend({
	__init__: function(map, section, name, title, description) {
		Object.assign(this, { map, section, option: name, title, description, choices: [], widgets: {}, data: {} });
	},
	value: function(key, label) { this.choices.push([ key, label == null ? key : label ]); },
	cbid: function(id) { return 'cbid.' + this.map.config + '.' + id + '.' + this.option; },
	load: function(id) { return uci.get(this.map.config, id, this.option); },
	getUIElement: function(id) { return this.widgets[id]; },
	formvalue: function(id) { return this.widgets[id].getValue(); },
	complaint: function(id) {
		for (const text of [].concat(this.formvalue(id) == null ? '' : this.formvalue(id))) {
			const said = this.validate ? this.validate(id, text) : true;
			if (said !== true)
				return said;
		}
		return '';
	},
	parse: async function(id) {
		const said = this.complaint(id);
		if (said)
			throw new TypeError('Option "' + this.title + '" contains an invalid input value. ' + said);
		const value = this.formvalue(id);
		if (value == null || value === '' || value.length === 0)
			uci.unset(this.map.config, id, this.option);
		else if (JSON.stringify(value) !== JSON.stringify(this.load(id)))
			uci.set(this.map.config, id, this.option, value);
	},
	render: function(id) {
		const widget = this.widgets[id] = this.widget(id, this.load(id));
		return E('div', { 'class': 'cbi-value', 'data-name': this.option, 'data-field': this.cbid(id) }, [
			html(E('label', { 'class': 'cbi-value-title', 'for': 'widget.' + this.cbid(id) }), this.title),
			E('div', { 'class': 'cbi-value-field' }, [ widget.node, html(E('div', { 'class': 'cbi-value-description' }), this.description) ])
		]);
	}
});

const Value = AbstractValue.extend({
	widget: function(id, value) {
		const list = 'list.' + this.cbid(id);
		const input = E('input', { 'id': 'widget.' + this.cbid(id), 'type': this.password ? 'password' : 'text', 'class': 'cbi-input-text', 'value': value, 'placeholder': this.placeholder, 'list': this.choices.length ? list : null });
		const node = E('div', {}, [ input, this.choices.length ? E('datalist', { 'id': list }, this.choices.map((one) => E('option', { 'value': one[0] }))) : '' ]);
		return { node, getValue: () => input.value || null, setValue: (text) => { input.value = text == null ? '' : text; } };
	}
});

const ListValue = AbstractValue.extend({
	widget: function(id, value) {
		const select = E('select', { 'id': 'widget.' + this.cbid(id), 'class': 'cbi-input-select' }, this.choices.map((one) => E('option', { 'value': one[0] }, [ one[1] ])));
		select.value = value == null ? '' : value;
		return { node: select, getValue: () => select.value || null, setValue: (text) => { select.value = text == null ? '' : text; } };
	}
});

const DynamicList = AbstractValue.extend({
	widget: function(id, value) {
		const area = E('textarea', { 'id': 'widget.' + this.cbid(id), 'rows': 2, 'class': 'cbi-input-textarea', 'placeholder': this.placeholder });
		const setValue = (lines) => { area.value = L.toArray(lines).length ? [].concat(lines).join('\n') : ''; };
		setValue(value);
		return { node: area, setValue, getValue: () => area.value ? area.value.split('\n').filter(Boolean) : null };
	}
});

const TypedSection = Base.extend({
	__init__: function(map, type, title) { Object.assign(this, { map, sectiontype: type, title, children: [] }); },
	option: function(Kind, name, title, description) {
		const made = new Kind(this.map, this, name, title, description);
		this.children.push(made);
		return made;
	},
	cfgsections: function() { return uci.sections(this.map.config, this.sectiontype).map((one) => one['.name']); },
	handleAdd: function(_event, name) {
		uci.add(this.map.config, this.sectiontype, name);
		return this.map.save();
	},
	parse: async function() {
		for (const id of this.cfgsections())
			for (const child of this.children)
				if (child.widgets[id])
					await child.parse(id);
	},
	renderOptions: async function(_tab, id) { return E([], this.children.map((child) => child.render(id))); },
	renderUCISection: function(id) { return this.renderOptions(null, id); },
	render: async function() {
		const node = E('div', { 'class': 'cbi-section', 'data-tab-title': this.title }, [ html(E('h3'), this.title) ]);
		for (const id of this.cfgsections())
			node.append(E('button', { 'type': 'button', 'class': 'btn cbi-button-remove', 'click': () => { uci.remove(this.map.config, id); return this.map.draw(); } }, [ 'Delete' ]),
				E('div', { 'class': 'cbi-section-node', 'data-section-id': id }, [ await this.renderUCISection(id) ]));
		node.append(E('button', { 'type': 'button', 'class': 'btn cbi-button-add', 'click': (event) => this.handleAdd(event) }, [ 'Add' ]));
		return node;
	}
});

const Map_ = Base.extend({
	__init__: function(config) { Object.assign(this, { config, children: [] }); },
	section: function(Kind, type, title) {
		const made = new Kind(this, type, title);
		this.children.push(made);
		return made;
	},
	findElement: function(name, value) { return this.root.querySelector('[' + name + '="' + value + '"]'); },
	lookupOption: function(name, id) {
		const found = this.children.filter((section) => section.cfgsections().includes(id)).flatMap((section) => section.children).find((one) => one.option === name);
		return found ? [ found, id ] : null;
	},
	parse: async function() {
		for (const child of this.children)
			await child.parse();
	},
	save: async function() {
		await this.parse();
		await uci.save();
		await this.draw();
	},
	draw: async function() {
		const shown = this.shown || 0;
		const sections = await Promise.all(this.children.map((child) => child.render()));
		const tabs = sections.map((section, index) => E('button', { 'type': 'button', 'class': 'tab', 'click': () => this.show(index) }, [ section.getAttribute('data-tab-title') ]));
		this.root.replaceChildren(E('div', { 'class': 'cbi-tabmenu' }, tabs), ...sections);
		this.show(shown);
		return this.root;
	},
	show: function(index) {
		this.shown = index;
		this.root.querySelectorAll(':scope > .cbi-section').forEach((section, at) => { section.hidden = at !== index; });
		this.root.querySelectorAll('.tab').forEach((tab, at) => tab.setAttribute('aria-pressed', at === index ? 'true' : 'false'));
	},
	render: async function() {
		await uci.load(this.config);
		this.root = E('div', { 'class': 'cbi-map' });
		instances.set(this.root, this);
		return this.draw();
	}
});

// Loading and running a view

const view = Base.extend({
	load: async function() { },
	run: async function() {
		const loaded = await this.load();
		const place = document.getElementById('view');
		place.replaceChildren(await this.render(loaded));
		if (document.querySelector('.cbi-map') && this.handleSaveApply)
			place.append(E('div', { 'class': 'cbi-page-actions' }, [ E('button', { 'type': 'button', 'class': 'btn cbi-button-apply', 'click': () => this.handleSaveApply(null, '0') }, [ 'Save & Apply' ]) ]));
		document.documentElement.setAttribute('data-ready', '1');
	}
});

const poll = {
	add: (step, seconds) => {
		let busy = false;
		window.setInterval(() => {
			if (!busy) {
				busy = true;
				Promise.resolve(step()).finally(() => { busy = false; });
			}
		}, seconds * 1000);
	}
};

const classes = { baseclass: Base, view, rpc, uci, ui, poll, dom: L.dom, form: { Map: Map_, TypedSection, Value, ListValue, DynamicList } };
const loading = {};

function load(name) {
	if (classes[name])
		return Promise.resolve(classes[name]);
	return loading[name] = loading[name] || (async () => {
		const response = await fetch(L.resource(name.replace(/\./g, '/') + '.js'));
		if (!response.ok)
			throw new Error('no module ' + name);
		const source = await response.text();
		const wanted = Array.from(source.matchAll(/^'require ([\w.]+)(?: as (\w+))?';$/gm));
		const modules = await Promise.all(wanted.map((one) => load(one[1])));
		const names = wanted.map((one) => one[2] || one[1].replace(/\W/g, '_'));
		const Made = new Function('E', '_', 'N_', 'L', ...names, source + '\n//# sourceURL=' + name + '.js')(E, _, N_, L, ...modules);
		return new Made();
	})();
}

window.addEventListener('DOMContentLoaded', () => {
	load(L.env.view).then((found) => found.run ? found.run() : found.load().then((data) => {
		document.getElementById('view').replaceChildren(E('h3', {}, [ found.title ]), found.render(data));
		document.documentElement.setAttribute('data-ready', '1');
	}));
});

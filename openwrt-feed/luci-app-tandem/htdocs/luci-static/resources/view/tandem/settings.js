// SPDX-License-Identifier: GPL-2.0-or-later
'use strict';
'require view';
'require form';
'require uci';
'require ui';
'require tandem.api as api';
'require tandem.option as option';

// All of /etc/config/tandem. Sections and options come from the option table, so that a new option appears
// by itself. Options that have no value stand below "More". What the table does not know stays in the file.
// The options of a type are loaded with the first section of it.

// In this order; sections that are not named here follow.
const ORDER = [ 'vrrp_instance', 'vrrp_sync_group', 'peer', 'conntrack_sync', 'dhcp_gateway', 'follow', 'service', 'check', 'internet', 'virtual_server', 'real_server', 'track_interface', 'track_script', 'vrrp_script' ];
const TITLES = {
	vrrp_instance: _('Virtual routers'), vrrp_sync_group: _('Groups'), peer: _('Other routers'),
	conntrack_sync: _('Connections'), dhcp_gateway: _('DHCP'), track_interface: _('Tracked interfaces'),
	track_script: _('Tracked scripts'), vrrp_script: _('Scripts'), globals: _('General'), ipaddress: _('Addresses'),
	route: _('Routes'), rule: _('Rules'), static_ipaddress: _('Static addresses'), static_routes: _('Static routes'),
	static_rules: _('Static rules'), follow: _('Networks that follow'), service: _('Services'), witness: _('Witnesses'),
	witness_server: _('Witness on this host'), check: _('Checks'), internet: _('Ways out'), virtual_server: _('Virtual servers'), real_server: _('Real servers')
};
// Shown also without a value: what a person looks for first.
const FIRST = [ 'enabled', 'agent', 'command', 'kind', 'router_id', 'name', 'interface', 'virtual_router_id', 'priority', 'virtual_ipaddress', 'group', 'address', 'secret_file', 'script', 'weight' ];

function quoted(text) {
	return '\'' + String(text).replace(/'/g, '\'\\\'\'') + '\'';
}

// The configuration as a text in UCI syntax, with the section of each line.
function written() {
	const lines = [], owners = [ null ];
	const add = function(line, id) {
		String(line).split('\n').forEach(function(part) {
			lines.push(part);
			owners.push(id);
		});
	};
	uci.sections('tandem').forEach(function(section) {
		const id = section['.name'];
		add('config ' + section['.type'] + (section['.anonymous'] ? '' : ' ' + quoted(id)), id);
		Object.keys(section).forEach(function(name) {
			if (name.charAt(0) === '.')
				return;
			if (Array.isArray(section[name]))
				section[name].forEach(function(value) { add('\tlist ' + name + ' ' + quoted(value), id); });
			else if (section[name] != null)
				add('\toption ' + name + ' ' + quoted(section[name]), id);
		});
	});
	return { text: lines.join('\n') + '\n', owners: owners };
}

// The options of a type of section.
function optionsOf(columns, type) {
	return api.table(type).then(function(rows) {
		return rows.map(function(row) {
			const one = {};
			columns.forEach(function(column, index) { one[column] = row[index]; });
			return one;
		});
	});
}

const Section = form.TypedSection.extend({
	// Add the inputs of these options.
	fill: function(options) {
		this.rows = {};
		options.forEach(L.bind(function(row) {
			this.rows[row.name] = row;
			option.add(this, this.sectiontype, row, this.known);
		}, this));
	},

	// Load the options, unless they are there.
	learn: function() {
		if (this.rows)
			return Promise.resolve();
		return optionsOf(this.columns, this.sectiontype).then(L.bind(this.fill, this));
	},

	handleAdd: function(ev, name) {
		return this.learn().then(L.bind(function() {
			return form.TypedSection.prototype.handleAdd.call(this, ev, name);
		}, this));
	},

	renderUCISection: function(section_id) {
		const rows = this.rows, type = this.sectiontype;
		return this.renderOptions(null, section_id).then(function(nodes) {
			const shown = [], more = [];
			Array.from(nodes.children).forEach(function(node) {
				const name = node.getAttribute('data-name'), row = rows[name] || {};
				const given = uci.get('tandem', section_id, name) != null;
				(given || row.required || FIRST.includes(name) ? shown : more).push(node);
			});
			const given = uci.get('tandem', section_id, 'name') || (/^(cfg|new)[0-9a-f]{6}/.test(section_id) ? '' : section_id);
			return E([], [
				E('h4', { 'class': 'td-section' }, [ given || TITLES[type] || option.title(type) ])
			].concat(shown, more.length ? [
				E('details', { 'class': 'td-details' }, [ E('summary', {}, [ _('More (%d)').format(more.length) ]) ].concat(more))
			] : []));
		});
	}
});

return view.extend({
	load: function() {
		return Promise.all([ L.resolveDefault(api.status('networks'), {}), api.table('index'), uci.load('tandem') ]).then(function(loaded) {
			const index = loaded[1], options = {};
			const present = index.sections.filter(function(type) { return uci.sections('tandem', type).length > 0; });
			return Promise.all(present.map(function(type) {
				return optionsOf(index.columns, type).then(function(rows) { options[type] = rows; });
			})).then(function() { return [ loaded[0], index, options ]; });
		});
	},

	render: function(loaded) {
		const index = loaded[1], options = loaded[2];
		this.said = E('div', { 'role': 'status', 'tabindex': '-1' });
		const rank = function(type) {
			const at = ORDER.indexOf(type);
			return at < 0 ? ORDER.length : at;
		};
		const known = { networks: Object.keys(loaded[0].networks || {}), sections: {} };
		uci.sections('tandem').forEach(function(section) {
			const names = known.sections[section['.type']] = known.sections[section['.type']] || [];
			if (section.name || !section['.anonymous'])
				names.push(section.name || section['.name']);
		});
		const map = this.map = new form.Map('tandem');
		map.tabbed = true;
		index.sections.slice().sort(function(a, b) { return rank(a) - rank(b); }).forEach(function(type) {
			const section = map.section(Section, type, '%h'.format(TITLES[type] || option.title(type)));
			section.anonymous = true;
			section.addremove = true;
			section.known = known;
			section.columns = index.columns;
			if (options[type])
				section.fill(options[type]);
		});
		return map.render().then(L.bind(function(nodes) {
			return api.page([
				E('h2', {}, [ _('Settings') ]),
				E('p', {}, [ _('What is not set has its default. Save & Apply checks the whole first, and changes nothing when it is refused.') ]),
				this.said, nodes
			]);
		}, this));
	},

	// The reasons, each at its option, and all of them above.
	refuse: function(answer, owners) {
		const lines = answer.errors.map(L.bind(function(error) {
			const id = error.line ? owners[error.line] : null;
			const field = id && error.option ? this.map.findElement('data-field', 'cbid.tandem.%s.%s'.format(id, error.option)) : null;
			const where = [ error.type ? TITLES[error.type] || error.type : '', error.section || '', error.option || '' ].filter(Boolean).join(', ');
			if (field) {
				(field.querySelector('.cbi-value-field') || field).appendChild(E('div', { 'class': 'td-problem td-refused', 'role': 'alert' }, [ error.reason ]));
				for (let node = field.parentNode; node; node = node.parentNode)
					if (node.nodeName === 'DETAILS')
						node.open = true;
			}
			return E('li', {}, [ (where ? where + ': ' : '') + error.reason ]);
		}, this));
		this.said.replaceChildren(api.note('bad', [ E('p', {}, [ _('Nothing was applied. The configuration can\'t be used:') ]), E('ul', {}, lines) ], { 'role': 'alert' }));
		this.said.focus();
	},

	checked: function() {
		document.querySelectorAll('.td-refused').forEach(function(node) { node.remove(); });
		this.said.replaceChildren();
		return this.map.parse().then(L.bind(function() {
			const draft = written();
			return api.check(draft.text).then(L.bind(function(answer) {
				if (!answer.errors)
					throw new Error(answer.error || _('No answer'));
				if (answer.errors.length) {
					this.refuse(answer, draft.owners);
					return false;
				}
				if ((answer.warnings || []).length)
					this.said.replaceChildren(api.note('warn', answer.warnings.map(function(one) {
						return E('div', {}, [ [ one.section, one.option, one.reason ].filter(Boolean).join(': ') ]);
					})));
				return true;
			}, this));
		}, this)).catch(L.bind(function(error) {
			this.said.replaceChildren(api.note('bad', [ error.message || String(error) ], { 'role': 'alert' }));
			this.said.focus();
			return false;
		}, this));
	},

	handleSave: function() {
		return this.checked().then(L.bind(function(good) {
			return good ? this.map.save(null, true) : null;
		}, this));
	},

	handleSaveApply: function(ev, mode) {
		return this.checked().then(L.bind(function(good) {
			if (!good)
				return;
			return this.map.save(null, true).then(function() {
				return ui.changes.apply(String(mode) === '0');
			});
		}, this));
	}
});

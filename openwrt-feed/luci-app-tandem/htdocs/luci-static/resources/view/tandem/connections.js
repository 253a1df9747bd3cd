// SPDX-License-Identifier: GPL-2.0-or-later
'use strict';
'require view';
'require tandem.api as api';

// The replicated connections: whether they survive a takeover, and a search, which runs on the router.

const LIMIT = 100;

function verdict(conntrack) {
	if (!conntrack.channel)
		return api.note('warn', [ _('Connections are not replicated: after a takeover they begin anew.') ]);
	const notes = conntrack.channel.peers.map(function(peer) {
		const name = peer.router_id || peer.name;
		if (peer.state !== 'up')
			return api.note('bad', [ _('%s is not connected: connections of this router would not survive.').format(name) ]);
		if (peer.streaming && peer.in_step)
			return api.note('ok', [ _('%s has all %s connections of this router: they survive.').format(name, api.count(conntrack.own)) ]);
		if (peer.streaming)
			return api.note('warn', [ _('%s is %d records behind.').format(name, peer.lag_records) ]);
		if (peer.peer_streaming)
			return api.note(peer.held_in_step ? 'ok' : 'warn', [ (peer.held_in_step
				? _('This router has all %s connections of %s: they survive.')
				: _('This router has %s connections of %s, and not all yet.'))
				.format(api.count((conntrack.held || {})[peer.name] || 0), name) ]);
		return api.note('idle', [ _('%s is connected; no router is active.').format(name) ]);
	});
	return E('div', {}, notes);
}

// "udp 17 28 src=... dst=..." as cells
function row(line) {
	const words = line.trim().split(/\s+/);
	const value = function(name, index) {
		const found = words.filter(function(word) { return word.startsWith(name + '='); })[index];
		return found ? found.slice(name.length + 1) : '';
	};
	const end = function(index, side) {
		const port = value(side === 'src' ? 'sport' : 'dport', index);
		const address = value(side, index);
		return port ? (address.includes(':') ? '[' + address + ']' : address) + ':' + port : address;
	};
	const state = words.find(function(word) { return /^[A-Z_]{4,}[0-9]?$/.test(word); }) || '';
	const back = end(1, 'dst');
	return E('tr', { 'title': line }, [
		words[0], end(0, 'src'), end(0, 'dst'), back && back !== end(0, 'src') ? back : '', state,
		/^\d+$/.test(words[2]) ? api.duration(Number(words[2])) : ''
	].map(function(cell) { return E('td', {}, [ cell ]); }));
}

return view.extend({
	load: function() {
		return L.resolveDefault(api.conntrack(), {});
	},

	render: function(conntrack) {
		this.verdict = E('div', {}, [ verdict(conntrack) ]);
		this.search = E('input', { 'type': 'search', 'class': 'cbi-input-text td-search', 'id': 'td-search', 'maxlength': 200, 'placeholder': '192.168.1.20 tcp 443' });
		this.peer = E('select', { 'class': 'cbi-input-select', 'id': 'td-peer' }, [ E('option', { 'value': '' }, [ _('of this router') ]) ]
			.concat(Object.keys(conntrack.held || {}).map(function(name) {
				return E('option', { 'value': name }, [ _('held for %s').format(name) ]);
			})));
		const streaming = ((conntrack.channel || {}).peers || []).find(function(peer) { return peer.peer_streaming; });
		if (streaming)
			this.peer.value = streaming.name;
		this.found = E('div', { 'role': 'status' });
		this.body = E('tbody', {});
		const table = E('div', { 'class': 'td-scroll', 'tabindex': '0', 'role': 'region', 'aria-label': _('Connections') }, [ E('table', { 'class': 'td-table' }, [
			E('thead', {}, [ E('tr', {}, [ _('Protocol'), _('From'), _('To'), _('Leaves as'), _('State'), _('Expires in') ].map(function(name) {
				return E('th', { 'scope': 'col' }, [ name ]);
			})) ]), this.body
		]) ]);
		const form = E('form', { 'class': 'td-row', 'submit': L.bind(this.submit, this) }, [
			E('label', { 'for': 'td-search' }, [ _('Search') ]), this.search,
			E('label', { 'for': 'td-peer' }, [ _('Connections') ]), this.peer,
			this.show = E('button', { 'class': 'btn cbi-button cbi-button-action', 'type': 'submit' }, [ _('Show') ])
		]);
		api.every(2, L.bind(function() {
			return L.resolveDefault(api.conntrack(), {}).then(L.bind(function(found) {
				api.morph(this.verdict, E('div', {}, [ verdict(found) ]));
			}, this));
		}, this));
		if (conntrack.channel)
			this.list();
		return api.page([ E('h2', {}, [ _('Connections') ]), this.verdict ].concat(conntrack.channel ? [ form, this.found, table ] : []));
	},

	submit: function(event) {
		event.preventDefault();
		return this.list();
	},

	list: function() {
		this.show.disabled = true;
		this.found.textContent = _('Searching\u2026');
		return L.resolveDefault(api.flows(this.peer.value, this.search.value, LIMIT), {}).then(L.bind(function(answer) {
			this.show.disabled = false;
			const lines = answer.flows || [];
			this.body.replaceChildren.apply(this.body, lines.map(row));
			this.found.textContent = answer.error || (!answer.flows ? _('No answer') : answer.more
				? _('%d connections are shown, there are more: search for some of them.').format(lines.length)
				: _('%d connections').format(lines.length));
		}, this));
	},

	handleSaveApply: null,
	handleSave: null,
	handleReset: null
});

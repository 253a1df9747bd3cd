// SPDX-License-Identifier: GPL-2.0-or-later
'use strict';
'require baseclass';
'require rpc';
'require poll';

// What the pages share: calls on ubus, words for times and states, and a way to redraw without flicker.

function declare(object, method, params) {
	return rpc.declare({ object: object, method: method, params: params, expect: { '': {} } });
}

const callAccess = rpc.declare({
	object: 'session', method: 'access', params: [ 'scope', 'object', 'function' ], expect: { access: false }
});
const answers = [ 'networks', 'peer', 'sync', 'track', 'vrid', 'advert_int', 'force', 'line', 'mac' ];

// Write the attributes and the children of `next` into `node`, and touch nothing that is equal already.
function morph(node, next) {
	Array.from(node.attributes).forEach(function(attribute) {
		if (!next.hasAttribute(attribute.name))
			node.removeAttribute(attribute.name);
	});
	Array.from(next.attributes).forEach(function(attribute) {
		if (node.getAttribute(attribute.name) !== attribute.value)
			node.setAttribute(attribute.name, attribute.value);
	});
	const wanted = Array.from(next.childNodes);
	while (node.childNodes.length > wanted.length)
		node.removeChild(node.lastChild);
	wanted.forEach(function(child, index) {
		const have = node.childNodes[index];
		if (!have)
			node.appendChild(child);
		else if (have.nodeType !== child.nodeType || have.nodeName !== child.nodeName)
			node.replaceChild(child, have);
		else if (child.nodeType === Node.ELEMENT_NODE)
			morph(have, child);
		else if (have.data !== child.data)
			have.data = child.data;
	});
}

return baseclass.extend({
	status: declare('tandem', 'status', [ 'only' ]),
	conntrack: declare('tandem', 'conntrack'),
	failover: declare('tandem', 'failover', [ 'force' ]),
	standby: declare('tandem', 'standby', [ 'force' ]),
	resume: declare('tandem', 'resume'),
	check: declare('tandem.commands', 'check', [ 'text' ]),
	flows: declare('tandem.commands', 'conntrack_list', [ 'peer', 'search', 'limit' ]),
	doctor: declare('tandem.commands', 'doctor', [ 'start' ]),
	log: declare('tandem.commands', 'log', [ 'lines' ]),
	setupNetworks: declare('tandem.commands', 'setup_networks'),
	setupDraft: declare('tandem.commands', 'setup_draft', answers),
	setupWrite: declare('tandem.commands', 'setup_write', answers),
	setupJoin: declare('tandem.commands', 'setup_join', [ 'token', 'write', 'force' ]),
	morph: morph,

	// A file of the option table; the option table is the same for everybody.
	table: function(name) {
		return fetch(L.resource('tandem/options/' + name + '.json') + '?v=' + L.env.resource_version).then(function(answer) {
			if (!answer.ok)
				throw new Error(_('No answer'));
			return answer.json();
		});
	},

	// Whether this session may do what an ACL group allows.
	may: function(group) {
		return L.resolveDefault(callAccess('access-group', group, 'write'), false);
	},

	// Call `step` every `seconds` while somebody may see the page, never twice at once.
	every: function(seconds, step) {
		const look = function() {
			return document.hidden ? null : step();
		};
		poll.add(look, seconds);
		document.addEventListener('visibilitychange', look);
	},

	style: function() {
		return E('link', { 'rel': 'stylesheet', 'href': L.resource('tandem/style.css') });
	},

	page: function(children) {
		return E('div', { 'class': 'tandem' }, [ this.style() ].concat(children));
	},

	// "3 min 20 s" and the like; null: not known.
	duration: function(seconds) {
		if (seconds == null)
			return '';
		const whole = Math.max(0, Math.floor(seconds));
		if (whole < 60)
			return _('%d s').format(whole);
		if (whole < 3600)
			return _('%d min %d s').format(Math.floor(whole / 60), whole % 60);
		if (whole < 86400)
			return _('%d h %d min').format(Math.floor(whole / 3600), Math.floor(whole / 60) % 60);
		return _('%d d %d h').format(Math.floor(whole / 86400), Math.floor(whole / 3600) % 24);
	},

	ms: function(number) {
		if (number == null)
			return '';
		return number < 1000 ? _('%s ms').format(String(Math.round(number * 10) / 10)) : this.duration(number / 1000);
	},

	count: function(number) {
		return String(number).replace(/\B(?=(\d{3})+$)/g, '\u202f');
	},

	// A sentence with a sign and a colour; `tone`: ok, warn, bad or idle.
	note: function(tone, content, more) {
		const sign = { ok: '\u2713', warn: '!', bad: '\u2717', idle: '\u2013' }[tone];
		return E('div', Object.assign({ 'class': 'td-note td-' + tone }, more || {}), [
			E('span', { 'class': 'td-sign', 'aria-hidden': 'true' }, [ sign ]), E('div', {}, content)
		]);
	}
});

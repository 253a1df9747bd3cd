// SPDX-License-Identifier: GPL-2.0-or-later
'use strict';
'require view';
'require uci';
'require tandem.api as api';

// The questions of `tandem init`. The router checks a draft before it writes anything.

const WAIT_S = 60; // for the daemon after its start, on a slow router

function field(key, label, input, help) {
	input.id = 'td-f-' + key;
	return E('div', { 'class': 'td-field', 'data-field': key }, [
		E('label', { 'for': input.id }, [ label ]), input,
		E('div', { 'class': 'td-help' }, [ help || '' ]),
		E('div', { 'class': 'td-problem', 'id': input.id + '-problem', 'role': 'alert' })
	]);
}

function choice(type, name, checked, label, change) {
	return E('label', { 'class': 'td-choice' }, [
		E('input', { 'type': type, 'name': name, 'checked': checked ? '' : null, 'change': change }), E('span', {}, [ label ])
	]);
}

function text(value, attributes) {
	return E('input', Object.assign({ 'type': 'text', 'class': 'cbi-input-text', 'value': value, 'autocomplete': 'off', 'spellcheck': 'false' }, attributes || {}));
}

function button(label, kind, press) {
	return E('button', { 'class': 'btn cbi-button cbi-button-' + kind, 'type': 'button', 'click': press }, [ label ]);
}

return view.extend({
	load: function() {
		return L.resolveDefault(api.setupNetworks(), {}).then(function(known) {
			return Promise.all([ known, known.uqr ? L.resolveDefault(L.require('uqr'), null) : null ]);
		});
	},

	render: function(loaded) {
		this.known = loaded[0];
		this.uqr = loaded[1];
		this.form = E('div', {});
		this.outcome = E('div', { 'role': 'status', 'tabindex': '-1' });
		const known = this.known;
		if (!known.networks)
			return api.page([ E('h2', {}, [ _('Set-up') ]), api.note('bad', [ known.error || _('No answer') ]) ]);
		const first = E('div', {}, this.first()), second = E('div', { 'hidden': '' }, this.second());
		const pick = L.bind(function(which) {
			this.joins = which === second;
			first.hidden = this.joins;
			second.hidden = !this.joins;
			this.outcome.replaceChildren();
		}, this);
		const used = known.in_use ? [ api.note('warn', [
			E('p', {}, [ _('This router is set up already. Settings change its configuration; a new set-up replaces it and keeps a copy.') ]),
			this.force = choice('checkbox', 'force', false, _('Replace the configuration'))
		]) ] : [];
		return api.page([
			E('h2', {}, [ _('Set-up') ]),
			E('p', {}, [ _('Two routers share one gateway address in each network: the active one has it, and when that one fails, the other one takes it. Each router also keeps an address of its own.') ])
		].concat(used, [
			E('fieldset', { 'class': 'td-step' }, [
				E('legend', { 'class': 'td-question' }, [ _('Which one is this?') ]),
				choice('radio', 'which', true, _('The first router: it answers the questions'), function() { pick(first); }),
				choice('radio', 'which', false, _('The second router: it has the token of the first one'), function() { pick(second); })
			]),
			first, second, this.outcome
		]));
	},

	// The first router

	first: function() {
		const known = this.known;
		if (!known.networks.length)
			return [ api.note('bad', [ _('No network has a static address, which both routers need beside the shared one. There are:') + ' ' +
				known.others.map(function(one) { return one.name + ' (' + one.proto + ')'; }).join(', ') ]) ];
		this.networks = known.networks.map(L.bind(function(network) {
			const input = text(network.proposal, { 'data-network': network.name });
			const box = E('input', { 'type': 'checkbox', 'checked': '', 'aria-label': _('Share an address in %s').format(network.name) });
			const more = [
				_('This router is %s on %s.').format(network.addresses.join(', '), network.device),
				network.gateway ? _('The way out is %s; it moves along.').format(network.gateway) : '',
				network.dhcp ? _('Only the active router will answer DHCP here.') : '',
				network.ra ? _('Only the active router will send router advertisements here.') : ''
			].filter(Boolean).join(' ');
			const row = field('network.' + network.name,
				network.gateway ? _('Shared address in %s').format(network.name) : _('Gateway of the clients in %s').format(network.name), input, more);
			row.querySelector('label').prepend(box, ' ');
			box.addEventListener('change', function() { input.disabled = !box.checked; });
			return { name: network.name, box: box, input: input, row: row };
		}, this));
		this.peer = text((known.networks.find(function(one) { return !one.gateway; }) || known.networks[0]).peer);
		this.sync = choice('checkbox', 'sync', true, _('Connections outlive a router (replicate them)'), L.bind(function(event) {
			this.peer.disabled = !event.target.checked;
		}, this));
		this.track = choice('checkbox', 'track', true, _('Hand over when %s has failed here and not there').format(known.uplinks.join(', ')));
		// The plans for a way out whose provider gives the address: a line for each router, or one for both.
		this.line = this.mac = '';
		const plan = L.bind(function(name) {
			this.line = name;
			this.track.hidden = name !== '';
		}, this);
		const plans = known.lines.length ? [ E('div', { 'class': 'td-field', 'data-field': 'line' }, [
			choice('radio', 'line', true, _('Each router has a line to the provider of its own'), function() { plan(''); })
		].concat(known.lines.map(function(one) {
			return choice('radio', 'line', false, (one.proto === 'pppoe'
				? _('Both share the line of %s and its account: the active router dials') : _('Both share the line of %s: its address moves along')).format(one.name),
			function() { plan(one.name); });
		}), [ E('div', { 'class': 'td-problem', 'role': 'alert' }) ])) ] : [];
		this.vrid = text(String(known.vrid), { 'inputmode': 'numeric' });
		this.advert = text(known.advert_int, { 'inputmode': 'decimal' });
		const skipped = known.others.length ? [ E('p', { 'class': 'td-help' }, [
			_('Without a static address, and so without a shared one:') + ' ' + known.others.map(function(one) { return one.name + ' (' + one.proto + ')'; }).join(', ')
		]) ] : [];
		return [
			E('div', { 'class': 'td-step' }, [ E('h3', {}, [ _('Networks') ]) ]
				.concat(this.networks.map(function(one) { return one.row; }), skipped, [ this.whole('networks') ])),
			E('div', { 'class': 'td-step' }, [
				E('h3', {}, [ _('The other router') ]), this.sync,
				field('peer', _('Its own address'), this.peer, _('The address that the other router has now, in one of these networks.'))
			].concat(plans, known.uplinks.length ? [ this.track ] : [])),
			E('details', { 'class': 'td-step' }, [
				E('summary', {}, [ _('More') ]),
				field('vrid', _('Virtual router id'), this.vrid, _('1 to 255, the same on both routers and no other\'s in these networks. The next free one is taken when this one is in use.')),
				field('advert_int', _('Seconds between signs of life'), this.advert, _('A takeover needs three to four of them.'))
			]),
			this.whole(''),
			E('div', { 'class': 'td-row' }, [ button(_('Check'), 'action', L.bind(this.draft, this)) ])
		];
	},

	whole: function(key) {
		return E('div', { 'class': 'td-problem', 'data-field': key, 'role': 'alert' });
	},

	answers: function() {
		return [
			this.networks.filter(function(one) { return one.box.checked; }).map(function(one) {
				return one.name + '=' + one.input.value.trim().split(/[\s,]+/).join(',');
			}),
			this.peer.value.trim(), this.sync.firstChild.checked, this.track.firstChild.checked,
			Number(this.vrid.value) || 0, this.advert.value.trim(), this.forced(), this.line, this.mac
		];
	},

	forced: function() {
		return this.force != null && this.force.firstChild.checked;
	},

	// Show each problem at its field; those of no field at the end. True: there are some.
	problems: function(answer) {
		const left = Object.assign({}, answer.problems || (answer.error ? { '': [ answer.error ] } : {}));
		const any = Object.keys(left).length > 0;
		let focus = null;
		document.querySelectorAll('.tandem [data-field]').forEach(function(row) {
			const key = row.getAttribute('data-field');
			const place = row.querySelector('.td-problem') || row;
			const input = row.querySelector('input[type="text"], textarea');
			const said = left[key] || [];
			place.replaceChildren.apply(place, said.map(function(line) { return E('div', {}, [ line ]); }));
			row.classList.toggle('td-wrong', said.length > 0);
			if (input) {
				input.setAttribute('aria-invalid', said.length ? 'true' : 'false');
				input.setAttribute('aria-describedby', place.id);
				focus = focus || (said.length ? input : null);
			}
			if (key)
				delete left[key];
		});
		const rest = Object.values(left).reduce(function(all, one) { return all.concat(one); }, []);
		if (rest.length)
			this.outcome.replaceChildren(api.note('bad', rest.map(function(line) { return E('div', {}, [ line ]); }), { 'role': 'alert' }));
		else
			this.outcome.replaceChildren();
		if (focus)
			focus.focus();
		return any;
	},

	working: function(sentence) {
		this.outcome.replaceChildren(api.note('idle', [ sentence ]));
	},

	ask: function(call) {
		return call.catch(function(error) { return { error: error.message || String(error) }; });
	},

	draft: function() {
		this.working(_('Looking whether the addresses are free, and listening for other virtual routers\u2026'));
		return this.ask(api.setupDraft.apply(null, this.answers())).then(L.bind(function(answer) {
			if (this.problems(answer))
				return;
			this.vrid.value = String(answer.vrid);
			this.mac = answer.mac;
			this.preview(answer, L.bind(this.write, this));
		}, this));
	},

	preview: function(answer, go) {
		this.outcome.replaceChildren(E('div', { 'class': 'td-step' }, [
			E('h3', {}, [ _('This would be written') ]),
			E('div', {}, (answer.notes || []).map(function(note) { return api.note('warn', [ note ]); })),
			E('pre', { 'class': 'td-text', 'tabindex': '0' }, [ answer.config ]),
			E('div', { 'class': 'td-row' }, [ button(_('Write and start'), 'apply', go) ])
		]));
		this.outcome.focus();
	},

	write: function() {
		this.working(_('Writing\u2026'));
		return this.ask(api.setupWrite.apply(null, this.answers())).then(L.bind(function(answer) {
			if (!this.problems(answer))
				return this.written(answer);
		}, this));
	},

	// The second router

	second: function() {
		this.token = E('textarea', { 'class': 'cbi-input-textarea', 'rows': 5, 'spellcheck': 'false', 'autocomplete': 'off' });
		return [
			E('div', { 'class': 'td-step' }, [
				field('token', _('Token of the first router'), this.token, _('The first router shows it at the end of its set-up.'))
			]),
			E('div', { 'class': 'td-row' }, [ button(_('Check'), 'action', L.bind(this.join, this, false)) ])
		];
	},

	join: function(write) {
		this.working(write ? _('Writing\u2026') : _('Checking\u2026'));
		return this.ask(api.setupJoin(this.token.value.trim(), write, this.forced())).then(L.bind(function(answer) {
			if (this.problems(answer))
				return;
			if (write)
				return this.written(answer);
			this.preview(answer, L.bind(this.join, this, true));
		}, this));
	},

	// Both

	written: function(answer) {
		uci.unload('tandem');
		const state = E('div', { 'role': 'status' }, [ api.note('idle', [
			answer.started ? _('The service starts\u2026') : _('The files are written. The service is not installed here: start it by hand.')
		]) ]);
		const copy = answer.copy ? [ E('p', { 'class': 'td-help' }, [ _('What was there before is in %s.').format(answer.copy) ]) ] : [];
		this.outcome.replaceChildren(E('div', {}, [ state ].concat(copy, answer.token ? [ this.invite(answer.token) ] : [])));
		this.outcome.focus();
		if (answer.started)
			return this.wait(state, Date.now() + WAIT_S * 1000, answer.file);
	},

	wait: function(state, end, file) {
		return new Promise(function(resolve) { window.setTimeout(resolve, 1000); }).then(function() {
			return L.resolveDefault(api.status(), {});
		}).then(L.bind(function(status) {
			if (status.groups && status.config_file === file) {
				state.replaceChildren(api.note('ok', [ _('Tandem runs here.') + ' ', E('a', { 'href': L.url('admin/services/tandem/overview') }, [ _('Overview') ]) ]));
				return;
			}
			if (Date.now() < end)
				return this.wait(state, end, file);
			state.replaceChildren(api.note('bad', [ _('Tandem does not run yet.') + ' ', E('a', { 'href': L.url('admin/services/tandem/log') }, [ _('Log') ]) ]));
		}, this));
	},

	invite: function(token) {
		const area = E('textarea', { 'class': 'cbi-input-textarea td-text', 'rows': 7, 'readonly': '', 'id': 'td-token', 'click': function() { area.select(); } }, [ token ]);
		const copied = E('span', { 'role': 'status' });
		const code = E('div', { 'role': 'img', 'aria-label': _('The token as a QR code') });
		if (this.uqr) {
			// A code has four modules of white around it. The drawing has a fixed size: this makes it scale.
			const drawing = this.uqr.renderSVG(token, { border: 4 });
			const svg = new DOMParser().parseFromString(drawing, 'image/svg+xml').documentElement;
			svg.setAttribute('viewBox', '0 0 ' + svg.getAttribute('width') + ' ' + svg.getAttribute('height'));
			svg.removeAttribute('width');
			svg.removeAttribute('height');
			code.appendChild(document.importNode(svg, true));
		}
		return E('div', { 'class': 'td-step' }, [
			E('h3', {}, [ _('Now the second router') ]),
			E('p', {}, [ _('Open this page there, choose "The second router", and paste this token. Whoever has it can speak for your routers.') ]),
			E('div', { 'class': 'td-token' }, [
				E('div', {}, [
					E('label', { 'for': 'td-token' }, [ _('Token') ]), area,
					E('div', { 'class': 'td-row' }, [ button(_('Copy'), 'action', function() {
						area.select();
						const done = navigator.clipboard && window.isSecureContext
							? navigator.clipboard.writeText(token) : Promise.resolve(document.execCommand('copy'));
						done.then(function() { copied.textContent = _('Copied'); }, function() { copied.textContent = _('Copy the marked text'); });
					}), copied ])
				]), this.uqr ? code : ''
			])
		]);
	},

	handleSaveApply: null,
	handleSave: null,
	handleReset: null
});

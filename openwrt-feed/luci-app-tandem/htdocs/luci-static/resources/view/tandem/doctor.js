// SPDX-License-Identifier: GPL-2.0-or-later
'use strict';
'require view';
'require tandem.api as api';

// What would break a takeover, with the cure. The doctor listens to the networks for some seconds.

function finding(one) {
	return E('li', { 'class': 'td-finding td-bad' }, [
		E('strong', {}, [ (one.router ? one.router + ': ' : '') + one.what ]),
		E('p', {}, [ one.advice ])
	]);
}

return view.extend({
	render: function() {
		this.said = E('div', { 'role': 'status' });
		this.findings = E('div', {});
		this.button = E('button', {
			'class': 'btn cbi-button cbi-button-action', 'type': 'button', 'click': L.bind(this.start, this)
		}, [ _('Examine both routers') ]);
		L.resolveDefault(api.doctor(false), {}).then(L.bind(this.show, this));
		api.every(1, L.bind(function() {
			if (this.running)
				return L.resolveDefault(api.doctor(false), {}).then(L.bind(this.show, this));
		}, this));
		return api.page([
			E('h2', {}, [ _('Doctor') ]),
			E('p', {}, [ _('Looks at this router and at the other one for everything that breaks a takeover in practice. It changes nothing.') ]),
			E('div', { 'class': 'td-row' }, [ this.button ]), this.said, this.findings
		]);
	},

	start: function() {
		this.button.disabled = true;
		return L.resolveDefault(api.doctor(true), {}).then(L.bind(this.show, this));
	},

	show: function(answer) {
		this.running = answer.running === true;
		this.button.disabled = this.running;
		if (this.running) {
			this.said.replaceChildren(api.note('idle', [ _('Listening to the networks. This takes about ten seconds, and longer when the other router is silent\u2026') ]));
			return;
		}
		if (answer.error || answer.running == null) {
			this.said.replaceChildren(api.note('bad', [ answer.error || _('No answer') ]));
			return;
		}
		if (!answer.findings) {
			this.said.replaceChildren();
			return;
		}
		const ago = _('Examined %s ago.').format(api.duration(answer.ago_s));
		this.said.replaceChildren(answer.findings.length
			? api.note('bad', [ N_(answer.findings.length, '%d finding.', '%d findings.').format(answer.findings.length) + ' ' + ago ])
			: api.note('ok', [ _('Nothing is wrong.') + ' ' + ago ]));
		this.findings.replaceChildren(
			E('ul', {}, answer.findings.map(finding)),
			E('ul', {}, (answer.notes || []).map(function(note) { return E('li', { 'class': 'td-finding td-warn' }, [ note ]); }))
		);
	},

	handleSaveApply: null,
	handleSave: null,
	handleReset: null
});

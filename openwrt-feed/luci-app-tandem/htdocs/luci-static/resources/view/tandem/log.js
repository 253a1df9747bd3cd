// SPDX-License-Identifier: GPL-2.0-or-later
'use strict';
'require view';
'require tandem.api as api';

// Tandem's lines of the system log, and no others.

const LINES = 400;

return view.extend({
	render: function() {
		this.lines = [];
		this.said = E('div', { 'role': 'status' }, [ _('Working\u2026') ]);
		this.text = E('pre', { 'class': 'td-text', 'tabindex': '0', 'role': 'log', 'aria-label': _('Log'), 'aria-live': 'off' });
		this.filter = E('input', { 'type': 'search', 'class': 'cbi-input-text td-search', 'id': 'td-filter', 'input': L.bind(this.show, this) });
		let asking = false; // LuCI's poll may ask at once, or only after its interval
		const ask = L.bind(function() {
			if (asking)
				return null;
			asking = true;
			return L.resolveDefault(api.log(LINES), {}).then(L.bind(function(answer) {
				asking = false;
				this.take(answer);
			}, this));
		}, this);
		ask();
		api.every(10, ask); // each answer costs the router a process
		return api.page([
			E('h2', {}, [ _('Log') ]),
			E('div', { 'class': 'td-row' }, [ E('label', { 'for': 'td-filter' }, [ _('Only lines with') ]), this.filter ]),
			this.said, this.text
		]);
	},

	take: function(answer) {
		if (answer.lines)
			this.lines = answer.lines;
		this.problem = answer.lines ? '' : answer.error || _('No answer');
		this.show();
	},

	show: function() {
		const wanted = this.filter.value.toLowerCase();
		const shown = this.lines.filter(function(line) { return line.toLowerCase().includes(wanted); });
		const text = shown.join('\n');
		if (this.text.textContent !== text) {
			const atEnd = this.text.scrollHeight - this.text.scrollTop - this.text.clientHeight < 30;
			this.text.textContent = text;
			if (atEnd)
				this.text.scrollTop = this.text.scrollHeight;
		}
		const said = this.problem || (shown.length ? _('%d lines').format(shown.length) : _('Nothing in the log'));
		if (this.said.textContent !== said)
			this.said.textContent = said;
	},

	handleSaveApply: null,
	handleSave: null,
	handleReset: null
});

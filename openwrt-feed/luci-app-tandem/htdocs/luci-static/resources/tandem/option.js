// SPDX-License-Identifier: GPL-2.0-or-later
'use strict';
'require baseclass';
'require form';
'require uci';

// A row of the option table becomes an input of LuCI's forms. Nothing is known here about any one option,
// except which sections a reference may name where their type has another name than the option.
// The template of the translations has the texts of the table as well (po/templates/tandem-options.pot).

const REFERS = {
	virtual_ipaddress: 'ipaddress', virtual_ipaddress_excluded: 'ipaddress', virtual_routes: 'route',
	virtual_rules: 'rule', unicast_peer: 'peer', group: 'vrrp_instance', script: 'vrrp_script',
	track_check: 'check'
};
const NUMBER = /\d+(\.\d+)?/g;
const ON = /^(1|on|true|yes|enabled)$/i;

function number(text) {
	return text == null || text === '' ? null : Number(text);
}

// True, or why a text can't be a value. What only the daemon can judge is left to `tandem check`.
function validate(row, text) {
	if (text == null || text === '')
		return row.required ? _('This is required.') : true;
	const low = number(row.min), high = number(row.max);
	const whole = row.type === 'integer';
	if (whole || row.type === 'decimal') {
		const pattern = whole ? /^-?(0x[0-9a-f]+|[0-9]+)$/i : /^[0-9]+(\.[0-9]*)?$/;
		const value = Number(text);
		if (!pattern.test(text) || (low != null && value < low) || (high != null && value > high))
			return limits(row);
	}
	return true;
}

// Strings for one value, a list of strings for many, whichever way the file has it: what is not touched stays.
function normal(row, value) {
	if (value == null)
		return null;
	if (row.list)
		return Array.isArray(value) ? value : [ value ];
	return Array.isArray(value) ? value.join(' ') : value;
}

// The name itself, which the file, the reasons of a refusal and the documentation use: no language has another one.
function title(name) {
	const words = name.replace(/_/g, ' ');
	return words.charAt(0).toUpperCase() + words.slice(1);
}

// Which values are allowed, in a sentence. A translation is for all numbers.
function limits(row) {
	const isNumber = [ 'integer', 'decimal', 'size' ].includes(row.type);
	const numbers = isNumber ? row.allowed.match(NUMBER) || [] : [];
	const sentence = numbers.length ? _(row.allowed.replace(NUMBER, '%s')) : _(row.allowed);
	return _('Must be %s.').format(sentence.format.apply(sentence, numbers));
}

function described(row) {
	return '%h'.format(_(row.help) + (row.allowed ? ' ' + limits(row) : ''));
}

return baseclass.extend({
	title: title,
	validate: validate,

	// Add the option to a section of a form; `known`: names of networks, and of the file's sections by type.
	add: function(section, type, row, known) {
		const choices = row.type === 'boolean' ? [ [ '1', _('on') ], [ '0', _('off') ] ]
			: (row.choices || []).map(function(word) { return [ word, word ]; });
		const widget = row.list ? form.DynamicList : choices.length ? form.ListValue : form.Value;
		const option = section.option(widget, row.name, '%h'.format(title(row.name)), described(row));
		const standard = row.default == null ? '' : row.type === 'boolean' ? (ON.test(row.default) ? _('on') : _('off')) : row.default;
		option.rmempty = true;
		option.load = function(section_id) {
			return normal(row, uci.get('tandem', section_id, row.name));
		};
		if (widget === form.ListValue) {
			option.value('', standard ? _('default: %s').format(standard) : _('default'));
			const taken = uci.sections('tandem', type).map(function(one) { return normal(row, one[row.name]); });
			taken.forEach(function(value) {
				if (value != null && !choices.some(function(one) { return one[0] === value; }))
					choices.push([ value, value ]);
			});
		} else {
			option.placeholder = row.default == null ? '' : row.default + (row.unit ? ' ' + row.unit : '');
			option.password = row.secret === true;
			option.validate = function(section_id, value) {
				return validate(Object.assign({}, row, { required: row.required && !row.list }), value);
			};
			const names = row.type === 'interface' ? known.networks
				: row.type === 'reference' ? known.sections[REFERS[row.name] || row.name] || [] : [];
			names.forEach(function(name) { choices.push([ name, name ]); });
		}
		choices.forEach(function(one) { option.value(one[0], one[1]); });
		return option;
	}
});

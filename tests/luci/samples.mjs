// SPDX-License-Identifier: GPL-2.0-or-later
// A value for an option of the table, by its type.
const BY_TYPE = {
	address: '192.168.1.77', command: '/bin/true', file: '/etc/tandem/x', interface: 'br-lan', name: 'some_name', network: '10.0.0.0/8',
	path: '192.168.1.3', protocol: 'tcp', reference: 'some_name', size: '8M', text: 'it\'s "some" text', user: 'nobody'
};

export function sample(row) {
	let one = BY_TYPE[row.type] || 'x';
	if (row.type === 'boolean')
		one = '1';
	else if (row.choices)
		one = row.choices[0];
	else if (row.type === 'integer' || row.type === 'decimal')
		one = row.max || row.min || '7';
	if (!row.list)
		return one;
	return [ one, row.choices ? row.choices[1] : row.type === 'integer' ? String(Number(one) - 1) : one + '1' ];
}

// SPDX-License-Identifier: GPL-2.0-or-later
'use strict';
'require baseclass';
'require tandem.api as api';
'require tandem.pair as pair';

// A line on LuCI's first page.

return baseclass.extend({
	title: 'Tandem',

	load: function() {
		return L.resolveDefault(api.status('router_id peers groups instances health quorum'), {});
	},

	render: function(status) {
		const said = status.groups ? pair.sentence(status) : [ 'warn', _('Tandem does not run on this router.') ];
		return api.page([ api.note(said[0], [ E('a', { 'href': L.url('admin/services/tandem/overview') }, [ said[1] ]) ]) ]);
	}
});

// SPDX-License-Identifier: GPL-2.0-or-later
'use strict';
'require view';
'require ui';
'require tandem.api as api';
'require tandem.pair as pair';

// The pair as a picture, redrawn each second. The status each second, and every other second conntrack in the same request.

const STALE_S = 3; // a picture that is older says so
// Asked for each second; the rest, with the history, when a role has changed.
const LIVE = 'router_id uptime_s health peers quorum groups instances services checks virtual_servers follow';
const SPARK_S = 600; // the sparklines show ten minutes

const ACTIONS = {
	failover: {
		title: _('Switch over'),
		about: _('Hands the active role to the other router. This one stays ready, and does not take the role back by itself until Resume.'),
		done: _('The role is handed over.')
	},
	standby: {
		title: _('Out of service'),
		about: _('Takes this router out of service for maintenance: it hands over and takes nothing over again, not even after a reboot, until Resume.'),
		done: _('This router is out of service.')
	},
	resume: {
		title: _('Resume'),
		about: _('Ends both: the router is in service again, and the priorities decide anew.'),
		done: _('This router is in service.')
	}
};

// How often each virtual router has changed its role.
function changes(status) {
	return JSON.stringify(status.instances.map(function(instance) { return [ instance.name, instance.transitions ]; }));
}

function pills(addresses) {
	return E('ul', { 'class': 'td-pills', 'aria-label': _('Virtual addresses') }, addresses.map(function(address) {
		const words = address.split(' dev ');
		return E('li', {}, [ words[0], E('span', { 'class': 'td-device' }, [ words[1] ? ' ' + words[1] : '' ]) ]);
	}));
}

function badge(tone, word) {
	return E('span', { 'class': 'td-badge td-' + tone }, [ word ]);
}

function facts(pairs) {
	return E('dl', { 'class': 'td-facts' }, pairs.reduce(function(nodes, fact) {
		return nodes.concat([ E('dt', {}, [ fact[0] ]), E('dd', {}, [ fact[1] ]) ]);
	}, []));
}

function answer(one) {
	return E('div', { 'class': 'td-answer td-' + one[3] }, [
		E('div', { 'class': 'td-question' }, [ one[0] ]),
		E('div', { 'class': 'td-word' }, [ one[1] ]),
		E('div', { 'class': 'td-more' }, [ one[2] ])
	]);
}

function network(one) {
	const words = [
		E('strong', {}, [ one.name ]),
		E('span', { 'class': 'td-device' }, [ one.device && one.device !== one.name ? one.device : '' ]),
		E('span', { 'class': 'td-fault' }, [ one.fault ? '\u2717 ' + one.fault : '' ])
	];
	return E('div', { 'class': 'td-net' + (one.fault ? ' td-bad' : '') }, words);
}

function tracked(one) {
	const up = one.up === true, unknown = one.up == null;
	return E('li', { 'class': unknown ? '' : up ? 'td-ok' : 'td-bad' }, [
		(unknown ? '\u2013 ' : up ? '\u2713 ' : '\u2717 ') + one.name
	]);
}

function router(one, addresses) {
	return E('article', { 'class': 'td-router td-' + one.tone + (one.active ? ' td-active' : '') }, [
		E('div', { 'class': 'td-head' }, [
			E('span', { 'class': 'td-title' }, [ one.name === one.title ? '' : one.title ]),
			E('h3', {}, [ one.name ]),
			E('div', {}, [ badge(one.tone, one.word), E('span', { 'class': 'td-since' }, [ one.since ? _('for %s').format(one.since) : '' ]) ])
		]),
		one.active ? pills(addresses) : E('ul', { 'class': 'td-pills td-none' }, []),
		E('ul', { 'class': 'td-reasons' }, one.reasons.map(function(reason) { return E('li', {}, [ reason ]); })),
		E('ul', { 'class': 'td-trackers', 'aria-label': _('Tracked') }, one.trackers.map(tracked)),
		facts(one.facts)
	]);
}

function path(one) {
	const words = [ one.rtt != null ? api.ms(one.rtt) : '', one.loss != null ? _('%s %% loss').format(String(one.loss)) : '' ];
	return E('li', { 'class': one.up ? 'td-ok' : 'td-bad' }, [
		E('span', {}, [ (one.up ? '\u2713 ' : '\u2717 ') + one.name ]),
		E('span', { 'class': 'td-figure' }, [ words.filter(Boolean).join(', ') ])
	]);
}

function link(one) {
	const figures = [
		[ _('Connections'), one.own != null ? api.count(one.own) : one.held != null ? _('%s held').format(api.count(one.held)) : '' ],
		[ _('Behind'), one.lag != null ? api.ms(one.lag) + (one.behind ? ', ' + _('%d records').format(one.behind) : '') : '' ]
	].filter(function(pair) { return pair[1]; });
	return E('div', { 'class': 'td-link td-' + one.tone }, [
		badge(one.tone, one.word),
		facts(figures),
		E('ul', { 'class': 'td-paths', 'aria-label': _('Paths') }, one.paths.map(path))
	]);
}

function picture(model) {
	const addresses = model.networks.reduce(function(all, one) { return all.concat(one.addresses); }, []);
	const side = function(top) {
		return E('div', { 'class': 'td-rail td-' + (top ? 'up' : 'down') }, model.networks.filter(function(one) {
			return one.top === top;
		}).map(network));
	};
	const cards = [];
	model.routers.forEach(function(one, index) {
		cards.push(router(one, addresses));
		if (index < model.routers.length - 1)
			cards.push(model.channels[index] ? link(model.channels[index])
				: E('div', { 'class': 'td-link td-idle' }, [ badge('idle', _('no channel')) ]));
	});
	return E('section', { 'class': 'td-picture', 'aria-label': _('The pair') }, [ side(true), E('div', { 'class': 'td-cards' }, cards), side(false) ]);
}

// Names, kinds and states of services, checks and the like.
function things(found) {
	const sign = { ok: '\u2713', bad: '\u2717', warn: '!', idle: '\u2013' };
	return E('section', { 'class': 'td-things', 'aria-label': _('On this router') }, [
		E('h3', {}, [ _('On this router') ]),
		E('ul', {}, found.map(function(one) {
			return E('li', { 'class': 'td-thing td-' + one[0] }, [
				E('span', { 'class': 'td-sign', 'aria-hidden': 'true' }, [ sign[one[0]] ]),
				E('span', { 'class': 'td-names' }, [ one[1] ]),
				E('span', { 'class': 'td-device' }, [ one[2] ]),
				E('span', { 'class': 'td-state' }, [ one[3] ])
			]);
		}))
	]);
}

function happened(one) {
	const when = new Date(one.time * 1000);
	return E('li', { 'class': 'td-event' }, [
		E('time', { 'datetime': when.toISOString() }, [ when.toLocaleString() ]),
		badge(one.tone, one.word),
		E('span', { 'class': 'td-names' }, [ one.names.join(', ') ]),
		E('span', { 'class': 'td-why' }, [ one.why ]),
		E('span', { 'class': 'td-times' }, one.times.map(function(pair) {
			return E('span', {}, [ pair[0] + ' ' + api.ms(pair[1]) ]);
		}))
	]);
}

// A line of the last ten minutes. Times without a sample stay empty.
function spark(title, samples, key, unit) {
	const known = samples.filter(function(one) { return one[key] != null; });
	const last = known.length ? known[known.length - 1][key] : null;
	const most = known.reduce(function(top, one) { return Math.max(top, one[key]); }, 0);
	const now = samples.length ? samples[samples.length - 1].at : 0;
	const runs = [];
	let before = null;
	samples.forEach(function(one) {
		if (one[key] == null) {
			before = null;
			return;
		}
		if (before == null || one.at - before > 5000)
			runs.push([]);
		before = one.at;
		const x = 300 - (now - one.at) / 2000, y = 38 - (most ? one[key] / most : 0) * 34;
		runs[runs.length - 1].push(x.toFixed(1) + ',' + y.toFixed(1));
	});
	const svg = document.createElementNS('http://www.w3.org/2000/svg', 'svg');
	svg.setAttribute('viewBox', '0 0 300 40');
	svg.setAttribute('preserveAspectRatio', 'none');
	svg.setAttribute('aria-hidden', 'true');
	runs.forEach(function(points) {
		const line = document.createElementNS('http://www.w3.org/2000/svg', 'polyline');
		line.setAttribute('points', (points.length > 1 ? points : points.concat(points)).join(' '));
		svg.appendChild(line);
	});
	return E('figure', { 'class': 'td-spark' }, [
		E('figcaption', {}, [
			E('span', {}, [ title ]),
			E('strong', {}, [ last != null ? unit(last) : '\u2013' ]),
			E('span', { 'class': 'td-figure' }, [ last != null ? _('at most %s').format(unit(most)) : '' ])
		]),
		svg
	]);
}

function charts(samples) {
	if (!samples.some(function(one) { return one.flows != null; }))
		return E('div', { 'class': 'td-sparks' }, []);
	return E('div', { 'class': 'td-sparks' }, [
		spark(_('Behind, last 10 minutes'), samples, 'lag', api.ms.bind(api)),
		spark(_('Connections, last 10 minutes'), samples, 'flows', api.count)
	]);
}

function remembered() {
	try {
		return JSON.parse(sessionStorage.getItem('tandem.samples')) || [];
	} catch (_error) {
		return [];
	}
}

return view.extend({
	load: function() {
		return Promise.all([
			L.resolveDefault(api.status(), {}), L.resolveDefault(api.conntrack(), {}),
			api.may('tandem-operate'), api.may('tandem-configure')
		]);
	},

	render: function(loaded) {
		this.samples = remembered();
		this.conntrack = {};
		this.names = {}; // of the other routers, also when they are gone
		this.live = E('div', { 'class': 'td-live' });
		this.below = E('div', { 'class': 'td-live' });
		this.result = E('div', { 'class': 'td-result', 'role': 'status' });
		this.operate = loaded[2];
		this.configure = loaded[3];
		const page = api.page([ E('h2', {}, [ 'Tandem' ]), this.live, this.buttons(), this.below ]);
		this.take(loaded[0], loaded[1]);
		api.every(1, this.refresh.bind(this));
		// Also while no answer comes: the age is told by this clock.
		window.setInterval(this.mark.bind(this), 1000);
		return page;
	},

	refresh: function() {
		this.turn = !this.turn;
		const conntrack = this.turn ? null : L.resolveDefault(api.conntrack(), {});
		const told = this.told;
		const status = L.resolveDefault(api.status(told ? LIVE : undefined), {}).then(function(found) {
			return told && found.groups && changes(found) !== told ? L.resolveDefault(api.status(), {}) : found;
		});
		return Promise.all([ status, conntrack ]).then(L.bind(function(found) {
			this.take(found[0], found[1]);
		}, this));
	},

	// `conntrack`: null where it was not asked for.
	take: function(status, conntrack) {
		if (!status.groups) {
			this.mark();
			return;
		}
		if (status.history)
			this.told = changes(status);
		this.status = Object.assign({}, this.status, status);
		this.at = Date.now();
		if (conntrack) {
			this.conntrack = conntrack.channel ? conntrack : {};
			((conntrack.channel || {}).peers || []).forEach(L.bind(function(peer) {
				peer.router_id = this.names[peer.name] = peer.router_id || this.names[peer.name];
			}, this));
			this.note();
		}
		this.draw();
	},

	// A sample, kept over a change of the page.
	note: function() {
		const peers = (this.conntrack.channel || {}).peers || [];
		const streaming = peers.filter(function(peer) { return peer.streaming; });
		const lag = streaming.length ? Math.max.apply(null, streaming.map(function(peer) { return peer.lag_ms; })) : null;
		const held = Object.values(this.conntrack.held || {}).reduce(function(sum, one) { return sum + one; }, 0);
		const flows = this.conntrack.own == null ? null : streaming.length ? this.conntrack.own : Math.max(this.conntrack.own, held);
		this.samples.push({ at: this.at, lag: lag, flows: flows });
		const oldest = this.at - SPARK_S * 1000;
		this.samples = this.samples.filter(function(one) { return one.at > oldest; });
		try {
			sessionStorage.setItem('tandem.samples', JSON.stringify(this.samples));
		} catch (_error) {
			// without the storage the lines begin anew with each page
		}
	},

	age: function() {
		return this.at ? (Date.now() - this.at) / 1000 : null;
	},

	mark: function() {
		const age = this.age();
		if (age == null || age > STALE_S)
			this.draw();
	},

	banner: function() {
		const age = this.age();
		if (age == null)
			return api.note('bad', [
				E('strong', {}, [ _('Tandem does not run on this router.') ]), ' ',
				this.configure ? E('a', { 'href': L.url('admin/services/tandem/setup') }, [ _('Set it up') ]) : ''
			], { 'role': 'alert' });
		if (age > STALE_S)
			return api.note('bad', [ _('No answer from Tandem: this picture is %s old.').format(api.duration(age)) ], { 'role': 'alert' });
		return E('div', { 'hidden': '' });
	},

	draw: function() {
		const old = this.age() == null || this.age() > STALE_S;
		const name = 'td-live' + (old ? ' td-old' : '');
		const next = E('div', { 'class': name }, [ this.banner() ]), below = E('div', { 'class': name });
		if (this.status) {
			const model = pair.model(this.status, this.conntrack);
			next.appendChild(E('div', { 'class': 'td-answers' }, model.answers.map(answer)));
			next.appendChild(picture(model));
			if (model.things.length)
				below.appendChild(things(model.things));
			below.appendChild(charts(this.samples));
			below.appendChild(E('section', { 'class': 'td-history', 'aria-label': _('What happened') }, [
				E('h3', {}, [ _('What happened') ]),
				model.history.length ? E('ol', {}, model.history.map(happened)) : E('p', {}, [ _('Nothing yet') ])
			]));
		}
		api.morph(this.live, next);
		api.morph(this.below, below);
		this.enable(old);
	},

	enable: function(old) {
		if (!this.pressed)
			return;
		const groups = old ? [] : this.status.groups;
		const some = function(test) { return groups.some(test); };
		const possible = {
			failover: some(function(group) { return group.state === 'MASTER'; }),
			standby: some(function(group) { return !group.standby; }),
			resume: some(function(group) { return group.standby || group.held; })
		};
		Object.keys(possible).forEach(L.bind(function(name) {
			this.pressed[name].disabled = !possible[name] || this.busy === true;
		}, this));
	},

	buttons: function() {
		if (!this.operate)
			return E('p', { 'class': 'td-readonly' }, [ _('You may watch here, and change nothing.') ]);
		this.pressed = {};
		const rows = Object.keys(ACTIONS).map(L.bind(function(name) {
			const about = 'td-about-' + name;
			this.pressed[name] = E('button', {
				'class': 'btn cbi-button cbi-button-' + (name === 'resume' ? 'apply' : 'action'), 'type': 'button',
				'aria-describedby': about, 'click': L.bind(this.ask, this, name)
			}, [ ACTIONS[name].title ]);
			return E('div', { 'class': 'td-action' }, [ this.pressed[name], E('span', { 'id': about }, [ ACTIONS[name].about ]) ]);
		}, this));
		return E('section', { 'class': 'td-actions', 'aria-label': _('Actions') }, rows.concat([ this.result ]));
	},

	// What would happen, in this very state, before it happens.
	consequence: function(name) {
		const model = pair.model(this.status, this.conntrack);
		const lines = [ ACTIONS[name].about ];
		if (name !== 'resume' && model.routers[0].active)
			lines.push(_('Is the spare ready?') + ' ' + model.answers[1][1] + ' (' + model.answers[1][2] + '). '
				+ _('Do connections survive?') + ' ' + model.answers[2][1] + ' (' + model.answers[2][2] + ').');
		return lines;
	},

	ask: function(name) {
		ui.showModal(ACTIONS[name].title, this.consequence(name).map(function(line) { return E('p', {}, [ line ]); }).concat([
			E('div', { 'class': 'right' }, [
				E('button', { 'class': 'btn', 'type': 'button', 'click': ui.hideModal }, [ _('Cancel') ]), ' ',
				E('button', { 'class': 'btn cbi-button cbi-button-action important', 'type': 'button', 'click': L.bind(this.act, this, name, false) }, [ ACTIONS[name].title ])
			])
		]));
	},

	act: function(name, force) {
		ui.hideModal();
		this.busy = true;
		this.enable(false);
		this.tell('idle', [ _('Working\u2026') ]);
		return (force ? api[name]('yes') : api[name]()).then(L.bind(function(done) {
			if (done.error)
				return this.refused(name, done.error, force);
			if (!done.groups)
				return this.refused(name, _('Tandem did not answer'), true);
			const states = Object.entries(done.groups).map(function(one) { return one[0] + ': ' + one[1]; });
			this.tell('ok', [ ACTIONS[name].done + ' ' + states.join(', ') ]);
		}, this)).catch(L.bind(function(error) {
			this.refused(name, error.message || String(error), true);
		}, this)).finally(L.bind(function() {
			this.busy = false;
			return this.refresh();
		}, this));
	},

	refused: function(name, why, final) {
		const again = final || name === 'resume' ? '' : E('button', {
			'class': 'btn cbi-button cbi-button-negative', 'type': 'button', 'click': L.bind(this.act, this, name, true)
		}, [ _('Do it anyway') ]);
		this.tell('bad', [ why + ' ', again ]);
	},

	tell: function(tone, content) {
		this.result.replaceChildren(api.note(tone, content));
	},

	handleSaveApply: null,
	handleSave: null,
	handleReset: null
});

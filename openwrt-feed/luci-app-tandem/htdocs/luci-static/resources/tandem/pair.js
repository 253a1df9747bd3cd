// SPDX-License-Identifier: GPL-2.0-or-later
'use strict';
'require baseclass';
'require tandem.api as api';

// What a status says, in the order in which a person asks. Nothing here touches the page.
// Fields that a release does not have yet, or no longer, are left out.

const WORDS = {
	MASTER: [ _('Active'), 'ok' ],
	BACKUP: [ _('Ready'), 'idle' ],
	FAULT: [ _('Out of order'), 'bad' ],
	STANDBY: [ _('Out of service'), 'warn' ],
	INIT: [ _('Starting'), 'warn' ],
	STOP: [ _('Stopped'), 'warn' ],
	UNKNOWN: [ _('Not reachable'), 'bad' ],
	NONE: [ _('Not set up'), 'warn' ]
};

const STEPS = {
	'in step': [ _('in step'), 'ok' ],
	'out of step': [ _('out of step'), 'bad' ],
	'idle': [ _('nobody is active'), 'warn' ],
	'down': [ _('not connected'), 'bad' ],
	'off': [ _('connections are not replicated'), 'warn' ]
};

const BEATS = { 'alive': _('alive'), 'dead': _('dead'), 'not heard yet': _('not heard yet') };

// States of services and of networks that follow the role.
const RUNS = {
	running: [ _('running'), 'ok' ], stopped: [ _('stopped'), 'idle' ], starting: [ _('starting'), 'warn' ],
	stopping: [ _('stopping'), 'warn' ], probing: [ _('being examined'), 'warn' ], unknown: [ _('not known'), 'warn' ],
	failed: [ _('failed'), 'bad' ], blocked: [ _('failed to stop: nothing more is done'), 'bad' ]
};
const FOLLOWS = {
	away: [ _('follows the role, which is elsewhere'), 'idle' ], lent: [ _('up with the lease of the other router'), 'warn' ],
	asking: [ _('asks for a lease'), 'warn' ], bound: [ _('up'), 'ok' ]
};

const HEALTH = {
	replication_missing: _('Connections are not replicated'),
	replication_stale: _('Replication is behind')
};

function list(value) {
	return Array.isArray(value) ? value : [];
}

function named(value) {
	return value != null && typeof(value) === 'object' ? value : {};
}

function states(groups) {
	return Array.from(new Set(groups));
}

// The word and the tone of a router for the states of its groups.
function role(found) {
	const one = states(found);
	if (!one.length)
		return WORDS.UNKNOWN;
	if (one.length === 1)
		return WORDS[one[0]] || [ one[0], 'warn' ];
	const worst = [ 'FAULT', 'STANDBY', 'INIT', 'STOP' ].find(function(state) { return one.includes(state); });
	return worst && !one.includes('MASTER') ? WORDS[worst] : [ _('Partly active'), 'warn' ];
}

function isUp(instance) {
	return /^wan/.test(instance.interface) || instance.routes > 0 || instance.snat != null;
}

// The networks: those with the way out above the routers, all others below.
function networks(status) {
	const found = new Map();
	list(status.instances).forEach(function(instance) {
		const name = instance.interface || instance.name;
		const one = found.get(name) || { name: name, device: instance.device, top: false, fault: '', addresses: [] };
		one.top = one.top || isUp(instance);
		one.down = instance.device == null;
		one.addresses = one.addresses.concat(list(instance.addresses));
		const fault = list(instance.faults).find(function(text) {
			return text.includes(name) || (instance.device && text.includes(instance.device));
		});
		one.fault = one.fault || fault || (one.down ? _('no such device') : '');
		found.set(name, one);
	});
	return Array.from(found.values());
}

function trackers(instances) {
	const seen = new Map();
	instances.forEach(function(instance) {
		list(instance.trackers).forEach(function(tracker) {
			seen.set(tracker.kind + ' ' + tracker.name, tracker);
		});
	});
	return Array.from(seen.values());
}

function reasons(status) {
	const found = [];
	list(status.groups).forEach(function(group) {
		list(group.faults).forEach(function(fault) {
			if (fault !== 'standby' && !found.includes(fault))
				found.push(fault);
		});
		if (group.standby)
			found.push(group.standby_by ? _('Out of service by %s').format(group.standby_by) : _('Out of service by hand'));
		if (group.held)
			found.push(_('Handed over by hand: does not take the role back by itself'));
		if (group.probation)
			found.push(_('Does not take the role back: %s').format(group.probation));
		if (group.damped_s != null)
			found.push(_('The role changed too often: waits %s').format(api.duration(group.damped_s)));
	});
	Object.entries(named(named(status.quorum).lacking)).forEach(function(pair) {
		found.push(_('%s has no quorum: %s').format(pair[0], pair[1]));
	});
	Object.entries(named(status.health)).forEach(function(pair) {
		const detail = list(pair[1]).join(', ');
		found.push((HEALTH[pair[0]] || pair[0].replace(/_/g, ' ')) + (detail ? ': ' + detail : ''));
	});
	return states(found);
}

function here(status) {
	const groups = list(status.groups), instances = list(status.instances);
	const word = role(groups.length ? groups.map(function(group) { return group.standby ? 'STANDBY' : group.state; }) : [ 'NONE' ]);
	const since = groups.map(function(group) { return group.since_s; }).filter(function(s) { return s != null; });
	const priorities = states(instances.map(function(instance) {
		const p = named(instance.priority);
		return [ p.effective ].concat(list(p.why).length ? [ '(' + [ p.base ].concat(p.why).join(' ') + ')' ] : []).join(' ');
	}));
	return {
		here: true,
		name: status.router_id || _('This router'),
		title: _('This router'),
		active: groups.some(function(group) { return group.state === 'MASTER'; }),
		word: word[0], tone: word[1],
		since: since.length ? api.duration(Math.min.apply(null, since)) : '',
		reasons: reasons(status),
		facts: [
			[ _('Priority'), priorities.join(', ') ],
			[ _('Running for'), api.duration(status.uptime_s) ]
		],
		trackers: trackers(instances)
	};
}

// What this router runs, checks and asks beside its networks: [ tone, name, what it is, state ].
function things(status) {
	const found = [];
	const add = function(tone, name, kind, words) {
		found.push([ tone, name, kind, words.filter(Boolean).join(', ') ]);
	};
	list(status.services).forEach(function(one) {
		const word = RUNS[one.state] || [ one.state, 'warn' ];
		const kept = one.wanted && one.state === 'stopped';
		add(one.banned || one.failure ? 'bad' : kept ? 'warn' : word[1], one.name, _('service'), [
			word[0], one.since_s != null ? _('for %s').format(api.duration(one.since_s)) : '',
			one.waits_for ? _('waits for %s').format(one.waits_for) : '',
			one.banned ? _('does not run here after %d failures').format(one.failures) : '', one.failure
		]);
	});
	list(status.follow).forEach(function(one) {
		const word = FOLLOWS[one.state] || [ one.state, 'warn' ];
		add(one.problem ? 'bad' : word[1], one.name, _('network'), [ word[0], one.address ].concat(list(one.prefixes), one.problem));
	});
	list(status.checks).forEach(function(one) {
		add(one.up == null ? 'idle' : one.up ? 'ok' : 'bad', one.name, _('check'), [ one.target, one.last, api.ms(one.last_ms) ]);
	});
	list(status.virtual_servers).forEach(function(one) {
		const servers = list(one.servers), down = servers.filter(function(server) { return !server.up; });
		add(down.length === servers.length ? 'bad' : down.length ? 'warn' : 'ok', one.name, _('virtual server'), [
			one.address + '/' + one.protocol, _('%d of %d servers are up').format(servers.length - down.length, servers.length),
			down.length ? _('down: %s').format(down.map(function(server) { return server.name; }).join(' ')) : '',
			one.sorry ? _('the sorry server answers') : ''
		]);
	});
	const quorum = named(status.quorum);
	if (quorum.witness)
		add(quorum.witness_answers ? 'ok' : 'bad', quorum.witness, _('witness'), [ quorum.witness_answers ? _('answers') : _('does not answer') ]);
	Object.entries(named(quorum.hosts)).forEach(function(host) {
		add(host[1] ? 'ok' : 'bad', host[0], _('witness'), [ host[1] ? _('answers') : _('does not answer') ]);
	});
	return found;
}

function heard(status) {
	return list(status.instances).map(function(instance) { return instance.peer; }).filter(Boolean);
}

function there(status, peer, link) {
	const roles = Object.values(named(peer.roles));
	const adverts = heard(status).filter(function(advert) { return advert.priority > 0; });
	const last = adverts.length ? Math.min.apply(null, adverts.map(function(a) { return a.last_advert_s; })) : null;
	const active = roles.includes('MASTER');
	const word = peer.connected ? role(roles.length ? roles : [ 'BACKUP' ]) : WORDS.UNKNOWN;
	const why = peer.connected ? [] : [ named(link).last_error || _('No answer on any path to it') ];
	const beats = named(peer.heartbeats);
	const own = named(link).router_id;
	const name = own && own !== status.router_id ? own : peer.name; // two fresh routers have the same host name
	return {
		here: false,
		name: name,
		title: _('The other router'),
		active: active,
		word: word[0], tone: word[1], since: '',
		reasons: why,
		facts: [
			[ _('Known as'), name !== peer.name ? peer.name : '' ],
			[ _('Heartbeats'), peer.connected && beats.state ? _('%s, dead after %s').format(BEATS[beats.state] || beats.state, api.ms(beats.limit_ms)) : '' ],
			[ _('Last advert'), active && last != null ? _('%s ago').format(api.ms(last * 1000)) : '' ]
		].filter(function(fact) { return fact[1]; }),
		trackers: []
	};
}

// The other router where there is no channel to it: its adverts are all that is known.
function advertiser(status) {
	const adverts = heard(status);
	if (!adverts.length)
		return null;
	const active = !list(status.groups).some(function(group) { return group.state === 'MASTER'; });
	return {
		here: false, name: adverts[0].address, title: _('The other router'), active: active,
		word: active ? WORDS.MASTER[0] : _('Not known'), tone: active ? 'ok' : 'warn', since: '',
		reasons: active ? [] : [ _('There is no channel to it: only an active router can be heard') ],
		facts: [
			[ _('Priority'), String(adverts[0].priority) ],
			[ _('Last advert'), _('%s ago').format(api.ms(adverts[0].last_advert_s * 1000)) ]
		],
		trackers: []
	};
}

// The paths of the heartbeats, and the one of the channel where none are sent.
function paths(peer, link) {
	const found = list(named(peer.heartbeats).paths).map(function(path) {
		const all = path.received + path.lost;
		return { name: path.name, up: path.up, rtt: path.rtt_ms, loss: all > 0 ? Math.round(path.lost / all * 1000) / 10 : null };
	});
	const one = named(link);
	return found.length || !one.path ? found : [ { name: one.path, up: true, rtt: one.rtt_ms, loss: null } ];
}

function channel(status, peer, link, conntrack) {
	const step = STEPS[peer.connections] || [ peer.connections || '', 'warn' ];
	const one = named(link);
	const held = named(conntrack.held)[peer.name];
	return {
		word: peer.connected ? step[0] : _('not connected'),
		tone: peer.connected ? step[1] : 'bad',
		lag: one.streaming ? one.lag_ms : null,
		behind: one.streaming ? one.lag_records : null,
		own: one.streaming ? conntrack.own : null,
		held: one.peer_streaming ? held : null,
		paths: paths(peer, link)
	};
}

function answers(status, routers, channels) {
	const active = routers.filter(function(router) { return router.active; });
	const spare = routers.filter(function(router) { return !router.active; });
	const found = [];
	if (!list(status.groups).length)
		found.push([ _('Who is active?'), _('nobody'), _('No gateway address is configured'), 'warn' ]);
	else if (active.length)
		found.push([ _('Who is active?'), active.map(function(r) { return r.name; }).join(', '),
			active[0].since ? _('for %s').format(active[0].since) : active[0].title, active.length > 1 ? 'warn' : 'ok' ]);
	else
		found.push([ _('Who is active?'), _('nobody'), _('No router has the gateway address'), 'bad' ]);
	const ready = spare.filter(function(r) { return r.tone === 'idle'; });
	if (ready.length)
		found.push([ _('Is the spare ready?'), _('yes'), ready.map(function(r) { return r.name; }).join(', '), 'ok' ]);
	else if (spare.length)
		found.push([ _('Is the spare ready?'), _('no'), spare[0].name + ': ' + spare[0].word, spare[0].tone === 'warn' ? 'warn' : 'bad' ]);
	else
		found.push([ _('Is the spare ready?'), _('not known'), _('There is no channel to another router'), 'warn' ]);
	const off = channels.every(function(one) { return one.word === STEPS.off[0]; });
	const best = channels.find(function(one) { return one.tone === 'ok'; }) || channels[0];
	if (off || !best)
		found.push([ _('Do connections survive?'), _('no'), _('They are not replicated'), 'warn' ]);
	else
		found.push([ _('Do connections survive?'), best.tone === 'ok' ? _('yes') : _('no'), best.word, best.tone ]);
	return found;
}

return baseclass.extend({
	// The whole picture of a status and of the answer of `conntrack` ({} where nothing is replicated).
	model: function(status, conntrack) {
		const links = list(named(conntrack.channel).peers);
		const peers = list(status.peers);
		const link = function(peer) {
			return links.find(function(one) { return one.name === peer.name; });
		};
		const others = peers.map(function(peer) { return there(status, peer, link(peer)); });
		const stranger = others.length ? null : advertiser(status);
		const routers = [ here(status) ].concat(others, stranger ? [ stranger ] : []);
		const channels = peers.map(function(peer) { return channel(status, peer, link(peer), named(conntrack)); });
		return {
			routers: routers,
			channels: channels,
			networks: networks(status),
			things: things(status),
			answers: answers(status, routers, channels),
			history: this.history(status)
		};
	},

	// The changes of the roles, the latest first; instances that changed together are one line.
	history: function(status) {
		const found = [];
		list(status.history).slice().reverse().forEach(function(entry) {
			if (entry.kind !== 'instance')
				return;
			const last = found[found.length - 1];
			if (last && last.state === entry.state && Math.abs(last.time - entry.time) < 1.5) {
				last.names.push(entry.name);
				return;
			}
			const times = [
				[ _('noticed'), entry.detection_ms ], [ _('connections'), entry.restore_ms ],
				[ _('addresses'), entry.address_ms ], [ _('announced'), entry.announce_ms ]
			].filter(function(pair) { return pair[1] != null; });
			found.push({
				time: entry.time, state: entry.state, names: [ entry.name ], why: entry.why || '',
				word: (WORDS[entry.state] || [ entry.state ])[0], tone: (WORDS[entry.state] || [ 0, 'warn' ])[1],
				times: times
			});
		});
		return found.slice(0, 12);
	},

	// One sentence for the first page.
	sentence: function(status) {
		const model = this.model(status, {});
		const active = model.routers.find(function(r) { return r.active; });
		const me = model.routers[0];
		const ready = model.answers[1];
		if (!active)
			return [ 'bad', _('No router is active') ];
		const first = me.active ? _('This router is active') : _('%s is active').format(active.name);
		if (!me.active)
			return [ me.tone === 'idle' ? 'ok' : 'bad', first + ', ' +
				(me.tone === 'idle' ? _('this router is ready') : _('this router is not ready')) ];
		return [ ready[3], first + ', ' + (ready[3] === 'ok' ? _('the spare is ready') : _('the spare is not ready')) ];
	}
});

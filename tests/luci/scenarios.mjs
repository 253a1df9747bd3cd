// SPDX-License-Identifier: GPL-2.0-or-later
// What a person does with Tandem's pages. The order counts: the set-up makes the pair that the others look at.
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { connect } from 'node:net';
import assert from 'node:assert/strict';
import { WAIT } from './desk.mjs';
import { sample } from './samples.mjs';

const library = (name) => readFileSync(createRequire(import.meta.url).resolve(name), 'utf8');
const axe = library('axe-core/axe.min.js');
const jsqr = library('jsqr/dist/jsQR.js');
// What a page shows when it is there.
const PAGES = { overview: '.td-picture', setup: '.td-field', settings: '.cbi-map', doctor: '.tandem button', connections: '.tandem form', log: '.tandem pre' };
const TRANSFERRED = 60000, MEASURE_S = Number(process.env.TANDEM_MEASURE_S || 10);
const WATCHERS = 5; // pages at once, because what one costs is little beside what the daemon does anyway

const text = (page, selector) => page.locator(selector).allInnerTexts();

async function roles(desk, router, wanted) {
	const page = await desk.open(router, 'overview');
	await desk.until(page, (words) => {
		const seen = Array.from(document.querySelectorAll('.td-head .td-badge')).map((node) => node.textContent);
		return JSON.stringify(seen) === JSON.stringify(words);
	}, wanted, 40000);
	return page;
}

async function violations(page) {
	await page.evaluate(axe);
	return page.evaluate(async () => {
		const found = await window.axe.run('.tandem', { runOnly: [ 'wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa' ] });
		return found.violations.map((one) => one.id + ': ' + one.nodes.map((node) => node.html.slice(0, 160) + ' ' + (node.any[0] ? node.any[0].message : '')).join('\n   '));
	});
}

// What a camera reads from the token's QR code, or null where there is none.
async function scanned(page) {
	const code = page.getByRole('img', { name: 'The token as a QR code' });
	if (!await code.count())
		return null;
	const picture = 'data:image/png;base64,' + (await code.screenshot()).toString('base64');
	await page.evaluate(jsqr);
	return page.evaluate(async (source) => {
		const image = new Image();
		image.src = source;
		await image.decode();
		const pen = Object.assign(document.createElement('canvas'), { width: image.width, height: image.height }).getContext('2d');
		pen.drawImage(image, 0, 0);
		const found = window.jsQR(pen.getImageData(0, 0, image.width, image.height).data, image.width, image.height);
		return found && found.data;
	}, picture);
}

export const scenarios = {
	async 'no pair yet'(desk) {
		const page = await desk.open('r1', 'overview');
		await page.getByText('Tandem does not run on this router').first().waitFor(WAIT);
		await page.getByRole('link', { name: 'Set it up' }).waitFor(WAIT);
		const first = await desk.open('r1', '/cgi-bin/luci/admin/status/overview');
		await first.getByText('Tandem does not run on this router').waitFor(WAIT);
	},

	async 'wizard: errors stand at their fields'(desk) {
		const page = await desk.open('r1', 'setup');
		await page.locator('[data-network="lan"]').fill('192.168.9.1');
		await page.getByRole('button', { name: 'Check' }).first().click();
		const row = (name) => page.locator('[data-field="' + name + '"] .td-problem');
		await row('network.lan').getByText('not in the subnet').waitFor(WAIT);
		await page.locator('[data-network="lan"]').fill('192.168.1.1');
		await page.locator('#td-f-peer').fill('192.168.1.2');
		await page.getByRole('button', { name: 'Check' }).first().click();
		await row('peer').getByText('this router\'s own address').waitFor(WAIT);
		assert.equal(await row('network.lan').innerText(), '');
		assert.equal(await page.locator('#td-f-peer').getAttribute('aria-invalid'), 'true');
		await desk.shot('setup-problem');
	},

	async 'wizard: both routers share a line'(desk) {
		const page = await desk.open('r1', 'setup');
		const track = page.getByText('Hand over when dsl has failed');
		await track.waitFor(WAIT);
		await page.getByText('Both share the line of dsl').click();
		assert.equal(await track.isVisible(), false);
		await page.getByRole('button', { name: 'Check' }).first().click();
		await page.getByText('network dsl will be on dsl0').waitFor(WAIT);
		assert.match((await text(page, 'pre')).join(), /config follow\n\toption name 'dsl'\n\toption interface 'dsl-port'/);
	},

	async 'wizard: two routers become a pair'(desk) {
		const page = await desk.open('r1', 'setup');
		assert.equal(await page.locator('[data-network="lan"]').inputValue(), '192.168.1.1');
		assert.equal(await page.locator('#td-f-peer').inputValue(), '192.168.1.3');
		await page.getByRole('button', { name: 'Check' }).first().click();
		await page.getByText('This would be written').waitFor(WAIT);
		assert.match((await text(page, 'pre')).join(), /config vrrp_instance/);
		await desk.shot('setup-draft');
		await page.getByRole('button', { name: 'Write and start' }).click();
		const token = await page.locator('#td-token').inputValue(WAIT);
		assert.match(token, /^[\w-]{60,}$/);
		await page.getByText('Tandem runs here.').waitFor({ timeout: 60000 });
		await desk.shot('setup-token');
		const drawn = (await page.request.get('/luci-static/resources/uqr.js')).ok();
		assert.equal(await scanned(page), drawn ? token : null);
		const second = await desk.open('r2', 'setup');
		await second.getByText('The second router: it has the token').click();
		await second.locator('#td-f-token').fill(token.slice(0, -7));
		await second.getByRole('button', { name: 'Check' }).last().click();
		await second.locator('[data-field="token"] .td-problem').getByText('copy the whole line').waitFor(WAIT);
		await second.locator('#td-f-token').fill(token);
		await second.getByRole('button', { name: 'Check' }).last().click();
		await second.getByText('This would be written').waitFor(WAIT);
		await second.getByRole('button', { name: 'Write and start' }).click();
		await second.getByText('Tandem runs here.').waitFor({ timeout: 60000 });
		await roles(desk, 'r1', [ 'Active', 'Ready' ]);
		await roles(desk, 'r2', [ 'Ready', 'Active' ]);
	},

	async 'overview: a light picture'(desk) {
		const page = await roles(desk, 'r1', [ 'Active', 'Ready' ]);
		desk.figures.render_ms = await page.evaluate(async () => {
			const [ api, pair ] = await Promise.all([ L.require('tandem.api'), L.require('tandem.pair') ]);
			const [ status, conntrack ] = await Promise.all([ api.status(), api.conntrack() ]);
			const start = performance.now();
			pair.model(status, conntrack);
			return performance.now() - start;
		});
		assert.deepEqual(await text(page, '.td-word'), [ 'r1', 'yes', 'yes' ]);
		assert.deepEqual(await text(page, '.td-router h3'), [ 'r1', 'r2' ]);
		assert.match((await text(page, '.td-router.td-active .td-pills')).join(), /192\.168\.1\.1/);
		// Nothing that is equal is made anew, and nothing jumps.
		const changed = await page.evaluate(() => new Promise((resolve) => {
			let added = 0;
			const before = document.querySelector('.td-picture').getBoundingClientRect().height;
			const watch = new window.MutationObserver((found) => found.forEach((one) => { added += one.addedNodes.length; }));
			watch.observe(document.querySelector('.td-picture'), { childList: true, subtree: true });
			setTimeout(() => resolve([ added, document.querySelector('.td-picture').getBoundingClientRect().height - before ]), 3500);
		}));
		assert.deepEqual(changed, [ 0, 0 ]);
	},

	// Statuses of other releases and of other states: what is missing is left out, and nothing breaks.
	async 'every state has a picture'(desk) {
		const page = await desk.open('r1', 'log');
		const group = (state, more) => ({ name: 'g', state, since_s: 5, faults: [], ...more });
		const instance = (state, more) => ({ name: 'i', group: 'g', state, interface: 'lan', device: 'br-lan', addresses: [ '10.0.0.1/24 dev br-lan' ], routes: 0, trackers: [], faults: [], priority: { base: 100, effective: 100, why: [] }, peer: null, ...more });
		const peer = (more) => ({ name: 'r2', connected: true, roles: { g: 'BACKUP' }, connections: 'in step', ...more });
		const service = (more) => ({ name: 's', group: 'g', state: 'running', wanted: true, since_s: 5, waits_for: '', banned: false, failures: 0, failure: '', ...more });
		const heard = { address: '10.0.0.3', priority: 90, interval_ms: 200, last_advert_s: 0.1 };
		const cases = [
			[ {}, 'nobody', 'no', 'no' ],
			[ { groups: [ group('MASTER') ] }, 'This router', 'not known', 'no' ],
			[ { groups: [ group('MASTER') ], instances: [ instance('MASTER') ], peers: [ peer() ] }, 'This router', 'yes', 'yes' ],
			[ { groups: [ group('MASTER') ], instances: [ instance('MASTER') ], peers: [ peer({ connections: 'out of step' }) ] }, 'This router', 'yes', 'no' ],
			[ { groups: [ group('MASTER') ], instances: [ instance('MASTER') ], peers: [ peer({ connected: false, roles: {}, connections: 'down' }) ] }, 'This router', 'no', 'no' ],
			[ { groups: [ group('MASTER') ], peers: [ peer({ roles: { g: 'FAULT' } }) ] }, 'This router', 'no', 'yes' ],
			[ { groups: [ group('FAULT', { faults: [ 'interface lan down' ] }) ], instances: [ instance('FAULT', { faults: [ 'interface lan down' ] }) ], peers: [ peer({ roles: { g: 'MASTER' } }) ] }, 'r2', 'no', 'yes' ],
			[ { groups: [ group('FAULT', { faults: [ 'standby' ], standby: true, standby_by: 'me' }) ], peers: [ peer({ roles: { g: 'MASTER' } }) ] }, 'r2', 'no', 'yes' ],
			[ { groups: [ group('BACKUP') ], instances: [ instance('BACKUP', { peer: heard }) ] }, '10.0.0.3', 'yes', 'no' ],
			[ { groups: [ group('MASTER'), group('BACKUP', { name: 'h' }) ], peers: [ peer({ roles: { g: 'BACKUP', h: 'MASTER' } }) ] }, 'This router, r2', 'not known', 'yes' ],
			[ { groups: [ group('MASTER') ], peers: [ peer({ heartbeats: { state: 'alive', limit_ms: 30, paths: [ { name: 'lan', up: true, rtt_ms: 0.2, received: 99, lost: 1 } ] } }) ] }, 'This router', 'yes', 'yes' ],
			[ { groups: [ group('MASTER') ], services: [ service({}), service({ state: 'stopped', wanted: true, waits_for: 'db' }), service({ state: 'stopped', banned: true, failures: 3, failure: 'start: exit status 1' }), service({ state: 'paused' }) ],
				follow: [ { name: 'wan', state: 'bound', address: '203.0.113.7/24', problem: null }, { name: 'lte', state: 'asking', address: null, problem: 'no such port' } ],
				checks: [ { name: 'web', up: true, target: '10.0.0.9:80', last: '200 OK', last_ms: 3 }, { name: 'new', up: null, target: '10.0.0.9:81', last: '', last_ms: null } ],
				virtual_servers: [ { name: 'shop', address: '10.0.0.1:443', protocol: 'tcp', sorry: false, servers: [ { name: 'a', up: true }, { name: 'b', up: false } ] } ],
				quorum: { witness: 'w', witness_answers: false, hosts: { '192.0.2.1': true }, lacking: { g: 'one of three votes' } } }, 'This router', 'not known', 'no' ]
		];
		const found = await page.evaluate(async (statuses) => {
			const pair = await L.require('tandem.pair');
			return statuses.map((status) => {
				const model = pair.model(status, {});
				pair.sentence(status);
				return [ model.answers.map((one) => one[1]), model.routers.flatMap((one) => one.reasons), model.channels.flatMap((one) => one.paths), model.things.map((one) => one.join(' | ')) ];
			});
		}, cases.map((one) => one[0]));
		assert.deepEqual(found.map((one) => one[0]), cases.map((one) => one.slice(1)));
		assert.deepEqual([ found[6][1], found[7][1] ], [ [ 'interface lan down' ], [ 'Out of service by me' ] ]);
		assert.deepEqual(found[11][1], [ 'g has no quorum: one of three votes' ]);
		assert.deepEqual(found[11][3], [
			'ok | s | service | running, for 5 s', 'warn | s | service | stopped, for 5 s, waits for db',
			'bad | s | service | stopped, for 5 s, does not run here after 3 failures, start: exit status 1', 'warn | s | service | paused, for 5 s',
			'ok | wan | network | up, 203.0.113.7/24', 'bad | lte | network | asks for a lease, no such port',
			'ok | web | check | 10.0.0.9:80, 200 OK, 3 ms', 'idle | new | check | 10.0.0.9:81',
			'warn | shop | virtual server | 10.0.0.1:443/tcp, 1 of 2 servers are up, down: b',
			'bad | w | witness | does not answer', 'ok | 192.0.2.1 | witness | answers'
		]);
		assert.deepEqual(found[10][2], [ { name: 'lan', up: true, rtt: 0.2, loss: 1 } ]);
	},

	// Each with LuCI's own modules and the session in place, from the request of the view to its first picture.
	async 'every page is light'(desk) {
		for (const [ name, seen ] of Object.entries(PAGES)) {
			const page = await desk.open('r1', name === 'log' ? 'doctor' : 'log');
			const answers = [];
			page.on('response', (response) => {
				if (/ubus/.test(response.url()) && /"tandem/.test(response.request().postData()))
					answers.push(response.body().then((body) => body.length, () => 0));
			});
			await page.addInitScript((selector) => {
				const watch = new window.MutationObserver(() => {
					if (document.querySelector(selector)) {
						window.seenAt = performance.now();
						watch.disconnect();
					}
				});
				watch.observe(document, { childList: true, subtree: true });
			}, seen);
			await page.goto(page.url().replace(/\w+(\?.*)?$/, name));
			await page.waitForSelector(seen, WAIT);
			const [ ms, files ] = await page.evaluate((view) => {
				const own = performance.getEntriesByType('resource').filter((one) => /tandem/.test(one.name));
				const start = own.find((one) => one.name.includes('view/tandem/' + view)).startTime;
				return [ window.seenAt - start, own.reduce((sum, one) => sum + one.encodedBodySize, 0) ];
			}, name);
			const asked = (await Promise.all(answers)).reduce((sum, one) => sum + one, 0);
			desk.figures[name] = { ms: Math.round(ms), bytes: files + asked, asked };
			assert.ok(files + asked < TRANSFERRED, name + ': ' + (files + asked) + ' bytes of our own');
		}
	},

	async 'polling'(desk) {
		if (!desk.genuine)
			return;
		const page = await desk.open('r1', 'log'); // which asks for nothing
		await page.waitForTimeout(1000);
		const idle = await desk.cost('r1', MEASURE_S);
		await page.close();
		for (let number = 0; number < WATCHERS; number++)
			await desk.open('r1', 'overview');
		await desk.page.waitForTimeout(1000);
		const busy = await desk.cost('r1', MEASURE_S);
		const percent = Object.fromEntries(Object.keys(busy).map((name) => [ name, Math.round((busy[name] - (idle[name] || 0)) / MEASURE_S / WATCHERS * 10) / 100 ]).filter((one) => one[1]));
		desk.figures.percent_of_a_core = { ...percent, all: Math.round(Object.values(percent).reduce((sum, one) => sum + one, 0) * 100) / 100 };
	},

	async 'the first page says it in a line'(desk) {
		const page = await desk.open('r1', '/cgi-bin/luci/admin/status/overview');
		await page.getByText('This router is active, the spare is ready').waitFor(WAIT);
		await desk.shot('status-include');
	},

	async 'switch over and back'(desk) {
		const page = await roles(desk, 'r1', [ 'Active', 'Ready' ]);
		await page.getByRole('button', { name: 'Switch over' }).click();
		await page.locator('.modal').getByText('Hands the active role to the other router').waitFor(WAIT);
		await desk.shot('switch-over');
		await page.locator('.modal').getByRole('button', { name: 'Switch over' }).click();
		await page.getByText('The role is handed over.').waitFor(WAIT);
		await roles(desk, 'r2', [ 'Active', 'Ready' ]);
		const again = await roles(desk, 'r1', [ 'Ready', 'Active' ]);
		await again.getByRole('button', { name: 'Resume' }).click();
		await again.locator('.modal').getByRole('button', { name: 'Resume' }).click();
		await again.getByText('This router is in service.').waitFor(WAIT);
		const second = await roles(desk, 'r2', [ 'Active', 'Ready' ]);
		await second.getByRole('button', { name: 'Switch over' }).focus();
		await second.keyboard.press('Enter'); // by keyboard alone
		await second.locator('.modal').getByRole('button', { name: 'Switch over' }).focus();
		await second.keyboard.press('Enter');
		await roles(desk, 'r1', [ 'Active', 'Ready' ]);
	},

	async 'who may only see changes nothing'(desk) {
		const page = await desk.open('r1', 'overview', { user: 'viewer' });
		await page.getByText('You may watch here').waitFor(WAIT);
		assert.equal(await page.locator('.tandem button').count(), 0);
		const refused = await page.evaluate(async () => {
			const calls = [ [ 'tandem', 'failover' ], [ 'tandem', 'standby' ], [ 'tandem', 'reload' ], [ 'tandem.commands', 'doctor' ],
				[ 'tandem.commands', 'check' ], [ 'tandem.commands', 'setup_networks' ], [ 'tandem.commands', 'setup_write' ], [ 'uci', 'set' ] ];
			const batch = calls.map(([ object, method ], id) => ({ jsonrpc: '2.0', id, method: 'call', params: [ L.env.sessionid, object, method, object === 'uci' ? { config: 'tandem', section: 'globals', values: { enabled: '0' } } : {} ] }));
			const response = await fetch('/ubus/', { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(batch) });
			return (await response.json()).map((answer) => answer.error ? answer.error.code : answer.result[0]);
		});
		assert.deepEqual(refused, Array(8).fill(-32002));
	},

	async 'settings: every option is written and read back'(desk) {
		const page = await desk.open('r1', 'settings');
		const plan = await page.evaluate(async () => {
			const api = await L.require('tandem.api');
			const index = await api.table('index');
			return Promise.all(index.sections.map(async (name) => ({ name, options: (await api.table(name)).map((row) => Object.fromEntries(index.columns.map((column, at) => [ column, row[at] ]))) })));
		});
		assert.ok(plan.length >= 15);
		await page.evaluate(() => L.dom.findClassInstance(document.querySelector('.cbi-map')).save(null, true));
		const untouched = await page.evaluate(async () => (await L.require('uci')).sections('tandem'));
		const wanted = plan.map((section) => ({ type: section.name, values: Object.fromEntries(section.options.map((row) => [ row.name, sample(row) ])) }));
		// A new section of each type, as the button makes it, with a value in each of its inputs.
		const shown = await page.evaluate(async (sections) => {
			const uci = await L.require('uci');
			const map = L.dom.findClassInstance(document.querySelector('.cbi-map'));
			for (const [ at, section ] of sections.entries()) {
				const form = map.children.find((one) => one.sectiontype === section.type);
				section.id = 'all_' + section.type;
				if (at === sections.length - 1)
					await form.handleAdd(null, section.id); // saves and draws all of them
				else
					await form.learn().then(() => uci.add('tandem', section.type, section.id));
			}
			let inputs = 0;
			for (const section of sections)
				for (const [ name, value ] of Object.entries(section.values)) {
					map.lookupOption(name, section.id)[0].getUIElement(section.id).setValue(value);
					inputs++;
				}
			await map.save(null, true);
			return inputs;
		}, wanted);
		desk.figures.options = shown;
		await page.reload(); // what is saved and not applied yet is the session's
		await page.waitForSelector('.cbi-map', WAIT);
		const found = await page.evaluate(async (sections) => {
			const map = L.dom.findClassInstance(document.querySelector('.cbi-map'));
			return sections.map((section) => ({ type: section.type, values: Object.fromEntries(Object.keys(section.values).map((name) => [ name, map.lookupOption(name, 'all_' + section.type)[0].formvalue('all_' + section.type) ])) }));
		}, wanted);
		assert.deepEqual(found, wanted.map((one) => ({ type: one.type, values: one.values })));
		// And away again: what was there is as it was.
		const left = await page.evaluate(async (sections) => {
			const uci = await L.require('uci');
			sections.forEach((section) => uci.remove('tandem', 'all_' + section.type));
			await uci.save();
			return uci.sections('tandem');
		}, wanted);
		const plain = (sections) => sections.map((section) => Object.fromEntries(Object.entries(section).filter(([ name ]) => name !== '.index' && name !== '.name')));
		assert.deepEqual(plain(left), plain(untouched));
	},

	async 'settings: refused with the reason at the option'(desk) {
		const page = await desk.open('r1', 'settings');
		const set = (name, value) => page.evaluate(async ([ option, wanted ]) => {
			const uci = await L.require('uci');
			const id = uci.sections('tandem', 'vrrp_instance')[0]['.name'];
			L.dom.findClassInstance(document.querySelector('.cbi-map')).lookupOption(option, id)[0].getUIElement(id).setValue(wanted);
		}, [ name, value ]);
		await set('virtual_ipaddress', [ '192.168.1.999/24' ]);
		await page.locator('.cbi-page-actions').getByText('Save & Apply').first().click();
		await page.getByText('Nothing was applied').waitFor(WAIT);
		await page.locator('[data-name="virtual_ipaddress"] .td-refused').first().waitFor(WAIT);
		await desk.shot('settings-refused');
		await set('virtual_ipaddress', [ '192.168.1.1/24' ]);
		await set('priority', '120');
		await page.locator('.cbi-page-actions').getByText('Save & Apply').first().click();
		await desk.until(page, async () => {
			const status = await (await L.require('tandem.api')).status();
			return status.instances && status.instances[0].priority.base === 120;
		}, null, 60000);
	},

	async 'doctor'(desk) {
		const page = await desk.open('r1', 'doctor');
		await page.getByRole('button', { name: 'Examine both routers' }).click();
		await page.getByText(/Nothing is wrong|findings?\./).first().waitFor({ timeout: 60000 });
		await desk.shot('doctor');
	},

	async 'connections'(desk) {
		// Three of the desk's, through the pair.
		const calls = await Promise.all([ 1, 2, 3 ].map(() => new Promise((resolve, reject) => {
			const call = connect(7, '192.168.0.1', () => resolve(call)).on('error', reject);
		})));
		try {
			const page = await desk.open('r1', 'connections');
			await page.getByText('they survive').first().waitFor(WAIT);
			await page.locator('#td-search').fill('192.168.1.50 dport=7');
			await desk.until(page, () => {
				document.querySelector('.tandem form button').click(); // disabled while it searches
				return document.querySelectorAll('.tandem tbody tr').length >= 3;
			});
			assert.match((await text(page, '.tandem tbody tr')).join(), /tcp\s+192\.168\.1\.50:\d+\s+192\.168\.0\.1:7\s+192\.168\.0\.254:\d+\s+ESTABLISHED/);
			await page.locator('#td-search').fill('nowhere');
			await page.getByRole('button', { name: 'Show' }).click();
			await page.getByText(/^0 connections/).waitFor(WAIT);
			await page.locator('#td-search').fill('');
			await page.getByRole('button', { name: 'Show' }).click();
			await page.getByText(/^[1-9]\d* connections/).waitFor(WAIT);
			await desk.shot('connections');
		} finally {
			calls.forEach((call) => call.destroy());
		}
	},

	async 'log'(desk) {
		const page = await desk.open('r1', 'log');
		await desk.until(page, () => document.querySelector('.tandem pre').textContent.includes('tandemd'), null, 40000);
	},

	async 'in German'(desk) {
		if (!desk.genuine)
			return; // the stand-in reads no translations
		const page = await desk.open('r1', 'overview', { locale: 'de-DE' });
		await page.getByText('Ist der Ersatz bereit?').waitFor(WAIT);
		await page.getByRole('button', { name: 'Umschalten' }).waitFor(WAIT);
		await desk.shot('overview-german');
	},

	async 'one router is down'(desk) {
		const page = await roles(desk, 'r1', [ 'Active', 'Ready' ]);
		const size = await page.locator('.td-picture').boundingBox();
		desk.service('r2', 'stop');
		await page.locator('.td-router.td-bad').getByText('Not reachable').waitFor(WAIT);
		assert.deepEqual((await text(page, '.td-word'))[1], 'no');
		assert.deepEqual(await text(page, '.td-router h3'), [ 'r1', 'r2' ]);
		await desk.shot('other-down');
		desk.service('r2', 'start');
		await desk.until(page, () => document.querySelectorAll('.td-word')[2].textContent === 'yes', null, 40000);
		await desk.until(page, (height) => document.querySelector('.td-picture').getBoundingClientRect().height === height, size.height);
		desk.service('r1', 'stop');
		await page.getByText('No answer from Tandem: this picture is').waitFor(WAIT);
		assert.ok(await page.getByRole('button', { name: 'Switch over' }).isDisabled());
		await desk.shot('old-picture');
		desk.service('r1', 'start');
		await page.getByText('No answer from Tandem').waitFor({ state: 'detached', timeout: 40000 });
		const other = await roles(desk, 'r2', [ 'Active', 'Ready' ]); // nobody preempts
		await other.getByRole('button', { name: 'Switch over' }).click();
		await other.locator('.modal').getByRole('button', { name: 'Switch over' }).click();
		await roles(desk, 'r1', [ 'Active', 'Ready' ]);
	},

	async 'nobody is kept out'(desk) {
		const found = [];
		for (const dark of [ false, true ])
			for (const name of Object.keys(PAGES)) {
				const page = await desk.open('r1', name, { dark });
				await page.locator('.tandem').getByRole('heading').first().waitFor(WAIT);
				(await violations(page)).forEach((one) => found.push(name + (dark ? ' (dark) ' : ' ') + one));
			}
		assert.deepEqual(found, []);
	},

	async 'pictures'(desk) {
		if (!desk.shots)
			return;
		for (const dark of [ false, true ])
			for (const width of [ 1200, 390 ])
				for (const name of Object.keys(PAGES)) {
					await desk.open('r1', name, { dark, width });
					await desk.page.waitForTimeout(name === 'overview' ? 2500 : 1500);
					await desk.shot(name + (dark ? '-dark' : '-light') + (width < 500 ? '-phone' : ''));
				}
	}
};

scenarios['wizard: two routers become a pair'].makes = true;

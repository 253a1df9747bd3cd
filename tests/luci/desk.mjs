// SPDX-License-Identifier: GPL-2.0-or-later
// A person at a browser: opens pages of a router as a user, and sees what is on them.
import { execFileSync } from 'node:child_process';
import { mkdirSync } from 'node:fs';

const PAGES = '/cgi-bin/luci/admin/services/tandem/';
// LuCI's own: what a page asks while it is left, and a protocol that is not installed.
const NOT_OURS = /net::ERR_ABORTED|protocol\/\w+\.js|favicon/;
export const WAIT = { timeout: 20000 };

export class Desk {
	constructor(browser, environment) {
		this.browser = browser;
		this.routers = { r1: environment.TANDEM_R1, r2: environment.TANDEM_R2 };
		this.genuine = environment.TANDEM_BACKEND === 'genuine';
		this.program = environment.TANDEM_SERVICE;
		this.shots = environment.TANDEM_SHOTS || '';
		this.contexts = [];
		this.errors = [];
		this.figures = {};
	}

	// Open a page of a router; `path` begins with "/" or is one of Tandem's pages.
	async open(router, path, { user = 'root', dark = false, width = 1200, height = 900, locale = 'en-GB' } = {}) {
		const context = await this.browser.newContext({ viewport: { width, height }, baseURL: this.routers[router], reducedMotion: 'reduce', colorScheme: dark ? 'dark' : 'light', locale });
		this.contexts.push(context);
		const page = await context.newPage();
		this.page = page;
		page.on('console', (message) => {
			const where = message.location().url;
			if (message.type() === 'error' && !NOT_OURS.test(message.text() + where))
				this.errors.push(message.text() + ' ' + where);
		});
		page.on('pageerror', (error) => this.errors.push(String(error.stack || error)));
		const url = path.startsWith('/') ? path : PAGES + path;
		if (this.genuine)
			await this.login(page, url, user);
		else
			await page.goto(url + '?user=' + user + '&dark=' + (dark ? 1 : 0));
		if (this.genuine && dark)
			await page.evaluate(() => document.documentElement.setAttribute('data-darkmode', 'true'));
		await page.waitForSelector('.tandem', WAIT);
		return page;
	}

	async login(page, url, user) {
		page.on('response', () => {});
		const errors = this.errors.length;
		await page.goto(url);
		if (await page.locator('input[name="luci_password"]').count()) {
			await page.fill('input[name="luci_username"]', user);
			await page.fill('input[name="luci_password"]', user === 'root' ? '' : 'secret');
			await Promise.all([ page.waitForNavigation(), page.click('.cbi-button-apply, input[type="submit"], button.btn') ]);
		}
		this.errors.length = errors; // the login form comes with status 403
	}

	async shot(name) {
		if (!this.shots || !this.page)
			return;
		mkdirSync(this.shots, { recursive: true });
		await this.page.screenshot({ path: this.shots + '/' + name + '.png', fullPage: true });
	}

	// What `service tandem VERB` does on a router.
	service(router, verb) {
		execFileSync(this.program, [ router, verb ], { stdio: 'ignore' });
	}

	// Milliseconds of a core that each program of a router has used in so many seconds; the test waits for them.
	async cost(router, seconds) {
		const read = () => {
			const used = {};
			for (const line of execFileSync(this.program, [ router, 'cost' ], { encoding: 'utf8' }).split('\n')) {
				const [ name, ns ] = line.split(' ');
				if (name)
					used[name] = (used[name] || 0) + Number(ns || 0) / 1e6;
			}
			return used;
		};
		const before = read();
		await new Promise((resolve) => setTimeout(resolve, seconds * 1000));
		const after = read();
		return Object.fromEntries(Object.keys(after).map((name) => [ name, after[name] - (before[name] || 0) ]));
	}

	// Poll until a condition holds in the page.
	async until(page, test, argument, timeout = 20000) {
		await page.waitForFunction(test, argument, { timeout, polling: 100 });
	}

	async close() {
		for (const context of this.contexts)
			await context.close();
		this.contexts = [];
		this.errors = [];
	}
}

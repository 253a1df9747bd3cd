// SPDX-License-Identifier: GPL-2.0-or-later
// Runs the scenarios one after the other in Chromium, and prints a line of JSON for each: name, ok, error, figures.
// The environment says where: TANDEM_R1, TANDEM_R2 (addresses of the two routers' pages), TANDEM_BACKEND (standin or
// genuine), TANDEM_SHOTS (a directory for pictures, or nothing), TANDEM_ONLY (names, separated by commas).
import { chromium } from 'playwright-core';
import { scenarios } from './scenarios.mjs';
import { Desk } from './desk.mjs';

const browser = await chromium.launch({
	executablePath: process.env.TANDEM_CHROMIUM || '/usr/bin/chromium',
	args: [
		'--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage', '--disable-background-networking',
		'--disable-component-update', '--disable-sync', '--no-first-run'
	]
});
const only = (process.env.TANDEM_ONLY || '').split(',').filter(Boolean);
const desk = new Desk(browser, process.env);
let failed = false;
for (const [ name, scenario ] of Object.entries(scenarios)) {
	if (only.length && !only.includes(name))
		continue;
	const result = { name, ok: true };
	const start = Date.now();
	desk.figures = {};
	try {
		if (failed)
			throw new Error('not run: a scenario that makes its state has failed');
		await scenario(desk);
		if (desk.errors.length)
			throw new Error('on the browser\'s console: ' + desk.errors.join('\n'));
	} catch (error) {
		result.ok = false;
		result.error = String(error.stack || error);
		await desk.shot('failed-' + name).catch(() => {});
		failed = failed || scenario.makes === true;
	}
	await desk.close();
	console.log(JSON.stringify({ ...result, seconds: (Date.now() - start) / 1000, figures: desk.figures }));
}
await browser.close();

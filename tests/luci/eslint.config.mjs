// SPDX-License-Identifier: GPL-2.0-or-later
// LuCI's loader runs a module as the body of a function: hence `return` at the top, and the globals.
const globals = (names) => Object.fromEntries(names.split(' ').map((name) => [ name, 'readonly' ]));
const browser = globals('window document navigator sessionStorage Node DOMParser fetch queueMicrotask CSS');

const rules = {
	'no-undef': 'error', 'no-unused-vars': [ 'error', { argsIgnorePattern: '^_', varsIgnorePattern: '^_', caughtErrorsIgnorePattern: '^_' } ],
	'no-redeclare': 'error', 'prefer-const': 'error', 'no-var': 'error', 'eqeqeq': [ 'error', 'always', { null: 'ignore' } ],
	'no-dupe-keys': 'error', 'no-unreachable': 'error', 'no-shadow': [ 'error', { builtinGlobals: false } ],
	'no-eval': 'error', 'no-implied-eval': 'error', 'semi': 'error', 'no-irregular-whitespace': 'error',
	// Old minifiers of the buildroot do not know them.
	'no-restricted-syntax': [ 'error', 'TemplateLiteral', 'ArrowFunctionExpression', 'SpreadElement' ]
};

export default [
	{
		files: [ '**/htdocs/**/*.js' ],
		languageOptions: {
			ecmaVersion: 2018, sourceType: 'script', parserOptions: { ecmaFeatures: { globalReturn: true } },
			globals: { ...browser, ...globals('L E _ N_ view baseclass rpc poll ui uci form api pair option') }
		},
		rules
	},
	{
		files: [ '**/standin/*.js' ],
		languageOptions: { ecmaVersion: 2022, sourceType: 'script', globals: browser },
		rules: { ...rules, 'no-restricted-syntax': 'off', 'no-implied-eval': 'off' }
	},
	{
		files: [ '**/*.mjs' ],
		languageOptions: { ecmaVersion: 2022, sourceType: 'module', globals: { ...browser, ...globals('process console URL Image L getComputedStyle performance setTimeout') } },
		rules: { ...rules, 'no-restricted-syntax': 'off' }
	}
];

// SPDX-License-Identifier: GPL-2.0
//
// Busy functions in JavaScript, compiled at run time. See ../languages.py for the
// input and the output.
'use strict';

const readline = require('node:readline');

const names = ['leaf', 'recurse', 'throw', 'callback', 'construct', 'getter', 'variadic', 'wait'];
const counts = new Map(names.map((name) => [name, { calls: 0, returns: 0 }]));
const counters = Object.fromEntries(counts);
let iterations = 0;

function probed_leaf(x) {
	counters.leaf.calls++;
	const value = Math.imul(x ^ (x >>> 15), 2246822519) >>> 0;
	counters.leaf.returns++;
	return value;
}

// Each level allocates, so that the garbage collector examines its frames.
function probed_recurse(depth) {
	counters.recurse.calls++;
	const garbage = { depth, more: [depth, depth + 0.5] };
	let value = 1;
	if (depth > 0)
		value = (probed_recurse(depth - 1) * 3 + garbage.more[0]) >>> 0;
	counters.recurse.returns++;
	return value;
}

// One of ten levels ends the exception, and one throws another.
function probed_throw(depth, fail) {
	counters.throw.calls++;
	if (depth === 0 && fail)
		throw new Error('1');
	let value = 2;
	try {
		if (depth > 0)
			value = probed_throw(depth - 1, fail) + depth;
	} catch (error) {
		if (depth % 10 === 5)
			throw new Error(error.message + depth);
		if (depth % 10 !== 0)
			throw error;
		value = Number(error.message);
	}
	counters.throw.returns++;
	return value;
}

// Called by the engine's own functions.
function probed_callback(a, b) {
	counters.callback.calls++;
	const difference = (a * 7919) % 31 - (b * 7919) % 31;
	counters.callback.returns++;
	return difference;
}

function probed_construct(x) {
	counters.construct.calls++;
	this.x = x;
	this.values = [x, x * 2];
	counters.construct.returns++;
}

const object = {
	scale: 3,
	get scaled() {
		counters.getter.calls++;
		const value = probed_leaf(this.scale);
		counters.getter.returns++;
		return value;
	},
};

// Called with more arguments than it names, and with fewer.
function probed_variadic(a, b, ...rest) {
	counters.variadic.calls++;
	let sum = a + (b || 1);
	for (const x of rest)
		sum = sum * 3 + x;
	counters.variadic.returns++;
	return sum;
}

// Returns to the engine at each wait, and is entered again after it.
async function probed_wait(times) {
	counters.wait.calls++;
	let sum = 0;
	for (let i = 0; i < times; i++) {
		const promise = Promise.resolve(i);
		counters.wait.returns++;
		sum += await promise;
		counters.wait.calls++;
	}
	counters.wait.returns++;
	return sum;
}

function throwing(depth, fail) {
	try {
		return probed_throw(depth, fail);
	} catch (error) {
		return Number(error.message);
	}
}

async function iteration() {
	let sum = probed_recurse(60);
	const add = (value) => { sum = (Math.imul(sum, 31) + value) >>> 0; };
	const numbers = Array.from({ length: 24 }, (_, i) => i);

	for (let i = 0; i < 20; i++) {
		add(probed_leaf(i));
		add(throwing(i, i % 3 === 0));
		add(new probed_construct(i).values[1]);
		add(object.scaled);
		add(probed_variadic(i));
		add(probed_variadic(i, 2));
		add(probed_variadic(i, 2, 3, ...numbers.slice(0, i % 5)));
	}
	numbers.sort(probed_callback).forEach(add);
	add(numbers.reduce(probed_callback));
	add(await probed_wait(4));
	add((await Promise.all([probed_wait(2), probed_wait(3)]))[1]);
	iterations++;
	return sum;
}

async function run(seconds) {
	const end = performance.now() + seconds * 1000;
	const first = await iteration();
	let same = true;

	while (performance.now() < end)
		same = await iteration() === first && same;
	return same ? first : 'differs';
}

async function report(line) {
	const sum = await run(Number(line));
	const lines = [];

	for (const [name, counter] of counts) {
		lines.push(`count ${name} ${counter.calls} ${counter.returns}`);
		counter.calls = 0;
		counter.returns = 0;
	}
	lines.push(`iterations ${iterations}`, `sum ${sum}`, 'done');
	iterations = 0;
	console.log(lines.join('\n'));
}

const input = readline.createInterface({ input: process.stdin });
input.on('line', report);
console.log('ready');

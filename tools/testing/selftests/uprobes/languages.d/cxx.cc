// SPDX-License-Identifier: GPL-2.0
/*
 * Busy functions in C++ that end in every way: by a return, an exception, a
 * longjmp(), the end of the thread, or a tail call. See ../languages.py for the
 * input and the output.
 */
#include <atomic>
#include <chrono>
#include <csetjmp>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <thread>

#define PROBED extern "C" __attribute__((noipa))
#define PROBED_MEMBER __attribute__((noipa))
#define NOT_PROBED static __attribute__((noipa))

enum function {
	LEAF, RECURSE, DESCEND, THROW, SQUARE, CIRCLE, GROUP, TAIL, TARGET, JUMP, HANDLER, ESCAPE,
	LEAVE, FUNCTIONS
};

static const char *const names[FUNCTIONS] = {
	"leaf", "recurse", "descend", "throw", "square", "circle", "group", "tail", "target",
	"jump", "handler", "escape", "leave"
};

static constexpr int THREADS = 3;
static std::atomic<unsigned long> calls[FUNCTIONS], returns[FUNCTIONS];
static std::atomic<unsigned long> iterations;
static std::atomic<bool> wrong;
static thread_local sigjmp_buf escaped;

static void called(function f)
{
	calls[f].fetch_add(1, std::memory_order_relaxed);
}

static void returned(function f)
{
	returns[f].fetch_add(1, std::memory_order_relaxed);
}

struct failure {
	unsigned int value;
};

PROBED unsigned int probed_leaf(unsigned int x)
{
	called(LEAF);
	x = (x ^ (x >> 15)) * 2246822519u;
	returned(LEAF);
	return x;
}

PROBED unsigned int probed_recurse(unsigned int depth)
{
	called(RECURSE);
	unsigned int value = depth ? probed_recurse(depth - 1) * 3 + depth : 1;

	returned(RECURSE);
	return value;
}

/* The destructor makes a call during an exception. */
struct guard {
	unsigned int &sum;
	unsigned int depth;

	~guard()
	{
		sum += probed_leaf(depth);
	}
};

/* One of ten levels throws another exception, and one ends it. */
PROBED unsigned int probed_descend(unsigned int depth, unsigned int &sum)
{
	called(DESCEND);
	guard at_end = { sum, depth };
	unsigned int value;

	if (!depth)
		throw failure { 1 };
	try {
		value = probed_descend(depth - 1, sum);
	} catch (const failure &f) {
		if (depth % 10 == 0)
			value = f.value;
		else if (depth % 5 == 0)
			throw failure { f.value * 3 + depth };
		else
			throw;
	}
	returned(DESCEND);
	return value + depth;
}

PROBED unsigned int probed_throw(unsigned int x)
{
	called(THROW);
	if (x % 3 == 0)
		throw failure { x };
	returned(THROW);
	return x * 5;
}

struct shape {
	virtual ~shape() = default;
	virtual unsigned int area(unsigned int x) = 0;
};

struct square : shape {
	PROBED_MEMBER unsigned int area(unsigned int x) override asm("probed_square");
};

struct circle : shape {
	PROBED_MEMBER unsigned int area(unsigned int x) override asm("probed_circle");
};

struct group : shape {
	shape *members[3];

	group(shape *a, shape *b, shape *c) : members { a, b, c } {}
	PROBED_MEMBER unsigned int area(unsigned int x) override asm("probed_group");
};

unsigned int square::area(unsigned int x)
{
	called(SQUARE);
	if (x % 4 == 1)
		throw failure { x };
	returned(SQUARE);
	return x * x;
}

unsigned int circle::area(unsigned int x)
{
	called(CIRCLE);
	if (x % 7 == 2)
		throw failure { x + 1 };
	returned(CIRCLE);
	return x * x * 355 / 113;
}

unsigned int group::area(unsigned int x)
{
	called(GROUP);
	unsigned int sum = 0;

	for (shape *member : members)
		sum = sum * 7 + member->area(x++);
	returned(GROUP);
	return sum;
}

PROBED unsigned int probed_target(unsigned int x)
{
	called(TARGET);
	if (x % 4 == 3)
		throw failure { x };
	returned(TARGET);
	return x + 11;
}

/* Returns when the function that it jumps to returns. Its callers count that. */
PROBED unsigned int probed_tail(unsigned int x)
{
	called(TAIL);
	return probed_target(x * 3);
}

PROBED unsigned int probed_jump(unsigned int depth, bool jump, jmp_buf &to)
{
	called(JUMP);
	unsigned int value = 1;

	if (depth)
		value = probed_jump(depth - 1, jump, to) + depth;
	else if (jump)
		longjmp(to, 5);
	returned(JUMP);
	return value;
}

PROBED void probed_handler(int)
{
	called(HANDLER);
	probed_leaf(1);
	returned(HANDLER);
}

PROBED void probed_escape(int)
{
	called(ESCAPE);
	siglongjmp(escaped, 1);
}

/* The function of a thread. Half of the threads exit within it. */
PROBED void *probed_leave(void *depth)
{
	unsigned long left = reinterpret_cast<unsigned long>(depth);

	called(LEAVE);
	if (left == 1)
		pthread_exit(nullptr);
	if (left)
		probed_leave(reinterpret_cast<void *>(left - 2));
	returned(LEAVE);
	return nullptr;
}

NOT_PROBED unsigned int throwing(unsigned int x)
{
	unsigned int sum = 0;

	try {
		sum = probed_throw(x);
		try {
			sum += probed_throw(x + 1);
		} catch (const failure &f) {
			sum += probed_throw(f.value + 1);
		}
	} catch (const failure &f) {
		sum = sum * 3 + f.value + 1;
	}
	return sum;
}

NOT_PROBED unsigned int virtual_calls(shape *s, unsigned int x)
{
	try {
		return s->area(x);
	} catch (const failure &f) {
		return f.value * 9;
	}
}

NOT_PROBED unsigned int tail_calls(unsigned int x)
{
	unsigned int sum = 0;

	try {
		sum = probed_tail(x);
		returned(TAIL);
		sum += probed_target(x);
	} catch (const failure &f) {
		sum += f.value * 13;
	}
	return sum;
}

NOT_PROBED unsigned int jumping(unsigned int x)
{
	jmp_buf to;

	if (setjmp(to))
		return 77;
	return probed_jump(x % 5, x & 1, to);
}

NOT_PROBED unsigned int signals()
{
	pthread_kill(pthread_self(), SIGUSR1);
	if (sigsetjmp(escaped, 1))
		return 3;
	pthread_kill(pthread_self(), SIGUSR2);
	return 4;
}

NOT_PROBED void leaving(unsigned long depth)
{
	pthread_t thread;

	if (pthread_create(&thread, nullptr, probed_leave, reinterpret_cast<void *>(depth)))
		abort();
	pthread_join(thread, nullptr);
}

static unsigned int iteration()
{
	square s;
	circle c;
	group inner(&s, &c, &s), outer(&c, &inner, &s);
	shape *const shapes[] = { &s, &outer, &c, &inner };
	unsigned int unwound = 0, sum = probed_recurse(150);

	sum = sum * 31 + probed_descend(24, unwound);
	sum = sum * 31 + unwound;
	for (unsigned int i = 0; i < 40; i++) {
		sum = sum * 31 + probed_leaf(i);
		sum = sum * 31 + throwing(i);
		sum = sum * 31 + virtual_calls(shapes[i % 4], i);
		sum = sum * 31 + tail_calls(i);
		sum = sum * 31 + jumping(i);
	}
	return sum * 31 + signals();
}

static stack_t new_stack(void *memory, size_t size)
{
	stack_t stack = {};

	stack.ss_sp = memory;
	stack.ss_size = size;
	return stack;
}

/* One thread's signal stack is below its own stack, the others' are above. */
static stack_t signal_stack(int number)
{
	static char low[65536];
	const size_t size = sizeof(low);

	if (!number)
		return new_stack(low, size);
	void *memory = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			    -1, 0);
	if (memory == MAP_FAILED)
		abort();
	return new_stack(memory, size);
}

using moment = std::chrono::steady_clock::time_point;

static void work(int number, stack_t stack, moment end, unsigned int *result)
{
	bool first = true;

	sigaltstack(&stack, nullptr);
	do {
		unsigned int sum = iteration();

		if (first)
			*result = sum;
		first = false;
		if (sum != *result)
			wrong = true;
		if (!number)
			leaving(iterations % 4);
		iterations++;
	} while (std::chrono::steady_clock::now() < end);
	stack.ss_flags = SS_DISABLE;
	sigaltstack(&stack, nullptr);
}

static void set_timer(int interval)
{
	itimerval timer = {};

	timer.it_interval.tv_usec = interval;
	timer.it_value.tv_usec = interval;
	setitimer(ITIMER_REAL, &timer, nullptr);
}

static unsigned int run(double seconds)
{
	const moment end = std::chrono::steady_clock::now() +
			   std::chrono::microseconds(static_cast<long>(seconds * 1e6));
	stack_t stacks[THREADS];
	unsigned int sums[THREADS], sum = 0;
	std::thread threads[THREADS];

	for (int i = 0; i < THREADS; i++)
		stacks[i] = signal_stack(i);
	set_timer(10000);
	for (int i = 0; i < THREADS; i++)
		threads[i] = std::thread(work, i, stacks[i], end, &sums[i]);
	for (int i = 0; i < THREADS; i++) {
		threads[i].join();
		sum = sum * 17 + sums[i];
		if (i)
			munmap(stacks[i].ss_sp, stacks[i].ss_size);
	}
	set_timer(0);
	return sum;
}

static void report(unsigned int sum)
{
	for (int i = 0; i < FUNCTIONS; i++)
		printf("count %s %lu %lu\n", names[i], calls[i].exchange(0),
		       returns[i].exchange(0));
	printf("iterations %lu\n", iterations.exchange(0));
	if (wrong)
		puts("sum differs");
	else
		printf("sum %u\n", sum);
	puts("done");
	fflush(stdout);
}

int main()
{
	struct sigaction action = {};
	char line[64];

	action.sa_handler = probed_handler;
	action.sa_flags = SA_ONSTACK | SA_RESTART;
	sigfillset(&action.sa_mask);
	sigaction(SIGUSR1, &action, nullptr);
	sigaction(SIGALRM, &action, nullptr);
	action.sa_handler = probed_escape;
	sigaction(SIGUSR2, &action, nullptr);

	puts("ready");
	fflush(stdout);
	while (fgets(line, sizeof(line), stdin))
		report(run(atof(line)));
	return 0;
}

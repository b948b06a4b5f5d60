// SPDX-License-Identifier: GPL-2.0
/*
 * Measures what probes cost, in the guest; see scripts/bench. With `-icount shift=0`
 * and one processor the time-stamp counter counts instructions.
 *
 *	bench MODULE hits		instructions a hit, in excess of a call without
 *	bench MODULE traps		hits of each case, with a division by zero before
 *					each, for QEMU's log
 *	bench MODULE among N...		one hit among N breakpoints, for each N
 *	bench MODULE register N		instructions to set and remove N probes, and memory
 *	bench MODULE times		ticks of the time-stamp counter a hit
 *	bench MODULE scale ROUNDS THREADS...	bursts of hits, by each number of threads in
 *					turn, for scripts/bench.d/bursts.py
 *	bench MODULE apart ROUNDS PROCESSES...	the same by processes with a probe each
 *	bench - ticks			of the time-stamp counter, a second; on the host
 *	bench MODULE hold		a process that is hit now and then, for ever
 *	bench MODULE profile CASE INSTRUCTION	hits of one case, for scripts/profile
 *
 * Prints lines CASE INSTRUCTION VALUE; a value of "-" is one that cannot be had.
 */
#define _GNU_SOURCE
#include <err.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>
#include <x86intrin.h>

#include "functions.h"
#include "probes.h"

enum { HITS_FOR_LOG = 10, BURST_US = 200000, PAUSE_US = 50000, MOST_THREADS = 64 };

/* What functions get, for arguments of events. */
static const char text[] = "a string of 24 characters";

typedef void (*function)(long number, const char *string);

static const struct first {
	const char *name;
	function call;
	const char *end;
} firsts[] = {
#define ENTRY(name) { #name, first_##name, first_##name##_end },
	FOR_EACH_FIRST(ENTRY)
};

enum { FIRSTS = sizeof(firsts) / sizeof(firsts[0]) };

/* What a hit costs is in excess of this: a call without a probe. */
static double spent(function call, unsigned int calls, unsigned int rounds)
{
	uint64_t least = UINT64_MAX;

	while (rounds--) {
		uint64_t start = __rdtsc();

		for (unsigned int i = 0; i < calls; i++)
			call(0, text);
		start = __rdtsc() - start;
		/* In the round of the least, no timer interrupt came in between. */
		if (start < least)
			least = start;
	}
	return (double)least / calls;
}

static uint64_t instructions(void)
{
	return __rdtsc();
}

static uint64_t nanoseconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000ull + now.tv_nsec;
}

static double (*measure)(function call);

static double count_instructions(function call)
{
	return spent(call, 200, 25);
}

/* The guest's own clock may count the interrupts of a timer, of which some get lost. */
static double take_time(function call)
{
	return spent(call, 20000, 3);
}

/* A marker in QEMU's log of exceptions, and a few hits. */
static double hit_for_log(function call)
{
	asm volatile("xor %%ecx, %%ecx; div %%ecx" ::: "eax", "ecx", "edx", "cc");
	for (int i = 0; i < HITS_FOR_LOG; i++)
		call(0, text);
	return 0;
}

/* As many as the moment takes for which scripts/guest traces. */
static double hit_for_profile(function call)
{
	time_t end = time(NULL) + 3;

	puts("@trace");
	fflush(stdout);
	while (time(NULL) < end)
		for (int i = 0; i < 100; i++)
			call(0, text);
	return 0;
}

/* The only case and instruction that are wanted, or NULL for all. */
static const char *only_case, *only_instruction;

static bool is_wanted(const char *wanted, const char *name)
{
	return !wanted || !strcmp(wanted, name);
}

/* The division is two bytes long. */
static void skip_division(int sig, siginfo_t *info, void *context)
{
	((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP] += 2;
}

static void print(const char *name, const struct first *first, bool had, double value)
{
	if (had)
		printf("%s %s %.2f\n", name, first->name, value);
	else
		printf("%s %s -\n", name, first->name);
	fflush(stdout);
}

static void by_module(const char *name, const struct first *first, const char *what, double without)
{
	bool set;

	if (!is_wanted(only_case, name))
		return;
	set = probes_set(first->call, 1, 0, what);
	print(name, first, set, set ? measure(first->call) - without : 0);
	if (set)
		probes_remove();
}

static void by_event(const char *name, const struct first *first, const char *arguments,
		     int (*user)(void), double without)
{
	bool set, on;
	int fd = -1;

	if (!is_wanted(only_case, name))
		return;
	set = event_set(first->call, arguments);
	/* Mainline finds out only now what cannot be probed. */
	if (set && user)
		fd = user();
	on = set && (user ? fd >= 0 : event_enable(true));
	print(name, first, on, on ? measure(first->call) - without : 0);
	if (fd >= 0)
		close(fd);
	else if (on)
		event_enable(false);
	if (set)
		event_remove();
}

static void all_cases(void)
{
	for (unsigned int i = 0; i < FIRSTS; i++) {
		const struct first *first = &firsts[i];
		double without = 0;
		char sized[60];

		if (!is_wanted(only_instruction, first->name))
			continue;
		if (measure == count_instructions || measure == take_time)
			without = measure(first->call);
		if (probes_ours()) {
			by_module("empty-interrupt", first, "interrupt=1", without);
			by_module("empty-task", first, "task=1", without);
			by_module("entry-return", first, "task=1 returned=1", without);
			snprintf(sized, sizeof(sized), "task=1 returned=1 size=%u",
				 (unsigned int)(first->end - (const char *)first->call));
			by_module("entry-return-sized", first, sized, without);
		} else {
			by_module("empty-task", first, "", without);
			by_module("entry-return", first, "returned=1", without);
		}
		by_event("tracefs-noarg", first, "", NULL, without);
		by_event("tracefs-reg", first, "di=%di", NULL, without);
		by_event("tracefs-string", first, "s=+0(%si):string", NULL, without);
		by_event("perf", first, "", event_perf, without);
		by_event("bpf", first, "", event_bpf, without);
	}
}

/* One hit among many breakpoints: of the first, the last and some between, the mean. */
static void among(unsigned int count)
{
	const char *what = probes_ours() ? "interrupt=1" : "";
	double sum = 0;
	enum { PLACES = 20 };

	if (!probes_set(many, count, MANY_STRIDE, what))
		err(1, "%u probes", count);
	for (unsigned int i = 0; i < PLACES; i++) {
		unsigned long nth = (uint64_t)(count - 1) * i / (PLACES - 1);

		sum += measure((function)(many + nth * MANY_STRIDE));
	}
	probes_remove();
	printf("among nop %.2f\n", sum / PLACES - measure((function)many));
}

static long memory_used(void)
{
	static const char * const fields[] = { "Slab:", "Percpu:", "VmallocUsed:", "PageTables:" };
	char name[60];
	long sum = 0, value;
	FILE *file = fopen("/proc/meminfo", "r");

	while (file && fscanf(file, "%59s %ld%*[^\n]", name, &value) == 2)
		for (unsigned int i = 0; i < 4; i++)
			if (!strcmp(name, fields[i]))
				sum += value;
	if (file)
		fclose(file);
	return sum * 1024;
}

static void register_many(unsigned int count)
{
	const char *what = probes_ours() ? "task=1" : "";
	long memory = memory_used();
	uint64_t start = instructions(), set;

	if (!probes_set(many, count, MANY_STRIDE, what))
		err(1, "%u probes", count);
	set = instructions() - start;
	memory = memory_used() - memory;
	start = instructions();
	probes_remove();
	start = instructions() - start;
	printf("register nop %.2f\nunregister nop %.2f\nmemory nop %.2f\n", (double)set / count,
	       (double)start / count, (double)memory / count);
}

/* Shared by processes, if it is they that hit. */
static struct {
	volatile bool stop;
	pthread_barrier_t ready, start;
	/* So that each is in a cache line of its own, also where two are fetched at once. */
	struct thread {
		pthread_t id;
		pid_t process;
		volatile uint64_t hits;
		char padding[104];
	} threads[MOST_THREADS];
} *shared;

static void set_first_probe(void)
{
	if (!probes_set(first_nop, 1, 0, probes_ours() ? "interrupt=1" : ""))
		err(1, "probe");
}

static void *hit_until_stop(void *thread)
{
	struct thread *this = thread;

	pthread_barrier_wait(&shared->ready);
	pthread_barrier_wait(&shared->start);
	while (!shared->stop) {
		for (int i = 0; i < 100; i++)
			first_nop(0, text);
		this->hits += 100;
	}
	return NULL;
}

static void process_hits_until_stop(struct thread *this, unsigned int number)
{
	pid_t process = fork();

	if (process < 0)
		err(1, "fork");
	if (process) {
		/* By the parent only, as the memory is shared. */
		this->process = process;
		return;
	}
	if (number)
		probes_open_copy(number);
	set_first_probe();
	hit_until_stop(this);
	probes_remove();
	_exit(0);
}

/* The guest is idle for a while, in which scripts/guest reads its processors' times. */
static void pause_for_times(void)
{
	puts("@times");
	fflush(stdout);
	usleep(PAUSE_US);
}

/* Threads and processes take turns at the processors, from the first on. */
static void stay_on_processor(unsigned int number)
{
	cpu_set_t processors;

	CPU_ZERO(&processors);
	CPU_SET(number % sysconf(_SC_NPROCESSORS_ONLN), &processors);
	if (sched_setaffinity(0, sizeof(processors), &processors))
		err(1, "sched_setaffinity");
}

static void create(unsigned int number, bool processes)
{
	struct thread *this = &shared->threads[number];
	cpu_set_t before;

	/* A new thread or process inherits it. */
	sched_getaffinity(0, sizeof(before), &before);
	stay_on_processor(number);
	this->hits = 0;
	if (processes)
		process_hits_until_stop(this, number);
	else if (pthread_create(&this->id, NULL, hit_until_stop, this))
		err(1, "thread");
	sched_setaffinity(0, sizeof(before), &before);
}

static void join(const struct thread *this, bool processes)
{
	int status;

	if (!processes)
		pthread_join(this->id, NULL);
	else if (waitpid(this->process, &status, 0) < 0)
		err(1, "waitpid");
	else if (status)
		errx(1, "a process has ended with status %#x", status);
}

static void burst(unsigned int count, bool processes)
{
	uint64_t began, ticks, hits = 0;

	if (count > MOST_THREADS)
		errx(2, "%u threads", count);
	shared->stop = false;
	for (unsigned int i = 0; i < 2; i++) {
		pthread_barrierattr_t attributes;

		pthread_barrierattr_init(&attributes);
		pthread_barrierattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
		pthread_barrier_init(i ? &shared->start : &shared->ready, &attributes, count + 1);
	}
	for (unsigned int i = 0; i < count; i++)
		create(i, processes);
	pthread_barrier_wait(&shared->ready);
	pause_for_times();
	pthread_barrier_wait(&shared->start);
	/* As in take_time(). */
	began = __rdtsc();
	usleep(BURST_US);
	shared->stop = true;
	for (unsigned int i = 0; i < count; i++)
		hits += shared->threads[i].hits;
	ticks = __rdtsc() - began;
	for (unsigned int i = 0; i < count; i++)
		join(&shared->threads[i], processes);
	printf("burst %u %llu %llu\n", count, (unsigned long long)hits, (unsigned long long)ticks);
	pause_for_times();
}

static void bursts(unsigned int rounds, char **counts, bool processes)
{
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED)
		err(1, "mmap");
	puts("@bursts");
	if (!processes)
		set_first_probe();
	while (rounds--)
		for (char **count = counts; *count; count++)
			burst(atoi(*count), processes);
	if (!processes)
		probes_remove();
}

static void ticks_per_second(void)
{
	uint64_t start = nanoseconds(), ticks = __rdtsc();

	usleep(500000);
	ticks = __rdtsc() - ticks;
	printf("%.0f\n", ticks * 1e9 / (nanoseconds() - start));
}

static void hold(void)
{
	if (!probes_set(first_nop, 1, 0, probes_ours() ? "task=1" : ""))
		err(1, "probe");
	for (;;) {
		first_nop(0, text);
		puts("held");
		fflush(stdout);
		usleep(1000);
	}
}

int main(int argc, char **argv)
{
	const char *what = argc > 2 ? argv[2] : "";
	unsigned int n = argc > 3 ? atoi(argv[3]) : 0;
	struct sigaction action = { .sa_sigaction = skip_division, .sa_flags = SA_SIGINFO };

	if (argc < 3)
		errx(2, "usage: bench MODULE hits|traps|among|register|times|scale|apart|ticks|hold|profile ...");
	if (!strcmp(what, "ticks")) {
		ticks_per_second();
		return 0;
	}
	probes_open(argv[1]);
	measure = count_instructions;
	if (!strcmp(what, "hits")) {
		all_cases();
	} else if (!strcmp(what, "traps")) {
		sigaction(SIGFPE, &action, NULL);
		measure = hit_for_log;
		all_cases();
	} else if (!strcmp(what, "among")) {
		for (int i = 3; i < argc; i++)
			among(atoi(argv[i]));
	} else if (!strcmp(what, "register")) {
		register_many(n);
	} else if (!strcmp(what, "times")) {
		measure = take_time;
		all_cases();
	} else if ((!strcmp(what, "scale") || !strcmp(what, "apart")) && argc > 4) {
		bursts(n, argv + 4, !strcmp(what, "apart"));
	} else if (!strcmp(what, "hold")) {
		hold();
	} else if (!strcmp(what, "profile") && argc == 5) {
		only_case = argv[3];
		only_instruction = argv[4];
		measure = hit_for_profile;
		all_cases();
	} else {
		errx(2, "%s", what);
	}
	return 0;
}

// SPDX-License-Identifier: GPL-2.0
/*
 * Tests that a breakpoint does not change the effect of an instruction.
 *
 * Instructions of all kinds are executed from random states, each without and
 * with a breakpoint that makes UBP displace the instruction, at the same
 * address. Registers, flags, vector state, memory and the resulting signal must
 * be the same, also with signals, debuggers and other disturbances in between.
 * Each execution must be one hit.
 */
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "compare.h"
#include "device.h"
#include "disturb.h"
#include "kselftest.h"
#include "report.h"
#include "selftest_process.h"

#define CASES		20000
#define POLL_USEC	10000
#define STUCK		60	/* seconds */

static const struct mode modes[] = {
	{ "plain", 0, 59 },
	{ "tf", DISTURB_TRAP, 20 },
	{ "signals", DISTURB_SIGNALS, 10 },
	{ "rseq", DISTURB_RSEQ, 10 },
	{ "ptrace", DISTURB_PTRACE, 1 },
};

static const struct option option_names[] = {
	{ "seed", required_argument, NULL, 's' },
	{ "cases", required_argument, NULL, 'n' },
	{ "states", required_argument, NULL, 'k' },
	{ "jobs", required_argument, NULL, 'j' },
	{ "mode", required_argument, NULL, 'm' },
	{ "maps", required_argument, NULL, 'M' },
	{ "only", required_argument, NULL, 'o' },
	{ "case", required_argument, NULL, 'c' },
	{ "limit", required_argument, NULL, 'l' },
	{ "native", no_argument, NULL, 'N' },
	{ "help", no_argument, NULL, 'h' },
	{ }
};

static const char help[] =
	"  --cases N    number of cases in all modes together\n"
	"  --seed N     seed of random numbers\n"
	"  --states N   cases of each instruction (8; at most 64)\n"
	"  --jobs N     processes; waiting for the kernel, they overlap\n"
	"  --mode NAME  only plain, tf, signals, rseq or ptrace\n"
	"  --maps A,B   only opcodes of these maps, named as in the table\n"
	"  --only HEX   only this instruction\n"
	"  --case N     only this case of it\n"
	"  --limit N    mismatches that each process prints (10)\n"
	"  --native     no breakpoints: compare two runs without them\n";

static struct options options = {
	.seed = 1,
	.states = 8,
	.jobs = 8,
	.limit = 10,
	.maps = (1 << MAPS) - 1,
	.only_case = -1,
};

static void usage(int status)
{
	fputs(help, status ? stderr : stdout);
	exit(status);
}

static unsigned int parse_maps(char *names)
{
	unsigned int i, maps = 0;
	char *name;

	for (name = strtok(names, ","); name; name = strtok(NULL, ",")) {
		for (i = 0; i < MAPS && strcmp(name, map_names[i]); i++)
			;
		if (i == MAPS)
			usage(2);
		maps |= 1 << i;
	}
	return maps;
}

static void parse(int argc, char **argv)
{
	int c;

	while ((c = getopt_long(argc, argv, "", option_names, NULL)) != -1) {
		unsigned long long number = optarg ? strtoull(optarg, NULL, 0) : 0;

		switch (c) {
		case 's':
			options.seed = number;
			break;
		case 'n':
			options.cases = number;
			break;
		case 'k':
			options.states = number;
			break;
		case 'j':
			options.jobs = number;
			break;
		case 'm':
			options.mode = optarg;
			break;
		case 'M':
			options.maps = parse_maps(optarg);
			break;
		case 'o':
			options.only = optarg;
			break;
		case 'c':
			options.only_case = number;
			break;
		case 'l':
			options.limit = number;
			break;
		case 'N':
			options.native = true;
			break;
		default:
			usage(c == 'h' ? 0 : 2);
		}
	}
	if (options.only)
		options.jobs = 1;
	if (!options.jobs || options.jobs > 64 || !options.states || options.states > 64 ||
	    options.only_case > 63)
		usage(2);
}

static uint64_t progress(struct shared *const *shared)
{
	uint64_t sum = 0;
	unsigned int i, map;

	for (i = 0; i < options.jobs; i++)
		for (map = 0; map < MAPS; map++)
			sum += shared[i]->map[map].encodings + shared[i]->map[map].cases;
	return sum;
}

/*
 * Waits for workers that are not traced. Returns false if one does not make
 * progress. A worker itself ends a case that does not end, unless the kernel
 * loops.
 */
static bool wait_for(struct traced *worker, struct shared *const *shared)
{
	unsigned int i, left = options.jobs;
	uint64_t before = 0, now;
	time_t since = time(NULL);

	for (i = 0; i < options.jobs; i++)
		worker[i].run->go = true;
	while (left) {
		for (i = 0, left = 0; i < options.jobs; i++) {
			if (!worker[i].ended)
				worker[i].ended = waitpid(worker[i].pid, &worker[i].status,
							  WNOHANG) > 0;
			left += !worker[i].ended;
		}
		usleep(POLL_USEC);
		now = progress(shared);
		if (now != before)
			since = time(NULL);
		before = now;
		if (left && time(NULL) - since > STUCK)
			return false;
	}
	return true;
}

/* Prints the current case of each worker that has not ended. */
static void stuck(const struct traced *worker, struct shared *const *shared)
{
	unsigned int i;

	for (i = 0; i < options.jobs; i++) {
		if (worker[i].ended)
			continue;
		ksft_print_msg("stuck: %s\n", shared[i]->current);
		kill(worker[i].pid, SIGKILL);
	}
	ksft_exit_fail_msg("a worker makes no progress\n");
}

static struct shared *new_shared(void)
{
	struct shared *shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE,
				     MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (shared == MAP_FAILED)
		ksft_exit_fail_msg("no memory\n");
	return shared;
}

/*
 * Returns the number of results: one with --only; else one for each map, and
 * one for the addresses at which the thread was seen.
 */
static unsigned int results_of_mode(void)
{
	return options.only ? 1 : __builtin_popcount(options.maps) + 1;
}

static void results(const struct mode *mode, const struct shared *sum)
{
	unsigned int i;

	for (i = 0; i < MAPS; i++)
		if (options.only ? sum->map[i].encodings : options.maps & 1 << i)
			ksft_test_result(!sum->map[i].mismatches, "%s: %s\n", mode->name,
					 map_names[i]);
	if (!options.only)
		ksft_test_result(!sum->run.seen_elsewhere, "%s: never seen in a slot\n",
				 mode->name);
}

static void run_mode(const struct mode *mode)
{
	struct rng rng = { .state = options.seed };
	struct shared *shared[64];
	struct traced worker[64] = {};
	unsigned int i;

	fflush(stdout);
	for (i = 0; i < options.jobs; i++) {
		shared[i] = new_shared();
		worker[i].run = &shared[i]->run;
		worker[i].pid = fork();
		if (!worker[i].pid)
			worker_run(&options, mode, i, shared[i]);
		if (worker[i].pid < 0)
			ksft_exit_fail_msg("no process\n");
	}
	if (!(mode->disturb & DISTURB_PTRACE)) {
		if (!wait_for(worker, shared))
			stuck(worker, shared);
	} else if (!trace_until_end(worker, options.jobs, &rng)) {
		ksft_exit_fail_msg("cannot trace\n");
	}
	for (i = 0; i < options.jobs; i++)
		if (worker[i].status)
			ksft_exit_fail_msg("a worker ended with status %#x at: %s\n",
					   worker[i].status, shared[i]->current);
	results(mode, report(&options, mode, (const struct shared *const *)shared));
	for (i = 0; i < options.jobs; i++)
		munmap(shared[i], sizeof(*shared[i]));
}

/* Checks that the comparison detects a deliberate difference. */
static void selfcheck(void)
{
	static const struct encoding cpuid = { .bytes = { 0x0f, 0xa2 }, .len = 2 };
	static struct shared_run shared;
	static struct outcome outcome;
	static struct start start;
	char text[1024] = "the instruction cannot be run";
	bool good = false;
	struct rng rng = {};
	int status;

	if (!fork()) {
		if (run_setup(&shared, &rng, 0)) {
			state_make(&start, &cpuid, CODE, options.seed, 0, false);
			code_place(CODE, cpuid.bytes, cpuid.len);
			run(&start, 0, &outcome);
			outcome_normalize(&outcome, &cpuid, &start);
			good = compare_selfcheck(&outcome, text, sizeof(text));
		}
		if (!good)
			ksft_print_msg("%s\n", text);
		_exit(!good);
	}
	wait(&status);
	ksft_test_result(!status, "differences are detected\n");
}

static bool is_wanted(const struct mode *mode)
{
	return !options.mode || !strcmp(options.mode, mode->name);
}

int main(int argc, char **argv)
{
	unsigned int i, wanted = 0;
	int device;

	parse(argc, argv);
	for (i = 0; i < ARRAY_SIZE(modes); i++)
		wanted += is_wanted(&modes[i]);
	if (!wanted)
		usage(2);
	if (!options.cases) {
		options.cases = CASES;
		if (slow_kernel())
			options.cases /= 3;
	}
	ksft_print_header();
	if (!options.native) {
		device = device_open();
		if (device < 0)
			ksft_exit_skip("no %s\n", UBP_TEST_DEVICE);
		close(device);
	}
	ksft_set_plan(1 + wanted * results_of_mode());
	if (!arena_setup(options.seed) || !disturb_find_text())
		ksft_exit_fail_msg("the memory is not free\n");
	selfcheck();
	for (i = 0; i < ARRAY_SIZE(modes); i++)
		if (is_wanted(&modes[i]))
			run_mode(&modes[i]);
	ksft_finished();
}

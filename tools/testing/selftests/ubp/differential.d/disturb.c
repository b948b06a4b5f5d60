// SPDX-License-Identifier: GPL-2.0
/* Disturbances of a thread while it executes an instruction: see disturb.h. */
#include <linux/rseq.h>
#include <stdio.h>
#include <string.h>
#include <sys/rseq.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "disturb.h"

#define RANGES	64

static struct {
	uintptr_t start, end;
} known[RANGES];
static unsigned int known_count;

static struct rng *rng;
static unsigned int disturb;
static timer_t timer;

bool disturb_find_text(void)
{
	unsigned long start, end;
	char line[512], x;
	FILE *maps = fopen("/proc/self/maps", "r");

	if (!maps)
		return false;
	while (fgets(line, sizeof(line), maps)) {
		if (sscanf(line, "%lx-%lx %*c%*c%c", &start, &end, &x) != 3 || x != 'x')
			continue;
		/* In the code of a case, only certain addresses are valid. */
		if (start == CODE)
			continue;
		if (known_count == RANGES)
			break;
		known[known_count].start = start;
		known[known_count++].end = end;
	}
	fclose(maps);
	return known_count;
}

static bool is_known(const struct shared_run *run, uintptr_t ip)
{
	unsigned int i;

	if (ip == run->ip || ip == run->start_ip || ip == run->next_ip ||
	    run->next_ip == NEXT_UNKNOWN)
		return true;
	for (i = 0; i < known_count; i++)
		if (ip >= known[i].start && ip < known[i].end)
			return true;
	return false;
}

void disturb_saw(struct shared_run *run, uintptr_t ip)
{
	run->seen++;
	if (ip == run->ip)
		run->seen_at_ip++;
	if (is_known(run, ip))
		return;
	run->seen_elsewhere++;
	run->elsewhere = ip;
}

static void start_timer(timer_t which, long first, long interval)
{
	struct itimerspec when = {
		.it_value = { .tv_sec = first / 1000000000, .tv_nsec = first % 1000000000 },
		.it_interval = { .tv_sec = interval / 1000000000 },
	};

	timer_settime(which, 0, &when, NULL);
}

static bool make_timer(timer_t *made, int signal)
{
	struct sigevent event = {
		.sigev_notify = SIGEV_THREAD_ID,
		.sigev_signo = signal,
		._sigev_un._tid = syscall(SYS_gettid),
	};

	return !timer_create(CLOCK_MONOTONIC, &event, made);
}

/*
 * Starts the timer of the next signal after a signal has been handled, so that
 * the thread always has time to make progress in between.
 */
void disturb_again(void)
{
	if (disturb & DISTURB_SIGNALS)
		start_timer(timer, 20000 + rng_below(rng, 200000), 0);
}

/*
 * The kernel's rseq structures, in memory that an instruction can write without
 * a register.
 */
static struct rseq *const area = (struct rseq *)RSEQ;
static struct rseq_cs *const sequence = (struct rseq_cs *)(RSEQ + 128);

static bool register_area(void)
{
	struct rseq *old = (struct rseq *)((char *)__builtin_thread_pointer() + __rseq_offset);
	/*
	 * The C library has registered this area, which may be larger than
	 * __rseq_size.
	 */
	uint32_t size = __rseq_size > 32 ? __rseq_size : 32;

	if (!__rseq_size ||
	    syscall(SYS_rseq, old, size, RSEQ_FLAG_UNREGISTER, ABORT_SIGNATURE))
		return false;
	return !syscall(SYS_rseq, area, 32, 0, ABORT_SIGNATURE);
}

unsigned int disturb_prologue(uintptr_t at, unsigned int len)
{
	/*
	 * A store of a 32-bit number to an absolute address, with a SIB byte
	 * because the form without it is RIP-relative.
	 */
	static const uint8_t store[] = { 0xc7, 0x04, 0x25 };
	uint32_t words[2] = { (uintptr_t)&area->rseq_cs, (uintptr_t)sequence };
	uintptr_t start = at - sizeof(store) - sizeof(words);

	if (!(disturb & DISTURB_RSEQ))
		return 0;
	code_place(start, store, sizeof(store));
	code_place(at - sizeof(words), (uint8_t *)words, sizeof(words));
	sequence->start_ip = at;
	sequence->post_commit_offset = len;
	sequence->abort_ip = ABORT_IP;
	return at - start;
}

bool disturb_setup(struct rng *from, unsigned int what)
{
	timer_t watchdog;

	rng = from;
	disturb = what;
	if (!make_timer(&watchdog, SIGALRM) || !make_timer(&timer, SIGPROF))
		return false;
	start_timer(watchdog, 1000000000, 1000000000);
	disturb_again();
	return !(disturb & DISTURB_RSEQ) || register_area();
}

void disturb_end(void)
{
	if (disturb & DISTURB_RSEQ)
		area->rseq_cs = 0;
}

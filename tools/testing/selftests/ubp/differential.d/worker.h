/* SPDX-License-Identifier: GPL-2.0 */
/* Worker process that executes cases, and its results. */
#ifndef _WORKER_H
#define _WORKER_H

#include <stdbool.h>
#include <stdint.h>

#include "encoding.h"
#include "run.h"
#include "ubp_test.h"

#define REASONS		48
#define REASON_SIZE	UBP_TEST_REASON_SIZE
#define PLANS		4

struct options {
	uint64_t seed;
	uint64_t cases;
	unsigned int states;	/* cases of an encoding */
	unsigned int jobs;
	unsigned int limit;	/* maximum number of printed mismatches */
	bool native;
	const char *mode;	/* NULL: all */
	unsigned int maps;	/* as bits */
	const char *only;	/* an encoding, in hexadecimal */
	int only_case;		/* -1: all */
};

/**
 * struct mode - a kind of disturbance
 * @name: its name
 * @disturb: DISTURB_*
 * @percent: share of all cases
 */
struct mode {
	const char *name;
	unsigned int disturb;
	unsigned int percent;
};

/**
 * struct map_stats - results for an opcode map
 * @encodings: number of instructions that were tried or refused
 * @plans: number of them by plan, indexed by UBP_TEST_REFUSED and so on
 * @left_out: number of them that the test does not try
 * @cases: number of cases that were executed, twice
 * @completed: number of cases that raised no exception
 * @mismatches: number of cases that ended differently
 */
struct map_stats {
	uint64_t encodings;
	uint64_t plans[PLANS];
	uint64_t left_out;
	uint64_t cases;
	uint64_t completed;
	uint64_t mismatches;
};

struct reason_stats {
	char reason[REASON_SIZE];
	uint64_t count[MAPS];
};

struct shared {
	struct shared_run run;
	struct map_stats map[MAPS];
	struct reason_stats refused[REASONS];
	struct reason_stats left_out[REASONS];
	uint64_t aborts;		/* of restartable sequences */
	uint64_t unstable;		/* cases that differ between runs without a breakpoint */
	uint64_t stepping;		/* cases in which the CPU differs when it steps */
	unsigned int printed;
	/* The current case, for the report if it does not return. */
	char current[128];
};

/* Executes this worker's share of the cases. Does not return. */
void worker_run(const struct options *options, const struct mode *mode, unsigned int number,
		struct shared *shared);

#endif /* _WORKER_H */

/* SPDX-License-Identifier: GPL-2.0 */
/* Disturbances of a thread while it executes an instruction. */
#ifndef _DISTURB_H
#define _DISTURB_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "rng.h"
#include "run.h"

/* Records the program's text, before anything is probed. */
bool disturb_find_text(void);
/*
 * Records whether a thread was seen in the program or at the instruction, or at
 * an invalid address.
 */
void disturb_saw(struct shared_run *run, uintptr_t ip);

bool disturb_setup(struct rng *rng, unsigned int disturb);
/*
 * Places code that must be executed before the instruction of @len bytes at
 * @at. Returns its length; 0 if no code is necessary.
 */
unsigned int disturb_prologue(uintptr_t at, unsigned int len);
/* Called in signal handlers, after a signal that disturbs, and after a run. */
void disturb_again(void);
void disturb_end(void);

/* A traced process, and the tracer's observations. */
struct traced {
	pid_t pid;
	struct shared_run *run;
	bool ended;
	int status;
};

/*
 * Traces @count processes until they have ended, and stops them continually.
 * Returns false if tracing failed.
 */
bool trace_until_end(struct traced *traced, unsigned int count, struct rng *rng);

#endif /* _DISTURB_H */

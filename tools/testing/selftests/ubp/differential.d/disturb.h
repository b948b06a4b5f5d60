/* SPDX-License-Identifier: GPL-2.0 */
/* What happens to a thread while it executes an instruction. */
#ifndef _DISTURB_H
#define _DISTURB_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "rng.h"
#include "run.h"

/* Finds the program's text, before anything is probed. */
bool disturb_find_text(void);
/* Notes where a thread was seen: in the program or at the instruction, or where it must not be. */
void disturb_saw(struct shared_run *run, uintptr_t ip);

bool disturb_setup(struct rng *rng, unsigned int disturb);
/*
 * Places what has to be executed before the instruction of @len bytes at @at.
 * Returns how long it is; 0 if there is nothing.
 */
unsigned int disturb_prologue(uintptr_t at, unsigned int len);
/* After a signal that disturbs, and after a run; called in signal handlers. */
void disturb_again(void);
void disturb_end(void);

/* What is traced, and what the tracer has seen. */
struct traced {
	pid_t pid;
	struct shared_run *run;
	bool ended;
	int status;
};

/*
 * Traces @count processes until they have ended, and stops them all the time.
 * False if one could not be traced.
 */
bool trace_until_end(struct traced *traced, unsigned int count, struct rng *rng);

#endif /* _DISTURB_H */

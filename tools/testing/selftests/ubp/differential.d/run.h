/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Running one instruction. All is done by signal frames: a signal handler
 * returns to the instruction with all state as it is to be, and the exception
 * of the next instruction, or of the one itself, brings the result.
 */
#ifndef _RUN_H
#define _RUN_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <ucontext.h>

#include "arena.h"
#include "state.h"

/* What the kernel does not keep in 64-bit signal frames. */
struct segments {
	uint16_t ds, es, fs, gs;
	uint64_t fs_base, gs_base;
};

/**
 * struct outcome - how a run ended
 * @signal: the signal, SIGALRM if it did not end
 * @code: its si_code
 * @address: its si_addr
 * @gregs: general registers, flags and what the exception was
 * @cr2: where the last page fault was
 * @segments: segment registers
 * @frame: vector state
 * @memory: the memory
 */
struct outcome {
	int signal;
	int code;
	uintptr_t address;
	greg_t gregs[NGREG];
	uint64_t cr2;
	struct segments segments;
	uint8_t frame[FRAME_MAX];
	struct arena_copy memory;
};

/* Disturbances, as bits. */
#define DISTURB_TRAP	0x1	/* the trap flag is set; done by state_make() */
#define DISTURB_SIGNALS	0x2	/* a timer goes off all the time */
#define DISTURB_RSEQ	0x4	/* the instruction is a restartable sequence */
#define DISTURB_PTRACE	0x8	/* a debugger stops the thread; done by the parent */

/* Any instruction may be next. */
#define NEXT_UNKNOWN	UINTPTR_MAX

/**
 * struct shared_run - what a process shares with the one that has started it
 * @go: whether it may begin
 * @ip: where the instruction is
 * @start_ip: where what is before it begins
 * @next_ip: where it leads to, or NEXT_UNKNOWN
 * @seen: how often the thread was interrupted or stopped
 * @seen_at_ip: how often that was at the instruction
 * @seen_elsewhere: how often where it cannot be: in a slot
 * @elsewhere: the last such address
 */
struct shared_run {
	bool go;
	uintptr_t ip;
	uintptr_t start_ip;
	uintptr_t next_ip;
	uint64_t seen;
	uint64_t seen_at_ip;
	uint64_t seen_elsewhere;
	uintptr_t elsewhere;
};

bool run_setup(struct shared_run *shared, struct rng *rng, unsigned int disturb);

/* Runs it, and what is @prologue_len bytes long before it. */
void run(const struct start *start, unsigned int prologue_len, struct outcome *outcome);

/* Whether WRFSBASE and its like exist, with which what instructions do to segments is undone. */
bool run_has_fsgsbase(void);

#endif /* _RUN_H */

/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Execution of one instruction, by means of signal frames: a signal handler
 * returns to the instruction with the state that the case begins with. The
 * exception of the next instruction, or of the instruction itself, delivers the
 * result.
 */
#ifndef _RUN_H
#define _RUN_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <ucontext.h>

#include "arena.h"
#include "state.h"

/* State that the kernel does not save in 64-bit signal frames. */
struct segments {
	uint16_t ds, es, fs, gs;
	uint64_t fs_base, gs_base;
};

/**
 * struct outcome - the result of a run
 * @signal: the signal, SIGALRM if the run did not end
 * @code: its si_code
 * @address: its si_addr
 * @gregs: general registers, flags and details of the exception
 * @cr2: address of the last page fault
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
#define DISTURB_SIGNALS	0x2	/* a timer sends signals continually */
#define DISTURB_RSEQ	0x4	/* the instruction is a restartable sequence */
#define DISTURB_PTRACE	0x8	/* a debugger stops the thread; done by the parent */

/* The next instruction is not known. */
#define NEXT_UNKNOWN	UINTPTR_MAX

/**
 * struct shared_run - data that a process shares with its parent
 * @go: whether it may begin
 * @ip: address of the instruction
 * @start_ip: address of the code before the instruction
 * @next_ip: address of the next instruction, or NEXT_UNKNOWN
 * @seen: number of interruptions and stops of the thread
 * @seen_at_ip: how often it was at the instruction
 * @seen_elsewhere: how often it was at an invalid address, that is, in a slot
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

/* Runs the instruction, after the @prologue_len bytes of code before it. */
void run(const struct start *start, unsigned int prologue_len, struct outcome *outcome);

/*
 * Returns whether there are instructions such as WRFSBASE, to restore segments
 * that a case changes.
 */
bool run_has_fsgsbase(void);

#endif /* _RUN_H */

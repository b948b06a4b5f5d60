/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The memory that cases use. It is at fixed addresses below 2 GiB, so that
 * every form of addressing reaches it, and guarded by pages without access, so
 * that the kernel maps no slots between.
 */
#ifndef _ARENA_H
#define _ARENA_H

#include <stdbool.h>
#include <stdint.h>

#include "rng.h"

#define PAGE		0x1000UL

/* Two pages, full of stoppers but for the instruction. */
#define CODE		0x10000000UL
#define CODE_SIZE	(2 * PAGE)
/* Where branches lead to: stoppers only. */
#define STOPS		0x10010000UL
#define STOPS_SIZE	PAGE
/* Where a restartable sequence is aborted to. */
#define ABORT_IP	(STOPS + 0x808)
#define ABORT_SIGNATURE	0x53053053
/* Two pages to read and write, one without access, one to read. */
#define DATA		0x10100000UL
#define DATA_SIZE	(2 * PAGE)
#define READ_ONLY	(DATA + 3 * PAGE)
/* What the kernel and the program share for restartable sequences. */
#define RSEQ		0x10180000UL
#define STACK		0x10200000UL
#define STACK_SIZE	(2 * PAGE)
/* Nothing is ever mapped here. */
#define UNMAPPED	0x3000UL

/*
 * HLT is the stopper: one byte long, so wherever one gets to it is one, and in
 * user mode it raises an exception in 32-bit and in 64-bit code.
 */
#define STOPPER		0xf4

/* What may be placed before an instruction is not longer. */
#define PROLOGUE_MAX	16

struct arena_copy {
	uint8_t data[DATA_SIZE];
	uint8_t stack[STACK_SIZE];
};

bool arena_setup(uint64_t seed);
/* Gives the memory the contents that all cases begin with. */
void arena_restore(void);
void arena_save(struct arena_copy *copy);
/* Forgets what was at an address. */
void arena_forget(struct arena_copy *copy, uintptr_t at, unsigned int len);
/* Writes as much of it as there is writable memory. */
void arena_patch(uintptr_t at, const void *bytes, unsigned int len);

/* Where an instruction of this number is placed; some cross a page. */
uintptr_t code_address(struct rng *rng, unsigned int len);
void code_place(uintptr_t at, const uint8_t *bytes, unsigned int len);
void code_clear(uintptr_t at, unsigned int len);

#endif /* _ARENA_H */

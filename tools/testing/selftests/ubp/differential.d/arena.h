/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Memory that cases use. It is at fixed addresses below 2 GiB, so that every
 * form of addressing reaches it. It is guarded by pages without access, so that
 * the kernel maps no slots in between.
 */
#ifndef _ARENA_H
#define _ARENA_H

#include <stdbool.h>
#include <stdint.h>

#include "rng.h"

#define PAGE		0x1000UL

/* Two pages, full of stoppers except for the instruction. */
#define CODE		0x10000000UL
#define CODE_SIZE	(2 * PAGE)
/* Target of branches: only stoppers. */
#define STOPS		0x10010000UL
#define STOPS_SIZE	PAGE
/* Abort handler of the restartable sequence. */
#define ABORT_IP	(STOPS + 0x808)
#define ABORT_SIGNATURE	0x53053053
/* Two pages for reads and writes, one without access, one for reads only. */
#define DATA		0x10100000UL
#define DATA_SIZE	(2 * PAGE)
#define READ_ONLY	(DATA + 3 * PAGE)
/* Memory that the kernel and the program share for restartable sequences. */
#define RSEQ		0x10180000UL
#define STACK		0x10200000UL
#define STACK_SIZE	(2 * PAGE)
/* Nothing is ever mapped at this address. */
#define UNMAPPED	0x3000UL

/*
 * HLT is the stopper. It is one byte long, so that every address in a row of
 * stoppers is the start of one, and it raises an exception in user mode, both
 * in 32-bit and in 64-bit code.
 */
#define STOPPER		0xf4

/* Maximum length of the code before an instruction. */
#define PROLOGUE_MAX	16

struct arena_copy {
	uint8_t data[DATA_SIZE];
	uint8_t stack[STACK_SIZE];
};

bool arena_setup(uint64_t seed);
/* Resets the memory to the initial contents of all cases. */
void arena_restore(void);
void arena_save(struct arena_copy *copy);
/* Clears the copy of the memory at an address. */
void arena_forget(struct arena_copy *copy, uintptr_t at, unsigned int len);
/* Writes as many of the bytes as are in writable memory. */
void arena_patch(uintptr_t at, const void *bytes, unsigned int len);

/*
 * Returns a random address for an instruction of this length; some cross a
 * page.
 */
uintptr_t code_address(struct rng *rng, unsigned int len);
void code_place(uintptr_t at, const uint8_t *bytes, unsigned int len);
void code_clear(uintptr_t at, unsigned int len);

#endif /* _ARENA_H */

/* SPDX-License-Identifier: GPL-2.0 */
/* Initial state of a run: registers, flags, vector state and operand. */
#ifndef _STATE_H
#define _STATE_H

#include <stdbool.h>
#include <stdint.h>
#include <ucontext.h>

#include "encoding.h"

#ifdef __x86_64__
#define GPRS		16
#define REG_IP		REG_RIP
/* The kernel's XSAVE image begins at the pointer in the signal frame. */
#define FSAVE_SIZE	0
#else
#define GPRS		8
#define REG_IP		REG_EIP
/* In 32-bit frames, the FSAVE area precedes it. */
#define FSAVE_SIZE	112
#endif

#define FLAG_CF		0x001
#define FLAG_PF		0x004
#define FLAG_AF		0x010
#define FLAG_ZF		0x040
#define FLAG_SF		0x080
#define FLAG_TF		0x100
#define FLAG_DF		0x400
#define FLAG_OF		0x800
#define FLAG_NT		0x4000
#define FLAG_AC		0x40000
#define FLAG_ID		0x200000

/* Offsets in an XSAVE image. */
#define XSAVE_FCW	0
#define XSAVE_FSW	2
#define XSAVE_FTW	4
#define XSAVE_FIP	8
#define XSAVE_MXCSR	24
#define XSAVE_MXCSR_MASK 28
#define XSAVE_ST	32
#define XSAVE_XMM	160
#define XSAVE_SOFTWARE	464
#define XSAVE_HEADER	512
#define XSAVE_EXTENDED	576

/* Components of an XSAVE image. */
#define XSAVE_X87	0
#define XSAVE_SSE	1
#define XSAVE_AVX	2
#define XSAVE_BNDREGS	3
#define XSAVE_BNDCSR	4
#define XSAVE_COMPONENTS 8	/* up to AVX-512's; later ones are unchanged */

#define FRAME_MAX	8192	/* for the vector state in a signal frame */

/**
 * struct start - the initial state of a run
 * @gpr: general registers, by register number
 * @flags: the flags
 * @ip: address of the instruction
 * @frame: vector state, in the form of a signal frame
 * @operand: address of the operand in memory
 * @patch_at: address at which memory differs from the initial contents
 * @patch: the bytes at this address
 * @patch_len: the number of these bytes
 */
struct start {
	uint64_t gpr[GPRS];
	uint32_t flags;
	uintptr_t ip;
	uint8_t frame[FRAME_MAX];
	uintptr_t operand;
	uintptr_t patch_at;
	uint64_t patch;
	unsigned int patch_len;
};

/* Indexes of registers in a signal frame, by register number. */
extern const uint8_t greg_of[GPRS];

/* Template of all vector states; it has @frame_size bytes. */
extern uint8_t frame_template[FRAME_MAX];
extern unsigned int frame_size;
/*
 * Offsets of components in an XSAVE image, and their sizes; 0 for missing ones.
 */
extern unsigned int component_offset[XSAVE_COMPONENTS];
extern unsigned int component_size[XSAVE_COMPONENTS];

/* Uses the vector state of a signal frame as the template. */
bool state_setup(const void *frame);

/* Base of the segments FS and GS in all cases: any value but 0. */
#define SEGMENT_BASE	0x1230

/*
 * Makes the initial state number @which of the sequence with @seed, for @e at
 * @at.
 */
void state_make(struct start *start, const struct encoding *e, uintptr_t at, uint64_t seed,
		unsigned int which, bool trap);

#endif /* _STATE_H */

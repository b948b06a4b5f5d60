/* SPDX-License-Identifier: GPL-2.0 */
/* What an instruction starts from: registers, flags, vector state, its operand. */
#ifndef _STATE_H
#define _STATE_H

#include <stdbool.h>
#include <stdint.h>
#include <ucontext.h>

#include "encoding.h"

#ifdef __x86_64__
#define GPRS		16
#define REG_IP		REG_RIP
/* The kernel's XSAVE image begins where the signal frame says. */
#define FSAVE_SIZE	0
#else
#define GPRS		8
#define REG_IP		REG_EIP
/* 32-bit frames have what FSAVE stores before it. */
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
#define XSAVE_COMPONENTS 8	/* up to AVX-512's; what follows stays as it is */

#define FRAME_MAX	8192	/* of the vector state in a signal frame */

/**
 * struct start - what a run starts from
 * @gpr: in the order of register numbers
 * @flags: the flags
 * @ip: where the instruction is
 * @frame: vector state, in the form of a signal frame
 * @operand: address of the operand in memory
 * @patch_at: where memory is not as it always is
 * @patch: what is there
 * @patch_len: how long that is
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

/* Indexes of registers in a signal frame, by number. */
extern const uint8_t greg_of[GPRS];

/* The vector state that all are made from; as long as @frame_size says. */
extern uint8_t frame_template[FRAME_MAX];
extern unsigned int frame_size;
/* Where components are in an XSAVE image; their sizes, 0 if there is none. */
extern unsigned int component_offset[XSAVE_COMPONENTS];
extern unsigned int component_size[XSAVE_COMPONENTS];

/* Takes the vector state of a signal frame as the template. */
bool state_setup(const void *frame);

/* Base of the segments FS and GS in all cases: any that is not 0. */
#define SEGMENT_BASE	0x1230

/* Makes a start for @e at @at: number @which of those that @seed gives. */
void state_make(struct start *start, const struct encoding *e, uintptr_t at, uint64_t seed,
		unsigned int which, bool trap);

#endif /* _STATE_H */

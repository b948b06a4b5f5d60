// SPDX-License-Identifier: GPL-2.0
/* Generation of initial states: general registers, flags and operands. */
#include <string.h>

#include "arena.h"
#include "operand.h"
#include "state.h"
#include "vector.h"

#ifdef __x86_64__
const uint8_t greg_of[GPRS] = {
	REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
	REG_R8, REG_R9, REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15,
};
#else
const uint8_t greg_of[GPRS] = {
	REG_EAX, REG_ECX, REG_EDX, REG_EBX, REG_ESP, REG_EBP, REG_ESI, REG_EDI,
};
#endif

static uint64_t number(struct rng *rng)
{
	uint64_t bits = rng_next(rng);

	switch (rng_below(rng, 8)) {
	case 0:
		return bits & 0xff;
	case 1:
		return -(bits & 0xff);
	case 2:
		return 1ULL << (bits & 63);
	case 3:
		return (bits & 1) - 1;
	case 4:
		return bits >> (bits & 63);
	default:
		return bits;
	}
}

/*
 * Returns a number for a register. In 32-bit code, any number may be an address
 * of the program itself, so a number that may be used as an address must be a
 * harmless one.
 */
static uint64_t pointer(struct rng *rng)
{
	uint64_t at = random_address(rng);

	return IS_64BIT && rng_chance(rng, 10) ? number(rng) : at;
}

static uint32_t random_flags(struct rng *rng)
{
	uint32_t flags = rng_next(rng) &
			 (FLAG_CF | FLAG_PF | FLAG_AF | FLAG_ZF | FLAG_SF | FLAG_OF);

	if (rng_chance(rng, 30))
		flags |= FLAG_DF;
	if (rng_chance(rng, 10))
		flags |= FLAG_AC;
	return flags | 0x202;
}

static uint64_t stack_pointer(struct rng *rng)
{
	switch (rng_below(rng, 20)) {
	case 0:
		/* The pushed or popped word crosses a page. */
		return STACK + PAGE - 8 + rng_below(rng, 16);
	case 1:
		/* The memory below is inaccessible, so a push fails. */
		return STACK + rng_below(rng, 9);
	case 2:
		/* The memory above is inaccessible as well. */
		return STACK + STACK_SIZE - rng_below(rng, 9);
	case 3:
		return STACK + rng_below(rng, STACK_SIZE);
	case 4:
		return random_address(rng);
	default:
		return STACK + 0x400 + 8 * rng_below(rng, 0x100);
	}
}

/* Adapts the state to instructions that would otherwise only fail. */
static void suit(struct start *start, const struct encoding *e, struct rng *rng)
{
	uint64_t *gpr = start->gpr;

	/* A repeated instruction must end soon. */
	if (is_string(e))
		gpr[1] = rng_chance(rng, 90) ? rng_below(rng, 24) : rng_below(rng, 300);
	/* LOOP, JRCXZ. */
	if (e->map == MAP_PRIMARY && (e->opcode & 0xfc) == 0xe0 && rng_chance(rng, 60))
		gpr[1] = (gpr[1] & ~0xffffULL) | rng_below(rng, 3);
	/* DIV, IDIV: the quotient should usually fit. */
	if (e->map == MAP_PRIMARY && (e->opcode & 0xfe) == 0xf6 && modrm_reg(e) >= 6 &&
	    rng_chance(rng, 70)) {
		gpr[2] = rng_below(rng, 2);
		gpr[0] &= 0xffff;
	}
	/*
	 * WRPKRU: keep the program's own access rights, and avoid faults of the
	 * instruction itself.
	 */
	if (encoding_is(e, MAP_0F, 0x01) && e->modrm == 0xef) {
		gpr[0] &= 0xfffffffc;
		gpr[1] = rng_below(rng, 8) ? 0 : gpr[1];
		gpr[2] = rng_below(rng, 8) ? 0 : gpr[2];
	}
	/* CPUID, XGETBV. */
	if (encoding_is(e, MAP_0F, 0xa2) || (encoding_is(e, MAP_0F, 0x01) && e->modrm == 0xd0)) {
		gpr[0] = rng_below(rng, 2) ? rng_below(rng, 0x20) : 0x80000000 + rng_below(rng, 9);
		gpr[1] = rng_below(rng, 4);
	}
	/* Selectors that exist, sometimes. */
	if ((encoding_is(e, MAP_PRIMARY, 0x8e) || encoding_is(e, MAP_0F, 0x00)) &&
	    !e->has_memory && rng_chance(rng, 50)) {
		static const uint8_t selectors[] = { 0, 3, 0x23, 0x2b, 0x33, 0x63, 0x7b };

		gpr[e->rm] = selectors[rng_below(rng, sizeof(selectors))];
	}
}

void state_make(struct start *start, const struct encoding *e, uintptr_t at, uint64_t seed,
		unsigned int which, bool trap)
{
	struct rng rng = rng_of(seed + 0x10001ULL * which, e->bytes, e->len);
	unsigned int i;

	for (i = 0; i < GPRS; i++)
		start->gpr[i] = number(&rng);
	/*
	 * Registers that are addresses by themselves: for strings, XLAT,
	 * MASKMOVQ, CLZERO, LEAVE.
	 */
	if (!IS_64BIT || rng_chance(&rng, 80))
		for (i = 5; i < 8; i++)
			start->gpr[i] = pointer(&rng);
	if (encoding_is(e, MAP_PRIMARY, 0xd7))
		start->gpr[3] = pointer(&rng);
	if (encoding_is(e, MAP_0F, 0x01))
		start->gpr[0] = pointer(&rng);
	/*
	 * MOVDIR64B, ENQCMD, UMONITOR: an address in a register that is not the
	 * operand.
	 */
	if (encoding_is(e, MAP_0F38, 0xf8))
		start->gpr[e->reg] = pointer(&rng);
	if (encoding_is(e, MAP_0F, 0xae) && !e->has_memory)
		start->gpr[e->rm] = pointer(&rng);
	start->gpr[4] = stack_pointer(&rng);
	start->flags = random_flags(&rng);
	if (trap)
		start->flags |= FLAG_TF;
	start->ip = at;
	start->operand = 0;
	start->patch_len = 0;
	vector_make(start->frame, &rng);
	suit(start, e, &rng);
	operand_make(start, e, &rng);
	if (!IS_64BIT)
		for (i = 0; i < GPRS; i++)
			start->gpr[i] &= 0xffffffff;
}

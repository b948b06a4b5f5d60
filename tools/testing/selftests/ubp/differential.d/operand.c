// SPDX-License-Identifier: GPL-2.0
/* Memory operands and branch targets: see operand.h. */
#include <string.h>

#include "arena.h"
#include "operand.h"
#include "vector.h"

uint64_t random_address(struct rng *rng)
{
	switch (rng_below(rng, 20)) {
	case 0:
		/* Across a page boundary. */
		return DATA + PAGE - 1 - rng_below(rng, 63);
	case 1:
		/* Just before memory without access. */
		return DATA + DATA_SIZE - 1 - rng_below(rng, 63);
	case 2:
		/* Just after memory without access. */
		return DATA - 1 + rng_below(rng, 2);
	case 3:
		return READ_ONLY + 16 * rng_below(rng, 128);
	case 4:
		return UNMAPPED + rng_below(rng, PAGE);
	case 5:
		if (!IS_64BIT)
			return 0xffffe000 + rng_below(rng, 0x1000);
		/*
		 * Around the limit of canonical addresses, and kernel
		 * addresses.
		 */
		if (rng_below(rng, 2))
			return 0x00007ffffffffff0 + rng_below(rng, 32);
		return rng_below(rng, 2) ? 0x8000000000000000 : 0xffff888000001000;
	case 6:
	case 7:
		return DATA + rng_below(rng, DATA_SIZE - 64);
	default:
		return DATA + 64 * rng_below(rng, DATA_SIZE / 64 - 16);
	}
}

static uint64_t random_target(struct rng *rng)
{
	switch (rng_below(rng, 10)) {
	case 0:
		/* Not executable. */
		return DATA + rng_below(rng, DATA_SIZE);
	case 1:
		return UNMAPPED + rng_below(rng, PAGE);
	case 2:
		if (!IS_64BIT)
			return 0xfffff000 + rng_below(rng, 0x1000);
		/*
		 * A non-canonical address; and a canonical address of the
		 * kernel.
		 */
		if (rng_below(rng, 3))
			return 0x0000800000000000 << rng_below(rng, 16);
		return 0xffffffff81000000;
	default:
		return STOPS + rng_below(rng, 0x800);
	}
}

/* Returns the base of the operand's segment. */
static uint64_t segment_base(const struct encoding *e)
{
	return e->prefixes & (PREFIX_FS | PREFIX_GS) ? SEGMENT_BASE : 0;
}

static uint64_t cut_off(const struct encoding *e, uint64_t value)
{
	return e->address_size == 4 ? (uint64_t)(uint32_t)value : value;
}

/* Returns the address of the operand with the current registers. */
static uint64_t effective_address(const struct start *start, const struct encoding *e)
{
	uint64_t sum = (int64_t)e->displacement;

	if (e->is_ip_relative)
		sum += start->ip + e->len;
	if (e->base != NO_REGISTER)
		sum += start->gpr[e->base];
	if (e->index != NO_REGISTER && !e->is_vsib)
		sum += start->gpr[e->index] << e->scale;
	return cut_off(e, sum) + segment_base(e);
}

/*
 * Sets registers so that the address is @target, or near it if that is not
 * possible.
 */
static void point(struct start *start, const struct encoding *e, uint64_t target,
		  struct rng *rng)
{
	uint64_t rest = target - segment_base(e) - (int64_t)e->displacement;
	bool has_index = e->index != NO_REGISTER && !e->is_vsib;

	if (e->is_vsib)
		vector_make_index(start->frame, e->index, rng);
	if (e->base == NO_REGISTER) {
		if (has_index)
			start->gpr[e->index] = rng_below(rng, 16);
	} else if (!has_index) {
		start->gpr[e->base] = rest;
	} else if (e->base == e->index) {
		start->gpr[e->base] = (e->address_size == 4 ? (uint32_t)rest : rest) /
				      (1 + (1 << e->scale));
	} else {
		/*
		 * The stack pointer cannot be an index, so the index may have
		 * any value.
		 */
		if (rng_chance(rng, 50))
			start->gpr[e->index] = rng_below(rng, 256);
		start->gpr[e->base] = rest - (start->gpr[e->index] << e->scale);
	}
	/* The upper half of the register is ignored in this case. */
	if (e->address_size == 4 && IS_64BIT && e->base != NO_REGISTER && e->base != 4)
		start->gpr[e->base] ^= (uint64_t)rng_below(rng, 2) << 35;
}

/*
 * Returns whether this is BT or similar: a bit number in a register moves the
 * address.
 */
static bool is_bit_string(const struct encoding *e)
{
	return e->map == MAP_0F && (e->opcode & 0xe7) == 0xa3;
}

/* Sets the target that an indirect branch or a return reads. */
static void patch_target(struct start *start, uint64_t at, struct rng *rng)
{
	start->patch_at = at;
	start->patch = random_target(rng);
	start->patch_len = IS_64BIT ? 8 : 4;
}

void operand_make(struct start *start, const struct encoding *e, struct rng *rng)
{
	if (is_return(e))
		patch_target(start, start->gpr[4], rng);
	if (is_indirect_branch(e) && !e->has_memory)
		start->gpr[e->rm] = random_target(rng);
	if (!e->has_memory || e->address_size == 2)
		return;

	if (is_bit_string(e) && (!IS_64BIT || rng_chance(rng, 90)))
		start->gpr[e->reg] = (int)rng_below(rng, 512) - 256;
	point(start, e, random_address(rng), rng);
	if (is_bit_string(e) && !IS_64BIT && (e->reg == e->base || e->reg == e->index))
		/*
		 * The register is both address and bit number. Make the operand
		 * unmapped.
		 */
		start->gpr[e->reg] = UNMAPPED;
	start->operand = effective_address(start, e);
	if (is_indirect_branch(e))
		patch_target(start, start->operand, rng);
}

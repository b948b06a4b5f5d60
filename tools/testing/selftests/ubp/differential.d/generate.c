// SPDX-License-Identifier: GPL-2.0
/* Generation of instruction encodings: see encoding.h. */
#include <string.h>

#include "arena.h"
#include "encoding.h"

#define OPCODES	256
/*
 * The number of opcodes of all maps, which a round visits, and a stride that is
 * coprime to it.
 */
#define ROUND	(MAPS * OPCODES)
#define STRIDE	1283

struct bytes {
	uint8_t byte[64];
	unsigned int len;
};

static void add(struct bytes *to, uint8_t byte)
{
	to->byte[to->len++] = byte;
}

/* Adds legacy prefixes: the mandatory one, and sometimes others. */
static void add_prefixes(struct bytes *to, struct rng *rng, unsigned int mandatory)
{
	static const uint8_t by_number[] = { 0, 0x66, 0xf3, 0xf2 };
	static const uint8_t segments[] = { 0x26, 0x2e, 0x36, 0x3e, 0x64, 0x64, 0x65, 0x65 };

	if (rng_chance(rng, 4))
		add(to, 0xf0);
	if (rng_chance(rng, 10))
		add(to, segments[rng_below(rng, sizeof(segments))]);
	if (rng_chance(rng, 10))
		add(to, 0x67);
	if (rng_chance(rng, 4))
		add(to, by_number[1 + rng_below(rng, 3)]);
	if (mandatory)
		add(to, by_number[mandatory]);
	if (IS_64BIT && rng_chance(rng, 55))
		add(to, 0x40 | rng_below(rng, 16));
}

/*
 * Adds a VEX, EVEX or XOP prefix. The bits that extend register numbers are
 * inverted.
 */
static void add_vector_prefix(struct bytes *to, struct rng *rng, enum map map, unsigned int pp)
{
	static const uint8_t evex_maps[] = { 1, 2, 3, 5, 6 };
	unsigned int high = IS_64BIT ? rng_below(rng, 8) << 5 : 0xe0;
	/* If it encodes no register, all its bits must be set. */
	unsigned int vvvv = rng_chance(rng, 40) ? 15 : rng_below(rng, 16);
	unsigned int w = rng_below(rng, 2) << 7;

	if (!IS_64BIT)
		vvvv |= 8;
	if (rng_chance(rng, 4))
		add(to, 0x67);
	if (IS_64BIT && rng_chance(rng, 4))
		add(to, 0x65);
	switch (map) {
	case MAP_EVEX:
		add(to, 0x62);
		add(to, high | 0x10 | evex_maps[rng_below(rng, sizeof(evex_maps))]);
		add(to, w | vvvv << 3 | 4 | pp);
		add(to, (rng_next(rng) & 0xff) | (rng_chance(rng, 80) ? 8 : 0));
		break;
	case MAP_XOP:
		add(to, 0x8f);
		add(to, high | (8 + rng_below(rng, 3)));
		add(to, w | vvvv << 3 | rng_below(rng, 2) << 2 | (pp && rng_chance(rng, 10)));
		break;
	default:
		if (map == MAP_VEX_0F && rng_chance(rng, 30)) {
			add(to, 0xc5);
			add(to, (high & 0x80) | vvvv << 3 | rng_below(rng, 2) << 2 | pp);
			break;
		}
		add(to, 0xc4);
		add(to, high | (1 + map - MAP_VEX_0F));
		add(to, w | vvvv << 3 | rng_below(rng, 2) << 2 | pp);
	}
}

/* Adds the bytes after the opcode, more than any instruction has. */
static void add_operands(struct bytes *to, struct rng *rng, unsigned int reg, bool is_register)
{
	bool small = rng_chance(rng, 30);
	unsigned int i, mod = is_register ? 3 : rng_below(rng, 3), rm = rng_below(rng, 8);

	if (!is_register && rng_chance(rng, 30))
		rm = 4;
	add(to, mod << 6 | reg << 3 | rm);
	for (i = 0; i < INSN_SIZE; i++)
		add(to, small && i > 4 ? rng_below(rng, 3) : rng_next(rng));
}

static uint32_t data_target(struct rng *rng)
{
	switch (rng_below(rng, 10)) {
	case 0:
		return DATA + PAGE - 1 - rng_below(rng, 31);
	case 1:
		return DATA + DATA_SIZE - 1 - rng_below(rng, 31);
	case 2:
		return READ_ONLY + 64 * rng_below(rng, 32);
	case 3:
		return UNMAPPED + rng_below(rng, PAGE);
	default:
		return DATA + 64 * rng_below(rng, 100);
	}
}

static uint32_t branch_target(struct rng *rng)
{
	switch (rng_below(rng, 10)) {
	case 0:
		return DATA + rng_below(rng, DATA_SIZE);
	case 1:
		return UNMAPPED + rng_below(rng, PAGE);
	default:
		return STOPS + rng_below(rng, 0x800);
	}
}

/* Makes addresses in the instruction point into the arena. */
static void aim(struct encoding *e, struct rng *rng, uint64_t seed)
{
	uintptr_t end;

	if (is_relative_branch(e)) {
		uint8_t *imm = e->bytes + e->immediate_offset;
		int8_t near;

		/*
		 * A jump into the instruction itself, or to the code before it,
		 * may loop forever.
		 */
		near = *imm;
		if (e->immediate_size == 1 && near < 0 && near >= -e->len - PROLOGUE_MAX)
			*imm ^= 0x40;
		end = encoding_address(e, seed) + e->len;
		if (e->immediate_size == 4) {
			uint32_t far = branch_target(rng) - end;

			memcpy(imm, &far, sizeof(far));
		}
	} else if (e->has_memory && e->base == NO_REGISTER && e->displacement_size == 4) {
		uint32_t target = data_target(rng);

		end = encoding_address(e, seed) + e->len;
		if (e->is_ip_relative)
			target -= end;
		memcpy(e->bytes + e->displacement_offset, &target, sizeof(target));
		e->displacement = target;
	} else if (e->map == MAP_PRIMARY && (e->opcode & 0xfc) == 0xa0 && e->immediate_size >= 4) {
		/* MOV with an address instead of an immediate. */
		uint64_t target = data_target(rng);

		memcpy(e->bytes + e->immediate_offset, &target, e->immediate_size);
	}
}

bool encoding_make(struct encoding *e, uint64_t seed, uint64_t number)
{
	uint64_t round = number / ROUND;
	unsigned int in_round = (number % ROUND) * STRIDE % ROUND;
	unsigned int opcode = in_round % OPCODES;
	/* Eight values of the reg field, two kinds of operand, four prefixes. */
	unsigned int form = (round * 37 + in_round * 11) % 64;
	enum map map = in_round / OPCODES;
	struct rng rng = { .state = rng_mix(seed + 0x100000001ULL * number) };
	struct bytes bytes = { .len = 0 };

	/*
	 * Few CPUs have these maps, and on the others all of them raise the
	 * same exception.
	 */
	if (map >= MAP_EVEX && round % 4)
		map -= MAP_EVEX;
	if (map >= MAP_VEX_0F) {
		add_vector_prefix(&bytes, &rng, map, form >> 4);
	} else {
		/* Most instructions of these maps need 66, and few have F3. */
		if (map >= MAP_0F38 && form >> 4 == 2 && rng_chance(&rng, 50))
			form -= 16;
		add_prefixes(&bytes, &rng, form >> 4);
		if (map != MAP_PRIMARY)
			add(&bytes, 0x0f);
		if (map == MAP_0F38)
			add(&bytes, 0x38);
		else if (map == MAP_0F3A)
			add(&bytes, 0x3a);
	}
	add(&bytes, opcode);
	add_operands(&bytes, &rng, form & 7, form & 8);
	if (!encoding_decode(e, bytes.byte, INSN_SIZE))
		return false;
	aim(e, &rng, seed);
	return true;
}

uintptr_t encoding_address(const struct encoding *e, uint64_t seed)
{
	/* Do not use the bytes: some of them depend on the address. */
	struct rng rng = { .state = rng_mix(seed ^ e->opcode << 8 ^ e->len ^ e->modrm << 16) };

	return code_address(&rng, e->len);
}

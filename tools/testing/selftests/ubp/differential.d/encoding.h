/* SPDX-License-Identifier: GPL-2.0 */
/* Decoding and generation of instruction encodings. */
#ifndef _ENCODING_H
#define _ENCODING_H

#include <stdbool.h>
#include <stdint.h>

#include "rng.h"

#define INSN_SIZE	15

#ifdef __x86_64__
#define IS_64BIT	true
#else
#define IS_64BIT	false
#endif

/* Opcode maps. */
enum map {
	MAP_PRIMARY,
	MAP_0F,
	MAP_0F38,
	MAP_0F3A,
	MAP_VEX_0F,
	MAP_VEX_0F38,
	MAP_VEX_0F3A,
	MAP_EVEX,
	MAP_XOP,
	MAPS,
};

extern const char *const map_names[MAPS];

#define PREFIX_LOCK	0x01
#define PREFIX_F2	0x02
#define PREFIX_F3	0x04
#define PREFIX_66	0x08
#define PREFIX_FS	0x10
#define PREFIX_GS	0x20
#define PREFIX_VEX_L	0x40	/* the L bit of a VEX prefix */

#define NO_REGISTER	-1

/**
 * struct encoding - a decoded instruction
 * @bytes: the instruction
 * @len: its length
 * @map: the map of its opcode
 * @opcode: the last byte of the opcode
 * @prefixes: PREFIX_*; a VEX prefix can imply some
 * @rex_w: whether the operands have 64 bits
 * @has_modrm: whether there is a ModRM byte
 * @modrm: the ModRM byte
 * @has_memory: whether the ModRM byte encodes a memory operand
 * @is_vsib: whether the index is a vector
 * @is_ip_relative: whether the address is relative to the instruction's end
 * @base: register, or NO_REGISTER
 * @index: register, or NO_REGISTER
 * @rm: register in the rm field, unless @has_memory
 * @reg: the other register
 * @scale: shift of the index
 * @displacement: sign-extended
 * @address_size: 2, 4 or 8
 * @displacement_offset: in @bytes, 0 if there is none
 * @immediate_offset: in @bytes, 0 if there is none
 * @immediate_size: bytes of it, also of a branch's displacement
 */
struct encoding {
	uint8_t bytes[INSN_SIZE];
	uint8_t len;
	enum map map;
	uint8_t opcode;
	uint8_t prefixes;
	bool rex_w;
	bool has_modrm;
	uint8_t modrm;
	bool has_memory;
	bool is_vsib;
	bool is_ip_relative;
	int8_t base;
	int8_t index;
	int8_t rm;
	int8_t reg;
	uint8_t scale;
	int32_t displacement;
	uint8_t address_size;
	uint8_t displacement_offset;
	uint8_t displacement_size;
	uint8_t immediate_offset;
	uint8_t immediate_size;
};

/* Decodes the instruction that @bytes begin with, with the kernel's decoder. */
bool encoding_decode(struct encoding *e, const uint8_t *bytes, unsigned int avail);

/*
 * Makes encoding number @number of a sequence that visits each opcode of each
 * map with every kind of ModRM byte and every mandatory prefix; the other parts
 * are random. Returns false if there is no such instruction.
 */
bool encoding_make(struct encoding *e, uint64_t seed, uint64_t number);

/* Returns the address at which the instruction is placed. */
uintptr_t encoding_address(const struct encoding *e, uint64_t seed);

static inline unsigned int modrm_reg(const struct encoding *e)
{
	return (e->modrm >> 3) & 7;
}

static inline bool encoding_is(const struct encoding *e, enum map from, uint8_t opcode)
{
	return e->map == from && e->opcode == opcode;
}

/* CALL or JMP to an address in a register or in memory. */
static inline bool is_indirect_branch(const struct encoding *e)
{
	return encoding_is(e, MAP_PRIMARY, 0xff) && (modrm_reg(e) == 2 || modrm_reg(e) == 4);
}

static inline bool is_return(const struct encoding *e)
{
	return e->map == MAP_PRIMARY && (e->opcode & 0xfe) == 0xc2;
}

static inline bool is_relative_branch(const struct encoding *e)
{
	if (e->map == MAP_0F)
		return (e->opcode & 0xf0) == 0x80;
	return e->map == MAP_PRIMARY &&
	       ((e->opcode & 0xf0) == 0x70 || (e->opcode & 0xfc) == 0xe0 ||
		e->opcode == 0xe8 || e->opcode == 0xe9 || e->opcode == 0xeb);
}

static inline bool is_string(const struct encoding *e)
{
	return e->map == MAP_PRIMARY && ((e->opcode >= 0xa4 && e->opcode <= 0xa7) ||
					 (e->opcode >= 0xaa && e->opcode <= 0xaf));
}

#endif /* _ENCODING_H */

// SPDX-License-Identifier: GPL-2.0
/*
 * Decoding of instructions with the kernel's decoder. The test detects a wrong
 * length, because then the CPU does not stop where the stoppers begin.
 */
#include "../../../arch/x86/lib/inat.c"
#include "../../../arch/x86/lib/insn.c"

#include "encoding.h"

const char *const map_names[MAPS] = {
	"primary", "0f", "0f38", "0f3a", "vex-0f", "vex-0f38", "vex-0f3a", "evex", "xop",
};

static uint8_t prefixes_of(const struct insn *insn)
{
	uint8_t set = 0;
	unsigned int i;

	for (i = 0; i < 4; i++) {
		switch (insn->prefixes.bytes[i]) {
		case 0xf0:
			set |= PREFIX_LOCK;
			break;
		case 0xf2:
			set |= PREFIX_F2;
			break;
		case 0xf3:
			set |= PREFIX_F3;
			break;
		case 0x66:
			set |= PREFIX_66;
			break;
		case 0x64:
			set |= PREFIX_FS;
			break;
		case 0x65:
			set |= PREFIX_GS;
			break;
		}
	}
	return set;
}

static bool find_map(struct encoding *e, struct insn *insn)
{
	const uint8_t *op = insn->opcode.bytes;

	e->opcode = op[insn->opcode.nbytes - 1];
	if (insn->vex_prefix.nbytes) {
		static const uint8_t implied[] = { 0, PREFIX_66, PREFIX_F3, PREFIX_F2 };
		unsigned int map = insn_vex_m_bits(insn);

		e->prefixes |= implied[insn_vex_p_bits(insn)];
		if (X86_VEX_L(insn->vex_prefix.bytes[insn->vex_prefix.nbytes == 2 ? 1 : 2]))
			e->prefixes |= PREFIX_VEX_L;
		if (insn->vex_prefix.nbytes == 4)
			e->map = MAP_EVEX;
		else if (insn->vex_prefix.bytes[0] == 0x8f)
			e->map = MAP_XOP;
		else if (map >= 1 && map <= 3)
			e->map = MAP_VEX_0F + map - 1;
		else
			return false;
		return true;
	}
	if (insn->opcode.nbytes == 1)
		e->map = MAP_PRIMARY;
	else if (insn->opcode.nbytes == 2)
		e->map = MAP_0F;
	else
		e->map = op[1] == 0x38 ? MAP_0F38 : MAP_0F3A;
	return true;
}

/*
 * Returns the fourth bits of register numbers: R, X and B of a prefix. 32-bit
 * code has none of them.
 */
static unsigned int high_bits(const struct insn *insn)
{
	if (!IS_64BIT)
		return 0;
	if (insn->vex_prefix.nbytes == 2)
		return (~insn->vex_prefix.bytes[1] >> 5) & 4;
	if (insn->vex_prefix.nbytes)
		return (~insn->vex_prefix.bytes[1] >> 5) & 7;
	return insn->rex_prefix.nbytes ? insn->rex_prefix.bytes[0] & 7 : 0;
}

/* Returns whether this is VGATHER, VSCATTER, or one of their prefetches. */
static bool is_vsib(const struct encoding *e)
{
	return encoding_is(e, MAP_VEX_0F38, e->opcode) ?
		       e->opcode >= 0x90 && e->opcode <= 0x93 :
		       e->map == MAP_EVEX && ((e->opcode >= 0x90 && e->opcode <= 0x93) ||
					      (e->opcode >= 0xa0 && e->opcode <= 0xa3) ||
					      (e->opcode >= 0xc6 && e->opcode <= 0xc7));
}

static void find_address(struct encoding *e, const struct insn *insn, unsigned int high)
{
	unsigned int mod = e->modrm >> 6, rm = e->modrm & 7;

	e->base = NO_REGISTER;
	e->index = NO_REGISTER;
	e->displacement = insn->displacement.value;
	/* Do not decode 16-bit addresses. */
	if (e->address_size == 2)
		return;
	if (insn->sib.nbytes) {
		unsigned int sib = insn->sib.bytes[0];

		e->scale = sib >> 6;
		e->index = ((sib >> 3) & 7) | ((high & 2) << 2);
		if (e->index == 4 && !e->is_vsib)
			e->index = NO_REGISTER;
		if (IS_64BIT && e->is_vsib && insn->vex_prefix.nbytes == 4 &&
		    !(insn->vex_prefix.bytes[3] & 8))
			e->index += 16;
		rm = sib & 7;
	} else if (!mod && rm == 5) {
		e->is_ip_relative = IS_64BIT;
		return;
	}
	if (mod || rm != 5)
		e->base = rm | ((high & 1) << 3);
}

bool encoding_decode(struct encoding *e, const uint8_t *bytes, unsigned int avail)
{
	struct insn insn;
	unsigned int high;

	if (insn_decode(&insn, bytes, avail, IS_64BIT ? INSN_MODE_64 : INSN_MODE_32) < 0)
		return false;

	memset(e, 0, sizeof(*e));
	memcpy(e->bytes, bytes, insn.length);
	e->len = insn.length;
	e->prefixes = prefixes_of(&insn);
	if (!find_map(e, &insn))
		return false;
	high = high_bits(&insn);
	e->rex_w = insn.rex_prefix.nbytes && insn.rex_prefix.bytes[0] & 8;
	e->address_size = insn.addr_bytes;
	e->has_modrm = insn.modrm.nbytes;
	if (e->has_modrm) {
		e->modrm = insn.modrm.bytes[0];
		e->has_memory = e->modrm >> 6 != 3;
		e->rm = (e->modrm & 7) | ((high & 1) << 3);
		e->reg = modrm_reg(e) | ((high & 4) << 1);
		e->is_vsib = is_vsib(e);
		if (e->has_memory)
			find_address(e, &insn, high);
	}
	if (insn.displacement.nbytes) {
		e->displacement_offset = insn_offset_displacement(&insn);
		e->displacement_size = insn.displacement.nbytes;
	}
	if (insn.immediate.nbytes) {
		e->immediate_offset = insn_offset_immediate(&insn);
		e->immediate_size = insn.immediate1.nbytes + insn.immediate2.nbytes;
	}
	return true;
}

// SPDX-License-Identifier: GPL-2.0
/* Exceptions from the comparison, and from the test, with their reasons. */
#include <cpuid.h>
#include <string.h>

#include "compare.h"
#include "kselftest.h"
#include "vector.h"

#define ANY		0xff
#define REGISTER	0x80	/* any register as the other operand */

#define GPR_AX		0x1
#define GPR_DX		0x4
#define GPR_RM		0x10000	/* the register in the rm field */

/**
 * struct exception - an instruction with special rules
 * @map: the map of its opcode
 * @opcode: the opcode
 * @modrm: the whole ModRM byte, or its reg field and REGISTER, or ANY
 * @with: at least one of these prefixes is present; 0 for no condition
 * @without: none of these prefixes is present
 * @gprs: registers that differ from run to run
 * @flags: flags that differ from run to run
 * @reason: the reason
 */
struct exception {
	enum map map;
	uint8_t opcode;
	uint8_t modrm;
	uint8_t with;
	uint8_t without;
	uint32_t gprs;
	uint32_t flags;
	const char *reason;
};

static const struct exception volatile_results[] = {
	{ MAP_0F, 0x31, ANY, 0, 0, GPR_AX | GPR_DX, 0, "RDTSC: time" },
	{ MAP_0F, 0x01, 0xf9, 0, 0, GPR_AX | GPR_DX, 0, "RDTSCP: time" },
	{ MAP_0F, 0x33, ANY, 0, 0, GPR_AX | GPR_DX, 0, "RDPMC: events" },
	{ MAP_0F, 0x01, 0xfd, 0, 0, GPR_AX | GPR_DX, 0, "RDPRU: events" },
	{ MAP_0F, 0xc7, REGISTER | 6, 0, 0, GPR_RM, FLAG_CF, "RDRAND: random" },
	/*
	 * With F3 it is RDPID, which returns the same value as long as the CPU
	 * is the same.
	 */
	{ MAP_0F, 0xc7, REGISTER | 7, 0, PREFIX_F3, GPR_RM, FLAG_CF, "RDSEED: random" },
};

static const struct exception not_tried[] = {
	{ MAP_0F, 0x01, 0xfb, 0, 0, 0, 0, "MWAITX waits" },
	/* With F3 it is UMONITOR, without a prefix MFENCE. */
	{ MAP_0F, 0xae, REGISTER | 6, PREFIX_66 | PREFIX_F2, 0, 0, 0, "TPAUSE and UMWAIT wait" },
};

/* Instructions that end QEMU 7.2 by an assertion, or that are random there. */
static const struct exception not_on_qemu[] = {
	{ MAP_0F38, 0xf6, ANY, PREFIX_66 | PREFIX_F3, 0, 0, 0,
	  "ADCX and ADOX give random flags on QEMU" },
	{ MAP_VEX_0F38, 0xdb, ANY, PREFIX_VEX_L, 0, 0, 0, "VAESIMC with L ends QEMU" },
	{ MAP_VEX_0F3A, 0x0a, ANY, PREFIX_VEX_L, 0, 0, 0, "VROUNDSS with L ends QEMU" },
	{ MAP_VEX_0F3A, 0x0b, ANY, PREFIX_VEX_L, 0, 0, 0, "VROUNDSD with L ends QEMU" },
	{ MAP_VEX_0F3A, 0xdf, ANY, PREFIX_VEX_L, 0, 0, 0, "VAESKEYGENASSIST with L ends QEMU" },
};

static bool is_qemu(void)
{
	static const char signature[] = "TCGTCGTCGTCG";
	static int known = -1;
	unsigned int eax, words[3];

	if (known < 0) {
		__cpuid(0x40000000, eax, words[0], words[1], words[2]);
		known = !memcmp(words, signature, sizeof(words));
	}
	return known;
}

static bool applies(const struct exception *exception, const struct encoding *e)
{
	if (e->map != exception->map || e->opcode != exception->opcode)
		return false;
	if ((exception->with && !(e->prefixes & exception->with)) ||
	    e->prefixes & exception->without)
		return false;
	if (exception->modrm == ANY || e->modrm == exception->modrm)
		return true;
	return !e->has_memory && exception->modrm == (REGISTER | modrm_reg(e));
}

static const struct exception *find(const struct exception *in, unsigned int count,
				    const struct encoding *e)
{
	unsigned int i;

	for (i = 0; i < count; i++)
		if (applies(&in[i], e))
			return &in[i];
	return NULL;
}

#define FIND(table, e)	find(table, ARRAY_SIZE(table), e)

/*
 * Returns whether a REX prefix extends the number of an MMX register. The CPU
 * ignores the extension.
 */
static bool is_mmx_with_rex(const struct encoding *e)
{
	if (!e->has_modrm || e->has_memory || e->rm < 8 ||
	    e->prefixes & (PREFIX_66 | PREFIX_F2 | PREFIX_F3))
		return false;
	if (e->map == MAP_0F)
		return (e->opcode >= 0x60 && e->opcode <= 0x7f) || e->opcode == 0x2a ||
		       e->opcode == 0x2c || e->opcode == 0x2d || e->opcode == 0xc4 ||
		       e->opcode == 0xc5 || e->opcode >= 0xd0;
	return (e->map == MAP_0F38 && e->opcode < 0x20) ||
	       encoding_is(e, MAP_0F3A, 0x0f);
}

static const char *left_out_on_qemu(const struct encoding *e)
{
	const struct exception *exception = FIND(not_on_qemu, e);

	if (exception)
		return exception->reason;
	/* On other CPUs without XOP, the instruction is undefined. */
	if (e->map == MAP_XOP)
		return "QEMU takes XOP for POP";
	/*
	 * Linux takes a 32-bit program's fault above 4 GiB for an erratum, and
	 * retries.
	 */
	if (!IS_64BIT && e->is_vsib)
		return "QEMU does not cut off the addresses of VGATHER";
	if (encoding_is(e, MAP_PRIMARY, 0xc2) && e->bytes[e->len - 1] & 0x80)
		return "QEMU takes RET's operand for signed";
	if (is_mmx_with_rex(e))
		return "QEMU has more than 8 MMX registers";
	return NULL;
}

/*
 * VPMOV from and to elements of a quarter or an eighth of the size has no
 * broadcast. With the broadcast bit and an 8-bit displacement, Bochs 2.7 ends
 * by an assertion instead of raising #UD.
 */
static bool ends_bochs(const struct encoding *e)
{
	const uint8_t *evex = memchr(e->bytes, 0x62, e->len);

	return e->map == MAP_EVEX && e->has_memory && e->modrm >> 6 == 1 &&
	       (evex[1] & 7) == 2 && evex[3] & 0x10 &&
	       e->opcode >= 0x10 && e->opcode <= 0x35 && (e->opcode & 0xf) <= 5;
}

const char *left_out(const struct encoding *e, unsigned int disturb)
{
	const struct exception *exception = FIND(not_tried, e);

	if (exception)
		return exception->reason;
	if (ends_bochs(e))
		return "VPMOV with broadcast ends Bochs";
	if (is_qemu() && left_out_on_qemu(e))
		return left_out_on_qemu(e);
	/* The trap comes after the next instruction. */
	if (is_qemu() && disturb & DISTURB_TRAP && encoding_is(e, MAP_PRIMARY, 0x90) &&
	    e->prefixes & PREFIX_F3)
		return "QEMU does not step over PAUSE";
	if (IS_64BIT && !run_has_fsgsbase()) {
		if (e->prefixes & (PREFIX_FS | PREFIX_GS))
			return "FS and GS cannot be set without FSGSBASE";
		if (encoding_is(e, MAP_PRIMARY, 0x8e) || encoding_is(e, MAP_0F, 0xa1) ||
		    encoding_is(e, MAP_0F, 0xa9) || encoding_is(e, MAP_0F, 0xb4) ||
		    encoding_is(e, MAP_0F, 0xb5))
			return "segments cannot be restored without FSGSBASE";
	}
	/* An abort may come between two iterations. */
	if (disturb & DISTURB_RSEQ && is_string(e) && e->prefixes & (PREFIX_F2 | PREFIX_F3))
		return "repeated instructions may be aborted half-way";
	return NULL;
}

const char *leaves_program(const struct encoding *e)
{
	if (e->map == MAP_0F) {
		switch (e->opcode) {
		case 0x05: case 0x34:
			return "system call";
		case 0x01:
			return e->has_memory ? NULL : "0f 01";
		}
		return is_relative_branch(e) && e->prefixes & PREFIX_66 ? "16-bit jump" : NULL;
	}
	if (e->map != MAP_PRIMARY)
		return NULL;
	switch (e->opcode) {
	case 0xcc: case 0xcd: case 0xce: case 0xcf: case 0xf1:
		return "interrupt";
	case 0x9a: case 0xea: case 0xca: case 0xcb:
		return "far transfer";
	case 0x17: case 0x8e:
		return e->opcode == 0x17 || modrm_reg(e) == 2 ? "stack segment" : NULL;
	case 0xc6: case 0xc7:
		return e->modrm == 0xf8 ? "transaction" : NULL;
	case 0xff:
		if (modrm_reg(e) == 3 || modrm_reg(e) == 5)
			return "far transfer";
	}
	if (e->prefixes & PREFIX_66 &&
	    (is_relative_branch(e) || is_indirect_branch(e) || is_return(e)))
		return "16-bit jump";
	return NULL;
}

/*
 * FNSTENV and FNSAVE store the addresses of the last x87 instruction and of its
 * operand. QEMU does not restore them with the rest of the state, so they may
 * be the kernel's.
 */
static void forget_last_x87(struct outcome *outcome, const struct encoding *e, uintptr_t at)
{
	if (!e->has_memory || modrm_reg(e) != 6 ||
	    (!encoding_is(e, MAP_PRIMARY, 0xd9) && !encoding_is(e, MAP_PRIMARY, 0xdd)))
		return;
	if (e->prefixes & PREFIX_66 && !e->rex_w)
		arena_forget(&outcome->memory, at + 6, 8);
	else
		arena_forget(&outcome->memory, at + 12, 16);
}

void outcome_normalize(struct outcome *outcome, const struct encoding *e,
		       const struct start *start)
{
	const struct exception *exception = FIND(volatile_results, e);
	greg_t *gregs = outcome->gregs;
	unsigned int i;

	vector_normalize(outcome->frame);
	forget_last_x87(outcome, e, start->operand);
	/*
	 * For other exceptions, this is the address of an earlier page fault.
	 */
	if (gregs[REG_TRAPNO] != 14)
		outcome->cr2 = 0;
	if (!exception)
		return;
	for (i = 0; i < GPRS; i++)
		if (exception->gprs & 1 << i)
			gregs[greg_of[i]] = 0;
	if (exception->gprs & GPR_RM)
		gregs[greg_of[e->rm]] = 0;
	gregs[REG_EFL] &= ~(greg_t)exception->flags;
}

// SPDX-License-Identifier: GPL-2.0
/* Vector and x87 state: see vector.h. */
#include <cpuid.h>
#include <stdio.h>
#include <string.h>

#include "state.h"
#include "vector.h"

#define FCW_MASKS	0x3f
#define MXCSR_MASKS	0x1f80

uint8_t frame_template[FRAME_MAX];
unsigned int frame_size;
unsigned int component_offset[XSAVE_COMPONENTS];
unsigned int component_size[XSAVE_COMPONENTS];

/*
 * The kernel's description of the state, in a part of the image that is
 * reserved for software.
 */
struct software {
	uint32_t magic;
	uint32_t extended_size;
	uint64_t features;
	uint32_t xstate_size;
};

#define SOFTWARE_MAGIC	0x46505853

/* The x87 state in the form of FSAVE, at the start of 32-bit frames. */
struct fsave {
	uint32_t fcw, fsw, ftw, fip, fcs, fdp, fds;
	uint8_t st[8][10];
	uint16_t status, magic;
};

bool state_setup(const void *frame)
{
	struct software software;
	unsigned int i, eax, ebx, ecx, edx;

	memcpy(&software, (const uint8_t *)frame + FSAVE_SIZE + XSAVE_SOFTWARE, sizeof(software));
	if (software.magic != SOFTWARE_MAGIC)
		return false;
	/* Includes the second magic number. */
	frame_size = FSAVE_SIZE + software.xstate_size + sizeof(uint32_t);
	if (frame_size > FRAME_MAX)
		return false;
	memcpy(frame_template, frame, frame_size);
	for (i = XSAVE_AVX; i < XSAVE_COMPONENTS; i++) {
		/*
		 * Exclude MPX: no program uses it, and with it a jump that the
		 * kernel emulates would have to clear bounds.
		 */
		if (!(software.features & 1 << i) || i == XSAVE_BNDREGS || i == XSAVE_BNDCSR)
			continue;
		__cpuid_count(0xd, i, eax, ebx, ecx, edx);
		component_size[i] = eax;
		component_offset[i] = ebx;
	}
	return true;
}

static uint32_t get(const uint8_t *from, unsigned int size)
{
	uint32_t value = 0;

	memcpy(&value, from, size);
	return value;
}

static void put(uint8_t *to, unsigned int size, uint32_t value)
{
	memcpy(to, &value, size);
}

/* Returns an element that is often a useful floating-point operand. */
static uint64_t element(struct rng *rng)
{
	uint64_t bits = rng_next(rng);

	switch (rng_below(rng, 8)) {
	case 0:
		return 0;
	case 1:
		return 0x3ff0000000000000 ^ (bits & 0x803f000000000000);
	case 2:
		return 0x3f8000003f800000 ^ (bits & 0x807f0000807f0000);
	case 3:
		return 0x7ff00000ff800000 | (bits & 0x0008000000400000);
	case 4:
		return bits & 0x000f00ff007f00ff;
	default:
		return bits;
	}
}

static void fill(uint8_t *to, unsigned int size, struct rng *rng)
{
	uint64_t word;

	for (; size >= sizeof(word); size -= sizeof(word), to += sizeof(word)) {
		word = element(rng);
		memcpy(to, &word, sizeof(word));
	}
}

static void make_x87(uint8_t *x, struct rng *rng)
{
	/* Precision, rounding and masks; one bit is always set. */
	uint32_t fcw = (rng_next(rng) & 0x0f00) | 0x40 |
		       (rng_chance(rng, 85) ? FCW_MASKS : rng_below(rng, 64));
	uint32_t fsw = rng_next(rng) & (rng_chance(rng, 85) ? 0x7f00 : 0x7f7f);
	unsigned int i;

	/* An unmasked exception is pending. */
	if (fsw & ~fcw & FCW_MASKS)
		fsw |= 0x8080;
	put(x + XSAVE_FCW, 2, fcw);
	put(x + XSAVE_FSW, 2, fsw);
	put(x + XSAVE_FTW, 1, rng_chance(rng, 50) ? 0xff : rng_next(rng) & 0xff);
	for (i = 0; i < 8; i++) {
		uint8_t *st = x + XSAVE_ST + 16 * i;
		uint64_t mantissa = rng_next(rng);
		uint16_t exponent = rng_next(rng);

		/*
		 * In the form of an MMX register, or a number that fits in an
		 * integer.
		 */
		if (rng_chance(rng, 30))
			exponent = 0xffff;
		else if (rng_chance(rng, 70))
			exponent = (exponent & 0x8000) | (0x3ff0 + exponent % 80);
		if (rng_chance(rng, 80))
			mantissa |= 1ULL << 63;
		memcpy(st, &mantissa, sizeof(mantissa));
		memcpy(st + 8, &exponent, sizeof(exponent));
	}
}

/* The kernel restores the x87 state of a 32-bit frame from this area. */
static void make_fsave(uint8_t *frame)
{
	struct fsave *fsave = (struct fsave *)frame;
	const uint8_t *x = frame + FSAVE_SIZE;
	unsigned int i, full = get(x + XSAVE_FTW, 1);

	fsave->fcw = 0xffff0000 | get(x + XSAVE_FCW, 2);
	fsave->fsw = 0xffff0000 | get(x + XSAVE_FSW, 2);
	fsave->ftw = 0xffff0000;
	for (i = 0; i < 8; i++) {
		/* Two bits a register; only the value "empty" matters. */
		fsave->ftw |= full & 1 << i ? 0 : 3 << 2 * i;
		memcpy(fsave->st[i], x + XSAVE_ST + 16 * i, sizeof(fsave->st[i]));
	}
	fsave->status = get(x + XSAVE_FSW, 2);
}

void vector_make(uint8_t *frame, struct rng *rng)
{
	uint8_t *x = frame + FSAVE_SIZE;
	uint32_t mxcsr, mxcsr_mask, present = 3;
	unsigned int i;

	memcpy(frame, frame_template, frame_size);
	mxcsr_mask = get(x + XSAVE_MXCSR_MASK, 4) & 0xffff;
	make_x87(x, rng);
	mxcsr = rng_next(rng) & 0xffff;
	if (rng_chance(rng, 85))
		mxcsr |= MXCSR_MASKS;
	put(x + XSAVE_MXCSR, 4, mxcsr & mxcsr_mask);
	/* All rounding modes; but previous exceptions seldom matter. */
	if (rng_chance(rng, 70))
		x[XSAVE_MXCSR] &= 0xc0;
	fill(x + XSAVE_XMM, IS_64BIT ? 256 : 128, rng);
	for (i = XSAVE_AVX; i < XSAVE_COMPONENTS; i++) {
		fill(x + component_offset[i], component_size[i], rng);
		present |= component_size[i] ? 1 << i : 0;
	}
	/*
	 * Some components in their initial state; 32-bit frames always have x87
	 * and SSE.
	 */
	if (rng_chance(rng, 10))
		present &= rng_next(rng) | (IS_64BIT ? 0 : 3);
	x[XSAVE_HEADER] = present;
	if (FSAVE_SIZE)
		make_fsave(frame);
}

void vector_make_index(uint8_t *frame, unsigned int number, struct rng *rng)
{
	bool wide = rng_chance(rng, 50);
	unsigned int i;

	if (number >= 16)
		return;
	for (i = 0; i < 4; i++) {
		uint8_t *x = frame + FSAVE_SIZE;
		uint8_t *to = i < 2 ? x + XSAVE_XMM + 16 * number + 8 * i :
				      x + component_offset[XSAVE_AVX] + 16 * number + 8 * (i - 2);
		int32_t elements[2];

		if (i >= 2 && !component_size[XSAVE_AVX])
			break;
		elements[0] = (int)rng_below(rng, 64) - 16;
		elements[1] = (int)rng_below(rng, 64) - 16;
		if (wide)
			elements[1] = elements[0] < 0 ? -1 : 0;
		memcpy(to, elements, sizeof(elements));
	}
}

void vector_normalize(uint8_t *frame)
{
	uint8_t *x = frame + FSAVE_SIZE;
	uint32_t present = x[XSAVE_HEADER];
	unsigned int i;

	if (!(present & 1 << XSAVE_X87)) {
		memset(x, 0, XSAVE_MXCSR);
		memset(x + XSAVE_ST, 0, XSAVE_XMM - XSAVE_ST);
		put(x + XSAVE_FCW, 2, 0x37f);
	}
	if (!(present & 1 << XSAVE_SSE))
		memset(x + XSAVE_XMM, 0, 256);
	for (i = XSAVE_AVX; i < XSAVE_COMPONENTS; i++)
		if (!(present & 1 << i))
			memset(x + component_offset[i], 0, component_size[i]);
	x[XSAVE_HEADER] = 0xff;
	/* Offset and selector of the instruction, not of its operand. */
	memset(x + XSAVE_FIP, 0, 8);
	if (FSAVE_SIZE) {
		struct fsave *fsave = (struct fsave *)frame;

		fsave->fip = 0;
		fsave->fcs = 0;
	}
}

const char *vector_name(unsigned int offset)
{
	static char name[32];
	unsigned int i;

	if (offset < FSAVE_SIZE) {
		snprintf(name, sizeof(name), "fsave+%u", offset);
		return name;
	}
	offset -= FSAVE_SIZE;
	for (i = XSAVE_AVX; i < XSAVE_COMPONENTS; i++) {
		if (offset - component_offset[i] >= component_size[i])
			continue;
		snprintf(name, sizeof(name), "component %u+%u", i, offset - component_offset[i]);
		return name;
	}
	if (offset >= XSAVE_XMM && offset < XSAVE_SOFTWARE)
		snprintf(name, sizeof(name), "xmm%u+%u", (offset - XSAVE_XMM) / 16, offset % 16);
	else if (offset >= XSAVE_ST && offset < XSAVE_XMM)
		snprintf(name, sizeof(name), "st%u+%u", (offset - XSAVE_ST) / 16, offset % 16);
	else if (offset - XSAVE_MXCSR < 4)
		snprintf(name, sizeof(name), "mxcsr");
	else
		snprintf(name, sizeof(name), "xsave+%u", offset);
	return name;
}

// SPDX-License-Identifier: GPL-2.0
/* Memory that cases use: see arena.h. */
#include <string.h>
#include <sys/mman.h>

#include "arena.h"

static struct arena_copy initial;

/* Maps @size bytes at @at, with a page without access before and after. */
static bool map(uintptr_t at, size_t size, int prot)
{
	size_t whole = size + 2 * PAGE;
	void *start = (void *)(at - PAGE);

	if (mmap(start, whole, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE,
		 -1, 0) != start)
		return false;
	return !mprotect((void *)at, size, prot);
}

bool arena_setup(uint64_t seed)
{
	static const uint32_t signature = ABORT_SIGNATURE;
	struct rng rng = { .state = seed };
	uint64_t *words = (uint64_t *)&initial;
	unsigned int i;

	if (!map(CODE, CODE_SIZE, PROT_READ | PROT_WRITE | PROT_EXEC) ||
	    !map(STOPS, STOPS_SIZE, PROT_READ | PROT_WRITE) ||
	    !map(DATA, 4 * PAGE, PROT_READ | PROT_WRITE) ||
	    !map(RSEQ, PAGE, PROT_READ | PROT_WRITE) ||
	    !map(STACK, STACK_SIZE, PROT_READ | PROT_WRITE))
		return false;

	memset((void *)CODE, STOPPER, CODE_SIZE);
	memset((void *)STOPS, STOPPER, STOPS_SIZE);
	memcpy((void *)(ABORT_IP - sizeof(signature)), &signature, sizeof(signature));
	/* Words that look like addresses, like numbers, and like neither. */
	for (i = 0; i < sizeof(initial) / sizeof(*words); i++) {
		switch (rng_below(&rng, 8)) {
		case 0:
			words[i] = DATA + rng_below(&rng, DATA_SIZE);
			break;
		case 1:
			words[i] = rng_below(&rng, 64);
			break;
		case 2:
			words[i] = 0x3ff0000000000000 + ((uint64_t)rng_below(&rng, 64) << 48);
			break;
		case 3:
			words[i] = 0x3f8000003f800000 + rng_below(&rng, 1 << 24);
			break;
		default:
			words[i] = rng_next(&rng);
		}
	}
	memcpy((void *)READ_ONLY, &initial, PAGE);
	return !mprotect((void *)STOPS, STOPS_SIZE, PROT_READ | PROT_EXEC) &&
	       !mprotect((void *)READ_ONLY, PAGE, PROT_READ) &&
	       !mprotect((void *)(DATA + DATA_SIZE), PAGE, PROT_NONE);
}

void arena_restore(void)
{
	memcpy((void *)DATA, initial.data, DATA_SIZE);
	memcpy((void *)STACK, initial.stack, STACK_SIZE);
}

void arena_save(struct arena_copy *copy)
{
	memcpy(copy->data, (void *)DATA, DATA_SIZE);
	memcpy(copy->stack, (void *)STACK, STACK_SIZE);
}

void arena_forget(struct arena_copy *copy, uintptr_t at, unsigned int len)
{
	for (; len--; at++) {
		if (at - DATA < DATA_SIZE)
			copy->data[at - DATA] = 0;
		else if (at - STACK < STACK_SIZE)
			copy->stack[at - STACK] = 0;
	}
}

static bool is_writable(uintptr_t at)
{
	return at - DATA < DATA_SIZE || at - STACK < STACK_SIZE;
}

void arena_patch(uintptr_t at, const void *bytes, unsigned int len)
{
	unsigned int i;

	for (i = 0; i < len; i++)
		if (is_writable(at + i))
			*(uint8_t *)(at + i) = ((const uint8_t *)bytes)[i];
}

uintptr_t code_address(struct rng *rng, unsigned int len)
{
	if (len > 1 && rng_chance(rng, 12))
		return CODE + PAGE - 1 - rng_below(rng, len - 1);
	return CODE + 0x400 + rng_below(rng, 0x100);
}

void code_place(uintptr_t at, const uint8_t *bytes, unsigned int len)
{
	memcpy((void *)at, bytes, len);
}

void code_clear(uintptr_t at, unsigned int len)
{
	memset((void *)at, STOPPER, len);
}

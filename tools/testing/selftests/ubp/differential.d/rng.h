/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Reproducible random numbers: the same seed gives the same sequence
 * (splitmix64).
 */
#ifndef _RNG_H
#define _RNG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct rng {
	uint64_t state;
};

static inline uint64_t rng_mix(uint64_t z)
{
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
	return z ^ (z >> 31);
}

static inline uint64_t rng_next(struct rng *rng)
{
	rng->state += 0x9e3779b97f4a7c15ULL;
	return rng_mix(rng->state);
}

static inline uint32_t rng_below(struct rng *rng, uint32_t limit)
{
	return (uint32_t)(rng_next(rng) >> 32) % limit;
}

/* Returns true in @percent of 100 cases. */
static inline bool rng_chance(struct rng *rng, unsigned int percent)
{
	return rng_below(rng, 100) < percent;
}

/* Returns a generator that only depends on @seed and @bytes. */
static inline struct rng rng_of(uint64_t seed, const uint8_t *bytes, size_t len)
{
	struct rng rng = { .state = rng_mix(seed + 1) };

	while (len--)
		rng.state = rng_mix(rng.state ^ (*bytes++ + 1));
	return rng;
}

#endif /* _RNG_H */

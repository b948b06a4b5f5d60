/* SPDX-License-Identifier: GPL-2.0 */
/* Vector and x87 state, in the form of a signal frame. */
#ifndef _VECTOR_H
#define _VECTOR_H

#include <stdint.h>

#include "rng.h"

/* Random contents of all registers, as the rest is in the template. */
void vector_make(uint8_t *frame, struct rng *rng);

/* Small numbers in a vector register, for it to be the index of an address. */
void vector_make_index(uint8_t *frame, unsigned int number, struct rng *rng);

/*
 * Makes two states that mean the same the same: what is in its initial state
 * need not have been stored, and the last x87 instruction's address says where
 * it was executed, which is a slot.
 */
void vector_normalize(uint8_t *frame);

/* Names what is at an offset of a frame. */
const char *vector_name(unsigned int offset);

#endif /* _VECTOR_H */

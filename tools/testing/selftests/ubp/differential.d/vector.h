/* SPDX-License-Identifier: GPL-2.0 */
/* Vector and x87 state, in the form of a signal frame. */
#ifndef _VECTOR_H
#define _VECTOR_H

#include <stdint.h>

#include "rng.h"

/* Makes random contents for all registers; the rest is as in the template. */
void vector_make(uint8_t *frame, struct rng *rng);

/*
 * Makes small numbers in a vector register, which is the index of an address.
 */
void vector_make_index(uint8_t *frame, unsigned int number, struct rng *rng);

/*
 * Makes equivalent states equal: components in their initial state need not
 * have been stored, and the address of the last x87 instruction is an address
 * in a slot.
 */
void vector_normalize(uint8_t *frame);

/* Returns a name for the offset in a frame. */
const char *vector_name(unsigned int offset);

#endif /* _VECTOR_H */

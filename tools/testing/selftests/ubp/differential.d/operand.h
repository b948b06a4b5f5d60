/* SPDX-License-Identifier: GPL-2.0 */
/* Memory operands and branch targets. */
#ifndef _OPERAND_H
#define _OPERAND_H

#include "state.h"

/*
 * Returns an address for an operand: usually mapped, sometimes unmapped or
 * non-canonical.
 */
uint64_t random_address(struct rng *rng);

/*
 * Chooses the address of the operand, and sets registers and memory
 * accordingly.
 */
void operand_make(struct start *start, const struct encoding *e, struct rng *rng);

#endif /* _OPERAND_H */

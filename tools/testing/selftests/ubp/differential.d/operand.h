/* SPDX-License-Identifier: GPL-2.0 */
/* Memory operands and branch targets. */
#ifndef _OPERAND_H
#define _OPERAND_H

#include "state.h"

/* An address for an operand: mostly there, sometimes unmapped or not canonical. */
uint64_t random_address(struct rng *rng);

/* Chooses where the operand is, and registers and memory so that it is there. */
void operand_make(struct start *start, const struct encoding *e, struct rng *rng);

#endif /* _OPERAND_H */

/* SPDX-License-Identifier: GPL-2.0 */
/* Module that inserts breakpoints, or a placeholder. */
#ifndef _DEVICE_H
#define _DEVICE_H

#include <stdbool.h>
#include <stdint.h>

#include "encoding.h"
#include "ubp_test.h"

/* Placeholder for a device: both runs are without a breakpoint. */
#define NATIVE	-1

/* Returns a file descriptor, or a negative errno. */
int device_open(void);

/*
 * Determines the plans of @count instructions. Without a device, it only uses
 * the decoder.
 */
bool device_analyze(int device, struct ubp_test_insn *insns, const struct encoding *encodings,
		    unsigned int count);

/*
 * Returns an id, or a negative errno. Sets @plan to the plan of the
 * instruction.
 */
int device_insert(int device, uintptr_t at, unsigned int flags, unsigned int *plan);
/* Returns 0, or a negative errno. */
int device_remove(int device, int id);
bool device_count(int device, int id, struct ubp_test_count *count);

#endif /* _DEVICE_H */

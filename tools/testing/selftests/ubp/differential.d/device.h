/* SPDX-License-Identifier: GPL-2.0 */
/* The module that inserts breakpoints; or nothing in its place. */
#ifndef _DEVICE_H
#define _DEVICE_H

#include <stdbool.h>
#include <stdint.h>

#include "encoding.h"
#include "ubp_test.h"

/* What there are in place of a device: both runs are without a breakpoint. */
#define NATIVE	-1

/* A file descriptor, or a negative errno. */
int device_open(void);

/* Says of @count instructions how they are executed. Without a device, by the decoder alone. */
bool device_analyze(int device, struct ubp_test_insn *insns, const struct encoding *encodings,
		    unsigned int count);

/* Returns an id, or a negative errno. @plan says how it is executed. */
int device_insert(int device, uintptr_t at, unsigned int flags, unsigned int *plan);
/* 0 or a negative errno. */
int device_remove(int device, int id);
bool device_count(int device, int id, struct ubp_test_count *count);

#endif /* _DEVICE_H */

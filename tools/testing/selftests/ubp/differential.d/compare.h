/* SPDX-License-Identifier: GPL-2.0 */
/* Comparison of outcomes with and without a breakpoint. */
#ifndef _COMPARE_H
#define _COMPARE_H

#include <stdbool.h>

#include "encoding.h"
#include "run.h"

/*
 * Returns the reason for which the test leaves out an instruction that can be
 * probed; NULL if it does not.
 */
const char *left_out(const struct encoding *e, unsigned int disturb);

/*
 * Returns the reason for which an instruction must not be executed without a
 * breakpoint, because it would leave the program; NULL if it may be executed.
 * For instructions that UBP has not analyzed.
 */
const char *leaves_program(const struct encoding *e);

/* Prepares an outcome for the comparison. */
void outcome_normalize(struct outcome *outcome, const struct encoding *e,
		       const struct start *start);

/*
 * Describes the difference in @text, with at most @size characters. Returns
 * false if there is none.
 */
bool outcomes_differ(const struct outcome *native, const struct outcome *probed,
		     char *text, size_t size);

/*
 * Returns whether the restartable sequence was aborted before the instruction:
 * the state is unchanged, except for the instruction pointer.
 */
bool outcome_is_abort(const struct outcome *outcome, const struct start *start);

/*
 * Checks that each kind of difference is detected in copies of @native, a good
 * outcome.
 */
bool compare_selfcheck(const struct outcome *native, char *text, size_t size);

#endif /* _COMPARE_H */

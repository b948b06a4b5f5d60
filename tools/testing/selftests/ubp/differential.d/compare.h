/* SPDX-License-Identifier: GPL-2.0 */
/* What has to be the same with and without a breakpoint, and what need not. */
#ifndef _COMPARE_H
#define _COMPARE_H

#include <stdbool.h>

#include "encoding.h"
#include "run.h"

/* Why the test leaves an instruction out that can be probed; NULL if it does not. */
const char *left_out(const struct encoding *e, unsigned int disturb);

/*
 * Why an instruction must not be executed without a breakpoint, if nobody has
 * been asked whether it can be probed: it would leave the program.
 */
const char *leaves_program(const struct encoding *e);

/* Prepares an outcome for being compared. */
void outcome_normalize(struct outcome *outcome, const struct encoding *e,
		       const struct start *start);

/*
 * Describes the difference, at most @size characters of it, in @text. False if
 * there is none.
 */
bool outcomes_differ(const struct outcome *native, const struct outcome *probed,
		     char *text, size_t size);

/*
 * Whether the restartable sequence was aborted before the instruction: then
 * everything is as before it, but for the instruction pointer.
 */
bool outcome_is_abort(const struct outcome *outcome, const struct start *start);

/* Checks that each kind of difference is noticed: @native is a good outcome. */
bool compare_selfcheck(const struct outcome *native, char *text, size_t size);

#endif /* _COMPARE_H */

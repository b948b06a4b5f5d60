/* SPDX-License-Identifier: GPL-2.0 */
/* Adds up what the workers did, and prints it. */
#ifndef _REPORT_H
#define _REPORT_H

#include "worker.h"

/* Prints the table of a mode. Returns the sums in it. */
const struct shared *report(const struct options *options, const struct mode *mode,
			    const struct shared *const *workers);

#endif /* _REPORT_H */

/* SPDX-License-Identifier: GPL-2.0 */
/* Summary of the workers' results. */
#ifndef _REPORT_H
#define _REPORT_H

#include "worker.h"

/* Prints the table of a mode. Returns the sums of the table. */
const struct shared *report(const struct options *options, const struct mode *mode,
			    const struct shared *const *workers);

#endif /* _REPORT_H */

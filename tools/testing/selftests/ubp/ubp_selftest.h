/* SPDX-License-Identifier: GPL-2.0 */
/* Common functions of the UBP selftests. */
#ifndef _UBP_SELFTEST_H
#define _UBP_SELFTEST_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "ubp_test.h"

/*
 * Interface of the test module. All functions return a value, or a negative
 * errno.
 */
int ubp_open(void);
int ubp_analyze(int dev, struct ubp_test_insn *insns, size_t count);
/*
 * Returns the id, and the plan of the instruction in @plan unless that is NULL.
 */
int ubp_insert(int dev, pid_t pid, const void *at, unsigned int flags, unsigned int *plan);
int ubp_validate(int dev, pid_t pid, const void *at);
int ubp_remove(int dev, int id);
int ubp_count(int dev, int id, struct ubp_test_count *count);

#define UBP_PAGE	4096UL

/*
 * Returns a page whose first access waits until the fault is served through
 * @uffd; NULL if such a page is not available.
 */
char *ubp_unserved_page(int *uffd);

#endif /* _UBP_SELFTEST_H */

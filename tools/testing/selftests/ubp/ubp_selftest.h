/* SPDX-License-Identifier: GPL-2.0 */
/* What the selftests of UBP share. */
#ifndef _UBP_SELFTEST_H
#define _UBP_SELFTEST_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "ubp_test.h"

/* The module. All return a value, or a negative errno. */
int ubp_open(void);
int ubp_analyze(int dev, struct ubp_test_insn *insns, size_t count);
/* The id; how the instruction is executed goes to @plan, if that is not NULL. */
int ubp_insert(int dev, pid_t pid, const void *at, unsigned int flags, unsigned int *plan);
int ubp_validate(int dev, pid_t pid, const void *at);
int ubp_remove(int dev, int id);
int ubp_count(int dev, int id, struct ubp_test_count *count);

#define UBP_PAGE	4096UL

/*
 * A page whose first access waits until it is served through @uffd; NULL if that
 * cannot be had.
 */
char *ubp_unserved_page(int *uffd);

#endif /* _UBP_SELFTEST_H */

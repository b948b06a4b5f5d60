/* SPDX-License-Identifier: GPL-2.0 */
/* Time and processes: also for the selftests of utrace. */
#ifndef _SELFTEST_PROCESS_H
#define _SELFTEST_PROCESS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* Seconds that a test may take on the slowest kernel. */
#define TIMEOUT	150

/* Debug kernels get fewer rounds of what takes long. */
bool slow_kernel(void);
unsigned int scaled(unsigned int rounds);

/* Whether the thread is in one of the states (as in /proc/PID/stat) soon. */
bool wait_state(pid_t pid, pid_t tid, const char *states);
/*
 * Starts a program of the test's own folder, which stops itself. @from is what it
 * writes to its standard output. -1: it does not start.
 */
pid_t start_stopped(const char *name, int *from);
void sleep_ms(unsigned int ms);
uint64_t now_ms(void);

#endif /* _SELFTEST_PROCESS_H */

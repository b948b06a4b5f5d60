/* SPDX-License-Identifier: GPL-2.0 */
/* Helpers for time and processes, shared with the selftests of utrace. */
#ifndef _SELFTEST_PROCESS_H
#define _SELFTEST_PROCESS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* Seconds that a test may take on the slowest kernel. */
#define TIMEOUT	150

/* Debug kernels run fewer rounds of long tests. */
bool slow_kernel(void);
unsigned int scaled(unsigned int rounds);

/*
 * Waits for the thread to be in one of the states (as in /proc/PID/stat). False
 * on timeout.
 */
bool wait_state(pid_t pid, pid_t tid, const char *states);
/*
 * Starts a program of the test's own folder, which stops itself. @from is set
 * to the read end of its standard output. Returns -1 if the program does not
 * start.
 */
pid_t start_stopped(const char *name, int *from);
void sleep_ms(unsigned int ms);
uint64_t now_ms(void);

#endif /* _SELFTEST_PROCESS_H */

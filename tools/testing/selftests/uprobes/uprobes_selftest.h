/* SPDX-License-Identifier: GPL-2.0 */
/* Shared code of the selftests of user-space probes. */
#ifndef _UPROBES_SELFTEST_H
#define _UPROBES_SELFTEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "kselftest.h"
#include "selftest_process.h"
#include "uprobes_test.h"

/*
 * Functions to probe, alone in their page. Each returns @base + @add, so the caller can count the
 * calls of a handler that adds one to SI. A function's address is that of the instruction that it
 * is named after.
 */
unsigned long probed_nop(unsigned long base, unsigned long add);
unsigned long probed_push(unsigned long base, unsigned long add);
unsigned long probed_lea(unsigned long base, unsigned long add);
/* Returns @base + @add, by several instructions, each of which is executed once. */
unsigned long probed_mixed(unsigned long base, unsigned long add);
/* The current value of a byte. */
#define byte_at(at)	__atomic_load_n((const unsigned char *)(at), __ATOMIC_RELAXED)
/* A number in the text, for arguments that are read at a file offset. */
extern const uint32_t probed_number;
#define PROBED_NUMBER	0x5eed1234U

typedef unsigned long (*probed_fn)(unsigned long base, unsigned long add);

/* Calls @fn(@base, @add) from the instruction before call_probed_return. */
unsigned long call_probed(probed_fn fn, unsigned long base, unsigned long add);
extern const char call_probed_return[];

/* Data that address arguments can point to. */
struct probed_data {
	char text[8];
	uint32_t numbers[4];
	uint64_t wide;
	const char *far;
};

extern struct probed_data probed_data;

/* The module. All functions return a value, or a negative errno. */
int dev_open(void);
int dev_register(int dev, pid_t pid, const void *at, unsigned int flags);
int dev_register_how(int dev, const struct uprobes_test_register *how);
int dev_again(int dev, int id);
int dev_unregister(int dev, int id);
int dev_end(int dev, int id);
int dev_bulk(int dev, const struct uprobes_test_bulk *how);
int dev_count(int dev, int id, struct uprobes_test_count *count);
long long dev_hits(int dev, int id);
int dev_quiesce(int dev, pid_t pid);
int dev_quiesce_for(int dev, pid_t pid, unsigned int usec);
int dev_resume(int dev, int id);
int dev_state(int dev, struct uprobes_test_state *state);
/* Waits for the call of the probe's `unregistered`, and returns whether there was one. */
bool dev_notified(int dev, int id);
/* Returns whether no probe or guard is left and no handler came late. */
bool dev_clean(int dev);

/* tracefs. File names are relative to its root. */
bool tracefs_ready(void);
/* Returns whether uprobe_events takes PID:VADDR. */
bool tracefs_takes_pids(void);
bool tracefs_exists(const char *file);
/* These return 0 or a negative errno. */
int __printf(2, 3) tracefs_append(const char *file, const char *format, ...);
int __printf(2, 3) tracefs_replace(const char *file, const char *format, ...);
int tracefs_mkdir(const char *dir);
int tracefs_rmdir(const char *dir);
int tracefs_open(const char *file, int flags);
/* Returns the whole file, to be freed, or an empty string if there is none. */
char *tracefs_read(const char *file);
/* Returns the hits of @event in uprobe_profile, or -1 if it is not there. */
long long profile_hits(const char *event);
long long profile_misses(const char *event);
unsigned int count_lines(const char *text, const char *containing);
/*
 * Writes @marked, without its '^', to uprobe_events. Sets @caret to whether error_log then has one
 * entry, for this line, with the caret in the place of the '^', and @log to the entry, to be freed.
 */
int tracefs_refused(const char *marked, bool *caret, char **log);

/* These compare a process's text with its file, without the kernel's probe code. */
bool page_is_of_file(pid_t pid, const void *at);
bool text_is_of_file(pid_t pid, const void *at, size_t len);
/* Copies text as a reader of /proc/PID/mem sees it. */
bool text_read(pid_t pid, const void *at, void *to, size_t len);

/* A process that calls functions on request. */
struct target {
	pid_t pid;
	int to;
	int from;
};

bool target_start(struct target *target);
/* Returns the sum of the results of @times calls. */
unsigned long target_call(struct target *target, probed_fn fn, unsigned long base,
			  unsigned long add, unsigned int times);
/* Returns the wait status. */
int target_stop(struct target *target);

#endif /* _UPROBES_SELFTEST_H */

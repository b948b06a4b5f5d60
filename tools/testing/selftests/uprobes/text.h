/* SPDX-License-Identifier: GPL-2.0 */
/* Text at any address, and the system's view of it: helpers of the tests. */
#ifndef _TEXT_H
#define _TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/types.h>

#define PAGE	4096UL
#define HUGE	(2UL << 20)
#define RX	(PROT_READ | PROT_EXEC)
#define RWX	(PROT_READ | PROT_WRITE | PROT_EXEC)
#define INT3	0xcc

/* DI + SI in its first instruction, and DI - SI. */
extern const unsigned char add_code[5];
extern const unsigned char sub_code[7];

unsigned long call(const void *text, unsigned long base, unsigned long add);

/* Returns a page of anonymous text that begins with add_code, or MAP_FAILED. */
unsigned char *anonymous_text(int prot);
/*
 * Returns a file of one page that begins with add_code, a memfd if @path is
 * NULL, or -1.
 */
int text_file(const char *path);

/*
 * Returns a field of the mapping's entry in smaps, or of the process's status,
 * in KiB, or -1.
 */
long smaps_kb(pid_t pid, const void *at, const char *field);
long status_kb(pid_t pid, const char *field);
/* Returns the entry in /proc/PID/pagemap, without a page fault. */
uint64_t pagemap_entry(pid_t pid, const void *at);
#define PM_PFN(entry)	((entry) & ((1ULL << 55) - 1))
#define PM_UFFD_WP	0x0200000000000000ULL
#define PM_FILE		0x2000000000000000ULL
#define PM_PRESENT	0x8000000000000000ULL

/* Writes a whole file at once, as files in /proc and /sys require. */
bool set_file(const char *path, const char *value);

/* Waits for KSM to merge pages of two processes, and returns whether it did. */
bool merges(pid_t pid, const void *at, pid_t other, const void *other_at);

#endif /* _TEXT_H */

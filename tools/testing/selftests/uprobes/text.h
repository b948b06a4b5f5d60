/* SPDX-License-Identifier: GPL-2.0 */
/* What the tests of text share: text that can be put anywhere, and what the system says of it. */
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

/* A page of anonymous text that begins with add_code; MAP_FAILED on failure. */
unsigned char *anonymous_text(int prot);
/* A file of one page that begins with add_code; with no @path a memfd. -1 on failure. */
int text_file(const char *path);

/* A field of the mapping's entry in smaps, and of the process's status, in KiB; -1 if none. */
long smaps_kb(pid_t pid, const void *at, const char *field);
long status_kb(pid_t pid, const char *field);
/* The entry in /proc/PID/pagemap. Nothing is faulted in. */
uint64_t pagemap_entry(pid_t pid, const void *at);
#define PM_PFN(entry)	((entry) & ((1ULL << 55) - 1))
#define PM_UFFD_WP	0x0200000000000000ULL
#define PM_FILE		0x2000000000000000ULL
#define PM_PRESENT	0x8000000000000000ULL

/* Writes a whole file at once, as those in /proc and /sys want it. */
bool set_file(const char *path, const char *value);

/* Whether KSM makes one page of the pages of two processes. */
bool merges(pid_t pid, const void *at, pid_t other, const void *other_at);

#endif /* _TEXT_H */

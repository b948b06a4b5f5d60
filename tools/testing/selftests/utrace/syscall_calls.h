/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _SYSCALL_CALLS_H
#define _SYSCALL_CALLS_H

/* System calls by `syscall`, and of the 32-bit table by `int $0x80`. */
long call_syscall(long nr, const unsigned long args[6]);
long call_int80(long nr, const unsigned long args[6]);

/* The addresses after the two instructions. */
extern const char after_syscall[];
extern const char after_int80[];

#endif /* _SYSCALL_CALLS_H */

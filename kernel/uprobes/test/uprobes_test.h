/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What /dev/uprobes_test takes. Shared by the module and by the programs in
 * tools/testing/selftests/uprobes.
 *
 * Probes and guards belong to the open file that made them and go with it. Both
 * have positive ids out of one number space.
 */
#ifndef _UPROBES_TEST_H
#define _UPROBES_TEST_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define UPROBES_TEST_DEVICE	"/dev/uprobes_test"

/* uprobes_test_register.flags */
#define UPROBES_TEST_TASK	0x1	/* has a handler in task context */
#define UPROBES_TEST_INTERRUPT	0x2	/* has a handler in interrupt context */
#define UPROBES_TEST_EARLY	0x4	/* change registers in interrupt context */
#define UPROBES_TEST_FLAGS	(UPROBES_TEST_TASK | UPROBES_TEST_INTERRUPT | UPROBES_TEST_EARLY)

/**
 * struct uprobes_test_register - a probe to place
 * @pid: any thread of the process
 * @flags: UPROBES_TEST_*
 * @vaddr: address of the instruction
 * @sleep_usec: how long the task handler sleeps
 * @add_si: is added to the SI register by every hit
 * @add_ip: is added to the instruction pointer by every hit
 */
struct uprobes_test_register {
	__s32 pid;
	__u32 flags;
	__u64 vaddr;
	__u32 sleep_usec;
	__s32 add_si;
	__s64 add_ip;
};

/**
 * struct uprobes_test_count - what a probe saw so far
 * @id: which probe (in)
 * @active: handlers running now
 * @task_hits: calls of the task handler
 * @task_preemptible: how many of them could have slept
 * @interrupt_hits: calls of the interrupt handler
 * @interrupt_irqs_off: how many of them had interrupts off
 * @task_sequence: place of the last task call among all calls of all probes
 * @interrupt_sequence: the same for the last interrupt call
 * @last_ip: instruction pointer at the last call, before any change
 * @last_si: SI register at the last call, before any change
 * @last_tid: thread of the last call
 * @last_tgid: process of the last call
 */
struct uprobes_test_count {
	__u32 id;
	__u32 active;
	__u64 task_hits;
	__u64 task_preemptible;
	__u64 interrupt_hits;
	__u64 interrupt_irqs_off;
	__u64 task_sequence;
	__u64 interrupt_sequence;
	__u64 last_ip;
	__u64 last_si;
	__s32 last_tid;
	__s32 last_tgid;
};

/**
 * struct uprobes_test_quiesce - a process to hold still
 * @pid: any thread of the process
 * @usec: for UPROBES_TEST_QUIESCE_FOR: how long
 */
struct uprobes_test_quiesce {
	__s32 pid;
	__u32 usec;
};

/**
 * struct uprobes_test_state - state of the module
 * @probes: registered now, over all open files
 * @guards: processes held now, over all open files
 * @late: handlers that ran when unregister_uprobe() had already returned
 * @ended_hits: all hits of those probes of this open file that are gone
 */
struct uprobes_test_state {
	__u32 probes;
	__u32 guards;
	__u64 late;
	__u64 ended_hits;
};

/* Returns the id of the probe, or fails as register_uprobe() does. */
#define UPROBES_TEST_REGISTER	_IOW('u', 1, struct uprobes_test_register)
/* Hands the same struct uprobe to register_uprobe() a second time. */
#define UPROBES_TEST_AGAIN	_IO('u', 2)
/* Argument: the id of a probe. */
#define UPROBES_TEST_UNREGISTER	_IO('u', 3)
#define UPROBES_TEST_COUNT	_IOWR('u', 4, struct uprobes_test_count)
/* Returns the id of the guard. */
#define UPROBES_TEST_QUIESCE	_IOW('u', 5, struct uprobes_test_quiesce)
/* Argument: the id of a guard. */
#define UPROBES_TEST_RESUME	_IO('u', 6)
/* Quiesces, sleeps and resumes in one call, so it can hold the caller too. */
#define UPROBES_TEST_QUIESCE_FOR _IOW('u', 7, struct uprobes_test_quiesce)
#define UPROBES_TEST_STATE	_IOR('u', 8, struct uprobes_test_state)
/* Argument: a pid. Unregisters a struct uprobe that was never registered. */
#define UPROBES_TEST_NOOP	_IO('u', 9)

#endif /* _UPROBES_TEST_H */

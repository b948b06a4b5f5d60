/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Interface of /dev/uprobes_test, for the module and the programs in
 * tools/testing/selftests/uprobes.
 *
 * Probes, bulks and guards belong to an open file, and end when it is closed. All
 * have positive ids from one number space.
 */
#ifndef _UPROBES_TEST_H
#define _UPROBES_TEST_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define UPROBES_TEST_DEVICE	"/dev/uprobes_test"

/* uprobes_test_register.flags */
#define UPROBES_TEST_TASK	0x001	/* has a handler in task context */
#define UPROBES_TEST_INTERRUPT	0x002	/* has a handler in interrupt context */
#define UPROBES_TEST_RETURN	0x004	/* has a handler of returns */
#define UPROBES_TEST_FILTER	0x008	/* fires for the thread @filter_tid only */
#define UPROBES_TEST_EARLY	0x010	/* change registers in interrupt context */
#define UPROBES_TEST_FOLLOW	0x020	/* UPROBE_FOLLOW_FORK */
#define UPROBES_TEST_BAD_FLAG	0x040	/* a flag that struct uprobe does not know */
#define UPROBES_TEST_BY_TASK	0x080	/* register_uprobe_task(), with no pid */
#define UPROBES_TEST_NOTIFY	0x100	/* has `unregistered` */
#define UPROBES_TEST_FREE	0x200	/* which frees the struct uprobe */
#define UPROBES_TEST_PREPARE	0x400	/* is not registered yet */
#define UPROBES_TEST_FLAGS	0x7ff

/* uprobes_test_register.act: action of a handler besides counting. */
enum uprobes_test_act {
	UPROBES_TEST_ACT_NONE,
	UPROBES_TEST_ACT_UNREGISTER,	/* the probe itself */
	UPROBES_TEST_ACT_UNREGISTER_OTHER,	/* the probe @other */
	UPROBES_TEST_ACT_REGISTER_OTHER,	/* the probe @other */
	/* The handler returns in another context than it was called in. */
	UPROBES_TEST_ACT_IRQS_OFF,
	UPROBES_TEST_ACT_IRQS_ON,
	UPROBES_TEST_ACT_PREEMPT_OFF,
	UPROBES_TEST_ACT_BH_OFF,
	UPROBES_TEST_ACT_RCU_LOCK,
	UPROBES_TEST_ACT_RCU_TRACE_LOCK,
	UPROBES_TEST_ACT_PREEMPT_ON,	/* enabled already, as for the next */
	UPROBES_TEST_ACT_BH_ON,
	UPROBES_TEST_ACT_FAULTS_OFF,
	UPROBES_TEST_ACT_MIGRATION_OFF,
	UPROBES_TEST_ACT_EVERYTHING,	/* much of it, and more than once */
	/* The handler takes @act_usec. */
	UPROBES_TEST_ACT_SLEEP,
	UPROBES_TEST_ACT_SPIN,
	UPROBES_TEST_ACTS,
};

/**
 * struct uprobes_test_register - a probe to place
 * @pid: any thread of the process
 * @flags: UPROBES_TEST_*
 * @vaddr: address of the instruction
 * @size: of the function, as in struct uprobe
 * @sleep_usec: how long the task handler sleeps, before it does anything else
 * @add_si: is added to the SI register by every hit
 * @add_ip: is added to the instruction pointer by every hit
 * @add_ax: is added to the AX register by every return
 * @add_return_ip: is added to the instruction pointer by every return
 * @filter_tid: for UPROBES_TEST_FILTER, in the caller's pid namespace
 * @act: enum uprobes_test_act
 * @act_in: which handlers do that: _TASK, _INTERRUPT, _RETURN
 * @other: the id of another probe, for @act
 * @act_usec: for @act
 * @linger_usec: how long the task handler sleeps after all else
 */
struct uprobes_test_register {
	__s32 pid;
	__u32 flags;
	__u64 vaddr;
	__u64 size;
	__u32 sleep_usec;
	__s32 add_si;
	__s64 add_ip;
	__s64 add_ax;
	__s64 add_return_ip;
	__s32 filter_tid;
	__u32 act;
	__u32 act_in;
	__u32 other;
	__u32 act_usec;
	__u32 linger_usec;
};

/**
 * struct uprobes_test_count - counts of a probe, and values of its last calls
 * @id: id of the probe (in)
 * @active: handlers running now
 * @task_hits: calls of the task handler
 * @task_preemptible: how many of them could have slept
 * @interrupt_hits: calls of the interrupt handler
 * @interrupt_irqs_off: how many of them had interrupts off
 * @return_hits: calls of the return handler
 * @return_preemptible: how many of them could have slept
 * @task_sequence: place of the last task call among all calls of all probes
 * @interrupt_sequence: the same for the last interrupt call
 * @return_sequence: the same for the last return call
 * @last_ip: instruction pointer at the last call, before any change
 * @last_sp: stack pointer at that call
 * @last_si: SI register at the last call, before any change
 * @return_ip: instruction pointer at the last return, before any change
 * @return_sp: stack pointer at that return
 * @return_ax: AX register at the last return, before any change
 * @ax_sum: sum of the AX registers at all returns
 * @filter_calls: calls of the filter
 * @filter_wrong: how many of them were for another thread than the current one
 * @last_tid: thread of the last call
 * @last_tgid: process of the last call
 * @notified: calls of `unregistered`
 * @act_result: return value of the registration of the other probe
 * @counts_error: return value of uprobe_read_counts()
 * @hits: read by uprobe_read_counts(), as @returns, @misses,
 *	@detection and @walk_end
 */
struct uprobes_test_count {
	__u32 id;
	__u32 active;
	__u64 task_hits;
	__u64 task_preemptible;
	__u64 interrupt_hits;
	__u64 interrupt_irqs_off;
	__u64 return_hits;
	__u64 return_preemptible;
	__u64 task_sequence;
	__u64 interrupt_sequence;
	__u64 return_sequence;
	__u64 last_ip;
	__u64 last_sp;
	__u64 last_si;
	__u64 return_ip;
	__u64 return_sp;
	__u64 return_ax;
	__u64 ax_sum;
	__u64 filter_calls;
	__u64 filter_wrong;
	__s32 last_tid;
	__s32 last_tgid;
	__u32 notified;
	__s32 act_result;
	__s32 counts_error;
	__u32 reserved;
	__u64 hits;
	__u64 returns;
	__u64 misses;
	__u64 detection;
	__u64 walk_end;
};

/**
 * struct uprobes_test_bulk - probes for register_uprobes()
 * @pid: any thread of the process
 * @num: number of probes
 * @vaddr: address of the first one
 * @stride: distance between addresses
 * @bad: index of a probe at address 0 instead; none if not less than @num
 * @twice: index at which the first probe is passed again; none if 0
 */
struct uprobes_test_bulk {
	__s32 pid;
	__u32 num;
	__u64 vaddr;
	__u32 stride;
	__u32 bad;
	__u32 twice;
	__u32 reserved;
};

/**
 * struct uprobes_test_quiesce - a process to quiesce
 * @pid: any thread of the process
 * @usec: duration, for UPROBES_TEST_QUIESCE_FOR
 */
struct uprobes_test_quiesce {
	__s32 pid;
	__u32 usec;
};

/**
 * struct uprobes_test_state - state of the module
 * @probes: registered now, over all open files
 * @guards: processes quiesced now, over all open files
 * @late: handlers that ran after the probe was freed or `unregistered` was called
 * @ended_hits: hits of the probes of this open file that were unregistered
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
/* Argument: the id of a probe or a bulk. */
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
/* Only calls unregister_uprobe(): the id and the counts stay. */
#define UPROBES_TEST_END	_IO('u', 10)
/* Returns the id of the bulk, or fails as register_uprobes() does. */
#define UPROBES_TEST_BULK	_IOW('u', 11, struct uprobes_test_bulk)
/* Argument: the id of a bulk. Unregisters its probes one by one. */
#define UPROBES_TEST_BULK_SINGLY _IO('u', 12)
/* Argument: the id of a bulk. Returns the hits of all its probes. */
#define UPROBES_TEST_BULK_HITS	_IO('u', 13)

#endif /* _UPROBES_TEST_H */

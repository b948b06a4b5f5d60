/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Interface of /dev/utrace_test, for the module and for the programs in
 * tools/testing/selftests/utrace.
 *
 * The device gives a program the functions of <linux/utrace.h> as ioctls. Each
 * call of a callback is read from the file as a struct utrace_test_record, in
 * the order of the events; the program sets the answers beforehand. All engines
 * belong to the open file, and are detached when it is closed. An id identifies
 * one engine, or the engines on all threads of a process.
 */
#ifndef _UTRACE_TEST_H
#define _UTRACE_TEST_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define UTRACE_TEST_DEVICE	"/dev/utrace_test"

/* The callbacks, as bit numbers for sets of them. */
enum utrace_test_callback {
	UTRACE_TEST_QUIESCE,
	UTRACE_TEST_SIGNAL,
	UTRACE_TEST_CLONE,
	UTRACE_TEST_JCTL,
	UTRACE_TEST_EXEC,
	UTRACE_TEST_SYSCALL_ENTRY,
	UTRACE_TEST_SYSCALL_EXIT,
	UTRACE_TEST_EXIT,
	UTRACE_TEST_LAST_EXIT,
	UTRACE_TEST_DEATH,
	UTRACE_TEST_REAP,
	UTRACE_TEST_PATH,
	UTRACE_TEST_CALLBACKS
};

#define UTRACE_TEST_ALL_CALLBACKS	((1U << UTRACE_TEST_CALLBACKS) - 1)

/* Flags in .how */
#define UTRACE_TEST_BY_PID	0x1	/* call the function that takes a struct pid */
#define UTRACE_TEST_NO_OPS	0x2	/* attach: with a null pointer for the ops */

/**
 * struct utrace_test_attach - an engine to attach, or to find
 * @tid: the thread
 * @flags: UTRACE_ATTACH_*
 * @callbacks: the callbacks in the ops. Equal sets have the same ops.
 * @data: 0, or the id of the engine that this one shares data with
 * @how: UTRACE_TEST_BY_PID, UTRACE_TEST_NO_OPS
 * @reserved: zero
 * @events: for a process: the enabled events
 */
struct utrace_test_attach {
	__s32 tid;
	__s32 flags;
	__u32 callbacks;
	__u32 data;
	__u32 how;
	__u32 reserved;
	__u64 events;
};

/**
 * struct utrace_test_call - a call for an engine
 * @id: the engine
 * @tid: the thread; 0 for the one to which the engine was attached
 * @how: UTRACE_TEST_BY_PID
 * @action: for CONTROL: the action
 * @events: for EVENTS: the set
 */
struct utrace_test_call {
	__u32 id;
	__s32 tid;
	__u32 how;
	__u32 action;
	__u64 events;
};

/* The registers, in the order of the start of struct user_regs_struct. */
#define UTRACE_TEST_NREGS	21

/**
 * struct utrace_test_regs - the registers of a stopped thread
 * @id: the engine that has stopped it
 * @reserved: zero
 * @regs: as in struct user_regs_struct, up to ss
 */
struct utrace_test_regs {
	__u32 id;
	__u32 reserved;
	__u64 regs[UTRACE_TEST_NREGS];
};

/* Flags in utrace_test_answer.flags */
#define UTRACE_TEST_ONLY	0x01	/* only if the record's arg[0] is .match */
#define UTRACE_TEST_KEEP	0x02	/* leave the signal or system call as it is */
#define UTRACE_TEST_BLOCK	0x04	/* wait for UTRACE_TEST_GO or SIGKILL */
#define UTRACE_TEST_SET		0x08	/* change the signal, call, result or code */
#define UTRACE_TEST_CHILD	0x10	/* clone: attach an engine to the child */
#define UTRACE_TEST_SECOND	0x20	/* attach an engine to the current thread */
#define UTRACE_TEST_CONTROL_ME	0x40	/* call utrace_control(), action value[0] */
#define UTRACE_TEST_BARRIER_ME	0x80	/* call utrace_barrier() */
#define UTRACE_TEST_LOOK_UP	0x100	/* look up the file name at value[0] */
#define UTRACE_TEST_TASKS_RCU	0x200	/* call synchronize_rcu_tasks() */
#define UTRACE_TEST_DIE		0x400	/* end the thread, as an oops does */
#define UTRACE_TEST_ANSWER_FLAGS 0x7ff

/* Bit numbers in .set, and indices into .value, for system calls. */
#define UTRACE_TEST_NR		0	/* the number; six arguments follow */
#define UTRACE_TEST_RESULT	7
#define UTRACE_TEST_VALUES	8

/**
 * struct utrace_test_answer - the answer of a callback of an engine
 * @id: the engine
 * @callback: enum utrace_test_callback
 * @action: the return value
 * @times: the number of uses; 0 for no limit. Afterwards the next answer that
 *	matches is used.
 * @flags: UTRACE_TEST_ONLY and following
 * @set: for UTRACE_TEST_SET and system calls: the elements of @value to use
 * @match: for UTRACE_TEST_ONLY
 * @callbacks: for the engine to attach
 * @reserved: zero
 * @events: for the engine to attach
 * @value: signal: number and disposition (SIG_DFL, SIG_IGN, or ~0 for that of
 *	the program); exit: the code; system calls: see above
 *
 * Without an answer that matches, a callback returns UTRACE_RESUME and changes
 * nothing.
 */
struct utrace_test_answer {
	__u32 id;
	__u32 callback;
	__u32 action;
	__u32 times;
	__u32 flags;
	__u32 set;
	__s64 match;
	__u32 callbacks;
	__u32 reserved;
	__u64 events;
	__u64 value[UTRACE_TEST_VALUES];
};

/**
 * struct utrace_test_record - one call of a callback
 * @sequence: counts the records of this open file
 * @id: the engine
 * @callback: enum utrace_test_callback
 * @tid: the thread of the event
 * @found: the argument "action"
 * @returned: the return value
 * @result: the result of utrace_control(), utrace_barrier() or the lookup of
 *	the file name in the callback, or the id of the engine that it attached
 * @arg: quiesce: event mask. signal: number (0 with UTRACE_SIGNAL_REPORT, -1
 *	with _HANDLER), code, disposition of the program (-1: none), and that to
 *	be used. clone: flags, child. jctl: type, notify. exec: instruction
 *	pointer. Entry: number, first three arguments. Exit of a system call:
 *	number, result. exit: orig_code, code. last_exit: code. death:
 *	group_dead, signal. reap: whether in the thread itself. path: address.
 * @name: path: the name. exec: the file
 */
struct utrace_test_record {
	__u64 sequence;
	__u32 id;
	__u32 callback;
	__s32 tid;
	__u32 found;
	__u32 returned;
	__s32 result;
	__s64 arg[4];
	char name[40];
};

/**
 * struct utrace_test_count - counters of an engine, or of those of a process
 * @id: the engine (in)
 * @active: callbacks executing now
 * @flags: engine->flags
 * @released: calls of release()
 * @calls: of each callback
 */
struct utrace_test_count {
	__u32 id;
	__u32 active;
	__u64 flags;
	__u64 released;
	__u64 calls[UTRACE_TEST_CALLBACKS];
};

/**
 * struct utrace_test_state - state of the module, over all open files
 * @attached: engines (of a process: once) not released yet
 * @files: open files
 * @late: callbacks after the last one, and surplus releases
 * @atomic: callbacks that could not have slept, or that were called with a lock
 *	held, which only a kernel with lockdep detects
 * @lost: records of this open file that were overwritten before they were read
 */
struct utrace_test_state {
	__u32 attached;
	__u32 files;
	__u64 late;
	__u64 atomic;
	__u64 lost;
};

/* Returns the id of the engine, attached or found. */
#define UTRACE_TEST_ATTACH	_IOW('U', 1, struct utrace_test_attach)
#define UTRACE_TEST_ATTACH_PROCESS _IOW('U', 2, struct utrace_test_attach)
#define UTRACE_TEST_EVENTS	_IOW('U', 3, struct utrace_test_call)
#define UTRACE_TEST_CONTROL	_IOW('U', 4, struct utrace_test_call)
#define UTRACE_TEST_BARRIER	_IOW('U', 5, struct utrace_test_call)
#define UTRACE_TEST_PREPARE	_IOW('U', 6, struct utrace_test_call)
#define UTRACE_TEST_FINISH	_IOW('U', 7, struct utrace_test_call)
#define UTRACE_TEST_GET_REGS	_IOWR('U', 8, struct utrace_test_regs)
#define UTRACE_TEST_SET_REGS	_IOW('U', 9, struct utrace_test_regs)
#define UTRACE_TEST_ANSWER	_IOW('U', 10, struct utrace_test_answer)
/* Argument: an id. Removes all answers. */
#define UTRACE_TEST_NO_ANSWER	_IO('U', 11)
/* Argument: an id. Wakes callbacks that block. */
#define UTRACE_TEST_GO		_IO('U', 12)
#define UTRACE_TEST_COUNT	_IOWR('U', 13, struct utrace_test_count)
/* Argument: an id. Drops the reference; only COUNT and DROP work afterwards. */
#define UTRACE_TEST_PUT		_IO('U', 14)
/*
 * Argument: an id. Detaches for good, waits for callbacks, frees the id. If it
 * is from UTRACE_TEST_QUIESCE_PROCESS, resumes the process.
 */
#define UTRACE_TEST_DROP	_IO('U', 15)
#define UTRACE_TEST_STATE	_IOR('U', 16, struct utrace_test_state)
/* Argument: a pid. Keeps its process out of user mode. Returns an id. */
#define UTRACE_TEST_QUIESCE_PROCESS _IO('U', 17)

#endif /* _UTRACE_TEST_H */

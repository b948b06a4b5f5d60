/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Interface of /dev/ubp_test, shared by the module and by the programs in
 * tools/testing/selftests/ubp.
 *
 * The breakpoints belong to UBP alone, without uprobes. They also belong to the
 * open file that inserted them, and are removed when it is released.
 */
#ifndef _UBP_TEST_H
#define _UBP_TEST_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define UBP_TEST_DEVICE	"/dev/ubp_test"

#define UBP_TEST_INSN_SIZE	15
#define UBP_TEST_REASON_SIZE	64

/* How the displaced instruction is executed: ubp_test_insn.plan, ubp_test_insert.plan */
#define UBP_TEST_REFUSED	0	/* it cannot be probed */
#define UBP_TEST_EMULATE	1	/* by the kernel; nothing is mapped into the process */
#define UBP_TEST_BOOST		2	/* in a slot, without a second trap */
#define UBP_TEST_STEP		3	/* in a slot, by a single-step */

/**
 * struct ubp_test_insn - an instruction to analyse
 * @vaddr: its address (in)
 * @bytes: the bytes at the address (in)
 * @avail: the number of valid @bytes (in)
 * @is_32bit: whether it is 32-bit code (in)
 * @len: its length; 0 if the length is unknown (out)
 * @plan: UBP_TEST_REFUSED and so on (out)
 * @reason: the reason of a refusal, in words (out)
 */
struct ubp_test_insn {
	__u64 vaddr;
	__u8 bytes[UBP_TEST_INSN_SIZE];
	__u8 avail;
	__u8 is_32bit;
	__u8 len;
	__u8 plan;
	__u8 pad[5];
	char reason[UBP_TEST_REASON_SIZE];
};

/**
 * struct ubp_test_analyze - instructions to analyse
 * @insns: an array of struct ubp_test_insn
 * @count: its length
 */
struct ubp_test_analyze {
	__u64 insns;
	__u64 count;
};

/*
 * ubp_test_insert.flags: the handlers of the breakpoint; without flags, both
 * handlers are empty
 */
#define UBP_TEST_TASK		0x1	/* count in task context */
#define UBP_TEST_INTERRUPT	0x2	/* count in interrupt context */
#define UBP_TEST_FORCE		0x4	/* alone: count in task context, and force SIGSEGV */

/**
 * struct ubp_test_insert - a breakpoint to insert
 * @pid: any thread of the process, 0 for the caller's
 * @flags: UBP_TEST_TASK, UBP_TEST_INTERRUPT; or UBP_TEST_FORCE
 * @vaddr: address of the instruction
 * @plan: how the instruction is executed (out)
 */
struct ubp_test_insert {
	__s32 pid;
	__u32 flags;
	__u64 vaddr;
	__u32 plan;
	__u32 pad;
};

/**
 * struct ubp_test_count - hits of a breakpoint so far
 * @id: the breakpoint (in)
 * @active: the number of handlers that are executing
 * @task_hits: calls in task context
 * @interrupt_hits: calls in interrupt context
 */
struct ubp_test_count {
	__u32 id;
	__u32 active;
	__u64 task_hits;
	__u64 interrupt_hits;
};

#define UBP_TEST_ANALYZE	_IOW('b', 1, struct ubp_test_analyze)
/* Returns a positive id, or fails as ubp_insert_bkpt() does. */
#define UBP_TEST_INSERT		_IOWR('b', 2, struct ubp_test_insert)
/*
 * Argument: an id. When it returns, no handler of the breakpoint is executing
 * or will be called.
 */
#define UBP_TEST_REMOVE		_IO('b', 3)
#define UBP_TEST_COUNT		_IOWR('b', 4, struct ubp_test_count)
/*
 * Checks whether a breakpoint could be inserted, as ubp_validate_insn_addr()
 * does.
 */
#define UBP_TEST_VALIDATE	_IOW('b', 5, struct ubp_test_insert)

#endif /* _UBP_TEST_H */

// SPDX-License-Identifier: GPL-2.0
/*
 * Counts how often a process executes an instruction. A sample of uprobes in C;
 * rust_uprobe_count.rs does the same in Rust.
 *
 *	insmod uprobe_count.ko pid=4711 vaddr=0x401136
 *
 * If the instruction is the first one of a function, and its size is given, the
 * module also counts the returns of the function. It can be unloaded at any
 * time, and then writes the counts to the kernel's log. See
 * Documentation/trace/uprobes.rst.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/atomic.h>
#include <linux/module.h>
#include <linux/moduleparam.h>
#include <linux/printk.h>
#include <linux/ptrace.h>
#include <linux/sched.h>
#include <linux/uprobes.h>

static int pid;
module_param(pid, int, 0444);
MODULE_PARM_DESC(pid, "A thread of the process, in the pid namespace of the loader");

static unsigned long vaddr;
module_param(vaddr, ulong, 0444);
MODULE_PARM_DESC(vaddr, "Address of an instruction in the process");

static unsigned long size;
module_param(size, ulong, 0444);
MODULE_PARM_DESC(size, "Size of the function at vaddr in bytes, to count returns (0: do not)");

static bool follow;
module_param(follow, bool, 0444);
MODULE_PARM_DESC(follow, "Also count in the processes that it forks");

static unsigned long limit;
module_param(limit, ulong, 0444);
MODULE_PARM_DESC(limit, "Remove the probe after this many hits (0: never)");

static unsigned long show;
module_param(show, ulong, 0444);
MODULE_PARM_DESC(show, "Number of hits to report as they happen");

static atomic_long_t hits;
static atomic_long_t returns;

/* Several threads may execute this at the same time. */
static void count_hit(struct uprobe *self, struct pt_regs *regs)
{
	unsigned long number = atomic_long_inc_return(&hits);

	if (number <= show)
		pr_info("hit %lu: process %d, thread %d, first argument 0x%lx\n", number,
			task_tgid_nr(current), task_pid_nr(current),
			regs_get_kernel_argument(regs, 0));
	/*
	 * A handler cannot wait for itself: this returns at once, even if
	 * called again.
	 */
	if (limit && number >= limit)
		unregister_uprobe(self);
}

static void count_return(struct uprobe *self, struct pt_regs *regs)
{
	atomic_long_inc(&returns);
}

/* Must not be changed while it is registered. */
static struct uprobe probe = {
	.handler	= count_hit,
};

static int __init uprobe_count_init(void)
{
	probe.pid = pid;
	probe.vaddr = vaddr;
	probe.size = size;
	if (size)
		probe.return_handler = count_return;
	if (follow)
		probe.flags |= UPROBE_FOLLOW_FORK;
	return register_uprobe(&probe);
}

static void __exit uprobe_count_exit(void)
{
	struct uprobe_counts counts = {};

	/* The counts are lost if a handler has unregistered the probe. */
	uprobe_read_counts(&probe, &counts);
	/*
	 * When this returns, no handler is running or will run, even if a
	 * handler has already called unregister_uprobe().
	 */
	unregister_uprobe(&probe);
	pr_info("%ld hits, %ld returns, %llu misses\n", atomic_long_read(&hits),
		atomic_long_read(&returns), counts.misses);
}

module_init(uprobe_count_init);
module_exit(uprobe_count_exit);

MODULE_DESCRIPTION("Sample of uprobes: counts how often an instruction is executed");
MODULE_LICENSE("GPL");

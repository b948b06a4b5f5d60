// SPDX-License-Identifier: GPL-2.0
/*
 * Injects faults into a running program: makes calls of a function fail. A
 * sample of uprobes with handlers that change registers.
 *
 *	insmod uprobe_fault.ko pid=4711 vaddr=0x401136 every=10 value=-12
 *
 * Every tenth call of the function there does nothing and returns -ENOMEM. With
 * value=0 it would return NULL. With at_return=1 the function is executed, and
 * returns that value nevertheless; for this, size= may give the size of the
 * function in bytes.
 *
 * The faults end when the module is unloaded, which it can be at any time. See
 * Documentation/trace/uprobes.rst.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/atomic.h>
#include <linux/module.h>
#include <linux/moduleparam.h>
#include <linux/printk.h>
#include <linux/ptrace.h>
#include <linux/uaccess.h>
#include <linux/uprobes.h>

static int pid;
module_param(pid, int, 0444);
MODULE_PARM_DESC(pid, "A thread of the process, in the pid namespace of the loader");

static unsigned long vaddr;
module_param(vaddr, ulong, 0444);
MODULE_PARM_DESC(vaddr, "Address of a function in the process");

static unsigned long size;
module_param(size, ulong, 0444);
MODULE_PARM_DESC(size, "Size of the function in bytes (0: not known)");

static unsigned long every = 1;
module_param(every, ulong, 0444);
MODULE_PARM_DESC(every, "Every nth call fails (1: each call)");

static long value = -ENOMEM;
module_param(value, long, 0444);
MODULE_PARM_DESC(value, "Return value of the calls that fail");

static bool at_return;
module_param(at_return, bool, 0444);
MODULE_PARM_DESC(at_return, "Execute the function before its value is replaced");

static atomic_long_t calls;
static atomic_long_t faults;

static bool is_to_fail(void)
{
	return atomic_long_inc_return(&calls) % every == 0;
}

/*
 * Makes the function return without being executed. Task context is needed to
 * read the stack of the thread.
 *
 * A shadow stack would still have the return address, and the thread would be
 * killed at its next return: such a program needs at_return=1.
 */
static void skip(struct uprobe *self, struct pt_regs *regs)
{
	unsigned long caller;

	if (!is_to_fail())
		return;
	if (!user_64bit_mode(regs) || get_user(caller, (unsigned long __user *)regs->sp))
		return;
	regs->ax = value;
	regs->sp += sizeof(caller);
	/* The thread continues there, and not at the probed instruction. */
	regs->ip = caller;
	atomic_long_inc(&faults);
}

/*
 * The function is about to return, or just returned: the value has not been
 * read.
 */
static void replace(struct uprobe *self, struct pt_regs *regs)
{
	if (!is_to_fail())
		return;
	regs->ax = value;
	atomic_long_inc(&faults);
}

static struct uprobe probe;

static int __init uprobe_fault_init(void)
{
	if (!every)
		return -EINVAL;
	probe.pid = pid;
	probe.vaddr = vaddr;
	probe.size = size;
	if (at_return)
		probe.return_handler = replace;
	else
		probe.handler = skip;
	return register_uprobe(&probe);
}

static void __exit uprobe_fault_exit(void)
{
	/* When this returns, no handler is running or will run. */
	unregister_uprobe(&probe);
	pr_info("%ld calls, %ld faults\n", atomic_long_read(&calls), atomic_long_read(&faults));
}

module_init(uprobe_fault_init);
module_exit(uprobe_fault_exit);

MODULE_DESCRIPTION("Sample of uprobes: makes calls of a function fail");
MODULE_LICENSE("GPL");

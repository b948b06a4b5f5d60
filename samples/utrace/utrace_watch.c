// SPDX-License-Identifier: GPL-2.0
/*
 * Reports the exec, the crash and the exit of a process in the kernel's log. A
 * sample of utrace in C; rust_utrace_watch.rs does the same in Rust.
 *
 *	insmod utrace_watch.ko pid=4711
 *
 * The module can be unloaded at any time. See Documentation/trace/utrace.rst.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/binfmts.h>
#include <linux/err.h>
#include <linux/module.h>
#include <linux/moduleparam.h>
#include <linux/pid.h>
#include <linux/printk.h>
#include <linux/ptrace.h>
#include <linux/sched.h>
#include <linux/sched/task.h>
#include <linux/signal.h>
#include <linux/spinlock.h>
#include <linux/sprintf.h>
#include <linux/utrace.h>

static int pid;
module_param(pid, int, 0444);
MODULE_PARM_DESC(pid, "A thread of the process to watch, in the pid namespace of the loader");

static struct utrace_process *watched;

/* The last signal that was about to kill the process with a core dump. */
struct crash {
	pid_t thread;
	int signal;
	bool has_address;
	unsigned long address;
	unsigned long ip;
};

static DEFINE_SPINLOCK(crash_lock);
static struct crash crash;	/* Under crash_lock. */

static u32 watch_exec(u32 action, struct utrace_engine *engine,
		      const struct linux_binfmt *fmt,
		      const struct linux_binprm *bprm, struct pt_regs *regs)
{
	pr_info("process %d: exec: %s\n", task_tgid_nr(current), bprm->filename);
	return UTRACE_RESUME;
}

/*
 * Returns whether the kernel sent the signal because of the instruction or data
 * at si_addr.
 */
static bool has_address(const struct kernel_siginfo *info)
{
	if (info->si_code <= SI_USER || info->si_code >= SI_KERNEL)
		return false;

	switch (info->si_signo) {
	case SIGBUS:
	case SIGFPE:
	case SIGILL:
	case SIGSEGV:
	case SIGTRAP:
		return true;
	default:
		return false;
	}
}

/*
 * Only records the signal, in "crash", because a later engine or a debugger may
 * still discard it.
 */
static u32 watch_signal(u32 action, struct utrace_engine *engine,
			struct pt_regs *regs, struct kernel_siginfo *info,
			const struct k_sigaction *orig_ka,
			struct k_sigaction *return_ka)
{
	struct crash now = {
		.thread = task_pid_nr(current),
		.signal = info->si_signo,
		.has_address = has_address(info),
		.ip = instruction_pointer(regs),
	};

	if (now.has_address)
		now.address = (unsigned long)info->si_addr;
	spin_lock(&crash_lock);
	crash = now;
	spin_unlock(&crash_lock);

	return UTRACE_RESUME | utrace_signal_action(action);
}

static void report_crash(const struct crash *crash)
{
	char address[32] = "";

	if (crash->has_address)
		snprintf(address, sizeof(address), ", address 0x%lx",
			 crash->address);
	pr_info("process %d: crash: thread %d, signal %d%s, instruction pointer 0x%lx\n",
		task_tgid_nr(current), crash->thread, crash->signal, address,
		crash->ip);
}

/* Called only in the last thread, so once for each process. */
static void watch_last_exit(struct utrace_engine *engine, long code)
{
	int signal = code & 0x7f;
	struct crash last;

	spin_lock(&crash_lock);
	last = crash;
	spin_unlock(&crash_lock);

	if (signal && signal == last.signal)
		report_crash(&last);
	if (signal)
		pr_info("process %d: exit: signal %d%s\n", task_tgid_nr(current),
			signal, code & 0x80 ? ", core dumped" : "");
	else
		pr_info("process %d: exit: code %ld\n", task_tgid_nr(current),
			code >> 8 & 0xff);
}

static const struct utrace_engine_ops watch_ops = {
	.report_exec		= watch_exec,
	.report_signal		= watch_signal,
	.report_last_exit	= watch_last_exit,
};

static int __init utrace_watch_init(void)
{
	struct task_struct *task;
	struct pid *found;

	found = find_get_pid(pid);
	task = get_pid_task(found, PIDTYPE_PID);
	put_pid(found);
	if (!task)
		return -ESRCH;

	watched = utrace_attach_process(task,
					UTRACE_EVENT(EXEC) |
					UTRACE_EVENT(SIGNAL_CORE) |
					UTRACE_EVENT(LAST_EXIT),
					&watch_ops, NULL);
	put_task_struct(task);
	return PTR_ERR_OR_ZERO(watched);
}

/* When this returns, no callback is running or will run. */
static void __exit utrace_watch_exit(void)
{
	utrace_detach_process(watched);
}

module_init(utrace_watch_init);
module_exit(utrace_watch_exit);

MODULE_DESCRIPTION("Sample of utrace: reports exec, crash and exit of a process");
MODULE_LICENSE("GPL");

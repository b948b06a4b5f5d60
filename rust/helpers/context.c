// SPDX-License-Identifier: GPL-2.0

#include <linux/irqflags.h>
#include <linux/preempt.h>
#include <linux/rcupdate.h>
#include <linux/rcupdate_trace.h>
#include <linux/sched.h>
#include <linux/uaccess.h>

__rust_helper void rust_helper_preempt_disable_notrace(void)
{
	preempt_disable_notrace();
}

__rust_helper void rust_helper_preempt_enable_notrace(void)
{
	preempt_enable_notrace();
}

__rust_helper bool rust_helper_irqs_disabled(void)
{
	return irqs_disabled();
}

__rust_helper unsigned int rust_helper_preempt_count(void)
{
	return preempt_count();
}

__rust_helper int rust_helper_rcu_preempt_depth(void)
{
	return rcu_preempt_depth();
}

__rust_helper int rust_helper_rcu_trace_depth(void)
{
#ifdef CONFIG_TASKS_TRACE_RCU
	return current->trc_reader_nesting;
#else
	return 0;
#endif
}

__rust_helper int rust_helper_pagefault_depth(void)
{
	return current->pagefault_disabled;
}

__rust_helper unsigned int rust_helper_migration_depth(void)
{
	return current->migration_disabled;
}

/*
 * Sets the preemption count to zero, with interrupts disabled. Lockdep must
 * learn that bottom halves are enabled, because local_bh_enable() is not
 * called.
 */
__rust_helper void rust_helper_preempt_count_reset(void)
{
	preempt_count_set(0);
	lockdep_softirqs_on(_THIS_IP_);
}

/*
 * Ends the RCU read-side critical sections of the current task. As exit_rcu()
 * does, this sets the count and leaves the last section, because that reports a
 * section in which the task was preempted.
 */
__rust_helper void rust_helper_rcu_preempt_reset(void)
{
#ifdef CONFIG_PREEMPT_RCU
	bool nested = current->rcu_read_lock_nesting > 0;

	WRITE_ONCE(current->rcu_read_lock_nesting, nested);
	if (nested)
		rcu_read_unlock();
#endif
}

/* Ends the Tasks Trace RCU read-side critical sections of the current task. */
__rust_helper void rust_helper_rcu_trace_reset(void)
{
#ifdef CONFIG_TASKS_TRACE_RCU
	bool nested = current->trc_reader_nesting > 0;

	WRITE_ONCE(current->trc_reader_nesting, nested);
	if (nested)
		rcu_read_unlock_trace();
#endif
}

__rust_helper void rust_helper_pagefault_reset(void)
{
	current->pagefault_disabled = 0;
}

/*
 * The CPU counts its pinned tasks, so migrate_enable() must leave the last
 * level.
 */
__rust_helper void rust_helper_migration_reset(void)
{
	if (current->migration_disabled) {
		current->migration_disabled = 1;
		migrate_enable();
	}
}

/* SPDX-License-Identifier: GPL-2.0 */
/*
 * State of a task for UBP, separate from <linux/ubp.h> so that <linux/sched.h>
 * can embed it.
 */
#ifndef _LINUX_UBP_TYPES_H
#define _LINUX_UBP_TYPES_H

/**
 * struct ubp_task - the single-step of a thread
 * @breakpoint: the breakpoint that the thread steps over in a slot (the
 *	thread holds a reference), %NULL while the thread does not step for
 *	UBP
 * @saved: the state that the step has to restore, in an architecture-specific
 *	form
 * @saved_trap_nr: the number of the thread's last trap before the step
 * @in_hit: the owner of a breakpoint is being called
 * @signal_denied: a signal arrived during the step and waits for its end
 *
 * Only the thread itself reads and writes this structure. It is part of
 * task_struct because a hit must not allocate.
 */
struct ubp_task {
	void		*breakpoint;
	unsigned long	saved[2];
	unsigned long	saved_trap_nr;
	bool		in_hit;
	bool		signal_denied;
};

#endif /* _LINUX_UBP_TYPES_H */

// SPDX-License-Identifier: GPL-2.0

#include <linux/rcupdate_trace.h>

#ifdef CONFIG_TASKS_TRACE_RCU
/*
 * rcu_read_lock_tasks_trace() has a memory barrier for architectures where code
 * can be traced that RCU does not watch. Elsewhere the barrier is needed only
 * with CONFIG_TASKS_TRACE_RCU_NO_MB=n. Most configurations have this value
 * unintentionally, because the symbol's default takes effect with
 * CONFIG_RCU_EXPERT only. Readers in Rust are never in such code: they are
 * called where RCU watches.
 */
__rust_helper struct srcu_ctr __percpu *rust_helper_rcu_read_lock_tasks_trace(void)
{
	struct srcu_ctr __percpu *scp;

	if (!IS_ENABLED(CONFIG_ARCH_WANTS_NO_INSTR))
		return rcu_read_lock_tasks_trace();
	scp = __srcu_read_lock_fast(&rcu_tasks_trace_srcu_struct);
	rcu_try_lock_acquire(&rcu_tasks_trace_srcu_struct.dep_map);
	return scp;
}

__rust_helper void
rust_helper_rcu_read_unlock_tasks_trace(struct srcu_ctr __percpu *scp)
{
	if (!IS_ENABLED(CONFIG_ARCH_WANTS_NO_INSTR)) {
		rcu_read_unlock_tasks_trace(scp);
		return;
	}
	__srcu_read_unlock_fast(&rcu_tasks_trace_srcu_struct, scp);
	srcu_lock_release(&rcu_tasks_trace_srcu_struct.dep_map);
}

__rust_helper void rust_helper_call_rcu_tasks_trace(struct rcu_head *rhp,
						    rcu_callback_t func)
{
	call_rcu_tasks_trace(rhp, func);
}

__rust_helper void rust_helper_synchronize_rcu_tasks_trace(void)
{
	synchronize_rcu_tasks_trace();
}

__rust_helper void rust_helper_rcu_barrier_tasks_trace(void)
{
	rcu_barrier_tasks_trace();
}
#endif

// SPDX-License-Identifier: GPL-2.0

#include <linux/bottom_half.h>
#include <linux/irqflags.h>
#include <linux/preempt.h>
#include <linux/rcupdate.h>

__rust_helper unsigned int rust_helper_preempt_count(void)
{
	return preempt_count();
}

__rust_helper void rust_helper_preempt_count_set(unsigned int count)
{
	preempt_count_set(count);
}

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

__rust_helper int rust_helper_rcu_preempt_depth(void)
{
	return rcu_preempt_depth();
}

__rust_helper void rust_helper_local_bh_enable(void)
{
	local_bh_enable();
}

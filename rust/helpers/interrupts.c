// SPDX-License-Identifier: GPL-2.0

#include <linux/irqflags.h>
#include <linux/smp.h>
#include <trace/events/ipi.h>

__rust_helper void rust_helper_local_irq_enable(void)
{
	local_irq_enable();
}

__rust_helper void rust_helper_local_irq_disable(void)
{
	local_irq_disable();
}

__rust_helper void rust_helper_interrupt_this_cpu(void)
{
#ifdef CONFIG_SMP
	smp_send_reschedule(raw_smp_processor_id());
#endif
}

// SPDX-License-Identifier: GPL-2.0
/* The static key of utrace, and its symbols for modules. */

#include <linux/export.h>
#include <linux/init.h>
#include <linux/utrace_hooks.h>

DEFINE_STATIC_KEY_DEFERRED_FALSE(utrace_active, HZ);

EXPORT_SYMBOL_GPL(utrace_attach_task);
EXPORT_SYMBOL_GPL(utrace_attach_pid);
EXPORT_SYMBOL_GPL(utrace_engine_get);
EXPORT_SYMBOL_GPL(utrace_engine_put);
EXPORT_SYMBOL_GPL(utrace_control);
EXPORT_SYMBOL_GPL(utrace_set_events);
EXPORT_SYMBOL_GPL(utrace_barrier);
EXPORT_SYMBOL_GPL(utrace_detach);
EXPORT_SYMBOL_GPL(utrace_prepare_examine);
EXPORT_SYMBOL_GPL(utrace_finish_examine);
EXPORT_SYMBOL_GPL(utrace_get_regs);
EXPORT_SYMBOL_GPL(utrace_set_regs);
EXPORT_SYMBOL_GPL(utrace_control_pid);
EXPORT_SYMBOL_GPL(utrace_set_events_pid);
EXPORT_SYMBOL_GPL(utrace_barrier_pid);
EXPORT_SYMBOL_GPL(utrace_attach_process);
EXPORT_SYMBOL_GPL(utrace_detach_process);
EXPORT_SYMBOL_GPL(utrace_quiesce);
EXPORT_SYMBOL_GPL(utrace_resume);

static int __init utrace_setup(void)
{
	utrace_init();
	return 0;
}
early_initcall(utrace_setup);

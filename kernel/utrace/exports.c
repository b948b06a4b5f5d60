// SPDX-License-Identifier: GPL-2.0
/*
 * What only C can say of utrace: its static key, and the symbols for modules.
 */

#include <linux/export.h>
#include <linux/init.h>
#include <linux/utrace.h>

DEFINE_STATIC_KEY_DEFERRED_FALSE(utrace_active, HZ);

EXPORT_SYMBOL_GPL(utrace_quiesce);
EXPORT_SYMBOL_GPL(utrace_resume);

#if IS_ENABLED(CONFIG_UPROBES_TEST)
EXPORT_SYMBOL_GPL(utrace_count);
EXPORT_SYMBOL_GPL(utrace_counts);
EXPORT_SYMBOL_GPL(utrace_count_report);
EXPORT_SYMBOL_GPL(utrace_count_end);
#endif

static int __init utrace_setup(void)
{
	utrace_init();
	return 0;
}
early_initcall(utrace_setup);

// SPDX-License-Identifier: GPL-2.0
/*
 * What only C can say of uprobes: the symbols for modules, and that modules go.
 */

#include <linux/export.h>
#include <linux/init.h>
#include <linux/module.h>
#include <linux/notifier.h>
#include <linux/uprobes.h>

EXPORT_SYMBOL_GPL(register_uprobe);
EXPORT_SYMBOL_GPL(register_uprobe_task);
EXPORT_SYMBOL_GPL(register_uprobes);
EXPORT_SYMBOL_GPL(unregister_uprobe);
EXPORT_SYMBOL_GPL(unregister_uprobes);
EXPORT_SYMBOL_GPL(uprobe_read_counts);

#ifdef CONFIG_MODULES
static int module_changes(struct notifier_block *nb, unsigned long state, void *module)
{
	if (state == MODULE_STATE_GOING)
		uprobes_module_going(module);
	return NOTIFY_OK;
}

static struct notifier_block modules = {
	.notifier_call = module_changes,
};

static int __init watch_modules(void)
{
	return register_module_notifier(&modules);
}
core_initcall(watch_modules);
#endif

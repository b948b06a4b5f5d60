// SPDX-License-Identifier: GPL-2.0
/*
 * Parts of uprobes that must be in C: the exported symbols, and the notifier of
 * modules.
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

EXPORT_SYMBOL_GPL(uprobe_register);
EXPORT_SYMBOL_GPL(uprobe_unregister_nosync);
EXPORT_SYMBOL_GPL(uprobe_unregister_sync);

#ifdef CONFIG_MODULES
static int module_notify(struct notifier_block *nb, unsigned long state, void *module)
{
	if (state == MODULE_STATE_GOING)
		uprobes_module_going(module);
	return NOTIFY_OK;
}

static struct notifier_block module_nb = {
	.notifier_call = module_notify,
};

static int __init uprobes_module_init(void)
{
	return register_module_notifier(&module_nb);
}
core_initcall(uprobes_module_init);
#endif

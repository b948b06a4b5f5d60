// SPDX-License-Identifier: GPL-2.0
/*
 * What only C can say of uprobes: the symbols for modules.
 */

#include <linux/export.h>
#include <linux/uprobes.h>

EXPORT_SYMBOL_GPL(register_uprobe);
EXPORT_SYMBOL_GPL(unregister_uprobe);

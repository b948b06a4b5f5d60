// SPDX-License-Identifier: GPL-2.0
/*
 * A probe with handlers that do nothing, for as long as the module is loaded:
 * what is left is what a probe costs. See scripts/overhead.
 */

#include <linux/module.h>
#include <linux/uprobes.h>

static int pid;
module_param(pid, int, 0);
static unsigned long vaddr;
module_param(vaddr, ulong, 0);
static unsigned long size;
module_param(size, ulong, 0);

static bool interrupt;
module_param(interrupt, bool, 0);
static bool task;
module_param(task, bool, 0);
static bool returned;
module_param(returned, bool, 0);

static void nothing(struct uprobe *self, struct pt_regs *regs)
{
}

static struct uprobe probe;

static int __init uprobes_overhead_init(void)
{
	probe.pid = pid;
	probe.vaddr = vaddr;
	probe.size = size;
	probe.handler = task ? nothing : NULL;
	probe.handler_in_interrupt = interrupt ? nothing : NULL;
	probe.return_handler = returned ? nothing : NULL;
	return register_uprobe(&probe);
}

static void __exit uprobes_overhead_exit(void)
{
	unregister_uprobe(&probe);
}

module_init(uprobes_overhead_init);
module_exit(uprobes_overhead_exit);
MODULE_DESCRIPTION("A user-space probe that does nothing");
MODULE_LICENSE("GPL");

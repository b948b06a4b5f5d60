// SPDX-License-Identifier: GPL-2.0
/*
 * Probes with handlers that do nothing, to measure the overhead of a probe. See
 * scripts/bench.
 */

#include <linux/mm.h>
#include <linux/module.h>
#include <linux/slab.h>
#include <linux/uprobes.h>

static int pid;
module_param(pid, int, 0);
static unsigned long vaddr;
module_param(vaddr, ulong, 0);
static unsigned long size;
module_param(size, ulong, 0);

/* Number of probes, and the distance between their addresses. */
static unsigned int count = 1;
module_param(count, uint, 0);
static unsigned long stride;
module_param(stride, ulong, 0);

static bool interrupt;
module_param(interrupt, bool, 0);
static bool task;
module_param(task, bool, 0);
static bool returned;
module_param(returned, bool, 0);

static void nothing(struct uprobe *self, struct pt_regs *regs)
{
}

static struct uprobe *probes, **all;

static void free_all(void)
{
	kvfree(probes);
	kvfree(all);
}

static int __init uprobes_overhead_init(void)
{
	unsigned int i;
	int ret;

	probes = kvcalloc(count, sizeof(*probes), GFP_KERNEL);
	all = kvcalloc(count, sizeof(*all), GFP_KERNEL);
	if (!probes || !all) {
		free_all();
		return -ENOMEM;
	}
	for (i = 0; i < count; i++) {
		probes[i].pid = pid;
		probes[i].vaddr = vaddr + i * stride;
		probes[i].size = size;
		probes[i].handler = task ? nothing : NULL;
		probes[i].handler_in_interrupt = interrupt ? nothing : NULL;
		probes[i].return_handler = returned ? nothing : NULL;
		all[i] = &probes[i];
	}
	ret = register_uprobes(all, count);
	if (ret)
		free_all();
	return ret;
}

static void __exit uprobes_overhead_exit(void)
{
	unregister_uprobes(all, count);
	free_all();
}

module_init(uprobes_overhead_init);
module_exit(uprobes_overhead_exit);
MODULE_DESCRIPTION("User-space probes that do nothing");
MODULE_LICENSE("GPL");

// SPDX-License-Identifier: GPL-2.0
/*
 * Sysctls of uprobes: the time limit of handlers, and the memory limit of the
 * return probes of a process.
 */

#include <linux/init.h>
#include <linux/sysctl.h>
#include <linux/uprobes.h>

unsigned long uprobe_handler_budget_us __read_mostly;
unsigned long uprobe_returns_kb __read_mostly = 16384;

static const struct ctl_table uprobes_table[] = {
	{
		.procname	= "uprobe_handler_budget_us",
		.data		= &uprobe_handler_budget_us,
		.maxlen		= sizeof(uprobe_handler_budget_us),
		.mode		= 0644,
		.proc_handler	= proc_doulongvec_minmax,
	},
	{
		.procname	= "uprobe_returns_kb",
		.data		= &uprobe_returns_kb,
		.maxlen		= sizeof(uprobe_returns_kb),
		.mode		= 0644,
		.proc_handler	= proc_doulongvec_minmax,
	},
};

static int __init uprobes_sysctl_init(void)
{
	register_sysctl_init("kernel", uprobes_table);
	return 0;
}
late_initcall(uprobes_sysctl_init);

// SPDX-License-Identifier: GPL-2.0
/*
 * Test module that does not unregister its probe when it is unloaded.
 */

#include <linux/init.h>
#include <linux/module.h>
#include <linux/ptrace.h>
#include <linux/uprobes.h>

static int pid;
module_param(pid, int, 0);
MODULE_PARM_DESC(pid, "The process to probe");

static unsigned long vaddr;
module_param(vaddr, ulong, 0);
MODULE_PARM_DESC(vaddr, "The address to probe");

static bool returns;
module_param(returns, bool, 0);
MODULE_PARM_DESC(returns, "Probe the return of the function there, too");

static void leaver_handler(struct uprobe *self, struct pt_regs *regs)
{
	regs->si++;
}

static void leaver_return_handler(struct uprobe *self, struct pt_regs *regs)
{
	regs->ax++;
}

static struct uprobe probe = {
	.handler = leaver_handler,
};

static int __init leaver_init(void)
{
	probe.pid = pid;
	probe.vaddr = vaddr;
	if (returns)
		probe.return_handler = leaver_return_handler;
	return register_uprobe(&probe);
}
module_init(leaver_init);

/* Does not unregister the probe, which is the mistake to test. */
static void __exit leaver_exit(void)
{
}
module_exit(leaver_exit);

MODULE_DESCRIPTION("Test client of user-space probes that leaves its probe behind");
MODULE_LICENSE("GPL");

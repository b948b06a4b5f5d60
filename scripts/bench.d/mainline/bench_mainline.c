// SPDX-License-Identifier: GPL-2.0
/*
 * What kernel/uprobes/test/uprobes_overhead.c is for ours, with mainline's uprobes:
 * probes by file and offset, with handlers that do nothing.
 */

#include <linux/fs.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/namei.h>
#include <linux/slab.h>
#include <linux/uprobes.h>

static char *file;
module_param(file, charp, 0);
static unsigned long offset;
module_param(offset, ulong, 0);
static unsigned int count = 1;
module_param(count, uint, 0);
static unsigned long stride;
module_param(stride, ulong, 0);
static bool returned;
module_param(returned, bool, 0);

static int hit(struct uprobe_consumer *self, struct pt_regs *regs, __u64 *data)
{
	return 0;
}

static int ret(struct uprobe_consumer *self, unsigned long func, struct pt_regs *regs,
	       __u64 *data)
{
	return 0;
}

static struct uprobe_consumer *consumers;
static struct uprobe **probes;
static struct path path;

static void unregister_first(unsigned int n)
{
	while (n--)
		uprobe_unregister_nosync(probes[n], &consumers[n]);
	uprobe_unregister_sync();
	path_put(&path);
	kvfree(probes);
	kvfree(consumers);
}

static int __init bench_mainline_init(void)
{
	unsigned int i;
	int err = kern_path(file, LOOKUP_FOLLOW, &path);

	if (err)
		return err;
	consumers = kvcalloc(count, sizeof(*consumers), GFP_KERNEL);
	probes = kvcalloc(count, sizeof(*probes), GFP_KERNEL);
	if (!consumers || !probes) {
		unregister_first(0);
		return -ENOMEM;
	}
	for (i = 0; i < count; i++) {
		consumers[i].handler = hit;
		consumers[i].ret_handler = returned ? ret : NULL;
		probes[i] = uprobe_register(d_real_inode(path.dentry), offset + i * stride, 0,
					    &consumers[i]);
		if (IS_ERR(probes[i])) {
			err = PTR_ERR(probes[i]);
			unregister_first(i);
			return err;
		}
	}
	return 0;
}

static void __exit bench_mainline_exit(void)
{
	unregister_first(count);
}

module_init(bench_mainline_init);
module_exit(bench_mainline_exit);
MODULE_DESCRIPTION("Mainline's user-space probes that do nothing");
MODULE_LICENSE("GPL");

// SPDX-License-Identifier: GPL-2.0
/* Registration of many probes at once. */

#include <linux/ptrace.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "internal.h"

#define MOST	4096

struct bulk {
	struct uprobe *uprobes;
	struct uprobe **pointers;
	unsigned int num;
};

static atomic64_t hits;

static void bulk_handler(struct uprobe *self, struct pt_regs *regs)
{
	atomic64_inc(&hits);
}

static void bulk_free(struct bulk *bulk)
{
	if (bulk->uprobes)
		memset(bulk->uprobes, POISON_FREED, bulk->num * sizeof(*bulk->uprobes));
	kvfree(bulk->uprobes);
	kvfree(bulk->pointers);
	kfree(bulk);
}

static struct bulk *bulk_new(const struct uprobes_test_bulk *request)
{
	struct bulk *bulk = kzalloc_obj(*bulk);
	u32 i;

	if (!bulk)
		return NULL;
	bulk->num = request->num;
	bulk->uprobes = kvcalloc(bulk->num, sizeof(*bulk->uprobes), GFP_KERNEL);
	bulk->pointers = kvcalloc(bulk->num, sizeof(*bulk->pointers), GFP_KERNEL);
	if (!bulk->uprobes || !bulk->pointers) {
		bulk->num = bulk->uprobes ? bulk->num : 0;
		bulk_free(bulk);
		return NULL;
	}
	for (i = 0; i < bulk->num; i++) {
		struct uprobe *uprobe = &bulk->uprobes[i];

		uprobe->pid = request->pid;
		uprobe->handler = bulk_handler;
		if (i != request->bad)
			uprobe->vaddr = request->vaddr + i * request->stride;
		bulk->pointers[i] = uprobe;
	}
	if (request->twice && request->twice < bulk->num)
		bulk->pointers[request->twice] = bulk->pointers[0];
	return bulk;
}

long bulk_register(struct session *session, void __user *arg)
{
	struct uprobes_test_bulk request;
	struct item *item;
	int ret;

	if (copy_from_user(&request, arg, sizeof(request)))
		return -EFAULT;
	if (!request.num || request.num > MOST)
		return -EINVAL;
	item = item_new(BULK);
	if (!item)
		return -ENOMEM;
	ret = -ENOMEM;
	item->bulk = bulk_new(&request);
	if (!item->bulk)
		goto put;
	ret = register_uprobes(item->bulk->pointers, item->bulk->num);
	if (ret)
		goto free;
	atomic_add(item->bulk->num, &live_probes);
	return item_publish(session, item);

free:
	bulk_free(item->bulk);
put:
	item_put(item);
	return ret;
}

long bulk_singly(struct session *session, unsigned long id)
{
	struct item *item = item_get(session, id, BULK);
	unsigned int i;

	if (!item)
		return -ENOENT;
	for (i = 0; i < item->bulk->num; i++)
		unregister_uprobe(item->bulk->pointers[i]);
	item_put(item);
	return 0;
}

long bulk_hits(struct session *session, unsigned long id)
{
	struct item *item = item_get(session, id, BULK);
	struct uprobe_counts counts;
	long sum = 0;
	unsigned int i;

	if (!item)
		return -ENOENT;
	for (i = 0; i < item->bulk->num; i++)
		if (!uprobe_read_counts(item->bulk->pointers[i], &counts))
			sum += counts.hits;
	item_put(item);
	return sum;
}

void bulk_drop(struct item *item)
{
	unregister_uprobes(item->bulk->pointers, item->bulk->num);
	atomic_sub(item->bulk->num, &live_probes);
	bulk_free(item->bulk);
}

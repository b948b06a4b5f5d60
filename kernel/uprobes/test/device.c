// SPDX-License-Identifier: GPL-2.0
/*
 * Device for tests of the kernel APIs for user-space probes. uprobes_test.h
 * describes its interface, and the programs in tools/testing/selftests/uprobes
 * use it. This file has the device itself, and quiesced processes.
 */

#include <linux/delay.h>
#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "internal.h"

atomic_t live_probes;
atomic64_t late;
static atomic_t live_guards;

struct item *item_new(enum kind kind)
{
	struct item *item = kzalloc_obj(*item);

	if (!item)
		return NULL;
	item->kind = kind;
	refcount_set(&item->refs, 1);
	init_completion(&item->left);
	return item;
}

void item_put(struct item *item)
{
	if (!refcount_dec_and_test(&item->refs))
		return;
	memset(item, POISON_FREED, sizeof(*item));
	kfree(item);
}

/* Ends the object of an item. The caller has the last reference. */
static void item_drop(struct session *session, struct item *item)
{
	switch (item->kind) {
	case GUARD:
		utrace_resume(item->guard);
		atomic_dec(&live_guards);
		break;
	case PROBE:
		probe_drop(session, item);
		break;
	case BULK:
		bulk_drop(item);
		break;
	}
	item_put(item);
}

struct item *item_find(struct session *session, unsigned long id, enum kind kind)
{
	struct item *item;

	lockdep_assert_held(&session->lock);
	item = xa_load(&session->items, id);
	return item && item->kind == kind ? item : NULL;
}

struct item *item_get(struct session *session, unsigned long id, enum kind kind)
{
	struct item *item;

	mutex_lock(&session->lock);
	item = item_find(session, id, kind);
	if (item)
		refcount_inc(&item->refs);
	mutex_unlock(&session->lock);
	return item;
}

static struct item *item_take(struct session *session, unsigned long id, bool guard)
{
	struct item *item;
	bool is_guard;

	mutex_lock(&session->lock);
	item = xa_load(&session->items, id);
	is_guard = item && item->kind == GUARD;
	if (item && is_guard == guard)
		xa_erase(&session->items, id);
	else
		item = NULL;
	mutex_unlock(&session->lock);
	return item;
}

int item_publish(struct session *session, struct item *item)
{
	u32 id;
	int ret;

	ret = xa_alloc(&session->items, &id, item, XA_LIMIT(1, INT_MAX), GFP_KERNEL);
	if (ret) {
		item_drop(session, item);
		return ret;
	}
	return id;
}

static long guard_take(struct session *session, void __user *arg)
{
	struct uprobes_test_quiesce request;
	struct item *item;

	if (copy_from_user(&request, arg, sizeof(request)))
		return -EFAULT;
	item = item_new(GUARD);
	if (!item)
		return -ENOMEM;

	item->guard = utrace_quiesce(request.pid);
	if (IS_ERR(item->guard)) {
		long ret = PTR_ERR(item->guard);

		item_put(item);
		return ret;
	}
	atomic_inc(&live_guards);
	return item_publish(session, item);
}

static long guard_for(void __user *arg)
{
	struct uprobes_test_quiesce request;
	struct utrace_quiesced *guard;

	if (copy_from_user(&request, arg, sizeof(request)))
		return -EFAULT;

	guard = utrace_quiesce(request.pid);
	if (IS_ERR(guard))
		return PTR_ERR(guard);
	atomic_inc(&live_guards);
	fsleep(request.usec);
	utrace_resume(guard);
	atomic_dec(&live_guards);
	return 0;
}

static long drop_by_id(struct session *session, unsigned long id, bool guard)
{
	struct item *item = item_take(session, id, guard);

	if (!item)
		return -ENOENT;
	item_drop(session, item);
	return 0;
}

static long report_state(struct session *session, void __user *arg)
{
	struct uprobes_test_state state = {
		.probes = atomic_read(&live_probes),
		.guards = atomic_read(&live_guards),
		.late = atomic64_read(&late),
		.ended_hits = atomic64_read(&session->ended_hits),
	};

	return copy_to_user(arg, &state, sizeof(state)) ? -EFAULT : 0;
}

static long uprobes_test_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	struct session *session = file->private_data;
	void __user *uarg = (void __user *)arg;

	switch (cmd) {
	case UPROBES_TEST_REGISTER:
		return probe_register(session, uarg);
	case UPROBES_TEST_AGAIN:
		return probe_again(session, arg);
	case UPROBES_TEST_END:
		return probe_end(session, arg);
	case UPROBES_TEST_UNREGISTER:
		return drop_by_id(session, arg, false);
	case UPROBES_TEST_COUNT:
		return probe_count(session, uarg);
	case UPROBES_TEST_QUIESCE:
		return guard_take(session, uarg);
	case UPROBES_TEST_RESUME:
		return drop_by_id(session, arg, true);
	case UPROBES_TEST_QUIESCE_FOR:
		return guard_for(uarg);
	case UPROBES_TEST_STATE:
		return report_state(session, uarg);
	case UPROBES_TEST_NOOP:
		return probe_noop(arg);
	case UPROBES_TEST_BULK:
		return bulk_register(session, uarg);
	case UPROBES_TEST_BULK_SINGLY:
		return bulk_singly(session, arg);
	case UPROBES_TEST_BULK_HITS:
		return bulk_hits(session, arg);
	}
	return -ENOTTY;
}

static int uprobes_test_open(struct inode *inode, struct file *file)
{
	struct session *session;

	if (!capable(CAP_SYS_ADMIN))
		return -EPERM;
	session = kzalloc_obj(*session);
	if (!session)
		return -ENOMEM;
	mutex_init(&session->lock);
	xa_init_flags(&session->items, XA_FLAGS_ALLOC1);
	file->private_data = session;
	return 0;
}

static void drop_matching(struct session *session, bool (*match)(struct item *item))
{
	struct item *item;
	unsigned long id;

	xa_for_each(&session->items, id, item) {
		if (match(item)) {
			xa_erase(&session->items, id);
			item_drop(session, item);
		}
	}
}

static bool is_guard(struct item *item)
{
	return item->kind == GUARD;
}

static bool acts_on_another(struct item *item)
{
	return item->other;
}

static bool is_any(struct item *item)
{
	return true;
}

static int uprobes_test_release(struct inode *inode, struct file *file)
{
	struct session *session = file->private_data;

	/* Guards first, because a handler may wait for a quiesced process. */
	drop_matching(session, is_guard);
	drop_matching(session, acts_on_another);
	drop_matching(session, is_any);
	xa_destroy(&session->items);
	mutex_destroy(&session->lock);
	kfree(session);
	return 0;
}

static const struct file_operations uprobes_test_fops = {
	.owner = THIS_MODULE,
	.open = uprobes_test_open,
	.release = uprobes_test_release,
	.unlocked_ioctl = uprobes_test_ioctl,
};

static struct miscdevice uprobes_test_device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "uprobes_test",
	.fops = &uprobes_test_fops,
	.mode = 0600,
};
module_misc_device(uprobes_test_device);

MODULE_DESCRIPTION("Test client of user-space probes");
MODULE_LICENSE("GPL");

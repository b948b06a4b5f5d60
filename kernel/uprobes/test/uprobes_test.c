// SPDX-License-Identifier: GPL-2.0
/*
 * A client of the kernel APIs for user-space probes that programs can drive:
 * see tools/testing/selftests/uprobes for what it is used for, and
 * uprobes_test.h for what it can do.
 */

#include <linux/atomic.h>
#include <linux/delay.h>
#include <linux/fs.h>
#include <linux/irqflags.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/preempt.h>
#include <linux/ptrace.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <linux/uprobes.h>
#include <linux/utrace.h>
#include <linux/xarray.h>

#include "uprobes_test.h"

#define PROBE_ALIVE	0x75707262
#define POISON_FREED	0x6b

enum kind { PROBE, GUARD };

/* What an id stands for. */
struct item {
	enum kind kind;
	struct utrace_quiesced *guard;

	/* All else is of probes. */
	struct uprobe probe;
	u32 alive;
	struct uprobes_test_register request;

	atomic_t active;
	atomic64_t task_hits;
	atomic64_t task_preemptible;
	atomic64_t interrupt_hits;
	atomic64_t interrupt_irqs_off;
	atomic64_t task_sequence;
	atomic64_t interrupt_sequence;
	unsigned long last_ip;
	unsigned long last_si;
	pid_t last_tid;
	pid_t last_tgid;
};

/* State of one open file. */
struct session {
	/* Keeps an item that was looked up from being taken away. */
	struct mutex lock;
	struct xarray items;
	/* Hits of the items that are gone. */
	atomic64_t ended_hits;
};

static atomic_t live_probes;
static atomic_t live_guards;
static atomic64_t late;
static atomic64_t sequence;

/* False if the probe is gone: nothing of it may be touched then. */
static bool enter(struct item *item, struct pt_regs *regs)
{
	if (WARN_ON_ONCE(READ_ONCE(item->alive) != PROBE_ALIVE)) {
		atomic64_inc(&late);
		return false;
	}
	atomic_inc(&item->active);
	WRITE_ONCE(item->last_ip, regs->ip);
	WRITE_ONCE(item->last_si, regs->si);
	WRITE_ONCE(item->last_tid, task_pid_vnr(current));
	WRITE_ONCE(item->last_tgid, task_tgid_vnr(current));
	return true;
}

static void change(struct item *item, struct pt_regs *regs)
{
	regs->si += item->request.add_si;
	regs->ip += item->request.add_ip;
}

static void task_handler(struct uprobe *self, struct pt_regs *regs)
{
	struct item *item = container_of(self, struct item, probe);

	if (!enter(item, regs))
		return;
	atomic64_set(&item->task_sequence, atomic64_inc_return(&sequence));
	if (preemptible())
		atomic64_inc(&item->task_preemptible);
	might_sleep();
	if (item->request.sleep_usec)
		fsleep(item->request.sleep_usec);
	if (!(item->request.flags & UPROBES_TEST_EARLY))
		change(item, regs);
	atomic64_inc(&item->task_hits);
	atomic_dec(&item->active);
}

static void interrupt_handler(struct uprobe *self, struct pt_regs *regs)
{
	struct item *item = container_of(self, struct item, probe);

	if (!enter(item, regs))
		return;
	atomic64_set(&item->interrupt_sequence, atomic64_inc_return(&sequence));
	if (irqs_disabled())
		atomic64_inc(&item->interrupt_irqs_off);
	if (item->request.flags & UPROBES_TEST_EARLY)
		change(item, regs);
	atomic64_inc(&item->interrupt_hits);
	atomic_dec(&item->active);
}

/* The item is in nobody's hands any more: end what it stands for. */
static void item_drop(struct session *session, struct item *item)
{
	switch (item->kind) {
	case GUARD:
		utrace_resume(item->guard);
		atomic_dec(&live_guards);
		break;
	case PROBE:
		unregister_uprobe(&item->probe);
		atomic_dec(&live_probes);
		if (WARN_ON_ONCE(atomic_read(&item->active)))
			atomic64_inc(&late);
		atomic64_add(atomic64_read(&item->task_hits), &session->ended_hits);
		atomic64_add(atomic64_read(&item->interrupt_hits), &session->ended_hits);
		break;
	}
	memset(item, POISON_FREED, sizeof(*item));
	kfree(item);
}

/* The caller holds the lock of the session, and gives it up after the use. */
static struct item *item_find(struct session *session, unsigned long id, enum kind kind)
{
	struct item *item;

	lockdep_assert_held(&session->lock);
	item = xa_load(&session->items, id);
	return item && item->kind == kind ? item : NULL;
}

static struct item *item_take(struct session *session, unsigned long id, enum kind kind)
{
	struct item *item;

	mutex_lock(&session->lock);
	item = item_find(session, id, kind);
	if (item)
		xa_erase(&session->items, id);
	mutex_unlock(&session->lock);
	return item;
}

/* Gives the item an id, or drops it. */
static int item_publish(struct session *session, struct item *item)
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

static long probe_register(struct session *session, void __user *arg)
{
	struct item *item;
	int ret;

	item = kzalloc_obj(*item);
	if (!item)
		return -ENOMEM;

	ret = -EFAULT;
	if (copy_from_user(&item->request, arg, sizeof(item->request)))
		goto free;
	ret = -EINVAL;
	if (item->request.flags & ~UPROBES_TEST_FLAGS)
		goto free;

	item->alive = PROBE_ALIVE;
	item->probe.pid = item->request.pid;
	item->probe.vaddr = item->request.vaddr;
	if (item->request.flags & UPROBES_TEST_TASK)
		item->probe.handler = task_handler;
	if (item->request.flags & UPROBES_TEST_INTERRUPT)
		item->probe.handler_in_interrupt = interrupt_handler;

	ret = register_uprobe(&item->probe);
	if (ret)
		goto free;
	atomic_inc(&live_probes);
	return item_publish(session, item);

free:
	memset(item, POISON_FREED, sizeof(*item));
	kfree(item);
	return ret;
}

static long probe_again(struct session *session, unsigned long id)
{
	struct item *item;
	long ret = -ENOENT;

	mutex_lock(&session->lock);
	item = item_find(session, id, PROBE);
	if (item)
		ret = register_uprobe(&item->probe);
	mutex_unlock(&session->lock);
	return ret;
}

static long probe_count(struct session *session, void __user *arg)
{
	struct uprobes_test_count count;
	struct item *item;

	if (copy_from_user(&count, arg, sizeof(count)))
		return -EFAULT;

	mutex_lock(&session->lock);
	item = item_find(session, count.id, PROBE);
	if (!item) {
		mutex_unlock(&session->lock);
		return -ENOENT;
	}
	count.active = atomic_read(&item->active);
	count.task_hits = atomic64_read(&item->task_hits);
	count.task_preemptible = atomic64_read(&item->task_preemptible);
	count.interrupt_hits = atomic64_read(&item->interrupt_hits);
	count.interrupt_irqs_off = atomic64_read(&item->interrupt_irqs_off);
	count.task_sequence = atomic64_read(&item->task_sequence);
	count.interrupt_sequence = atomic64_read(&item->interrupt_sequence);
	count.last_ip = READ_ONCE(item->last_ip);
	count.last_si = READ_ONCE(item->last_si);
	count.last_tid = READ_ONCE(item->last_tid);
	count.last_tgid = READ_ONCE(item->last_tgid);
	mutex_unlock(&session->lock);

	return copy_to_user(arg, &count, sizeof(count)) ? -EFAULT : 0;
}

static long guard_take(struct session *session, void __user *arg)
{
	struct uprobes_test_quiesce request;
	struct item *item;

	if (copy_from_user(&request, arg, sizeof(request)))
		return -EFAULT;
	item = kzalloc_obj(*item);
	if (!item)
		return -ENOMEM;

	item->kind = GUARD;
	item->guard = utrace_quiesce(request.pid);
	if (IS_ERR(item->guard)) {
		long ret = PTR_ERR(item->guard);

		kfree(item);
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

static long drop_by_id(struct session *session, unsigned long id, enum kind kind)
{
	struct item *item = item_take(session, id, kind);

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

static long unregister_unregistered(pid_t pid)
{
	struct uprobe probe = {
		.pid = pid,
		.handler = task_handler,
	};

	unregister_uprobe(&probe);
	return 0;
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
	case UPROBES_TEST_UNREGISTER:
		return drop_by_id(session, arg, PROBE);
	case UPROBES_TEST_COUNT:
		return probe_count(session, uarg);
	case UPROBES_TEST_QUIESCE:
		return guard_take(session, uarg);
	case UPROBES_TEST_RESUME:
		return drop_by_id(session, arg, GUARD);
	case UPROBES_TEST_QUIESCE_FOR:
		return guard_for(uarg);
	case UPROBES_TEST_STATE:
		return report_state(session, uarg);
	case UPROBES_TEST_NOOP:
		return unregister_unregistered(arg);
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

static int uprobes_test_release(struct inode *inode, struct file *file)
{
	struct session *session = file->private_data;
	struct item *item;
	unsigned long id;

	/* Guards first: a held process could be what a handler waits for. */
	xa_for_each(&session->items, id, item) {
		if (item->kind == GUARD) {
			xa_erase(&session->items, id);
			item_drop(session, item);
		}
	}
	xa_for_each(&session->items, id, item)
		item_drop(session, item);
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

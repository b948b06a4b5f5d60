// SPDX-License-Identifier: GPL-2.0
/* Registration of single probes. */

#include <linux/pid.h>
#include <linux/sched/task.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "internal.h"

static int register_by_task(struct item *item)
{
	struct task_struct *task;
	int ret;

	task = get_pid_task(find_vpid(item->request.pid), PIDTYPE_PID);
	if (!task)
		return -ESRCH;
	ret = register_uprobe_task(&item->probe->uprobe, task);
	put_task_struct(task);
	return ret;
}

static int register_now(struct item *item)
{
	int ret;

	atomic_inc(&item->begun);
	if (item->request.flags & UPROBES_TEST_BY_TASK)
		ret = register_by_task(item);
	else
		ret = register_uprobe(&item->probe->uprobe);
	atomic_inc(&item->done);
	return ret;
}

static void free_probe(struct item *item)
{
	struct probe *probe = item->probe;

	item->probe = NULL;
	memset(probe, POISON_FREED, sizeof(*probe));
	kfree(probe);
	atomic_dec(&live_probes);
}

static bool frees_itself(struct item *item)
{
	return item->request.flags & UPROBES_TEST_FREE;
}

void probe_unregister_in_handler(struct item *item)
{
	/* Only the first caller may use the probe, because the callback frees it. */
	if (frees_itself(item) && atomic_xchg(&item->leaves, 1))
		return;
	unregister_uprobe(&item->probe->uprobe);
}

int probe_register_in_handler(struct item *item)
{
	return register_now(item);
}

/* Unregisters the probe, outside of handlers. If a handler has done so, waits. */
static void end(struct item *item)
{
	int done = atomic_read(&item->done), begun = atomic_read(&item->begun);

	if (frees_itself(item) && atomic_xchg(&item->leaves, 1))
		wait_for_completion(&item->left);
	else
		unregister_uprobe(&item->probe->uprobe);
	/* No handler may be active, unless another thread has registered it again. */
	if (done == begun && begun == atomic_read(&item->begun) &&
	    WARN_ON_ONCE(atomic_read(&item->active) && begun == atomic_read(&item->begun)))
		atomic64_inc(&late);
}

/* Ends the probe of an item. The caller has the last reference. */
void probe_drop(struct session *session, struct item *item)
{
	if (item->probe) {
		end(item);
		if (item->probe)
			free_probe(item);
	} else if (frees_itself(item)) {
		/* The callback frees the probe before it completes. */
		wait_for_completion(&item->left);
	}
	atomic64_add(atomic64_read(&item->task_hits), &session->ended_hits);
	atomic64_add(atomic64_read(&item->interrupt_hits), &session->ended_hits);
	if (item->other)
		item_put(item->other);
}

static void fill(struct uprobe *uprobe, const struct uprobes_test_register *request)
{
	uprobe->pid = request->flags & UPROBES_TEST_BY_TASK ? 0 : request->pid;
	uprobe->vaddr = request->vaddr;
	uprobe->size = request->size;
	if (request->flags & UPROBES_TEST_FOLLOW)
		uprobe->flags |= UPROBE_FOLLOW_FORK;
	if (request->flags & UPROBES_TEST_BAD_FLAG)
		uprobe->flags |= 1U << 31;
	if (request->flags & UPROBES_TEST_TASK)
		uprobe->handler = task_handler;
	if (request->flags & UPROBES_TEST_INTERRUPT)
		uprobe->handler_in_interrupt = interrupt_handler;
	if (request->flags & UPROBES_TEST_RETURN)
		uprobe->return_handler = return_handler;
	if (request->flags & UPROBES_TEST_FILTER)
		uprobe->filter = filter;
	if (request->flags & UPROBES_TEST_NOTIFY)
		uprobe->unregistered = unregistered;
}

static int is_wrong(const struct uprobes_test_register *request)
{
	return request->flags & ~UPROBES_TEST_FLAGS || request->act >= UPROBES_TEST_ACTS ||
	       (request->flags & UPROBES_TEST_FREE && !(request->flags & UPROBES_TEST_NOTIFY));
}

long probe_register(struct session *session, void __user *arg)
{
	struct item *item;
	int ret;

	item = item_new(PROBE);
	if (!item)
		return -ENOMEM;

	ret = -ENOMEM;
	item->probe = kzalloc_obj(*item->probe);
	if (!item->probe)
		goto put;
	ret = -EFAULT;
	if (copy_from_user(&item->request, arg, sizeof(item->request)))
		goto free;
	ret = -EINVAL;
	if (is_wrong(&item->request))
		goto free;
	if (item->request.other) {
		ret = -ENOENT;
		item->other = item_get(session, item->request.other, PROBE);
		if (!item->other)
			goto free;
	}

	item->probe->alive = PROBE_ALIVE;
	item->probe->item = item;
	fill(&item->probe->uprobe, &item->request);
	atomic_inc(&live_probes);
	if (!(item->request.flags & UPROBES_TEST_PREPARE)) {
		ret = register_now(item);
		if (ret)
			goto failed;
	}
	return item_publish(session, item);

failed:
	atomic_dec(&live_probes);
	if (item->other)
		item_put(item->other);
free:
	memset(item->probe, POISON_FREED, sizeof(*item->probe));
	kfree(item->probe);
put:
	item_put(item);
	return ret;
}

long probe_again(struct session *session, unsigned long id)
{
	struct item *item = item_get(session, id, PROBE);
	long ret;

	if (!item)
		return -ENOENT;
	ret = register_now(item);
	item_put(item);
	return ret;
}

long probe_end(struct session *session, unsigned long id)
{
	struct item *item = item_get(session, id, PROBE);

	if (!item)
		return -ENOENT;
	if (frees_itself(item)) {
		item_put(item);
		return -EINVAL;
	}
	end(item);
	item_put(item);
	return 0;
}

static void read_all(struct item *item, struct uprobes_test_count *count)
{
	struct uprobe_counts counts = { 0 };

	count->active = atomic_read(&item->active);
	count->task_hits = atomic64_read(&item->task_hits);
	count->task_preemptible = atomic64_read(&item->task_preemptible);
	count->interrupt_hits = atomic64_read(&item->interrupt_hits);
	count->interrupt_irqs_off = atomic64_read(&item->interrupt_irqs_off);
	count->return_hits = atomic64_read(&item->return_hits);
	count->return_preemptible = atomic64_read(&item->return_preemptible);
	count->task_sequence = atomic64_read(&item->task_sequence);
	count->interrupt_sequence = atomic64_read(&item->interrupt_sequence);
	count->return_sequence = atomic64_read(&item->return_sequence);
	count->last_ip = READ_ONCE(item->last_ip);
	count->last_sp = READ_ONCE(item->last_sp);
	count->last_si = READ_ONCE(item->last_si);
	count->return_ip = READ_ONCE(item->return_ip);
	count->return_sp = READ_ONCE(item->return_sp);
	count->return_ax = READ_ONCE(item->return_ax);
	count->ax_sum = atomic64_read(&item->ax_sum);
	count->filter_calls = atomic64_read(&item->filter_calls);
	count->filter_wrong = atomic64_read(&item->filter_wrong);
	count->last_tid = READ_ONCE(item->last_tid);
	count->last_tgid = READ_ONCE(item->last_tgid);
	count->notified = atomic_read(&item->notified);
	count->act_result = atomic_read(&item->act_result);

	/* The callback may free the probe at the same time. */
	if (frees_itself(item))
		count->counts_error = -EINVAL;
	else
		count->counts_error = uprobe_read_counts(&item->probe->uprobe, &counts);
	count->hits = counts.hits;
	count->returns = counts.returns;
	count->misses = counts.misses;
	count->detection = counts.detection;
	count->walk_end = counts.walk_end;
}

long probe_count(struct session *session, void __user *arg)
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
	read_all(item, &count);
	mutex_unlock(&session->lock);

	return copy_to_user(arg, &count, sizeof(count)) ? -EFAULT : 0;
}

long probe_noop(pid_t pid)
{
	struct uprobe probe = {
		.pid = pid,
		.handler = task_handler,
	};

	unregister_uprobe(&probe);
	return 0;
}

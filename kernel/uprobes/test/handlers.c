// SPDX-License-Identifier: GPL-2.0
/*
 * Handlers of the test probes. They count and change registers. On request, they
 * do things that are allowed to handlers, or forbidden.
 */

#include <linux/bottom_half.h>
#include <linux/delay.h>
#include <linux/irqflags.h>
#include <linux/preempt.h>
#include <linux/ptrace.h>
#include <linux/rcupdate.h>
#include <linux/rcupdate_trace.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "internal.h"

static atomic64_t sequence;

static struct item *item_of(struct uprobe *self)
{
	return container_of(self, struct probe, uprobe)->item;
}

/* Returns NULL if the probe has been freed. The caller must not use it then. */
static struct item *enter(struct uprobe *self)
{
	struct probe *probe = container_of(self, struct probe, uprobe);

	if (WARN_ON_ONCE(READ_ONCE(probe->alive) != PROBE_ALIVE)) {
		atomic64_inc(&late);
		return NULL;
	}
	atomic_inc(&probe->item->active);
	return probe->item;
}

static void leave(struct item *item)
{
	atomic_dec(&item->active);
}

static void see_thread(struct item *item)
{
	WRITE_ONCE(item->last_tid, task_pid_vnr(current));
	WRITE_ONCE(item->last_tgid, task_tgid_vnr(current));
}

static void see(struct item *item, struct pt_regs *regs)
{
	see_thread(item);
	WRITE_ONCE(item->last_ip, regs->ip);
	WRITE_ONCE(item->last_sp, regs->sp);
	WRITE_ONCE(item->last_si, regs->si);
}

static void change(struct item *item, struct pt_regs *regs)
{
	regs->si += item->request.add_si;
	regs->ip += item->request.add_ip;
}

static void take_time(const struct uprobes_test_register *request)
{
	if (request->act == UPROBES_TEST_ACT_SPIN) {
		/* Not by the clock, which may stop while interrupts are off. */
		mdelay(request->act_usec / 1000);
		return;
	}
	/* In interrupt context this is the mistake that the test provokes. */
	might_sleep();
	fsleep(request->act_usec);
}

/* Must come last in a handler, because it may change the context. */
static void act(struct item *item, u32 handler)
{
	const struct uprobes_test_register *request = &item->request;

	if (!(request->act_in & handler))
		return;
	switch (request->act) {
	case UPROBES_TEST_ACT_UNREGISTER:
		probe_unregister_in_handler(item);
		break;
	case UPROBES_TEST_ACT_UNREGISTER_OTHER:
		probe_unregister_in_handler(item->other);
		break;
	case UPROBES_TEST_ACT_REGISTER_OTHER:
		atomic_set(&item->act_result, probe_register_in_handler(item->other));
		break;
	case UPROBES_TEST_ACT_IRQS_OFF:
		local_irq_disable();
		break;
	case UPROBES_TEST_ACT_IRQS_ON:
		local_irq_enable();
		break;
	case UPROBES_TEST_ACT_PREEMPT_OFF:
		preempt_disable();
		break;
	case UPROBES_TEST_ACT_BH_OFF:
		local_bh_disable();
		break;
	case UPROBES_TEST_ACT_RCU_LOCK:
		rcu_read_lock();
		break;
	case UPROBES_TEST_ACT_RCU_TRACE_LOCK:
		rcu_read_lock_trace();
		break;
	/* As the functions change the count, without the checks of debug kernels. */
	case UPROBES_TEST_ACT_PREEMPT_ON:
		__preempt_count_sub(PREEMPT_OFFSET);
		break;
	case UPROBES_TEST_ACT_BH_ON:
		__preempt_count_sub(SOFTIRQ_DISABLE_OFFSET);
		break;
	case UPROBES_TEST_ACT_FAULTS_OFF:
		pagefault_disable();
		break;
	case UPROBES_TEST_ACT_MIGRATION_OFF:
		migrate_disable();
		break;
	case UPROBES_TEST_ACT_EVERYTHING:
		migrate_disable();
		migrate_disable();
		pagefault_disable();
		pagefault_disable();
		rcu_read_lock();
		rcu_read_lock_trace();
		local_bh_disable();
		preempt_disable();
		preempt_disable();
		break;
	case UPROBES_TEST_ACT_SLEEP:
	case UPROBES_TEST_ACT_SPIN:
		take_time(request);
		break;
	}
}

void task_handler(struct uprobe *self, struct pt_regs *regs)
{
	struct item *item = enter(self);

	if (!item)
		return;
	see(item, regs);
	atomic64_set(&item->task_sequence, atomic64_inc_return(&sequence));
	if (preemptible())
		atomic64_inc(&item->task_preemptible);
	might_sleep();
	if (item->request.sleep_usec)
		fsleep(item->request.sleep_usec);
	if (!(item->request.flags & UPROBES_TEST_EARLY))
		change(item, regs);
	if (item->request.linger_usec) {
		/* Act before the count, because the test waits for the count. */
		act(item, UPROBES_TEST_TASK);
		atomic64_inc(&item->task_hits);
		fsleep(item->request.linger_usec);
		leave(item);
		return;
	}
	atomic64_inc(&item->task_hits);
	leave(item);
	act(item, UPROBES_TEST_TASK);
}

void interrupt_handler(struct uprobe *self, struct pt_regs *regs)
{
	struct item *item = enter(self);

	if (!item)
		return;
	see(item, regs);
	atomic64_set(&item->interrupt_sequence, atomic64_inc_return(&sequence));
	if (irqs_disabled())
		atomic64_inc(&item->interrupt_irqs_off);
	if (item->request.flags & UPROBES_TEST_EARLY)
		change(item, regs);
	atomic64_inc(&item->interrupt_hits);
	leave(item);
	act(item, UPROBES_TEST_INTERRUPT);
}

void return_handler(struct uprobe *self, struct pt_regs *regs)
{
	struct item *item = enter(self);

	if (!item)
		return;
	see_thread(item);
	WRITE_ONCE(item->return_ip, regs->ip);
	WRITE_ONCE(item->return_sp, regs->sp);
	WRITE_ONCE(item->return_ax, regs->ax);
	atomic64_set(&item->return_sequence, atomic64_inc_return(&sequence));
	atomic64_add(regs->ax, &item->ax_sum);
	if (preemptible())
		atomic64_inc(&item->return_preemptible);
	might_sleep();
	regs->ax += item->request.add_ax;
	regs->ip += item->request.add_return_ip;
	atomic64_inc(&item->return_hits);
	leave(item);
	act(item, UPROBES_TEST_RETURN);
}

bool filter(struct uprobe *self, struct task_struct *task)
{
	struct item *item = enter(self);
	bool fires;

	if (!item)
		return false;
	atomic64_inc(&item->filter_calls);
	if (task != current)
		atomic64_inc(&item->filter_wrong);
	fires = task_pid_vnr(task) == item->request.filter_tid;
	leave(item);
	return fires;
}

void unregistered(struct uprobe *self)
{
	struct probe *probe = container_of(self, struct probe, uprobe);
	struct item *item = item_of(self);

	might_sleep();
	atomic_inc(&item->notified);
	if (WARN_ON_ONCE(probe->alive != PROBE_ALIVE || atomic_read(&item->active)))
		atomic64_inc(&late);
	if (!(item->request.flags & UPROBES_TEST_FREE))
		return;
	/* This is the last use of the probe: see probe_unregister_in_handler(). */
	item->probe = NULL;
	memset(probe, POISON_FREED, sizeof(*probe));
	kfree(probe);
	atomic_dec(&live_probes);
	complete_all(&item->left);
}

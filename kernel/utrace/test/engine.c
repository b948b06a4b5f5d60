// SPDX-License-Identifier: GPL-2.0
/* Sessions of the test device, and their engines. */

#include <linux/module.h>
#include <linux/pid.h>
#include <linux/pid_namespace.h>
#include <linux/sched/task.h>
#include <linux/slab.h>

#include "internal.h"

atomic_t utrace_test_attached;
atomic64_t utrace_test_late;
atomic64_t utrace_test_atomic;

/* Must not sleep, because release() may call it. */
static void session_free(struct kref *ref)
{
	struct session *session = container_of(ref, struct session, ref);
	struct utrace_engine_ops *ops;
	unsigned long index;

	xa_for_each(&session->ops, index, ops)
		kfree(ops);
	xa_destroy(&session->ops);
	xa_destroy(&session->clients);
	put_pid_ns(session->ns);
	kfree(session);
}

void session_get(struct session *session)
{
	kref_get(&session->ref);
}

void session_put(struct session *session)
{
	kref_put(&session->ref, session_free);
}

void session_record(struct session *session, struct utrace_test_record *record)
{
	unsigned long flags;

	spin_lock_irqsave(&session->ring_lock, flags);
	/* The ring is freed when the file is closed. */
	if (session->ring) {
		if (session->written - session->read == RECORDS) {
			session->read++;
			session->lost++;
		}
		record->sequence = session->written++;
		session->ring[record->sequence % RECORDS] = *record;
	}
	spin_unlock_irqrestore(&session->ring_lock, flags);
	wake_up_interruptible(&session->readers);
}

static struct utrace_engine_ops *make_ops(u32 callbacks)
{
	struct utrace_engine_ops *ops;

	ops = kmemdup(&utrace_test_all_ops, sizeof(*ops), GFP_KERNEL);
	if (!ops)
		return NULL;

#define WITHOUT(callback, member)				\
	do {							\
		if (!(callbacks & BIT(callback)))		\
			ops->member = NULL;			\
	} while (0)

	WITHOUT(UTRACE_TEST_QUIESCE, report_quiesce);
	WITHOUT(UTRACE_TEST_SIGNAL, report_signal);
	WITHOUT(UTRACE_TEST_CLONE, report_clone);
	WITHOUT(UTRACE_TEST_JCTL, report_jctl);
	WITHOUT(UTRACE_TEST_EXEC, report_exec);
	WITHOUT(UTRACE_TEST_SYSCALL_ENTRY, report_syscall_entry);
	WITHOUT(UTRACE_TEST_SYSCALL_EXIT, report_syscall_exit);
	WITHOUT(UTRACE_TEST_EXIT, report_exit);
	WITHOUT(UTRACE_TEST_LAST_EXIT, report_last_exit);
	WITHOUT(UTRACE_TEST_DEATH, report_death);
	WITHOUT(UTRACE_TEST_REAP, report_reap);
	WITHOUT(UTRACE_TEST_PATH, report_path);
#undef WITHOUT
	return ops;
}

const struct utrace_engine_ops *session_ops(struct session *session, u32 callbacks)
{
	struct utrace_engine_ops *ops, *other;

	if (callbacks & ~UTRACE_TEST_ALL_CALLBACKS)
		return ERR_PTR(-EINVAL);
	ops = xa_load(&session->ops, callbacks);
	if (ops)
		return ops;

	ops = make_ops(callbacks);
	if (!ops)
		return ERR_PTR(-ENOMEM);
	other = xa_cmpxchg(&session->ops, callbacks, NULL, ops, GFP_KERNEL);
	if (other) {
		kfree(ops);
		return xa_is_err(other) ? ERR_PTR(xa_err(other)) : other;
	}
	return ops;
}

static void client_free(struct kref *ref)
{
	struct client *client = container_of(ref, struct client, ref);

	if (client->data)
		client_put(client->data);
	if (client->task)
		put_task_struct(client->task);
	put_pid(client->pid);
	session_put(client->session);
	kfree(client);
}

void client_put(struct client *client)
{
	kref_put(&client->ref, client_free);
}

struct client *client_new(struct session *session, u32 callbacks, struct client *data)
{
	const struct utrace_engine_ops *ops = session_ops(session, callbacks);
	struct client *client;
	int ret;

	lockdep_assert_held(&session->lock);
	if (IS_ERR(ops))
		return ERR_CAST(ops);
	client = kzalloc_obj(*client);
	if (!client)
		return ERR_PTR(-ENOMEM);

	kref_init(&client->ref);
	client->session = session;
	client->ops = ops;
	init_waitqueue_head(&client->blocked);
	spin_lock_init(&client->answers_lock);
	ret = xa_alloc(&session->clients, &client->id, client, XA_LIMIT(1, INT_MAX), GFP_KERNEL);
	if (ret) {
		kfree(client);
		return ERR_PTR(ret);
	}
	session_get(session);
	if (data) {
		data = client_data(data);
		data->shared = true;
		kref_get(&data->ref);
		client->data = data;
	}
	return client;
}

void client_forget(struct client *client)
{
	lockdep_assert_held(&client->session->lock);
	xa_erase(&client->session->clients, client->id);
	client_put(client);
}

void client_attaching(struct client *data)
{
	kref_get(&data->ref);
	atomic_inc(&data->attached);
	atomic_inc(&utrace_test_attached);
	/*
	 * An open file, or another engine, holds a reference to the module
	 * already.
	 */
	__module_get(THIS_MODULE);
}

bool client_not_attached(struct client *data)
{
	if (atomic_dec_if_positive(&data->attached) < 0)
		return false;
	atomic_dec(&utrace_test_attached);
	client_put(data);
	/* module_exit() waits for the return from this function. */
	module_put(THIS_MODULE);
	return true;
}

void client_go(struct client *client)
{
	WRITE_ONCE(client->go, client->go + 1);
	wake_up_all(&client->blocked);
}

void client_no_answer(struct client *client)
{
	unsigned long flags;

	spin_lock_irqsave(&client->answers_lock, flags);
	client->answers_used = 0;
	spin_unlock_irqrestore(&client->answers_lock, flags);
}

void client_detach(struct client *client)
{
	struct session *session = client->session;
	struct utrace_quiesced *quiesced;
	struct utrace_process *process;
	struct utrace_engine *engine;

	client_no_answer(client);
	client_go(client);

	mutex_lock(&session->lock);
	engine = client->engine;
	process = client->process;
	quiesced = client->quiesced;
	client->engine = NULL;
	client->process = NULL;
	client->quiesced = NULL;
	mutex_unlock(&session->lock);

	if (engine) {
		utrace_detach(client->task, engine);
		if (!client->data && !client->shared)
			WRITE_ONCE(client->ended, true);
		utrace_engine_put(engine);
	} else if (process) {
		utrace_detach_process(process);
		WRITE_ONCE(client->ended, true);
	} else if (quiesced) {
		utrace_resume(quiesced);
	}
}

int session_attach_from_callback(struct session *session, struct task_struct *task,
				 u32 callbacks, unsigned long events)
{
	struct utrace_engine *engine;
	struct client *client;
	int ret;

	/*
	 * The lock is held throughout, so that the file cannot be closed in
	 * between.
	 */
	guard(mutex)(&session->lock);
	if (session->closing)
		return -ESHUTDOWN;
	client = client_new(session, callbacks, NULL);
	if (IS_ERR(client))
		return PTR_ERR(client);

	client->task = get_task_struct(task);
	client->pid = get_task_pid(task, PIDTYPE_PID);
	client_attaching(client);
	engine = utrace_attach_task(task, UTRACE_ATTACH_CREATE, client->ops, client);
	if (IS_ERR(engine)) {
		client_not_attached(client);
		client_forget(client);
		return PTR_ERR(engine);
	}
	client->engine = engine;
	ret = utrace_set_events(task, engine, events);
	return ret ?: client->id;
}

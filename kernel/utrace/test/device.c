// SPDX-License-Identifier: GPL-2.0
/*
 * Character device that gives programs access to utrace. utrace_test.h
 * describes the interface, and tools/testing/selftests/utrace uses it.
 */

#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/mm.h>
#include <linux/pid.h>
#include <linux/pid_namespace.h>
#include <linux/poll.h>
#include <linux/ptrace.h>
#include <linux/rcupdate.h>
#include <linux/sched/task.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "internal.h"

static_assert(UTRACE_TEST_NREGS * sizeof(u64) == sizeof(struct pt_regs));

static atomic_t files;

/* Returns a client, with a reference, or an error. */
static struct client *client_get(struct session *session, u32 id)
{
	struct client *client;

	guard(mutex)(&session->lock);
	client = xa_load(&session->clients, id);
	if (!client)
		return ERR_PTR(-ENOENT);
	kref_get(&client->ref);
	return client;
}

DEFINE_FREE(engine, struct utrace_engine *, if (!IS_ERR_OR_NULL(_T)) utrace_engine_put(_T))
DEFINE_FREE(put_pid, struct pid *, put_pid(_T))

/* Returns the engine of a client on a thread, with a reference, or an error. */
static struct utrace_engine *engine_get(struct client *client, struct task_struct *task)
{
	scoped_guard(mutex, &client->session->lock) {
		if (client->engine) {
			utrace_engine_get(client->engine);
			return client->engine;
		}
		if (!client->process)
			return ERR_PTR(-EBADF);
	}
	return utrace_attach_task(task, UTRACE_ATTACH_MATCH_OPS | UTRACE_ATTACH_MATCH_DATA,
				  client->ops, client_data(client));
}

static long call(struct client *client, unsigned int cmd, const struct utrace_test_call *request,
		 struct task_struct *task, struct pid *pid)
{
	struct utrace_engine *engine __free(engine) = engine_get(client, task);
	bool by_pid = request->how & UTRACE_TEST_BY_PID;

	if (IS_ERR(engine))
		return PTR_ERR(engine);
	switch (cmd) {
	case UTRACE_TEST_EVENTS:
		return by_pid ? utrace_set_events_pid(pid, engine, request->events) :
				utrace_set_events(task, engine, request->events);
	case UTRACE_TEST_CONTROL:
		return by_pid ? utrace_control_pid(pid, engine, request->action) :
				utrace_control(task, engine, request->action);
	case UTRACE_TEST_BARRIER:
		return by_pid ? utrace_barrier_pid(pid, engine) :
				utrace_barrier(task, engine);
	case UTRACE_TEST_PREPARE:
		return utrace_prepare_examine(task, engine, &client->exam);
	case UTRACE_TEST_FINISH:
		return utrace_finish_examine(task, engine, &client->exam);
	}
	return -ENOTTY;
}

static long engine_call(struct session *session, unsigned int cmd, void __user *arg)
{
	struct task_struct *task __free(put_task) = NULL;
	struct client *client __free(client) = NULL;
	struct pid *pid __free(put_pid) = NULL;
	struct utrace_test_call request;

	if (copy_from_user(&request, arg, sizeof(request)))
		return -EFAULT;
	client = client_get(session, request.id);
	if (IS_ERR(client))
		return PTR_ERR(client);
	if (!request.tid)
		return call(client, cmd, &request, client->task, client->pid);

	pid = find_get_pid(request.tid);
	task = get_pid_task(pid, PIDTYPE_PID);
	if (!task)
		return -ESRCH;
	return call(client, cmd, &request, task, pid);
}

static long engine_regs(struct session *session, void __user *arg, bool set)
{
	struct utrace_engine *engine __free(engine) = NULL;
	struct client *client __free(client) = NULL;
	struct utrace_test_regs request;
	struct pt_regs regs;
	int ret;

	if (copy_from_user(&request, arg, sizeof(request)))
		return -EFAULT;
	client = client_get(session, request.id);
	if (IS_ERR(client))
		return PTR_ERR(client);
	engine = engine_get(client, client->task);
	if (IS_ERR(engine))
		return PTR_ERR(engine);
	if (set) {
		memcpy(&regs, request.regs, sizeof(regs));
		return utrace_set_regs(client->task, engine, &regs);
	}
	ret = utrace_get_regs(client->task, engine, &regs);
	if (ret)
		return ret;
	memcpy(request.regs, &regs, sizeof(regs));
	return copy_to_user(arg, &request, sizeof(request)) ? -EFAULT : 0;
}

static bool answer_is_valid(const struct utrace_test_answer *answer)
{
	return answer->callback < UTRACE_TEST_CALLBACKS && !answer->reserved &&
	       !(answer->flags & ~UTRACE_TEST_ANSWER_FLAGS) &&
	       !(answer->set >> UTRACE_TEST_VALUES) &&
	       !(answer->callback == UTRACE_TEST_SIGNAL && answer->flags & UTRACE_TEST_SET &&
		 (answer->value[0] < 1 || answer->value[0] > _NSIG));
}

static long engine_answer(struct session *session, void __user *arg)
{
	struct client *client __free(client) = NULL;
	struct utrace_test_answer answer;

	if (copy_from_user(&answer, arg, sizeof(answer)))
		return -EFAULT;
	if (!answer_is_valid(&answer))
		return -EINVAL;
	client = client_get(session, answer.id);
	if (IS_ERR(client))
		return PTR_ERR(client);

	guard(spinlock_irqsave)(&client->answers_lock);
	if (client->answers_used == ANSWERS)
		return -ENOSPC;
	client->answers[client->answers_used++] = answer;
	return 0;
}

static long engine_count(struct session *session, void __user *arg)
{
	struct client *client __free(client) = NULL;
	struct utrace_test_count count = {};
	unsigned int i;

	if (copy_from_user(&count.id, arg, sizeof(count.id)))
		return -EFAULT;
	client = client_get(session, count.id);
	if (IS_ERR(client))
		return PTR_ERR(client);
	scoped_guard(mutex, &session->lock) {
		if (client->engine)
			count.flags = READ_ONCE(client->engine->flags);
	}
	count.active = atomic_read(&client->active);
	count.released = atomic64_read(&client->released);
	for (i = 0; i < UTRACE_TEST_CALLBACKS; i++)
		count.calls[i] = atomic64_read(&client->calls[i]);
	return copy_to_user(arg, &count, sizeof(count)) ? -EFAULT : 0;
}

/* Handles the ioctls with an id as their only argument. */
static long engine_by_id(struct session *session, unsigned int cmd, u32 id)
{
	struct client *client __free(client) = client_get(session, id);
	struct utrace_engine *engine;

	if (IS_ERR(client))
		return PTR_ERR(client);
	switch (cmd) {
	case UTRACE_TEST_NO_ANSWER:
		client_no_answer(client);
		return 0;
	case UTRACE_TEST_GO:
		client_go(client);
		return 0;
	case UTRACE_TEST_PUT:
		scoped_guard(mutex, &session->lock) {
			engine = client->engine;
			client->engine = NULL;
		}
		if (!engine)
			return -EBADF;
		utrace_engine_put(engine);
		return 0;
	case UTRACE_TEST_DROP:
		client_detach(client);
		scoped_guard(mutex, &session->lock) {
			if (xa_load(&session->clients, id) != client)
				return -ENOENT;
			client_forget(client);
		}
		return 0;
	}
	return -ENOTTY;
}

static long report_state(struct session *session, void __user *arg)
{
	struct utrace_test_state state = {
		.attached = atomic_read(&utrace_test_attached),
		.files = atomic_read(&files),
		.late = atomic64_read(&utrace_test_late),
		.atomic = atomic64_read(&utrace_test_atomic),
	};

	scoped_guard(spinlock_irqsave, &session->ring_lock)
		state.lost = session->lost;
	return copy_to_user(arg, &state, sizeof(state)) ? -EFAULT : 0;
}

static long utrace_test_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	struct session *session = file->private_data;
	void __user *uarg = (void __user *)arg;

	switch (cmd) {
	case UTRACE_TEST_ATTACH:
		return engine_attach(session, uarg, false);
	case UTRACE_TEST_ATTACH_PROCESS:
		return engine_attach(session, uarg, true);
	case UTRACE_TEST_EVENTS:
	case UTRACE_TEST_CONTROL:
	case UTRACE_TEST_BARRIER:
	case UTRACE_TEST_PREPARE:
	case UTRACE_TEST_FINISH:
		return engine_call(session, cmd, uarg);
	case UTRACE_TEST_GET_REGS:
		return engine_regs(session, uarg, false);
	case UTRACE_TEST_SET_REGS:
		return engine_regs(session, uarg, true);
	case UTRACE_TEST_ANSWER:
		return engine_answer(session, uarg);
	case UTRACE_TEST_COUNT:
		return engine_count(session, uarg);
	case UTRACE_TEST_NO_ANSWER:
	case UTRACE_TEST_GO:
	case UTRACE_TEST_PUT:
	case UTRACE_TEST_DROP:
		return engine_by_id(session, cmd, arg);
	case UTRACE_TEST_STATE:
		return report_state(session, uarg);
	case UTRACE_TEST_QUIESCE_PROCESS:
		return process_quiesce(session, arg);
	}
	return -ENOTTY;
}

static bool readable(struct session *session)
{
	guard(spinlock_irqsave)(&session->ring_lock);
	return session->read != session->written;
}

/* Takes the oldest record. Returns false if there is none. */
static bool take_record(struct session *session, struct utrace_test_record *record)
{
	guard(spinlock_irqsave)(&session->ring_lock);
	if (session->read == session->written)
		return false;
	*record = session->ring[session->read++ % RECORDS];
	return true;
}

/* Reads whole records only. */
static ssize_t utrace_test_read(struct file *file, char __user *to, size_t len, loff_t *pos)
{
	struct session *session = file->private_data;
	struct utrace_test_record record;
	size_t done = 0;
	int ret;

	if (len < sizeof(record))
		return -EINVAL;
	if (!(file->f_flags & O_NONBLOCK)) {
		ret = wait_event_interruptible(session->readers, readable(session));
		if (ret)
			return ret;
	}
	guard(mutex)(&session->read_lock);
	while (len - done >= sizeof(record) && take_record(session, &record)) {
		if (copy_to_user(to + done, &record, sizeof(record)))
			return -EFAULT;
		done += sizeof(record);
	}
	return done ?: -EAGAIN;
}

static __poll_t utrace_test_poll(struct file *file, poll_table *wait)
{
	struct session *session = file->private_data;

	poll_wait(file, &session->readers, wait);
	return readable(session) ? EPOLLIN | EPOLLRDNORM : 0;
}

static int utrace_test_open(struct inode *inode, struct file *file)
{
	struct session *session;

	if (!capable(CAP_SYS_ADMIN))
		return -EPERM;
	session = kzalloc_obj(*session);
	if (!session)
		return -ENOMEM;
	session->ring = kvcalloc(RECORDS, sizeof(*session->ring), GFP_KERNEL);
	if (!session->ring) {
		kfree(session);
		return -ENOMEM;
	}
	kref_init(&session->ref);
	session->ns = get_pid_ns(task_active_pid_ns(current));
	mutex_init(&session->lock);
	mutex_init(&session->read_lock);
	xa_init_flags(&session->clients, XA_FLAGS_ALLOC1);
	xa_init(&session->ops);
	spin_lock_init(&session->ring_lock);
	init_waitqueue_head(&session->readers);
	file->private_data = session;
	atomic_inc(&files);
	return 0;
}

static int utrace_test_release(struct inode *inode, struct file *file)
{
	struct session *session = file->private_data;
	struct utrace_test_record *ring;
	struct client *client;
	unsigned long id;

	/* From now on callbacks attach no engines and do not block. */
	scoped_guard(mutex, &session->lock)
		session->closing = true;
	/* A callback may be in a process that is quiesced. */
	xa_for_each(&session->clients, id, client) {
		client_go(client);
		if (client->quiesced)
			client_detach(client);
	}

	xa_for_each(&session->clients, id, client) {
		client_detach(client);
		scoped_guard(mutex, &session->lock)
			client_forget(client);
	}

	scoped_guard(spinlock_irqsave, &session->ring_lock) {
		ring = session->ring;
		session->ring = NULL;
	}
	kvfree(ring);
	atomic_dec(&files);
	session_put(session);
	return 0;
}

static const struct file_operations utrace_test_fops = {
	.owner = THIS_MODULE,
	.open = utrace_test_open,
	.release = utrace_test_release,
	.read = utrace_test_read,
	.poll = utrace_test_poll,
	.unlocked_ioctl = utrace_test_ioctl,
};

static struct miscdevice utrace_test_device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "utrace_test",
	.fops = &utrace_test_fops,
	.mode = 0600,
};

static int __init utrace_test_init(void)
{
	return misc_register(&utrace_test_device);
}

static void __exit utrace_test_exit(void)
{
	misc_deregister(&utrace_test_device);
	/*
	 * The caller that dropped the last reference may still be in release().
	 */
	synchronize_rcu_tasks();
}

module_init(utrace_test_init);
module_exit(utrace_test_exit);

MODULE_DESCRIPTION("Test engines of utrace");
MODULE_LICENSE("GPL");

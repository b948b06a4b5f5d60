// SPDX-License-Identifier: GPL-2.0
/*
 * The interface of utrace for programs: see tools/testing/selftests/utrace for
 * what it is used for, and utrace_test.h for what it can do.
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

/* With a reference, or an error. */
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
DEFINE_FREE(client, struct client *, if (!IS_ERR_OR_NULL(_T)) client_put(_T))

DEFINE_FREE(engine, struct utrace_engine *, if (!IS_ERR_OR_NULL(_T)) utrace_engine_put(_T))
DEFINE_FREE(put_pid, struct pid *, put_pid(_T))

/* With a reference, or an error: the engine of a client on a thread. */
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

/* The client that has this engine: the caller holds the lock. */
static struct client *client_of_engine(struct session *session, struct utrace_engine *engine)
{
	struct client *client;
	unsigned long id;

	xa_for_each(&session->clients, id, client) {
		if (client->engine == engine)
			return client;
	}
	return NULL;
}

static struct utrace_engine *attach(const struct utrace_test_attach *request,
				    struct client *client)
{
	const struct utrace_engine_ops *ops = client->ops;

	if (request->how & UTRACE_TEST_NO_OPS)
		ops = NULL;
	if (request->how & UTRACE_TEST_BY_PID)
		return utrace_attach_pid(client->pid, request->flags, ops, client_data(client));
	return utrace_attach_task(client->task, request->flags, ops, client_data(client));
}

/*
 * Ends the attempt to attach an engine to a client that is new: keeps it if the
 * engine is new too. Returns the id that has the engine now, or an error.
 */
static long attach_end(struct session *session, struct client *client,
		       struct utrace_engine *engine)
{
	struct client *found;
	long ret;

	guard(mutex)(&session->lock);
	if (IS_ERR(engine)) {
		ret = PTR_ERR(engine);
	} else {
		found = client_of_engine(session, engine);
		if (!found && engine->ops == client->ops && engine->data == client_data(client)) {
			client->engine = engine;
			return client->id;
		}
		ret = found ? found->id : -EXDEV;
		utrace_engine_put(engine);
	}
	client_forget(client);
	return ret;
}

static long process_end(struct session *session, struct client *client,
			struct utrace_process *process)
{
	guard(mutex)(&session->lock);
	if (IS_ERR(process)) {
		client_forget(client);
		return PTR_ERR(process);
	}
	client->process = process;
	return client->id;
}

/* Gives @client an id and a thread; it has no engine yet. */
static struct client *attach_begin(struct session *session,
				   const struct utrace_test_attach *request)
{
	struct client *client, *data = NULL;
	struct task_struct *task;
	struct pid *pid;

	pid = find_get_pid(request->tid);
	task = get_pid_task(pid, PIDTYPE_PID);
	if (!task) {
		put_pid(pid);
		return ERR_PTR(-ESRCH);
	}

	scoped_guard(mutex, &session->lock) {
		if (request->data)
			data = xa_load(&session->clients, request->data);
		if (request->data && !data)
			client = ERR_PTR(-ENOENT);
		else
			client = client_new(session, request->callbacks, data);
		if (!IS_ERR(client)) {
			client->task = task;
			client->pid = pid;
			kref_get(&client->ref);
			return client;
		}
	}
	put_task_struct(task);
	put_pid(pid);
	return client;
}

static long engine_attach(struct session *session, void __user *arg, bool process)
{
	struct client *client __free(client) = NULL;
	struct utrace_test_attach request;
	bool create;
	long ret;

	if (copy_from_user(&request, arg, sizeof(request)))
		return -EFAULT;
	if (request.how & ~(UTRACE_TEST_BY_PID | UTRACE_TEST_NO_OPS) || request.reserved)
		return -EINVAL;
	create = process || request.flags & UTRACE_ATTACH_CREATE;

	client = attach_begin(session, &request);
	if (IS_ERR(client))
		return PTR_ERR(client);
	if (create)
		client_attaching(client_data(client));
	if (process)
		ret = process_end(session, client,
				  utrace_attach_process(client->task, request.events,
							request.how & UTRACE_TEST_NO_OPS ?
							NULL : client->ops,
							client_data(client)));
	else
		ret = attach_end(session, client, attach(&request, client));
	if (create && ret != client->id)
		client_not_attached(client_data(client));
	return ret;
}

static long process_quiesce(struct session *session, pid_t pid)
{
	struct utrace_quiesced *quiesced = utrace_quiesce(pid);
	struct client *client;

	if (IS_ERR(quiesced))
		return PTR_ERR(quiesced);
	scoped_guard(mutex, &session->lock) {
		client = client_new(session, 0, NULL);
		if (!IS_ERR(client)) {
			client->quiesced = quiesced;
			return client->id;
		}
	}
	utrace_resume(quiesced);
	return PTR_ERR(client);
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

/* What needs nothing but an id. */
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

/* Takes the oldest record; false if there is none. */
static bool take_record(struct session *session, struct utrace_test_record *record)
{
	guard(spinlock_irqsave)(&session->ring_lock);
	if (session->read == session->written)
		return false;
	*record = session->ring[session->read++ % RECORDS];
	return true;
}

/* Whole records only. */
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

	/* From here on callbacks attach nothing any more and do not block. */
	scoped_guard(mutex, &session->lock)
		session->closing = true;
	/* A callback may be in a process that is kept out of user mode. */
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
	/* Whoever has dropped the last reference may still be in release(). */
	synchronize_rcu_tasks();
}

module_init(utrace_test_init);
module_exit(utrace_test_exit);

MODULE_DESCRIPTION("Test engines of utrace");
MODULE_LICENSE("GPL");

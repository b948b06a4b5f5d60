// SPDX-License-Identifier: GPL-2.0
/* Attachment of engines, and quiescence, for the test device of utrace. */

#include <linux/pid.h>
#include <linux/sched/task.h>
#include <linux/uaccess.h>

#include "internal.h"

/* Returns the client that has this engine. The caller must hold the lock. */
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
 * Completes the attachment of an engine to a new client, which is kept if the
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

/* Creates a client with an id and a thread. It has no engine yet. */
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

long engine_attach(struct session *session, void __user *arg, bool process)
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

long process_quiesce(struct session *session, pid_t pid)
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

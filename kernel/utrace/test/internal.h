/* SPDX-License-Identifier: GPL-2.0 */
/* Internal interfaces of the test module. */
#ifndef _UTRACE_TEST_INTERNAL_H
#define _UTRACE_TEST_INTERNAL_H

#include <linux/atomic.h>
#include <linux/kref.h>
#include <linux/mutex.h>
#include <linux/spinlock.h>
#include <linux/utrace.h>
#include <linux/wait.h>
#include <linux/xarray.h>

#include "utrace_test.h"

#define RECORDS		4096	/* A power of two. */
#define ANSWERS		8

/*
 * State of one open file. Lives until the last of its engines is released,
 * because ops and data must stay valid until then.
 */
struct session {
	struct kref ref;
	struct pid_namespace *ns;

	/* Protects the objects of the ids, and @closing. */
	struct mutex lock;
	struct xarray clients;
	bool closing;
	/* Ops, indexed by their set of callbacks. */
	struct xarray ops;

	/* One reader at a time. */
	struct mutex read_lock;
	/* Protects the ring; taken last, in any context. */
	spinlock_t ring_lock;
	wait_queue_head_t readers;
	u64 written;
	u64 read;
	u64 lost;
	struct utrace_test_record *ring;
};

/* The object of an id, and the data of its engines. */
struct client {
	/*
	 * One reference of the id, of each engine with this data, of each user.
	 */
	struct kref ref;
	struct session *session;
	u32 id;
	const struct utrace_engine_ops *ops;
	/* The client that has the data, if this one shares it. */
	struct client *data;

	/* At most one of each; protected by the session's lock. */
	struct utrace_engine *engine;
	struct utrace_process *process;
	struct utrace_quiesced *quiesced;
	struct task_struct *task;
	struct pid *pid;
	struct utrace_examiner exam;

	/* Engines with this data that are not released yet. */
	atomic_t attached;
	atomic64_t released;
	/* Set when no callback may come any more. Not used for shared data. */
	bool ended;
	bool shared;
	atomic_t active;
	atomic64_t calls[UTRACE_TEST_CALLBACKS];

	/* Callbacks that block wait for the next number. */
	wait_queue_head_t blocked;
	unsigned int go;

	/* Protects the two fields below. */
	spinlock_t answers_lock;
	unsigned int answers_used;
	struct utrace_test_answer answers[ANSWERS];
};

extern atomic_t utrace_test_attached;
extern atomic64_t utrace_test_late;
extern atomic64_t utrace_test_atomic;

void session_get(struct session *session);
void session_put(struct session *session);
void session_record(struct session *session, struct utrace_test_record *record);

/* Returns the ops with a set of callbacks, or an error. May sleep. */
const struct utrace_engine_ops *session_ops(struct session *session, u32 callbacks);

/*
 * Returns a client with an id, and no engine yet. The caller must hold the
 * session's lock.
 */
struct client *client_new(struct session *session, u32 callbacks, struct client *data);
void client_put(struct client *client);
DEFINE_FREE(client, struct client *, if (!IS_ERR_OR_NULL(_T)) client_put(_T))
/*
 * Must be called before an engine with this data is attached, and when it is
 * released or could not be attached. The latter returns false if there is none.
 */
void client_attaching(struct client *data);
bool client_not_attached(struct client *data);
/*
 * Removes a client that has no engine from its session. The caller must hold
 * the lock.
 */
void client_forget(struct client *client);
/* Wakes the callbacks that block. */
void client_go(struct client *client);
void client_no_answer(struct client *client);
/* Detaches, waits for the callbacks and drops the reference. */
void client_detach(struct client *client);

static inline struct client *client_data(struct client *client)
{
	return client->data ?: client;
}

/*
 * Attaches an engine for the session; callbacks may call this. Returns an id or
 * an error.
 */
int session_attach_from_callback(struct session *session, struct task_struct *task,
				 u32 callbacks, unsigned long events);

/* Commands of the device. Return an id or an error. */
long engine_attach(struct session *session, void __user *arg, bool process);
long process_quiesce(struct session *session, pid_t pid);

/* The ops with all callbacks. */
extern const struct utrace_engine_ops utrace_test_all_ops;

#endif /* _UTRACE_TEST_INTERNAL_H */

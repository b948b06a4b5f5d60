/* SPDX-License-Identifier: GPL-2.0 */
/* What the parts of the test module share. */
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
 * State of one open file. Lives until the last of its engines is released: ops
 * and data have to be there for as long.
 */
struct session {
	struct kref ref;
	struct pid_namespace *ns;

	/* Protects what the ids stand for, and @closing. */
	struct mutex lock;
	struct xarray clients;
	bool closing;
	/* Ops by their set of callbacks. */
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

/* What an id stands for, and the data of its engines. */
struct client {
	/* One of the id, one of each engine with this data, one of each user. */
	struct kref ref;
	struct session *session;
	u32 id;
	const struct utrace_engine_ops *ops;
	/* Where else the data is, if this is not the data of its engine. */
	struct client *data;

	/* Of these there is one at most: protected by the session's lock. */
	struct utrace_engine *engine;
	struct utrace_process *process;
	struct utrace_quiesced *quiesced;
	struct task_struct *task;
	struct pid *pid;
	struct utrace_examiner exam;

	/* Engines with this data that are not released yet. */
	atomic_t attached;
	atomic64_t released;
	/* No callback may come any more. Not known of data that is shared. */
	bool ended;
	bool shared;
	atomic_t active;
	atomic64_t calls[UTRACE_TEST_CALLBACKS];

	/* Callbacks that are to block wait for the next number. */
	wait_queue_head_t blocked;
	unsigned int go;

	/* Of the two below. */
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

/* The ops with a set of callbacks, or an error. May sleep. */
const struct utrace_engine_ops *session_ops(struct session *session, u32 callbacks);

/* A client with an id, and no engine yet. The caller holds the session's lock. */
struct client *client_new(struct session *session, u32 callbacks, struct client *data);
void client_put(struct client *client);
/*
 * Before an engine with this data is attached, and when it is released or could
 * not be attached: false if there is none.
 */
void client_attaching(struct client *data);
bool client_not_attached(struct client *data);
/* Takes a client that has no engine out of its session. The caller holds the lock. */
void client_forget(struct client *client);
/* The callbacks that block go on. */
void client_go(struct client *client);
void client_no_answer(struct client *client);
/* Detaches, waits for the callbacks and gives up the reference. */
void client_detach(struct client *client);

static inline struct client *client_data(struct client *client)
{
	return client->data ?: client;
}

/* Callable by callbacks: attaches an engine for the session. An id or an error. */
int session_attach_from_callback(struct session *session, struct task_struct *task,
				 u32 callbacks, unsigned long events);

/* The ops of all callbacks there are. */
extern const struct utrace_engine_ops utrace_test_all_ops;

#endif /* _UTRACE_TEST_INTERNAL_H */

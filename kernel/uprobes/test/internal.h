/* SPDX-License-Identifier: GPL-2.0 */
/* Declarations that the files of the test client share. */
#ifndef _UPROBES_TEST_INTERNAL_H
#define _UPROBES_TEST_INTERNAL_H

#include <linux/atomic.h>
#include <linux/completion.h>
#include <linux/list.h>
#include <linux/mutex.h>
#include <linux/refcount.h>
#include <linux/types.h>
#include <linux/uprobes.h>
#include <linux/utrace.h>
#include <linux/xarray.h>

#include "uprobes_test.h"

#define PROBE_ALIVE	0x75707262
#define POISON_FREED	0x6b

enum kind { PROBE, GUARD, BULK };

/* The part of an item that is freed with the probe. The counts stay. */
struct probe {
	struct uprobe uprobe;
	u32 alive;
	struct item *item;
};

/* An object with an id. Freed with the last reference. */
struct item {
	enum kind kind;
	refcount_t refs;
	struct utrace_quiesced *guard;
	struct bulk *bulk;

	/* The rest is for probes. */
	struct probe *probe;
	struct uprobes_test_register request;
	struct item *other;
	/* A handler has unregistered the probe, and the callback frees it. */
	atomic_t leaves;
	struct completion left;

	/* Number of registrations that have begun, and that have ended. */
	atomic_t begun;
	atomic_t done;

	atomic_t active;
	atomic_t notified;
	atomic_t act_result;
	atomic64_t task_hits;
	atomic64_t task_preemptible;
	atomic64_t interrupt_hits;
	atomic64_t interrupt_irqs_off;
	atomic64_t return_hits;
	atomic64_t return_preemptible;
	atomic64_t task_sequence;
	atomic64_t interrupt_sequence;
	atomic64_t return_sequence;
	atomic64_t ax_sum;
	atomic64_t filter_calls;
	atomic64_t filter_wrong;
	unsigned long last_ip;
	unsigned long last_sp;
	unsigned long last_si;
	unsigned long return_ip;
	unsigned long return_sp;
	unsigned long return_ax;
	pid_t last_tid;
	pid_t last_tgid;
};

/* State of one open file. */
struct session {
	/* Protects items. An item that was looked up stays while it is held. */
	struct mutex lock;
	struct xarray items;
	/* Hits of the probes that were removed. */
	atomic64_t ended_hits;
};

extern atomic_t live_probes;
extern atomic64_t late;

/* device.c: items by their ids. */
struct item *item_new(enum kind kind);
void item_put(struct item *item);
/* Assigns an id to the item, or drops the item. */
int item_publish(struct session *session, struct item *item);
/* The caller must hold the lock of the session while it uses the item. */
struct item *item_find(struct session *session, unsigned long id, enum kind kind);
/* Takes a reference, which the caller must put. */
struct item *item_get(struct session *session, unsigned long id, enum kind kind);

/* probes.c: probes one by one. */
long probe_register(struct session *session, void __user *arg);
long probe_again(struct session *session, unsigned long id);
long probe_end(struct session *session, unsigned long id);
long probe_count(struct session *session, void __user *arg);
long probe_noop(pid_t pid);
void probe_drop(struct session *session, struct item *item);
/* Unregisters the probe in a handler, without waiting. */
void probe_unregister_in_handler(struct item *item);
int probe_register_in_handler(struct item *item);

/* handlers.c: handlers of probes. */
void task_handler(struct uprobe *self, struct pt_regs *regs);
void interrupt_handler(struct uprobe *self, struct pt_regs *regs);
void return_handler(struct uprobe *self, struct pt_regs *regs);
bool filter(struct uprobe *self, struct task_struct *task);
void unregistered(struct uprobe *self);

/* bulk.c: many probes at once. */
long bulk_register(struct session *session, void __user *arg);
long bulk_singly(struct session *session, unsigned long id);
long bulk_hits(struct session *session, unsigned long id);
void bulk_drop(struct item *item);

#endif /* _UPROBES_TEST_INTERNAL_H */

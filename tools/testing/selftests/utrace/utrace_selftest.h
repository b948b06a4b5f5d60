/* SPDX-License-Identifier: GPL-2.0 */
/* What the selftests of utrace share. */
#ifndef _UTRACE_SELFTEST_H
#define _UTRACE_SELFTEST_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/user.h>

#include "selftest_process.h"
#include "utrace_test.h"

/* The enums and flags of <linux/utrace.h>, as the Makefile has taken them out. */
#define BIT(nr)	(1UL << (nr))
#include "utrace_enums.h"

#define CALLBACK(name)	BIT(UTRACE_TEST_##name)
#define EVENT(name)	UTRACE_EVENT(name)
#define ALL_EVENTS	(BIT(_UTRACE_NEVENTS) - 1)

/* The module. All return a value, or a negative errno. */
int dev_open(void);
/* A new engine with all callbacks, told of @events: an id. */
int dev_attach(int dev, pid_t tid, unsigned long events);
int dev_attach_how(int dev, const struct utrace_test_attach *how);
/* On all threads of a process. */
int dev_attach_process(int dev, pid_t tid, unsigned long events);
int dev_set_events(int dev, int id, unsigned long events);
int dev_control(int dev, int id, enum utrace_resume_action action);
int dev_barrier(int dev, int id);
int dev_prepare(int dev, int id);
int dev_finish(int dev, int id);
/* UTRACE_TEST_EVENTS and following; @how has all that they can be given. */
int dev_call(int dev, unsigned long cmd, const struct utrace_test_call *how);
int dev_get_regs(int dev, int id, struct user_regs_struct *regs);
int dev_set_regs(int dev, int id, const struct user_regs_struct *regs);
int dev_answer(int dev, const struct utrace_test_answer *answer);
int dev_no_answer(int dev, int id);
int dev_go(int dev, int id);
int dev_put(int dev, int id);
int dev_drop(int dev, int id);
int dev_count(int dev, int id, struct utrace_test_count *count);
/*
 * Whether a callback was called so often, soon. The parent can be back from
 * wait() before the engines have been told of the death, and of what follows.
 */
bool calls_reach(int dev, int id, unsigned int callback, unsigned long long times);
/* Whether all that died was told of to its end, soon. */
bool deaths_settle(int dev, int id, struct utrace_test_count *count);
/* Whether release() was called so often, soon, and is not called again. */
bool released(int dev, int id, unsigned long long times);
/* Keeps a process out of user mode until dev_drop(). */
int dev_quiesce(int dev, pid_t pid);
int dev_state(int dev, struct utrace_test_state *state);
/* Whether no engine is left, soon, and nothing ever came late. */
bool dev_clean(int dev);

#define ANSWER(dev, ...)	\
	ASSERT_EQ(0, dev_answer(dev, &(struct utrace_test_answer){ __VA_ARGS__ }))

/*
 * The log. next_record() waits for a record, and skips those of other callbacks
 * than @callback, if that is not ANY. False: none came in time.
 */
#define ANY	(-1)
bool next_record(int dev, int callback, struct utrace_test_record *record);
/* Whether no record comes for a while. */
bool no_record(int dev);
void drop_records(int dev);
/*
 * The next @records as text, valid until the next call: "a.exit b.exit", where
 * the letters are the ids; a quiesce has its event: "a.quiesce:exit".
 */
const char *told(int dev, unsigned int records);
const char *event_name(unsigned long events);

/*
 * A process that calls functions of this program when told to, in its first
 * thread. All of them are forks of the test: addresses agree.
 */
struct target {
	pid_t pid;
	int to;
	int from;
};

typedef long (*target_fn)(long arg);

bool target_start(struct target *target);
bool target_begin(struct target *target, target_fn fn, long arg);
/* What the function returned. NOT_DONE: nothing in time. */
#define NOT_DONE	(-77777L)
long target_end(struct target *target);
long target_call(struct target *target, target_fn fn, long arg);
/* Whether the function still runs a while later. */
bool target_busy(struct target *target);
/* Ends it, unless it has ended already: the wait status. */
int target_stop(struct target *target);
int target_kill(struct target *target);
/* The wait status, without doing anything; -1 if it does not end. */
int wait_status(pid_t pid);

/* Memory that all forks share, from before the first. */
struct shared {
	atomic_int phase;
	atomic_int go;
	atomic_int tid;
	atomic_ullong turns;
	atomic_long value;
};

extern struct shared *shared;
bool share(void);
bool reaches(atomic_int *where, int value);

/* For targets. */
long do_getpid(long arg);	/* as a system call */
long do_exit(long code);	/* of the process */
long do_kill_self(long sig);	/* 0 if it comes back */
long do_spin(long until);	/* until shared->go is that; counts turns */
long do_read(long fd);		/* one byte: what read() returned, or -errno */
long do_fork(long arg);		/* a child that exits with 0: its pid */
long do_exec(long arg);
long do_open(long arg);		/* /dev/null: 0 */
long do_handle(long sig);	/* sets a handler, which counts shared->value */
long do_ignore(long sig);
long do_default(long sig);
long do_block(long sig);
long do_unblock(long sig);
long do_thread(long ends);	/* starts one that ends soon, or with the process */

/* Whether do_spin() makes turns, or none. */
bool spins(void);
bool spins_not(void);

#endif /* _UTRACE_SELFTEST_H */

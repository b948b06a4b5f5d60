/* SPDX-License-Identifier: GPL-2.0 */
/* Helpers of the selftests of utrace. */
#ifndef _UTRACE_SELFTEST_H
#define _UTRACE_SELFTEST_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/user.h>

#include "selftest_process.h"
#include "utrace_test.h"

/* The enums and flags of <linux/utrace.h>, which the Makefile extracts. */
#define BIT(nr)	(1UL << (nr))
#include "utrace_enums.h"

#define CALLBACK(name)	BIT(UTRACE_TEST_##name)
#define EVENT(name)	UTRACE_EVENT(name)
#define ALL_EVENTS	(BIT(_UTRACE_NEVENTS) - 1)

#define SOON_MS		20000
#define A_WHILE_MS	100

/* Returns whether @fd becomes readable within @ms milliseconds. */
bool wait_readable(int fd, int ms);

/* Calls of the test module. All return a value, or a negative errno. */
int dev_open(void);
/* Closes the file of dev_open() in a child. */
void dev_close_in_target(void);
/* Attaches an engine with all callbacks and the event set @events. Returns its id. */
int dev_attach(int dev, pid_t tid, unsigned long events);
int dev_attach_how(int dev, const struct utrace_test_attach *how);
/* Attaches engines to all threads of a process. */
int dev_attach_process(int dev, pid_t tid, unsigned long events);
int dev_set_events(int dev, int id, unsigned long events);
int dev_control(int dev, int id, enum utrace_resume_action action);
int dev_barrier(int dev, int id);
int dev_prepare(int dev, int id);
int dev_finish(int dev, int id);
/* The commands from UTRACE_TEST_EVENTS on; @how has the parameters of all of them. */
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
 * Waits until a callback was called exactly @times times. The parent can return from
 * wait() before the death and the later events are reported to the engines.
 */
bool calls_reach(int dev, int id, unsigned int callback, unsigned long long times);
/* Waits until the death and the reap of each exited thread are reported. */
bool deaths_settle(int dev, int id, struct utrace_test_count *count);
/* Waits until release() was called @times times, and checks that no call follows. */
bool released(int dev, int id, unsigned long long times);
/* Quiesces a process until dev_drop(). */
int dev_quiesce(int dev, pid_t pid);
int dev_state(int dev, struct utrace_test_state *state);
/* Waits until no engine is left. Also checks that no callback was late, or in atomic context. */
bool dev_clean(int dev);

#define ANSWER(dev, ...)	\
	ASSERT_EQ(0, dev_answer(dev, &(struct utrace_test_answer){ __VA_ARGS__ }))

/*
 * The log. next_record() waits for a record of @callback, or of any callback if this
 * is ANY, and skips the others. Returns false if none came in time.
 */
#define ANY	(-1)
bool next_record(int dev, int callback, struct utrace_test_record *record);
/* Whether no record comes for a while. */
bool no_record(int dev);
void drop_records(int dev);
/*
 * Returns the next @records records as text, valid until the next call: "a.exit
 * b.exit", where the letters are the ids. A quiesce has its event: "a.quiesce:exit".
 */
const char *next_records(int dev, unsigned int records);
const char *event_name(unsigned long events);

/*
 * A process that calls functions of this program in its first thread, on request.
 * Since each target is a fork of the test, addresses agree.
 */
struct target {
	pid_t pid;
	int to;
	int from;
};

typedef long (*target_fn)(long arg);

bool target_start(struct target *target);
bool target_begin(struct target *target, target_fn fn, long arg);
/* Returns the result of the function, or NOT_DONE if it did not return in time. */
#define NOT_DONE	(-77777L)
long target_end(struct target *target);
long target_call(struct target *target, target_fn fn, long arg);
/* Whether the function is still running after a while. */
bool target_busy(struct target *target);
/* Ends the target, unless it has ended already, and returns its wait status. */
int target_stop(struct target *target);
int target_kill(struct target *target);
/* Waits for the end of the process. Returns its wait status, or -1 if it does not end. */
int wait_status(pid_t pid);

/* Memory that the test and all targets share. It is mapped before the first fork. */
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

/* Functions for targets. */
long do_getpid(long arg);	/* as a system call */
long do_exit(long code);	/* of the process */
long do_kill_self(long sig);	/* 0 if the signal lets it return */
long do_spin(long until);	/* until shared->go is @until; counts turns */
long do_read(long fd);		/* one byte: the result of read(), or -errno */
long do_fork(long arg);		/* a child that exits with 0: its pid */
long do_exec(long arg);
long do_open(long arg);		/* /dev/null: 0 */
long do_handle(long sig);	/* sets a handler, which counts shared->value */
long do_ignore(long sig);
long do_default(long sig);
long do_block(long sig);
long do_unblock(long sig);
long do_thread(long ends);	/* starts a thread that ends soon, or with the process */

/* Whether do_spin() makes turns, or makes none. */
bool spins(void);
bool spins_not(void);

#endif /* _UTRACE_SELFTEST_H */

// SPDX-License-Identifier: GPL-2.0
/* Signals: the disposition that engines find, and each action on a signal. */
#include <sys/resource.h>

#include "device_fixture.h"

#define FROM_PROGRAM	(~0ULL)
#define DISPOSITION(record)	((record).found & UTRACE_SIGNAL_MASK)

/* The answer to the next @sig only. */
#define SIGNAL_ANSWER(id, sig, what, ...)				\
	ANSWER(self->dev, id, .callback = UTRACE_TEST_SIGNAL,		\
	       .action = (what) | UTRACE_RESUME, .times = 1,		\
	       .match = sig, ##__VA_ARGS__)
#define ENGINE(engine)	.id = engine
#define ONLY		.flags = UTRACE_TEST_ONLY
#define INSTEAD(sig, how)	\
	.flags = UTRACE_TEST_ONLY | UTRACE_TEST_SET, .value = { sig, how }

DEVICE_TEST(found)
{
	const struct {
		int sig;
		target_fn prepare;
		unsigned int found;
	} cases[] = {
		{ SIGUSR1, do_handle, UTRACE_SIGNAL_DELIVER },
		{ SIGUSR1, do_ignore, UTRACE_SIGNAL_IGN },
		{ SIGWINCH, do_default, UTRACE_SIGNAL_IGN },
		{ SIGCHLD, do_default, UTRACE_SIGNAL_IGN },
		{ SIGTERM, do_default, UTRACE_SIGNAL_TERM },
		{ SIGRTMIN, do_default, UTRACE_SIGNAL_TERM },
		{ SIGSEGV, do_default, UTRACE_SIGNAL_CORE },
		{ SIGQUIT, do_default, UTRACE_SIGNAL_CORE },
		{ SIGTSTP, do_default, UTRACE_SIGNAL_TSTP },
		{ SIGSTOP, NULL, UTRACE_SIGNAL_STOP },
	};
	int id = ATTACH(UTRACE_EVENT_SIGNAL_ALL);
	struct utrace_test_record record;
	unsigned int i;

	ANSWER(self->dev, .id = id, .callback = UTRACE_TEST_SIGNAL,
	       .action = UTRACE_SIGNAL_IGN | UTRACE_RESUME);
	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		if (cases[i].prepare)
			ASSERT_EQ(0, CALL(cases[i].prepare, cases[i].sig));
		EXPECT_EQ(0, CALL(do_kill_self, cases[i].sig));
		record = NEXT(ANY);
		EXPECT_EQ(UTRACE_TEST_SIGNAL, record.callback);
		EXPECT_EQ(cases[i].sig, record.arg[0]);
		EXPECT_EQ(SI_TKILL, record.arg[1]);
		EXPECT_EQ(cases[i].found, DISPOSITION(record)) TH_LOG("signal %d", cases[i].sig);
		EXPECT_EQ(UTRACE_RESUME, record.found & UTRACE_RESUME_MASK);
		if (cases[i].prepare == do_ignore)
			EXPECT_EQ((long)SIG_IGN, record.arg[2]);
		if (cases[i].prepare == do_default)
			EXPECT_EQ((long)SIG_DFL, record.arg[2]);
	}
	/* The engine has made all of them ignored. */
	EXPECT_EQ(0, shared->value);
	EXPECT_TRUE(no_record(self->dev));
}

/* Signals that the engine leaves unchanged act as they do without an engine. */
DEVICE_TEST(delivered)
{
	ATTACH(UTRACE_EVENT_SIGNAL_ALL);
	ASSERT_EQ(0, CALL(do_handle, SIGUSR1));
	EXPECT_EQ(0, CALL(do_kill_self, SIGUSR1));
	EXPECT_EQ(1, shared->value);
	EXPECT_EQ(0, CALL(do_kill_self, SIGWINCH));
	BEGIN(do_kill_self, SIGTERM);
	EXPECT_EQ(SIGTERM, ENDED());
}

static long faults(long arg)
{
	*(volatile char *)arg = 0;
	return 0;
}

/* The signal of a fault is reported as any other. If ignored, the fault recurs. */
DEVICE_TEST(fault)
{
	int id = ATTACH(UTRACE_EVENT_SIGNAL_ALL);
	struct utrace_test_record record;

	SIGNAL_ANSWER(ENGINE(id), SIGSEGV, UTRACE_SIGNAL_IGN, ONLY);
	BEGIN(faults, 8);
	record = NEXT(ANY);
	EXPECT_EQ(SIGSEGV, record.arg[0]);
	EXPECT_EQ(SEGV_MAPERR, record.arg[1]);
	EXPECT_EQ(UTRACE_SIGNAL_CORE, DISPOSITION(record));
	record = NEXT(ANY);
	EXPECT_EQ(SIGSEGV, record.arg[0]);
	EXPECT_EQ(SIGSEGV, ENDED() & 0x7f);
}

DEVICE_TEST(made_term)
{
	int id = ATTACH(UTRACE_EVENT_SIGNAL_ALL);

	SIGNAL_ANSWER(ENGINE(id), SIGWINCH, UTRACE_SIGNAL_TERM, ONLY);
	BEGIN(do_kill_self, SIGWINCH);
	EXPECT_EQ(SIGWINCH, ENDED());
}

DEVICE_TEST(made_core)
{
	int id = ATTACH(UTRACE_EVENT_SIGNAL_ALL), status;

	SIGNAL_ANSWER(ENGINE(id), SIGWINCH, UTRACE_SIGNAL_CORE, ONLY);
	BEGIN(do_kill_self, SIGWINCH);
	status = ENDED();
	EXPECT_TRUE(WIFSIGNALED(status));
	EXPECT_EQ(SIGWINCH, WTERMSIG(status));
}

DEVICE_TEST(made_stop)
{
	int id = ATTACH(UTRACE_EVENT_SIGNAL_ALL), status;

	SIGNAL_ANSWER(ENGINE(id), SIGWINCH, UTRACE_SIGNAL_STOP, ONLY);
	BEGIN(do_kill_self, SIGWINCH);
	ASSERT_EQ(self->target.pid, waitpid(self->target.pid, &status, WUNTRACED));
	EXPECT_TRUE(WIFSTOPPED(status));
	EXPECT_EQ(SIGWINCH, WSTOPSIG(status));
	EXPECT_TRUE(target_busy(&self->target));
	ASSERT_EQ(0, kill(self->target.pid, SIGCONT));
	EXPECT_EQ(0, END());
}

/* Neither SIGTSTP nor an engine that makes a signal SIGTSTP stops an orphaned group. */
static long orphan_group(long arg)
{
	return setsid() < 0 ? -errno : 0;
}

DEVICE_TEST(made_tstp)
{
	int id = ATTACH(UTRACE_EVENT_SIGNAL_ALL);

	ASSERT_EQ(0, CALL(orphan_group, 0));
	SIGNAL_ANSWER(ENGINE(id), SIGWINCH, UTRACE_SIGNAL_TSTP, ONLY);
	EXPECT_EQ(0, CALL(do_kill_self, SIGWINCH));
}

/* The engine replaces the signal by another one. */
DEVICE_TEST(made_another_signal)
{
	int id = ATTACH(UTRACE_EVENT_SIGNAL_ALL);

	ASSERT_EQ(0, CALL(do_handle, SIGUSR2));
	SIGNAL_ANSWER(ENGINE(id), SIGTERM, UTRACE_SIGNAL_DELIVER,
		      INSTEAD(SIGUSR2, FROM_PROGRAM));
	EXPECT_EQ(0, CALL(do_kill_self, SIGTERM));
	EXPECT_EQ(1, shared->value);
	/* The engine also sets the disposition. */
	SIGNAL_ANSWER(ENGINE(id), SIGUSR2, UTRACE_SIGNAL_DELIVER,
		      INSTEAD(SIGUSR2, (unsigned long)SIG_IGN));
	EXPECT_EQ(0, CALL(do_kill_self, SIGUSR2));
	EXPECT_EQ(1, shared->value);
	SIGNAL_ANSWER(ENGINE(id), SIGUSR2, UTRACE_SIGNAL_DELIVER,
		      INSTEAD(SIGUSR2, (unsigned long)SIG_DFL));
	BEGIN(do_kill_self, SIGUSR2);
	EXPECT_EQ(SIGUSR2, ENDED());
}

/* The engine injects a signal in a report. */
DEVICE_TEST(injected)
{
	int id = ATTACH(EVENT(QUIESCE) | UTRACE_EVENT_SIGNAL_ALL);
	struct utrace_test_record record;

	ASSERT_EQ(0, CALL(do_handle, SIGUSR1));
	BEGIN(do_spin, 1);
	ASSERT_TRUE(spins());
	drop_records(self->dev);
	SIGNAL_ANSWER(ENGINE(id), 0, UTRACE_SIGNAL_DELIVER, INSTEAD(SIGUSR1, FROM_PROGRAM));
	ASSERT_EQ(0, dev_control(self->dev, id, UTRACE_INTERRUPT));
	record = NEXT(UTRACE_TEST_SIGNAL);
	EXPECT_EQ(UTRACE_SIGNAL_REPORT, DISPOSITION(record));
	shared->go = 1;
	EXPECT_EQ(0, END());
	EXPECT_EQ(1, shared->value);
}

DEVICE_TEST(injected_fatal)
{
	int id = ATTACH(EVENT(QUIESCE) | UTRACE_EVENT_SIGNAL_ALL);

	BEGIN(do_spin, 1);
	ASSERT_TRUE(spins());
	SIGNAL_ANSWER(ENGINE(id), 0, UTRACE_SIGNAL_DELIVER, INSTEAD(SIGTERM, FROM_PROGRAM));
	ASSERT_EQ(0, dev_control(self->dev, id, UTRACE_INTERRUPT));
	EXPECT_EQ(SIGTERM, wait_status(self->target.pid));
	self->ended = true;
}

/* After a step into a signal handler, the engine gets a report of its set-up. */
DEVICE_TEST(handler)
{
	int id = ATTACH(EVENT(QUIESCE) | UTRACE_EVENT_SIGNAL_ALL);
	struct utrace_test_record record;

	ASSERT_EQ(0, CALL(do_handle, SIGUSR1));
	drop_records(self->dev);
	ANSWER(self->dev, .id = id, .callback = UTRACE_TEST_SIGNAL, .times = 1,
	       .flags = UTRACE_TEST_ONLY, .match = SIGUSR1,
	       .action = UTRACE_SINGLESTEP | UTRACE_SIGNAL_DELIVER);
	/* The program must not get a SIGTRAP from the end of the step. */
	ANSWER(self->dev, .id = id, .callback = UTRACE_TEST_SIGNAL,
	       .flags = UTRACE_TEST_ONLY, .match = SIGTRAP,
	       .action = UTRACE_RESUME | UTRACE_SIGNAL_IGN);
	EXPECT_EQ(0, CALL(do_kill_self, SIGUSR1));
	record = NEXT(UTRACE_TEST_SIGNAL);
	EXPECT_EQ(SIGUSR1, record.arg[0]);
	record = NEXT(UTRACE_TEST_SIGNAL);
	EXPECT_EQ(UTRACE_SIGNAL_HANDLER, DISPOSITION(record));
	EXPECT_EQ(-1, record.arg[2]);
	EXPECT_EQ(1, shared->value);
}

/* A held signal stays queued. It is reported again, and delivered, once the thread is woken. */
DEVICE_TEST(hold)
{
	int id = ATTACH(UTRACE_EVENT_SIGNAL_ALL);
	struct utrace_test_record record;

	ASSERT_EQ(0, CALL(do_handle, SIGUSR1));
	SIGNAL_ANSWER(ENGINE(id), SIGUSR1, UTRACE_SIGNAL_IGN | UTRACE_SIGNAL_HOLD, ONLY);
	EXPECT_EQ(0, CALL(do_kill_self, SIGUSR1));
	record = NEXT(ANY);
	EXPECT_EQ(SIGUSR1, record.arg[0]);
	EXPECT_TRUE(no_record(self->dev));
	EXPECT_EQ(0, shared->value);
	ASSERT_EQ(0, dev_control(self->dev, id, UTRACE_INTERRUPT));
	record = NEXT(ANY);
	EXPECT_EQ(SIGUSR1, record.arg[0]);
	EXPECT_EQ(SI_TKILL, record.arg[1]);
	EXPECT_EQ(self->target.pid, CALL(do_getpid, 0));
	EXPECT_EQ(1, shared->value);
	EXPECT_TRUE(no_record(self->dev));
}

/* While a signal is held, the thread runs on, with system calls and fork(), until the detach. */
DEVICE_TEST(hold_and_go_on)
{
	int id = ATTACH(UTRACE_EVENT_SIGNAL_ALL);

	ASSERT_EQ(0, CALL(do_handle, SIGUSR1));
	ANSWER(self->dev, .id = id, .callback = UTRACE_TEST_SIGNAL,
	       .flags = UTRACE_TEST_ONLY, .match = SIGUSR1,
	       .action = UTRACE_RESUME | UTRACE_SIGNAL_IGN | UTRACE_SIGNAL_HOLD);
	EXPECT_EQ(0, CALL(do_kill_self, SIGUSR1));
	EXPECT_LT(0, CALL(do_fork, 0));
	EXPECT_EQ(self->target.pid, CALL(do_getpid, 0));
	EXPECT_EQ(0, shared->value);
	EXPECT_EQ(0, dev_control(self->dev, id, UTRACE_DETACH));
	EXPECT_EQ(self->target.pid, CALL(do_getpid, 0));
	EXPECT_EQ(1, shared->value);
}

static void note_value(int sig, siginfo_t *info, void *context)
{
	shared->value = shared->value * 10 + info->si_value.sival_int;
}

/* Queues three signals with values, and then leaves no room for more. */
static long queue_three(long sig)
{
	struct sigaction action = { .sa_sigaction = note_value, .sa_flags = SA_SIGINFO };
	struct rlimit none = {};
	int i;

	sigaction(sig, &action, NULL);
	do_block(sig);
	for (i = 1; i <= 3; i++) {
		union sigval value = { .sival_int = i };

		if (sigqueue(getpid(), sig, value))
			return -errno;
	}
	setrlimit(RLIMIT_SIGPENDING, &none);
	return do_unblock(sig);
}

/* Held signals keep their number, values and order. */
DEVICE_TEST(hold_keeps)
{
	int id = ATTACH(UTRACE_EVENT_SIGNAL_ALL);

	SIGNAL_ANSWER(ENGINE(id), SIGRTMIN, UTRACE_SIGNAL_IGN | UTRACE_SIGNAL_HOLD, ONLY);
	EXPECT_EQ(0, CALL(queue_three, SIGRTMIN));
	ASSERT_EQ(0, dev_control(self->dev, id, UTRACE_INTERRUPT));
	EXPECT_EQ(self->target.pid, CALL(do_getpid, 0));
	EXPECT_EQ(123, shared->value);
}

/* The engine stops the thread in a signal report. The signal is delivered after the stop. */
DEVICE_TEST(stop_with_signal)
{
	int id = ATTACH(UTRACE_EVENT_SIGNAL_ALL);

	ASSERT_EQ(0, CALL(do_handle, SIGUSR1));
	ANSWER(self->dev, .id = id, .callback = UTRACE_TEST_SIGNAL, .times = 1,
	       .flags = UTRACE_TEST_ONLY | UTRACE_TEST_KEEP, .match = SIGUSR1,
	       .action = UTRACE_STOP);
	BEGIN(do_kill_self, SIGUSR1);
	ASSERT_TRUE(wait_state(self->target.pid, self->target.pid, "t"));
	EXPECT_EQ(0, dev_control(self->dev, id, UTRACE_STOP));
	EXPECT_EQ(0, shared->value);
	EXPECT_TRUE(target_busy(&self->target));
	EXPECT_EQ(0, dev_control(self->dev, id, UTRACE_RESUME));
	EXPECT_EQ(0, END());
	EXPECT_EQ(1, shared->value);
}

/* A blocked signal is reported once it is unblocked. */
DEVICE_TEST(blocked)
{
	ATTACH(UTRACE_EVENT_SIGNAL_ALL);
	ASSERT_EQ(0, CALL(do_handle, SIGUSR1));
	ASSERT_EQ(0, CALL(do_block, SIGUSR1));
	EXPECT_EQ(0, CALL(do_kill_self, SIGUSR1));
	EXPECT_TRUE(no_record(self->dev));
	ASSERT_EQ(0, CALL(do_unblock, SIGUSR1));
	EXPECT_EQ(SIGUSR1, NEXT(ANY).arg[0]);
	EXPECT_EQ(1, shared->value);
}

/* Signals that no engine wants are unaffected: an ignored signal causes no wake-up. */
DEVICE_TEST(ignored_and_unwanted)
{
	ATTACH(EVENT(SIGNAL_TERM));
	ASSERT_TRUE(wait_state(self->target.pid, self->target.pid, "S"));
	ASSERT_EQ(0, kill(self->target.pid, SIGWINCH));
	EXPECT_TRUE(no_record(self->dev));
	EXPECT_EQ(self->target.pid, CALL(do_getpid, 0));
}

/* SIGKILL is not reported. */
DEVICE_TEST(kill)
{
	int id = ATTACH(UTRACE_EVENT_SIGNAL_ALL | EVENT(REAP));

	ANSWER(self->dev, .id = id, .callback = UTRACE_TEST_SIGNAL,
	       .action = UTRACE_SIGNAL_IGN | UTRACE_RESUME);
	EXPECT_EQ(SIGKILL, KILLED());
	EXPECT_EQ(UTRACE_TEST_REAP, NEXT(ANY).callback);
}

TEST_HARNESS_MAIN

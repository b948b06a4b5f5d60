// SPDX-License-Identifier: GPL-2.0
/* ptrace on threads that have engines. */
#include "ptrace_fixture.h"

static const char *state_of(pid_t pid)
{
	static char state[64];
	char path[64], line[256];
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	file = fopen(path, "r");
	state[0] = '\0';
	while (file && fgets(line, sizeof(line), file))
		sscanf(line, "State: %63[^\n]", state);
	if (file)
		fclose(file);
	return state;
}

/* PTRACE_ATTACH, register access and detach cause no report to an engine. */
DEVICE_TEST(ptrace_attach)
{
	struct user_regs_struct regs;

	ATTACH(ALL_EVENTS & ~(UTRACE_EVENT_SYSCALL | EVENT(QUIESCE)));
	BEGIN(do_spin, 1);
	ASSERT_TRUE(spins());
	PTRACE(ATTACH, NULL, NULL);
	EXPECT_EQ(SIGSTOP, traced_stop(PID));
	EXPECT_TRUE(spins_not());
	PTRACE(GETREGS, NULL, &regs);
	EXPECT_EQ(0x33, regs.cs);
	PTRACE(DETACH, NULL, NULL);
	EXPECT_TRUE(spins());
	shared->go = 1;
	EXPECT_EQ(0, END());
}

/* A thread stopped by an engine and a debugger runs after both have resumed it. */
DEVICE_TEST(interrupt_of_the_stopped)
{
	int id = ATTACH(0);

	BEGIN(do_spin, 1);
	ASSERT_TRUE(spins());
	STOP(id);
	PTRACE(SEIZE, NULL, NULL);
	EXPECT_TRUE(spins_not());
	PTRACE(INTERRUPT, NULL, NULL);
	/* The debugger gets its stop although the engine has stopped the thread. */
	EXPECT_EQ(EVENT_STOP, traced_stop(PID));
	PTRACE(CONT, NULL, NULL);
	EXPECT_TRUE(spins_not());
	EXPECT_TRUE(wait_state(PID, PID, "t"));
	EXPECT_EQ(0, dev_control(self->dev, id, UTRACE_STOP));
	EXPECT_EQ(0, dev_control(self->dev, id, UTRACE_RESUME));
	EXPECT_TRUE(spins());
	PTRACE(INTERRUPT, NULL, NULL);
	EXPECT_EQ(EVENT_STOP, traced_stop(PID));
	PTRACE(DETACH, NULL, NULL);
	EXPECT_TRUE(spins());
}

/* The engine stops a thread that the debugger has stopped, and the reverse. */
DEVICE_TEST(two_holders)
{
	int ret, id = ATTACH(0);

	BEGIN(do_spin, 1);
	ASSERT_TRUE(spins());
	PTRACE(SEIZE, NULL, NULL);
	PTRACE(INTERRUPT, NULL, NULL);
	ASSERT_EQ(EVENT_STOP, traced_stop(PID));
	ret = dev_control(self->dev, id, UTRACE_STOP);
	EXPECT_TRUE(ret == 0 || ret == -EINPROGRESS);
	PTRACE(CONT, NULL, NULL);
	EXPECT_TRUE(spins_not());
	ASSERT_TRUE(wait_state(PID, PID, "t"));
	EXPECT_EQ(0, dev_control(self->dev, id, UTRACE_STOP));

	/* The debugger stops the thread once more; the engine resumes it first. */
	PTRACE(INTERRUPT, NULL, NULL);
	ASSERT_EQ(EVENT_STOP, traced_stop(PID));
	EXPECT_EQ(0, dev_control(self->dev, id, UTRACE_RESUME));
	EXPECT_TRUE(spins_not());
	PTRACE(CONT, NULL, NULL);
	EXPECT_TRUE(spins());

	/* Both stop the thread at the same time. */
	ret = dev_control(self->dev, id, UTRACE_STOP);
	PTRACE(INTERRUPT, NULL, NULL);
	ASSERT_EQ(EVENT_STOP, traced_stop(PID));
	PTRACE(DETACH, NULL, NULL);
	EXPECT_TRUE(spins_not());
	EXPECT_EQ(0, dev_control(self->dev, id, UTRACE_RESUME));
	EXPECT_TRUE(spins());
}

/* A thread that is stopped in a quiesced process runs only after both have released it. */
DEVICE_TEST(quiesced_and_stopped)
{
	int ret, guard, id = ATTACH(0);

	BEGIN(do_spin, 1);
	ASSERT_TRUE(spins());
	STOP(id);
	guard = dev_quiesce(self->dev, PID);
	ASSERT_LT(0, guard);
	EXPECT_EQ(0, dev_control(self->dev, id, UTRACE_RESUME));
	EXPECT_TRUE(spins_not());
	ASSERT_EQ(0, dev_drop(self->dev, guard));
	EXPECT_TRUE(spins());

	guard = dev_quiesce(self->dev, PID);
	ASSERT_LT(0, guard);
	EXPECT_TRUE(spins_not());
	ret = dev_control(self->dev, id, UTRACE_STOP);
	EXPECT_TRUE(ret == 0 || ret == -EINPROGRESS);
	ASSERT_EQ(0, dev_drop(self->dev, guard));
	EXPECT_TRUE(spins_not());
	EXPECT_TRUE(wait_state(PID, PID, "t"));
	EXPECT_EQ(0, dev_control(self->dev, id, UTRACE_STOP));
	EXPECT_EQ(0, dev_control(self->dev, id, UTRACE_RESUME));
	EXPECT_TRUE(spins());

	/* SIGKILL ends the process while these two and a debugger hold it. */
	STOP(id);
	PTRACE(SEIZE, NULL, NULL);
	PTRACE(INTERRUPT, NULL, NULL);
	ASSERT_EQ(EVENT_STOP, traced_stop(PID));
	guard = dev_quiesce(self->dev, PID);
	ASSERT_LT(0, guard);
	EXPECT_EQ(SIGKILL, KILLED());
	ASSERT_EQ(0, dev_drop(self->dev, guard));
}

/* PTRACE_ATTACH to a thread that an engine has stopped. */
DEVICE_TEST(attach_to_the_stopped)
{
	int id = ATTACH(0);

	BEGIN(do_spin, 1);
	ASSERT_TRUE(spins());
	STOP(id);
	PTRACE(ATTACH, NULL, NULL);
	EXPECT_EQ(SIGSTOP, traced_stop(PID));
	PTRACE(DETACH, NULL, NULL);
	EXPECT_TRUE(spins_not());
	EXPECT_EQ(0, dev_control(self->dev, id, UTRACE_RESUME));
	EXPECT_TRUE(spins());
}

DEVICE_TEST(ptrace_step)
{
	struct user_regs_struct before, after;
	struct utrace_test_count count;
	int i, id = ATTACH(ALL_EVENTS & ~EVENT(QUIESCE));

	BEGIN(do_spin, 1);
	ASSERT_TRUE(spins());
	PTRACE(SEIZE, NULL, NULL);
	PTRACE(INTERRUPT, NULL, NULL);
	ASSERT_EQ(EVENT_STOP, traced_stop(PID));
	drop_records(self->dev);
	PTRACE(GETREGS, NULL, &before);
	for (i = 0; i < 20; i++) {
		PTRACE(SINGLESTEP, NULL, NULL);
		ASSERT_EQ(SIGTRAP, traced_stop(PID));
		PTRACE(GETREGS, NULL, &after);
		EXPECT_NE(before.rip, after.rip);
		before = after;
	}
	/* Each of these signals is reported to the engine before the debugger sees it. */
	ASSERT_EQ(0, dev_count(self->dev, id, &count));
	EXPECT_LE(20, count.calls[UTRACE_TEST_SIGNAL]);
	PTRACE(DETACH, NULL, NULL);
	EXPECT_TRUE(spins());
}

/* A debugger's step that a stop by an engine delays still takes place. */
DEVICE_TEST(step_of_the_stopped)
{
	struct user_regs_struct before, after;
	int ret, id = ATTACH(0);

	BEGIN(do_spin, 1);
	ASSERT_TRUE(spins());
	PTRACE(SEIZE, NULL, NULL);
	PTRACE(INTERRUPT, NULL, NULL);
	ASSERT_EQ(EVENT_STOP, traced_stop(PID));
	PTRACE(GETREGS, NULL, &before);
	ret = dev_control(self->dev, id, UTRACE_STOP);
	EXPECT_TRUE(ret == 0 || ret == -EINPROGRESS);
	PTRACE(SINGLESTEP, NULL, NULL);
	sleep_ms(50);
	EXPECT_EQ(0, waitpid(PID, NULL, WNOHANG));
	EXPECT_EQ(0, dev_control(self->dev, id, UTRACE_RESUME));
	EXPECT_EQ(SIGTRAP, traced_stop(PID));
	PTRACE(GETREGS, NULL, &after);
	EXPECT_NE(before.rip, after.rip);
	PTRACE(DETACH, NULL, NULL);
	EXPECT_TRUE(spins());
}

/* The debugger sees a signal as the engines have changed it. */
DEVICE_TEST(signals_engines_first)
{
	int id = ATTACH(UTRACE_EVENT_SIGNAL_ALL);

	ANSWER(self->dev, .id = id, .callback = UTRACE_TEST_SIGNAL,
	       .flags = UTRACE_TEST_ONLY, .match = SIGUSR1,
	       .action = UTRACE_RESUME | UTRACE_SIGNAL_IGN);
	PTRACE(SEIZE, NULL, NULL);
	BEGIN(do_kill_self, SIGUSR1);
	EXPECT_EQ(0, END());
	EXPECT_EQ(0, waitpid(PID, NULL, WNOHANG));
	BEGIN(do_kill_self, SIGUSR2);
	EXPECT_EQ(SIGUSR2, traced_stop(PID));
	EXPECT_EQ(SIGUSR1, NEXT(UTRACE_TEST_SIGNAL).arg[0]);
	EXPECT_EQ(SIGUSR2, NEXT(UTRACE_TEST_SIGNAL).arg[0]);
	PTRACE(CONT, NULL, NULL);
	EXPECT_EQ(0, END());
}

/* The debugger sees system-call entry before the engines do, and the exit after them. */
DEVICE_TEST(ptrace_syscalls)
{
	int id = ATTACH(UTRACE_EVENT_SYSCALL);
	struct utrace_test_record record;
	struct user_regs_struct regs;
	int i, stops = 0;

	ANSWER(self->dev, .id = id, .callback = UTRACE_TEST_SYSCALL_EXIT,
	       .flags = UTRACE_TEST_ONLY | UTRACE_TEST_SET, .match = SYS_getppid,
	       .set = BIT(UTRACE_TEST_RESULT), .value[UTRACE_TEST_RESULT] = 4321,
	       .action = UTRACE_RESUME);
	PTRACE(SEIZE, NULL, (void *)PTRACE_O_TRACESYSGOOD);
	PTRACE(INTERRUPT, NULL, NULL);
	ASSERT_EQ(EVENT_STOP, traced_stop(PID));
	PTRACE(SYSCALL, NULL, NULL);
	BEGIN(do_getpid, 0);
	for (i = 0; i < 20; i++) {
		int stop = traced_stop(PID);

		ASSERT_EQ(SIGTRAP | 0x80, stop);
		PTRACE(GETREGS, NULL, &regs);
		if (regs.orig_rax == SYS_getpid && !stops++) {
			/* The engine is called after the debugger, and sees this change. */
			regs.orig_rax = SYS_getppid;
			PTRACE(SETREGS, NULL, &regs);
		} else if (regs.orig_rax == SYS_getppid) {
			EXPECT_EQ(4321, regs.rax);
			PTRACE(CONT, NULL, NULL);
			break;
		}
		PTRACE(SYSCALL, NULL, NULL);
	}
	EXPECT_EQ(4321, END());
	do {
		record = NEXT(UTRACE_TEST_SYSCALL_ENTRY);
		EXPECT_NE(SYS_getpid, record.arg[0]);
	} while (record.arg[0] != SYS_getppid);
}

DEVICE_TEST(ptrace_exit)
{
	unsigned long message = 0;

	ATTACH(EVENT(EXIT) | EVENT(LAST_EXIT) | EVENT(DEATH) | EVENT(REAP));
	PTRACE(SEIZE, NULL, (void *)PTRACE_O_TRACEEXIT);
	BEGIN(do_exit, 3);
	EXPECT_EQ(SIGTRAP | PTRACE_EVENT_EXIT << 8, traced_stop(PID));
	PTRACE(GETEVENTMSG, NULL, &message);
	EXPECT_EQ(3 << 8, message);
	PTRACE(CONT, NULL, NULL);
	EXPECT_EQ(3 << 8, ENDED());
	TOLD("a.exit a.last_exit a.death a.reap", 4);
}

/* When the debugger is killed, the process lives on, and the engine's stop holds. */
DEVICE_TEST(debugger_dies)
{
	int id = ATTACH(0);
	pid_t debugger;

	BEGIN(do_spin, 1);
	ASSERT_TRUE(spins());
	STOP(id);
	debugger = fork();
	if (!debugger) {
		int status;

		if (ptrace(PTRACE_SEIZE, PID, NULL, NULL) ||
		    ptrace(PTRACE_INTERRUPT, PID, NULL, NULL))
			_exit(1);
		waitpid(PID, &status, __WALL);
		shared->phase = 1;
		pause();
	}
	ASSERT_TRUE(reaches(&shared->phase, 1));
	ASSERT_EQ(0, kill(debugger, SIGKILL));
	ASSERT_EQ(SIGKILL, wait_status(debugger));
	EXPECT_TRUE(spins_not());
	EXPECT_STREQ("t (tracing stop)", state_of(PID));
	EXPECT_EQ(0, dev_control(self->dev, id, UTRACE_RESUME));
	EXPECT_TRUE(spins());
}

/* PTRACE_KILL and SIGKILL to a thread that the engine and the debugger have stopped. */
DEVICE_TEST(kill_of_the_traced)
{
	int id = ATTACH(EVENT(EXIT));

	BEGIN(do_spin, 1);
	ASSERT_TRUE(spins());
	STOP(id);
	PTRACE(SEIZE, NULL, (void *)PTRACE_O_EXITKILL);
	PTRACE(INTERRUPT, NULL, NULL);
	ASSERT_EQ(EVENT_STOP, traced_stop(PID));
	EXPECT_EQ(SIGKILL, KILLED());
	TOLD("a.exit", 1);
}

/* A group stop while the debugger listens (PTRACE_LISTEN). */
DEVICE_TEST(listen)
{
	int id = ATTACH(EVENT(JCTL));

	BEGIN(do_spin, 1);
	ASSERT_TRUE(spins());
	PTRACE(SEIZE, NULL, NULL);
	ASSERT_EQ(0, kill(PID, SIGSTOP));
	ASSERT_EQ(SIGSTOP, traced_stop(PID));
	PTRACE(CONT, NULL, SIGSTOP);
	ASSERT_EQ(SIGSTOP | PTRACE_EVENT_STOP << 8, traced_stop(PID));
	PTRACE(LISTEN, NULL, NULL);
	EXPECT_TRUE(spins_not());
	ASSERT_EQ(0, kill(PID, SIGCONT));
	ASSERT_EQ(EVENT_STOP, traced_stop(PID));
	PTRACE(CONT, NULL, NULL);
	ASSERT_EQ(SIGCONT, traced_stop(PID));
	PTRACE(CONT, NULL, NULL);
	EXPECT_TRUE(spins());
	EXPECT_EQ(0, dev_control(self->dev, id, UTRACE_DETACH));
}

TEST_HARNESS_MAIN

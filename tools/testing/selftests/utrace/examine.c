// SPDX-License-Identifier: GPL-2.0
/* Examination of stopped threads, and access to their registers. */
#include <sys/ptrace.h>

#include "device_fixture.h"

/* Spins with known register contents until R12 is not 0, and returns R12. */
static __attribute__((noipa)) long spin_in_registers(long arg)
{
	long ret;

	asm volatile("	movabs $0x1122334455667788, %%rbx\n"
		     "	movabs $0x99aabbccddeeff00, %%r13\n"
		     "	xor %%r12d, %%r12d\n"
		     "1:	incq %[turns]\n"
		     "	pause\n"
		     "	test %%r12, %%r12\n"
		     "	jz 1b\n"
		     "	mov %%r12, %[ret]\n"
		     : [ret] "=r" (ret), [turns] "+m" (shared->turns)
		     : : "rbx", "r12", "r13", "cc", "memory");
	return ret;
}

DEVICE_TEST(examine)
{
	int id = ATTACH(0), other = ATTACH(0);

	EXPECT_EQ(-EINVAL, dev_prepare(self->dev, id));
	BEGIN(do_spin, 1);
	ASSERT_TRUE(spins());
	EXPECT_EQ(-EINVAL, dev_prepare(self->dev, id));
	STOP(id);
	EXPECT_EQ(0, dev_prepare(self->dev, id));
	EXPECT_EQ(0, dev_finish(self->dev, id));
	/* The stop belongs to another engine. */
	EXPECT_EQ(-EINVAL, dev_prepare(self->dev, other));
}

/* The examination is invalid, because the thread has run in between. */
DEVICE_TEST(examine_in_vain)
{
	int id = ATTACH(0);

	BEGIN(do_spin, 1);
	ASSERT_TRUE(spins());
	STOP(id);
	EXPECT_EQ(0, dev_prepare(self->dev, id));
	ASSERT_EQ(0, dev_control(self->dev, id, UTRACE_RESUME));
	EXPECT_EQ(-EINVAL, dev_finish(self->dev, id));
	ASSERT_TRUE(spins());
	STOP(id);
	EXPECT_EQ(-EAGAIN, dev_finish(self->dev, id));

	EXPECT_EQ(0, dev_prepare(self->dev, id));
	EXPECT_EQ(SIGKILL, KILLED());
	EXPECT_EQ(-ESRCH, dev_finish(self->dev, id));
	EXPECT_EQ(-ESRCH, dev_prepare(self->dev, id));
}

DEVICE_TEST(get_regs)
{
	struct user_regs_struct regs, traced;
	int id = ATTACH(0);

	BEGIN(spin_in_registers, 0);
	ASSERT_TRUE(spins());
	STOP(id);
	ASSERT_EQ(0, dev_get_regs(self->dev, id, &regs));
	EXPECT_EQ(0x1122334455667788, regs.rbx);
	EXPECT_EQ(0x99aabbccddeeff00, regs.r13);
	EXPECT_EQ(0, regs.r12);
	EXPECT_EQ(0x33, regs.cs);

	/* The registers agree with those that a debugger reads in its own stop. */
	ASSERT_EQ(0, ptrace(PTRACE_SEIZE, self->target.pid, NULL, NULL));
	ASSERT_EQ(0, ptrace(PTRACE_INTERRUPT, self->target.pid, NULL, NULL));
	ASSERT_EQ(0, dev_control(self->dev, id, UTRACE_RESUME));
	ASSERT_EQ(self->target.pid, waitpid(self->target.pid, NULL, 0));
	ASSERT_EQ(0, ptrace(PTRACE_GETREGS, self->target.pid, NULL, &traced));
	EXPECT_EQ(regs.rbx, traced.rbx);
	EXPECT_EQ(regs.r13, traced.r13);
	EXPECT_EQ(regs.rsp, traced.rsp);
	EXPECT_EQ(regs.rbp, traced.rbp);
	EXPECT_EQ(regs.rdi, traced.rdi);
	EXPECT_EQ(regs.ss, traced.ss);
	ASSERT_EQ(0, ptrace(PTRACE_DETACH, self->target.pid, NULL, NULL));
}

DEVICE_TEST(set_regs)
{
	struct user_regs_struct regs, again;
	int id = ATTACH(0);

	BEGIN(spin_in_registers, 0);
	ASSERT_TRUE(spins());
	STOP(id);
	ASSERT_EQ(0, dev_get_regs(self->dev, id, &regs));
	regs.r12 = 0x123456789;
	regs.r13 = 5;
	ASSERT_EQ(0, dev_set_regs(self->dev, id, &regs));
	ASSERT_EQ(0, dev_get_regs(self->dev, id, &again));
	EXPECT_EQ(regs.r12, again.r12);
	EXPECT_EQ(regs.r13, again.r13);
	EXPECT_EQ(regs.rip, again.rip);
	EXPECT_TRUE(spins_not());
	ASSERT_EQ(0, dev_control(self->dev, id, UTRACE_RESUME));
	EXPECT_EQ(0x123456789, END());
}

DEVICE_TEST(regs_of_the_running)
{
	int id = ATTACH(0), other = ATTACH(0);
	struct user_regs_struct regs;

	/* The thread sleeps in a system call, with a stop requested. */
	EXPECT_EQ(-EINVAL, dev_get_regs(self->dev, id, &regs));
	EXPECT_EQ(-EINPROGRESS, dev_control(self->dev, id, UTRACE_STOP));
	EXPECT_EQ(-EAGAIN, dev_get_regs(self->dev, id, &regs));
	EXPECT_EQ(-EAGAIN, dev_set_regs(self->dev, id, &regs));
	EXPECT_EQ(-EAGAIN, dev_prepare(self->dev, id));
	EXPECT_EQ(0, dev_control(self->dev, id, UTRACE_RESUME));

	BEGIN(do_spin, 1);
	ASSERT_TRUE(spins());
	EXPECT_EQ(-EINVAL, dev_get_regs(self->dev, id, &regs));
	EXPECT_EQ(-EINVAL, dev_set_regs(self->dev, id, &regs));
	STOP(id);
	EXPECT_EQ(0, dev_get_regs(self->dev, id, &regs));
	/* The stop belongs to another engine. */
	EXPECT_EQ(-EINVAL, dev_get_regs(self->dev, other, &regs));
	EXPECT_EQ(-EINVAL, dev_set_regs(self->dev, other, &regs));
	EXPECT_EQ(SIGKILL, KILLED());
	EXPECT_EQ(-ESRCH, dev_get_regs(self->dev, id, &regs));
	EXPECT_EQ(-ESRCH, dev_set_regs(self->dev, id, &regs));
}

/* A zombie cannot be examined. */
DEVICE_TEST(examine_the_dead)
{
	int id = ATTACH(0), other = ATTACH(EVENT(DEATH));
	struct user_regs_struct regs;

	EXPECT_EQ(-EINPROGRESS, dev_control(self->dev, id, UTRACE_STOP));
	ASSERT_EQ(0, kill(self->target.pid, SIGKILL));
	EXPECT_TRUE(calls_reach(self->dev, other, UTRACE_TEST_DEATH, 1));
	EXPECT_EQ(-ESRCH, dev_prepare(self->dev, id));
	EXPECT_EQ(-ESRCH, dev_prepare(self->dev, other));
	EXPECT_EQ(-ESRCH, dev_get_regs(self->dev, id, &regs));
	EXPECT_EQ(-ESRCH, dev_get_regs(self->dev, other, &regs));
	EXPECT_EQ(-ESRCH, dev_set_regs(self->dev, id, &regs));
}

/* Register writes cannot raise the program's privileges. */
DEVICE_TEST(set_privileged_regs)
{
	static const struct {
		unsigned long long cs, ss, eflags;
	} bad[] = {
		{ .cs = 0x10 }, { .ss = 0x18 }, { .eflags = 0x3000 }, { .cs = 0x30 },
		{ .cs = 0xfff3 },
	};
	struct user_regs_struct good, regs;
	unsigned int i;
	int ret, id = ATTACH(0);

	BEGIN(spin_in_registers, 0);
	ASSERT_TRUE(spins());
	STOP(id);
	ASSERT_EQ(0, dev_get_regs(self->dev, id, &good));
	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		regs = good;
		regs.cs = bad[i].cs ? bad[i].cs : regs.cs;
		regs.ss = bad[i].ss ? bad[i].ss : regs.ss;
		regs.eflags |= bad[i].eflags;
		ret = dev_set_regs(self->dev, id, &regs);
		ASSERT_EQ(0, dev_get_regs(self->dev, id, &regs));
		EXPECT_EQ(3, regs.cs & 3) TH_LOG("%u: %d", i, ret);
		EXPECT_EQ(3, regs.ss & 3) TH_LOG("%u: %d", i, ret);
		EXPECT_EQ(0, regs.eflags & 0x3000) TH_LOG("%u: %d", i, ret);
		EXPECT_NE(0, regs.eflags & 0x200);
		EXPECT_TRUE(ret == 0 || ret == -EINVAL || ret == -EIO);
	}
	/* Interrupts cannot be disabled. */
	regs = good;
	regs.eflags &= ~0x200ULL;
	dev_set_regs(self->dev, id, &regs);
	ASSERT_EQ(0, dev_get_regs(self->dev, id, &regs));
	EXPECT_NE(0, regs.eflags & 0x200);

	good.r12 = 1;
	ASSERT_EQ(0, dev_set_regs(self->dev, id, &good));
	ASSERT_EQ(0, dev_control(self->dev, id, UTRACE_RESUME));
	EXPECT_EQ(1, END());
}

TEST_HARNESS_MAIN

// SPDX-License-Identifier: GPL-2.0
/* Freezer, seccomp and core dumps on threads that have engines. */
#include <limits.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/resource.h>

#include "cgroup.h"
#include "device_fixture.h"

#define PID	(self->target.pid)

/* A thread that an engine has stopped counts as frozen, and stays stopped when thawed. */
DEVICE_TEST(freezer)
{
	char cgroup[CGROUP_PATH];
	int id = ATTACH(0);

	if (!cgroup_make(cgroup))
		SKIP(return, "no cgroup v2");
	ASSERT_TRUE(cgroup_write(cgroup, "cgroup.procs", PID));
	BEGIN(do_spin, 1);
	ASSERT_TRUE(spins());

	/* Stop, freeze, thaw, resume. */
	STOP(id);
	ASSERT_TRUE(cgroup_write(cgroup, "cgroup.freeze", 1));
	EXPECT_TRUE(frozen(cgroup, 1));
	ASSERT_TRUE(cgroup_write(cgroup, "cgroup.freeze", 0));
	EXPECT_TRUE(frozen(cgroup, 0));
	EXPECT_TRUE(spins_not());
	EXPECT_EQ(0, dev_control(self->dev, id, UTRACE_RESUME));
	EXPECT_TRUE(spins());

	/* Stop, freeze, resume: the thread is still frozen. */
	STOP(id);
	ASSERT_TRUE(cgroup_write(cgroup, "cgroup.freeze", 1));
	EXPECT_TRUE(frozen(cgroup, 1));
	EXPECT_EQ(0, dev_control(self->dev, id, UTRACE_RESUME));
	EXPECT_TRUE(spins_not());
	EXPECT_TRUE(frozen(cgroup, 1));

	/* Stop while frozen: the thread is stopped once it is thawed. */
	dev_control(self->dev, id, UTRACE_STOP);
	EXPECT_TRUE(frozen(cgroup, 1));
	ASSERT_TRUE(cgroup_write(cgroup, "cgroup.freeze", 0));
	EXPECT_TRUE(frozen(cgroup, 0));
	EXPECT_TRUE(wait_state(PID, PID, "t"));
	EXPECT_TRUE(spins_not());
	EXPECT_EQ(0, dev_control(self->dev, id, UTRACE_RESUME));
	EXPECT_TRUE(spins());

	/* SIGKILL ends the process while the freezer and the engine hold it. */
	STOP(id);
	ASSERT_TRUE(cgroup_write(cgroup, "cgroup.freeze", 1));
	EXPECT_TRUE(frozen(cgroup, 1));
	EXPECT_EQ(SIGKILL, KILLED());
	cgroup_remove(cgroup);
}

/* A frozen thread reports once it is thawed, and not before. */
DEVICE_TEST(report_of_the_frozen)
{
	int id = ATTACH(EVENT(QUIESCE));
	char cgroup[CGROUP_PATH];

	if (!cgroup_make(cgroup))
		SKIP(return, "no cgroup v2");
	ASSERT_TRUE(cgroup_write(cgroup, "cgroup.procs", PID));
	BEGIN(do_spin, 1);
	ASSERT_TRUE(spins());
	ASSERT_TRUE(cgroup_write(cgroup, "cgroup.freeze", 1));
	ASSERT_TRUE(frozen(cgroup, 1));
	drop_records(self->dev);
	EXPECT_EQ(0, dev_control(self->dev, id, UTRACE_REPORT));
	EXPECT_TRUE(frozen(cgroup, 1));
	EXPECT_TRUE(spins_not());
	ASSERT_TRUE(cgroup_write(cgroup, "cgroup.freeze", 0));
	EXPECT_TRUE(spins());
	NEXT(ANY);
	EXPECT_EQ(SIGKILL, KILLED());
	cgroup_remove(cgroup);
}

/* seccomp runs after the engines, on the system call as they have changed it. */
static long refuse_getppid(long arg)
{
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getppid, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EXDEV),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = { .len = 4, .filter = filter };

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
	    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program))
		return -errno;
	return 0;
}

static long do_getppid(long arg)
{
	long ret = syscall(SYS_getppid);

	return ret < 0 ? -errno : ret;
}

DEVICE_TEST(seccomp)
{
	int id = ATTACH(UTRACE_EVENT_SYSCALL);

	ASSERT_EQ(0, CALL(refuse_getppid, 0));
	EXPECT_EQ(-EXDEV, CALL(do_getppid, 0));
	EXPECT_EQ(PID, CALL(do_getpid, 0));
	/* An engine cannot bypass the filter. */
	ANSWER(self->dev, .id = id, .callback = UTRACE_TEST_SYSCALL_ENTRY, .times = 1,
	       .flags = UTRACE_TEST_ONLY | UTRACE_TEST_SET, .match = SYS_getpid,
	       .set = BIT(UTRACE_TEST_NR), .value[UTRACE_TEST_NR] = SYS_getppid,
	       .action = UTRACE_RESUME);
	EXPECT_EQ(-EXDEV, CALL(do_getpid, 0));
	/* A call that an engine aborts does not get to seccomp. */
	ANSWER(self->dev, .id = id, .callback = UTRACE_TEST_SYSCALL_ENTRY, .times = 1,
	       .flags = UTRACE_TEST_ONLY, .match = SYS_getppid,
	       .action = UTRACE_RESUME | UTRACE_SYSCALL_ABORT);
	EXPECT_EQ(-ENOSYS, CALL(do_getppid, 0));
	/* The filter runs after a stop at entry. */
	ANSWER(self->dev, .id = id, .callback = UTRACE_TEST_SYSCALL_ENTRY, .times = 1,
	       .flags = UTRACE_TEST_ONLY, .match = SYS_getppid, .action = UTRACE_STOP);
	BEGIN(do_getppid, 0);
	ASSERT_TRUE(wait_state(PID, PID, "t"));
	EXPECT_EQ(0, dev_control(self->dev, id, UTRACE_RESUME));
	EXPECT_EQ(-EXDEV, END());
}

static char core_dir[] = "/tmp/utrace_core.XXXXXX";

static long dump_core(long arg)
{
	struct rlimit unlimited = { RLIM_INFINITY, RLIM_INFINITY };

	if (chdir(core_dir) || setrlimit(RLIMIT_CORE, &unlimited) ||
	    prctl(PR_SET_DUMPABLE, 1))
		return -errno;
	return do_kill_self(SIGABRT);
}

static bool replace_file(const char *path, const char *text, char *old, size_t size)
{
	FILE *file = fopen(path, "r+");
	bool done = false;

	if (!file)
		return false;
	if (!old || fgets(old, size, file)) {
		rewind(file);
		done = fputs(text, file) >= 0;
	}
	return !fclose(file) && done;
}

/* A core dump of several threads, one of which an engine has stopped. */
DEVICE_TEST(core_dump)
{
	static const char pattern_file[] = "/proc/sys/kernel/core_pattern";
	char pattern[256], path[PATH_MAX];
	struct stat core = {};
	int id, status;

	ASSERT_NE(NULL, mkdtemp(core_dir));
	KILLED();
	ASSERT_TRUE(target_start(&self->target));
	self->ended = false;
	ASSERT_TRUE(replace_file(pattern_file, "core\n", pattern, sizeof(pattern)));
	ASSERT_EQ(0, CALL(do_thread, false));
	ASSERT_LT(0, dev_attach_process(self->dev, PID, ALL_EVENTS & ~EVENT(QUIESCE)));
	id = dev_attach(self->dev, shared->tid, EVENT(QUIESCE));
	ASSERT_LT(0, id);
	ASSERT_EQ(0, dev_answer(self->dev, &(struct utrace_test_answer){
		.id = id, .callback = UTRACE_TEST_QUIESCE, .action = UTRACE_STOP }));
	ASSERT_EQ(0, dev_answer(self->dev, &(struct utrace_test_answer){
		.id = id, .callback = UTRACE_TEST_SIGNAL,
		.action = UTRACE_STOP | UTRACE_SIGNAL_IGN }));
	ASSERT_EQ(0, dev_control(self->dev, id, UTRACE_INTERRUPT));
	ASSERT_TRUE(wait_state(PID, shared->tid, "t"));
	BEGIN(dump_core, 0);
	status = ENDED();
	replace_file(pattern_file, pattern, NULL, 0);
	EXPECT_EQ(SIGABRT, WTERMSIG(status));
	EXPECT_TRUE(WCOREDUMP(status));
	snprintf(path, sizeof(path), "%s/core", core_dir);
	if (stat(path, &core)) {
		snprintf(path, sizeof(path), "%s/core.%d", core_dir, PID);
		EXPECT_EQ(0, stat(path, &core));
	}
	EXPECT_LT(4096, core.st_size);
	unlink(path);
	rmdir(core_dir);
}

TEST_HARNESS_MAIN

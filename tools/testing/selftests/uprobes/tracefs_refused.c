// SPDX-License-Identifier: GPL-2.0
/* Lines of uprobe_events for places that cannot be probed. */
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "refused.h"

#define PAGE	4096UL

/* Memory that the target inherits, one mapping of each kind. */
FIXTURE(memory)
{
	struct target target;
	unsigned char *text;
	unsigned char *data;
	unsigned char *shared;
	unsigned char *hole;
};

FIXTURE_SETUP(memory)
{
	if (geteuid())
		SKIP(return, "needs root");
	if (!tracefs_ready())
		SKIP(return, "no uprobe_events");
	if (!tracefs_takes_pids())
		SKIP(return, "uprobe_events takes no PID:VADDR");
	ASSERT_EQ(0, tracefs_replace("uprobe_events", "%s", ""));

	/* Two pages of text. The second one is unmapped below. */
	self->text = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE | PROT_EXEC,
			  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, self->text);
	memset(self->text, 0x90, 2 * PAGE);
	self->hole = self->text + PAGE;
	ASSERT_EQ(0, munmap(self->hole, PAGE));

	self->data = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, self->data);
	memset(self->data, 0x90, PAGE);
	self->shared = mmap(NULL, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC,
			    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, self->shared);
	memset(self->shared, 0x90, PAGE);
}

FIXTURE_TEARDOWN(memory)
{
	char *left = tracefs_read("uprobe_events");

	EXPECT_STREQ("", left);
	free(left);
	EXPECT_EQ(0, target_stop(&self->target));
}

TEST_F_TIMEOUT(memory, processes, TIMEOUT)
{
	struct target ended;
	pid_t zombie;

	ASSERT_TRUE(target_start(&self->target));
	REFUSED(EINVAL, "p ^0:%p", probed_nop);
	REFUSED(EINVAL, "p ^-1:%p", probed_nop);
	REFUSED(EINVAL, "p ^-2147483648:%p", probed_nop);
	/* kthreadd, wherever pids start at one. */
	REFUSED(EINVAL, "p ^2:%p", probed_nop);

	ASSERT_TRUE(target_start(&ended));
	EXPECT_EQ(0, target_stop(&ended));
	REFUSED(ESRCH, "p ^%d:%p", ended.pid, probed_nop);
	REFUSED(ESRCH, "p ^2147483647:%p", probed_nop);

	zombie = fork();
	if (!zombie)
		_exit(0);
	ASSERT_TRUE(wait_state(zombie, zombie, "Z"));
	REFUSED(ESRCH, "p ^%d:%p", zombie, probed_nop);
	EXPECT_EQ(zombie, waitpid(zombie, NULL, 0));
}

/* The file is already open, so the permission to trace the process decides. */
TEST_F_TIMEOUT(memory, process_of_another_user, TIMEOUT)
{
	int dir;

	ASSERT_TRUE(target_start(&self->target));
	dir = tracefs_open("uprobe_events", O_WRONLY | O_APPEND);
	ASSERT_LE(0, dir);
	ASSERT_EQ(0, setresuid(65534, 65534, 0));
	EXPECT_EQ(-1, dprintf(dir, "p %d:%p", self->target.pid, probed_nop));
	EXPECT_EQ(EPERM, errno);
	ASSERT_EQ(0, setresuid(0, 0, 0));
	close(dir);
	REFUSED(ESRCH, "p ^2147483647:%p", probed_nop);
}

#define NOBODY	65534

/* Copies target32, which stops itself when it starts, to a filesystem that knows set-user-ID. */
static bool install_program(const char *path, mode_t mode)
{
	int from = open("target32", O_RDONLY | O_CLOEXEC);
	int to = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0700);
	bool good = from >= 0 && to >= 0;
	char buffer[65536];
	ssize_t got = 0;

	while (good && (got = read(from, buffer, sizeof(buffer))) > 0)
		good = write(to, buffer, got) == got;
	good = good && !got && !fchmod(to, mode);
	close(from);
	close(to);
	return good;
}

/* Starts a program as a user without privileges. */
static pid_t start_as_nobody(const char *path)
{
	pid_t pid = fork();

	if (!pid) {
		if (setresuid(NOBODY, NOBODY, NOBODY))
			_exit(1);
		execl(path, path, NULL);
		_exit(2);
	}
	return pid;
}

static void end_program(pid_t pid)
{
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

/*
 * A user that may write to the file, but has no other rights, may probe the programs that it runs
 * itself, and not programs that run with another user's rights. This also holds during execve() of
 * such a program, which gives the process its new address space before its new rights.
 */
TEST_F_TIMEOUT(memory, set_user_id_program, TIMEOUT)
{
	char dir[] = "/tmp/uprobes-selftest-XXXXXX", own[64], privileged[64];
	unsigned int i, rounds = scaled(200), seen[2] = { 0 };
	/* The text of target32. Its first instruction has five bytes. */
	const unsigned long entry = 0x80480b4;
	int fd;
	pid_t pid;

	ASSERT_TRUE(target_start(&self->target));
	if (access("target32", X_OK))
		SKIP(return, "no target32");
	ASSERT_NE(NULL, mkdtemp(dir));
	ASSERT_EQ(0, mount("none", dir, "tmpfs", 0, "mode=755"));
	snprintf(own, sizeof(own), "%s/own", dir);
	snprintf(privileged, sizeof(privileged), "%s/privileged", dir);
	ASSERT_TRUE(install_program(own, 0755));
	ASSERT_TRUE(install_program(privileged, 04755));
	fd = tracefs_open("uprobe_events", O_WRONLY | O_APPEND);
	ASSERT_LE(0, fd);

	pid = start_as_nobody(own);
	ASSERT_TRUE(wait_state(pid, pid, "T"));
	ASSERT_EQ(0, setresuid(NOBODY, NOBODY, 0));
	EXPECT_LT(0, dprintf(fd, "p:selftest/own %d:%#lx", pid, entry));
	ASSERT_EQ(0, setresuid(0, 0, 0));
	EXPECT_EQ(0, tracefs_append("uprobe_events", "-:selftest/own"));
	end_program(pid);

	for (i = 0; i < rounds; i++) {
		pid = start_as_nobody(privileged);
		ASSERT_EQ(0, setresuid(NOBODY, NOBODY, 0));
		do {
			ASSERT_EQ(-1, dprintf(fd, "p:selftest/race %d:%#lx", pid, entry));
			ASSERT_TRUE(errno == EPERM || errno == EINVAL || errno == EAGAIN)
				TH_LOG("round %u: %s", i, strerror(errno));
			seen[errno == EPERM]++;
		} while (waitpid(pid, NULL, WUNTRACED | WNOHANG) != pid);
		EXPECT_EQ(-1, dprintf(fd, "p:selftest/race %d:%#lx", pid, entry));
		EXPECT_EQ(EPERM, errno);
		ASSERT_EQ(0, setresuid(0, 0, 0));
		end_program(pid);
	}
	TH_LOG("%u refused before, %u as not permitted", seen[0], seen[1]);
	close(fd);
	EXPECT_EQ(0, umount(dir));
	EXPECT_EQ(0, rmdir(dir));
}

TEST_F_TIMEOUT(memory, addresses, TIMEOUT)
{
	pid_t pid;

	ASSERT_TRUE(target_start(&self->target));
	pid = self->target.pid;
	REFUSED(EINVAL, "p %d:^0", pid);
	REFUSED(EINVAL, "p %d:^0x1", pid);
	REFUSED(EINVAL, "p %d:^%p", pid, self->hole);
	REFUSED(EINVAL, "p %d:^%p", pid, self->data);
	REFUSED(EINVAL, "p %d:^%p", pid, &probed_data);
	REFUSED(EINVAL, "p %d:^%p", pid, __builtin_frame_address(0));
	REFUSED(EINVAL, "p %d:^%p", pid, self->shared);
	REFUSED(EINVAL, "p %d:^0x7ffffffff000", pid);
	REFUSED(EINVAL, "p %d:^0x800000000000", pid);
	REFUSED(EINVAL, "p %d:^0x1234567800000000", pid);
	REFUSED(EINVAL, "p %d:^0xffffffff81000000", pid);
	REFUSED(EINVAL, "p %d:^0xffffffffff600000", pid);
	REFUSED(EINVAL, "p %d:^0xffffffffffffffff", pid);
}

/* Writes @bytes at @offset of the text that the next target inherits. */
#define TEXT(offset, bytes) memcpy(self->text + (offset), bytes, sizeof(bytes) - 1)

TEST_F_TIMEOUT(memory, instruction_cut_off, TIMEOUT)
{
	pid_t pid;

	TEXT(PAGE - 3, "\x48\xb8\x01");
	ASSERT_TRUE(target_start(&self->target));
	pid = self->target.pid;
	REFUSED(EFAULT, "p %d:^%p", pid, self->text + PAGE - 3);
	/* An instruction that ends with its page can be probed. */
	EXPECT_EQ(0, tracefs_append("uprobe_events", "p:selftest/last %d:%p", pid,
				    self->text + PAGE - 4));
	EXPECT_EQ(0, tracefs_append("uprobe_events", "-:selftest/last"));
}

TEST_F_TIMEOUT(memory, instruction_cut_off_by_protection, TIMEOUT)
{
	unsigned char *pages = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE | PROT_EXEC,
				    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	ASSERT_NE(MAP_FAILED, pages);
	memset(pages, 0x90, 2 * PAGE);
	memcpy(pages + PAGE - 2, "\x48\xb8", 2);
	ASSERT_EQ(0, mprotect(pages + PAGE, PAGE, PROT_NONE));
	ASSERT_TRUE(target_start(&self->target));
	REFUSED(EFAULT, "p %d:^%p", self->target.pid, pages + PAGE - 2);
}

TEST_F_TIMEOUT(memory, breakpoint_of_another, TIMEOUT)
{
	unsigned char byte = 0;

	TEXT(64, "\xcc\xc3");
	ASSERT_TRUE(target_start(&self->target));
	REFUSED(EEXIST, "p %d:^%p", self->target.pid, self->text + 64);
	EXPECT_TRUE(text_read(self->target.pid, self->text + 64, &byte, 1));
	EXPECT_EQ(0xcc, byte);
}

TEST_F_TIMEOUT(memory, instructions, TIMEOUT)
{
	static const struct {
		const char *name;
		const char *bytes;
	} refused[] = {
		{ "syscall", "\x0f\x05" },
		{ "sysenter", "\x0f\x34" },
		{ "int 0x80", "\xcd\x80" },
		{ "int 3 in two bytes", "\xcd\x03" },
		{ "int1", "\xf1" },
		{ "hlt", "\xf4" },
		{ "cli", "\xfa" },
		{ "sti", "\xfb" },
		{ "iret", "\x48\xcf" },
		{ "push %es", "\x06" },
		{ "into", "\xce" },
	};
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(refused); i++)
		memcpy(self->text + 32 * i, refused[i].bytes, strlen(refused[i].bytes));
	ASSERT_TRUE(target_start(&self->target));
	for (i = 0; i < ARRAY_SIZE(refused); i++) {
		REFUSED(EPERM, "p %d:^%p", self->target.pid, self->text + 32 * i);
		if (_metadata->exit_code)
			TH_LOG("after %s", refused[i].name);
	}
}

TEST_HARNESS_MAIN

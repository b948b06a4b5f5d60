// SPDX-License-Identifier: GPL-2.0
/* Lines of uprobe_events that name what cannot be probed. */
#include <sys/mman.h>

#include "refused.h"

#define PAGE	4096UL

/* Memory that the target inherits: one of each kind. */
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

	/* Two pages of text, the second one unmapped below. */
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

/* With the file already open, what counts is who may trace the process. */
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
	/* The one that ends with its page can be probed. */
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

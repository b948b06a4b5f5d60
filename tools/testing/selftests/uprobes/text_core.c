// SPDX-License-Identifier: GPL-2.0
/* Core dumps of a probed process, which contain the original text. */
#include <elf.h>
#include <pthread.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "text_fixture.h"

#define PATTERN	"/proc/sys/kernel/core_pattern"

static char dir[64];
static char old_pattern[128];

static bool set_up(void)
{
	char pattern[128];
	int fd = open(PATTERN, O_RDONLY | O_CLOEXEC);

	if (fd < 0 || read(fd, old_pattern, sizeof(old_pattern) - 1) <= 0)
		return false;
	close(fd);
	snprintf(dir, sizeof(dir), "/tmp/text_core_XXXXXX");
	if (!mkdtemp(dir))
		return false;
	snprintf(pattern, sizeof(pattern), "%s/core", dir);
	return set_file(PATTERN, pattern);
}

static void tear_down(void)
{
	char path[128];

	set_file(PATTERN, old_pattern);
	snprintf(path, sizeof(path), "%s/core", dir);
	unlink(path);
	rmdir(dir);
}

/* Copies the process's contents at @at from the core dump. */
static bool read_core(const void *at, void *to, size_t len)
{
	unsigned long addr = (unsigned long)at;
	Elf64_Ehdr header;
	Elf64_Phdr segment;
	bool got = false;
	char path[128];
	unsigned int i;
	int fd;

	snprintf(path, sizeof(path), "%s/core", dir);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	if (pread(fd, &header, sizeof(header), 0) != sizeof(header))
		header.e_phnum = 0;
	for (i = 0; !got && i < header.e_phnum; i++) {
		if (pread(fd, &segment, sizeof(segment),
			  header.e_phoff + i * sizeof(segment)) != sizeof(segment))
			break;
		if (segment.p_type == PT_LOAD && segment.p_vaddr <= addr &&
		    addr + len <= segment.p_vaddr + segment.p_filesz)
			got = pread(fd, to, len, segment.p_offset + addr - segment.p_vaddr) ==
			      (ssize_t)len;
	}
	close(fd);
	return got;
}

static void *spin(void *arg)
{
	for (;;)
		call(arg, 1, 2);
	return NULL;
}

static void dump(struct __test_metadata *_metadata, int dev, unsigned int threads)
{
	unsigned char *text = anonymous_text(RX), got[PAGE], file[PAGE];
	unsigned char *page = (unsigned char *)((unsigned long)probed_nop & -PAGE);
	struct rlimit no_limit = { RLIM_INFINITY, RLIM_INFINITY };
	int to[2], anonymous, of_file, other, status;
	pthread_t thread;
	pid_t pid;
	char go;

	ASSERT_NE(MAP_FAILED, text);
	memcpy(file, page, PAGE);
	ASSERT_EQ(0, pipe(to));
	pid = fork();
	if (!pid) {
		setrlimit(RLIMIT_CORE, &no_limit);
		/* Private pages, both anonymous and of files. */
		set_file("/proc/self/coredump_filter", "0x7");
		while (threads--)
			pthread_create(&thread, NULL, spin, text);
		if (read(to[0], &go, 1) == 1 && call(text, 1, 2) == 3 && probed_lea(1, 2) == 3)
			abort();
		_exit(1);
	}
	anonymous = dev_register(dev, pid, text, UPROBES_TEST_TASK);
	of_file = dev_register(dev, pid, probed_lea, UPROBES_TEST_TASK);
	other = dev_register(dev, pid, probed_nop, UPROBES_TEST_TASK);
	ASSERT_LT(0, anonymous);
	ASSERT_LT(0, of_file);
	ASSERT_LT(0, other);
	ASSERT_EQ(1, write(to[1], "", 1));
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
	EXPECT_TRUE(WCOREDUMP(status));
	EXPECT_LE(1, dev_hits(dev, anonymous));
	EXPECT_EQ(1, dev_hits(dev, of_file));

	EXPECT_TRUE(read_core(text, got, PAGE));
	EXPECT_EQ(0, memcmp(text, got, PAGE));
	EXPECT_TRUE(read_core(page, got, PAGE));
	EXPECT_EQ(0, memcmp(file, got, PAGE));
	EXPECT_EQ(0, dev_unregister(dev, anonymous));
	EXPECT_EQ(0, dev_unregister(dev, of_file));
	EXPECT_EQ(0, dev_unregister(dev, other));
}

TEST_F_TIMEOUT(module, one_thread, TIMEOUT)
{
	if (!set_up())
		SKIP(return, "no core dumps");
	dump(_metadata, self->dev, 0);
	tear_down();
}

/* The other threads execute the probed instruction when the dump stops them. */
TEST_F_TIMEOUT(module, some_threads, TIMEOUT)
{
	if (!set_up())
		SKIP(return, "no core dumps");
	dump(_metadata, self->dev, 3);
	tear_down();
}

TEST_HARNESS_MAIN

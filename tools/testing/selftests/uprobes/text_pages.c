// SPDX-License-Identifier: GPL-2.0
/* Text in pages of every kind: huge, merged and locked. */
#include <sys/mman.h>

#include "text_fixture.h"

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE	25
#endif

#define AT(page)	((page) * PAGE + 64)

static const unsigned int places[] = { 0, 5, 300, 511 };
#define PLACES	ARRAY_SIZE(places)

/* Maps two MiB of memory at an aligned address. */
static unsigned char *map_aligned(int fd, int prot)
{
	unsigned char *map, *aligned;

	map = mmap(NULL, 2 * HUGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (map == MAP_FAILED)
		return map;
	aligned = (unsigned char *)(((unsigned long)map + HUGE - 1) & -HUGE);
	return mmap(aligned, HUGE, prot, MAP_FIXED | MAP_PRIVATE | (fd < 0 ? MAP_ANONYMOUS : 0),
		    fd, 0);
}

/* Makes every byte different from its neighbours, with the code in some places. */
static void fill(unsigned char *text)
{
	unsigned long i;

	for (i = 0; i < HUGE; i++)
		text[i] = i + (i >> 8) * 7;
	for (i = 0; i < PLACES; i++)
		memcpy(text + AT(places[i]), add_code, sizeof(add_code));
}

static unsigned char *huge_text(void)
{
	unsigned char *text = map_aligned(-1, PROT_READ | PROT_WRITE);

	if (text == MAP_FAILED || madvise(text, HUGE, MADV_HUGEPAGE))
		return NULL;
	fill(text);
	if (smaps_kb(getpid(), text, "AnonHugePages") != HUGE / 1024 || mprotect(text, HUGE, RX))
		return NULL;
	return text;
}

/* Returns whether the text is as fill() made it, with breakpoints in the code if @probed. */
static bool is_filled(const unsigned char *text, bool probed)
{
	unsigned char *want = malloc(HUGE);
	bool same;
	unsigned int i;

	fill(want);
	for (i = 0; probed && i < PLACES; i++)
		want[AT(places[i])] = INT3;
	same = !memcmp(want, text, HUGE);
	free(want);
	return same;
}

#define PROBE_ALL(text, ids) ({						\
	unsigned int __i;						\
	for (__i = 0; __i < PLACES; __i++)				\
		(ids)[__i] = PROBE((text) + AT(places[__i]));		\
})

/* Calls each place once more, and expects that it has been hit @times in all. */
#define CALL_ALL(text, ids, times) ({					\
	unsigned int __i;						\
	for (__i = 0; __i < PLACES; __i++) {				\
		EXPECT_EQ(3, call((text) + AT(places[__i]), 1, 2));	\
		EXPECT_EQ(times, HITS((ids)[__i]));			\
	}								\
})

#define UNPROBE_ALL(ids) ({						\
	unsigned int __i;						\
	for (__i = 0; __i < PLACES; __i++)				\
		UNPROBE((ids)[__i]);					\
})

/* Breakpoints are written to an anonymous huge page without splitting it. */
TEST_F_TIMEOUT(module, huge_page, TIMEOUT)
{
	unsigned char *text = huge_text();
	int ids[PLACES];

	if (!text)
		SKIP(return, "no huge page");
	PROBE_ALL(text, ids);
	EXPECT_TRUE(is_filled(text, true));
	CALL_ALL(text, ids, 1);
	EXPECT_EQ(HUGE / 1024, smaps_kb(getpid(), text, "AnonHugePages"));
	UNPROBE_ALL(ids);
	EXPECT_TRUE(is_filled(text, false));
	EXPECT_EQ(HUGE / 1024, smaps_kb(getpid(), text, "AnonHugePages"));
}

/* Unmapping or discarding part of the huge page splits it under the probes. */
TEST_F_TIMEOUT(module, huge_page_split, TIMEOUT)
{
	unsigned char *text = huge_text();
	int ids[PLACES];
	unsigned int i;

	if (!text)
		SKIP(return, "no huge page");
	PROBE_ALL(text, ids);
	ASSERT_EQ(0, madvise(text + 100 * PAGE, PAGE, MADV_DONTNEED));
	CALL_ALL(text, ids, 1);
	ASSERT_EQ(0, munmap(text + 511 * PAGE, PAGE));
	for (i = 0; i < PLACES - 1; i++) {
		EXPECT_EQ(3, call(text + AT(places[i]), 1, 2));
		EXPECT_EQ(2, HITS(ids[i]));
	}
	UNPROBE_ALL(ids);
	for (i = 0; i < PLACES - 1; i++)
		EXPECT_EQ(0, memcmp(text + AT(places[i]), add_code, sizeof(add_code)));
}

/* Small pages become a huge one. The breakpoints move with the contents of their pages. */
TEST_F_TIMEOUT(module, collapsed, TIMEOUT)
{
	unsigned char *text = map_aligned(-1, RWX);
	int ids[PLACES];

	ASSERT_NE(MAP_FAILED, text);
	fill(text);
	ASSERT_EQ(0, mprotect(text, HUGE, RX));
	EXPECT_EQ(0, smaps_kb(getpid(), text, "AnonHugePages"));
	PROBE_ALL(text, ids);
	CALL_ALL(text, ids, 1);
	if (madvise(text, HUGE, MADV_COLLAPSE)) {
		TH_LOG("MADV_COLLAPSE: %s", strerror(errno));
		UNPROBE_ALL(ids);
		SKIP(return, "no huge page");
	}
	EXPECT_EQ(HUGE / 1024, smaps_kb(getpid(), text, "AnonHugePages"));
	EXPECT_TRUE(is_filled(text, true));
	CALL_ALL(text, ids, 2);
	UNPROBE_ALL(ids);
	EXPECT_TRUE(is_filled(text, false));
}

/*
 * A file's huge page is mapped in parts while there is a breakpoint in a copy of a part. After that
 * the process has the huge page again, at the latest when the kernel next examines it.
 */
TEST_F_TIMEOUT(module, huge_page_of_file, TIMEOUT)
{
	int fd = memfd_create("text", MFD_CLOEXEC), ids[PLACES];
	unsigned char *shared, *text, *bytes = malloc(HUGE);
	unsigned int i;

	ASSERT_LE(0, fd);
	fill(bytes);
	ASSERT_EQ(HUGE, pwrite(fd, bytes, HUGE, 0));
	free(bytes);
	set_file("/sys/kernel/mm/transparent_hugepage/shmem_enabled", "advise");
	text = map_aligned(fd, RX);
	ASSERT_NE(MAP_FAILED, text);
	madvise(text, HUGE, MADV_HUGEPAGE);
	if (madvise(text, HUGE, MADV_COLLAPSE))
		SKIP(return, "no huge page of a memfd");
	EXPECT_TRUE(is_filled(text, false));
	ASSERT_EQ(HUGE / 1024, smaps_kb(getpid(), text, "ShmemPmdMapped"));

	shared = mmap(NULL, HUGE, PROT_READ, MAP_SHARED, fd, 0);
	ASSERT_NE(MAP_FAILED, shared);
	PROBE_ALL(text, ids);
	EXPECT_TRUE(is_filled(text, true));
	EXPECT_TRUE(is_filled(shared, false));
	CALL_ALL(text, ids, 1);
	EXPECT_EQ(0, smaps_kb(getpid(), text, "ShmemPmdMapped"));
	UNPROBE_ALL(ids);
	EXPECT_TRUE(is_filled(text, false));
	for (i = 0; i < PLACES; i++)
		EXPECT_TRUE(page_is_of_file(getpid(), text + AT(places[i])));
	EXPECT_EQ(0, smaps_kb(getpid(), text, "Anonymous"));
	EXPECT_EQ(HUGE / 1024, smaps_kb(getpid(), text, "ShmemPmdMapped"));
	set_file("/sys/kernel/mm/transparent_hugepage/shmem_enabled", "never");
	close(fd);
}

/* The child has the program's text from its first instruction. The parent keeps its probes. */
TEST_F_TIMEOUT(module, huge_page_and_fork, TIMEOUT)
{
	unsigned char *text = huge_text();
	int ids[PLACES], status;
	unsigned int i;
	pid_t pid;

	if (!text)
		SKIP(return, "no huge page");
	PROBE_ALL(text, ids);
	pid = fork();
	if (!pid) {
		for (i = 0; i < PLACES; i++)
			if (call(text + AT(places[i]), 1, 2) != 3)
				_exit(1);
		_exit(is_filled(text, false) ? 0 : 2);
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
	EXPECT_TRUE(is_filled(text, true));
	CALL_ALL(text, ids, 1);

	/* Unregister the probes while parent and child share pages. */
	pid = fork();
	if (!pid) {
		pause();
		_exit(0);
	}
	UNPROBE_ALL(ids);
	EXPECT_TRUE(is_filled(text, false));
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

TEST_F_TIMEOUT(module, hugetlb, TIMEOUT)
{
	unsigned char *text;

	if (!set_file("/proc/sys/vm/nr_hugepages", "2"))
		SKIP(return, "no hugetlbfs");
	text = mmap(NULL, HUGE, RWX, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1, 0);
	if (text == MAP_FAILED)
		SKIP(return, "no huge page");
	memcpy(text, add_code, sizeof(add_code));
	EXPECT_EQ(-EINVAL, dev_register(self->dev, getpid(), text, UPROBES_TEST_TASK));
	EXPECT_EQ(3, call(text, 1, 2));
	EXPECT_EQ(0, munmap(text, HUGE));
	set_file("/proc/sys/vm/nr_hugepages", "0");
}

TEST_F_TIMEOUT(module, merged_page, TIMEOUT)
{
	unsigned char *one = anonymous_text(RX), *two = anonymous_text(RX);
	int id;

	ASSERT_NE(MAP_FAILED, one);
	ASSERT_NE(MAP_FAILED, two);
	if (madvise(one, PAGE, MADV_MERGEABLE) || madvise(two, PAGE, MADV_MERGEABLE))
		SKIP(return, "no KSM");
	ASSERT_TRUE(merges(getpid(), one, getpid(), two));
	id = PROBE(one);
	EXPECT_EQ(INT3, byte_at(one));
	EXPECT_EQ(add_code[0], byte_at(two));
	EXPECT_EQ(3, call(two, 1, 2));
	EXPECT_EQ(0, HITS(id));
	EXPECT_EQ(3, call(one, 1, 2));
	EXPECT_EQ(1, HITS(id));
	UNPROBE(id);
	EXPECT_EQ(0, memcmp(one, two, PAGE));
	ASSERT_TRUE(merges(getpid(), one, getpid(), two));
	use(_metadata, self->dev, two);
	EXPECT_EQ(3, call(one, 1, 2));
}

/* Pages with breakpoints at the same place can be merged. Each process has its own breakpoint. */
TEST_F_TIMEOUT(module, merged_breakpoints, TIMEOUT)
{
	unsigned char *text = anonymous_text(RX);
	struct target target;
	int own, others;

	ASSERT_NE(MAP_FAILED, text);
	if (madvise(text, PAGE, MADV_MERGEABLE))
		SKIP(return, "no KSM");
	ASSERT_TRUE(target_start(&target));
	own = PROBE(text);
	others = dev_register(self->dev, target.pid, text, UPROBES_TEST_TASK);
	ASSERT_LT(0, others);
	ASSERT_NE(PM_PFN(pagemap_entry(getpid(), text)),
		  PM_PFN(pagemap_entry(target.pid, text)));
	ASSERT_TRUE(merges(getpid(), text, target.pid, text));
	EXPECT_EQ(30, target_call(&target, (probed_fn)text, 1, 2, 10));
	EXPECT_EQ(0, HITS(own));
	EXPECT_EQ(10, HITS(others));
	EXPECT_EQ(3, call(text, 1, 2));
	EXPECT_EQ(1, HITS(own));
	UNPROBE(own);
	EXPECT_EQ(0, memcmp(text, add_code, sizeof(add_code)));
	EXPECT_EQ(30, target_call(&target, (probed_fn)text, 1, 2, 10));
	EXPECT_EQ(20, HITS(others));
	UNPROBE(others);
	EXPECT_EQ(30, target_call(&target, (probed_fn)text, 1, 2, 10));
	EXPECT_EQ(0, target_stop(&target));
}

/* Locked text stays locked and resident. */
TEST_F_TIMEOUT(module, locked, TIMEOUT)
{
	int fd = text_file(NULL), id;
	unsigned char *text = mmap(NULL, PAGE, RX, MAP_PRIVATE, fd, 0);
	unsigned int i;
	long process;

	ASSERT_NE(MAP_FAILED, text);
	ASSERT_EQ(0, mlock(text, PAGE));
	process = status_kb(getpid(), "VmLck");
	EXPECT_EQ(4, smaps_kb(getpid(), text, "Locked"));
	for (i = 0; i < 20; i++) {
		id = PROBE(text);
		EXPECT_EQ(4, smaps_kb(getpid(), text, "Locked"));
		EXPECT_EQ(process, status_kb(getpid(), "VmLck"));
		EXPECT_EQ(3, call(text, 1, 2));
		EXPECT_EQ(1, HITS(id));
		UNPROBE(id);
		/* The page is present before any access. */
		EXPECT_EQ(PM_FILE | PM_PRESENT,
			  pagemap_entry(getpid(), text) & (PM_FILE | PM_PRESENT));
		EXPECT_EQ(4, smaps_kb(getpid(), text, "Locked"));
	}
	EXPECT_EQ(process, status_kb(getpid(), "VmLck"));
	ASSERT_EQ(0, munlock(text, PAGE));
	EXPECT_EQ(0, smaps_kb(getpid(), text, "Locked"));
	close(fd);
}

/* Pages that mlockall() makes unevictable are no longer so after the process has exited. */
TEST_F_TIMEOUT(module, all_locked, TIMEOUT)
{
	unsigned char *text = anonymous_text(RX);
	int status;
	pid_t pid;

	ASSERT_NE(MAP_FAILED, text);
	pid = fork();
	if (!pid) {
		if (mlockall(MCL_CURRENT | MCL_FUTURE))
			_exit(1);
		use(_metadata, self->dev, text);
		use(_metadata, self->dev, (unsigned char *)probed_lea);
		_exit(smaps_kb(getpid(), text, "Locked") == PAGE / 1024 ? 0 : 2);
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
}

TEST_HARNESS_MAIN

// SPDX-License-Identifier: GPL-2.0
/* The limit of the memory that a probed process makes the kernel keep for its return probes. */
#define OWN_FIXTURE
#include <glob.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "module_fixture.h"
#include "returns_text.h"

#define LIMIT	"/proc/sys/kernel/uprobe_returns_kb"

static int limit_kb(unsigned long kb, unsigned long *old)
{
	FILE *file = fopen(LIMIT, "r+");
	int got;

	if (!file)
		return -errno;
	got = fscanf(file, "%lu", old);
	rewind(file);
	if (got == 1)
		got = fprintf(file, "%lu\n", kb);
	return fclose(file) || got < 1 ? -EINVAL : 0;
}

FIXTURE(limits)
{
	int dev;
	unsigned long old;
};

FIXTURE_SETUP(limits)
{
	if (geteuid())
		SKIP(return, "needs root");
	self->dev = dev_open();
	if (self->dev < 0)
		SKIP(return, "no " UPROBES_TEST_DEVICE);
	ASSERT_TRUE(dev_clean(self->dev));
	ASSERT_EQ(0, limit_kb(64, &self->old));
}

FIXTURE_TEARDOWN(limits)
{
	unsigned long now;

	EXPECT_EQ(0, limit_kb(self->old, &now));
	close(self->dev);
}

/* Stacks of one page each. */
static char *stacks;

static unsigned long nest(unsigned long depth, unsigned long add);

static unsigned long call_nest(unsigned long depth, unsigned long add)
{
	return call_probed(nest, depth, add);
}

/* Nests @depth calls of call_probed() that have not returned, each on a stack of its own. */
static unsigned long nest(unsigned long depth, unsigned long add)
{
	char *top = stacks + depth * RETURNS_PAGE;

	return depth ? call_on_stack(call_nest, depth - 1, add + 1, top) : add;
}

static char *map_stacks(unsigned long depth)
{
	char *map = mmap(NULL, (depth + 1) * RETURNS_PAGE, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return map == MAP_FAILED ? NULL : map;
}

#define DEPTH	500UL
/* The number of pages of 64 buckets, or of breakpoints, that fit in 64 kB. */
#define FIT	64UL

TEST_F_TIMEOUT(limits, instances, TIMEOUT)
{
	int id = PROBE_BOTH(call_probed);
	struct uprobes_test_count count;
	unsigned long i, returns = 0;

	/* Pages that are empty again make room for others. */
	for (i = 1; i <= 4; i++) {
		stacks = map_stacks(DEPTH);
		ASSERT_NE(NULL, stacks);
		EXPECT_EQ(DEPTH, nest(DEPTH, 0));
		count = COUNT(id);
		EXPECT_EQ(i * DEPTH, HITS(id));
		EXPECT_EQ(i * DEPTH, count.return_hits + count.misses);
		EXPECT_LT(returns, count.return_hits);
		EXPECT_GT(returns + FIT, count.return_hits);
		returns = count.return_hits;
	}
	UNPROBE(id);
}

/* Calls opaque_leaf() from @num addresses. Returns the number of right results. */
static unsigned long call_from(unsigned long num)
{
	size_t size = (SIZE_OF(call_from_copy) + 15) & ~15UL;
	char *copies = mmap(NULL, num * size, PROT_READ | PROT_WRITE | PROT_EXEC,
			    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	unsigned long i, good = 0;

	if (copies == MAP_FAILED)
		return 0;
	for (i = 0; i < num; i++)
		memcpy(copies + i * size, call_from_copy, SIZE_OF(call_from_copy));
	for (i = 0; i < num; i++)
		good += ((caller_fn)(copies + i * size))(opaque_leaf, i, 1) == i + 1;
	return good;
}

TEST_F_TIMEOUT(limits, return_addresses, TIMEOUT)
{
	int id = PROBE_BOTH(opaque_leaf);
	struct uprobes_test_count count;

	EXPECT_EQ(500, call_from(500));
	count = COUNT(id);
	EXPECT_EQ(500, HITS(id));
	EXPECT_EQ(500, count.return_hits + count.misses);
	EXPECT_LT(FIT / 2, count.return_hits);
	EXPECT_GT(FIT, count.return_hits);
	UNPROBE(id);
}

TEST_F_TIMEOUT(limits, rate_of_return_addresses, TIMEOUT)
{
	struct uprobes_test_count count;
	unsigned long now;
	uint64_t start;
	int id;

	ASSERT_EQ(0, limit_kb(1UL << 20, &now));
	id = PROBE_BOTH(opaque_leaf);
	start = now_ms();
	EXPECT_EQ(8000, call_from(8000));
	count = COUNT(id);
	EXPECT_EQ(8000, count.return_hits + count.misses);
	EXPECT_LE(1000, count.return_hits);
	EXPECT_GE(1100 + (now_ms() - start), count.return_hits);
	UNPROBE(id);
}

/* Text comes and goes as with a JIT compiler, and so does the memory that is kept for it. */
TEST_F_TIMEOUT(limits, return_addresses_go, TIMEOUT)
{
	int id = PROBE_BOTH(opaque_leaf);
	struct uprobes_test_count count;
	const unsigned int rounds = 200;
	caller_fn caller[200];
	unsigned int i;

	/* The copies have distinct addresses. A page stays until some rounds later. */
	for (i = 0; i < rounds; i++) {
		caller[i] = copied_caller(MAP_PRIVATE);
		ASSERT_NE(NULL, caller[i]);
		EXPECT_EQ(i + 1, caller[i](opaque_leaf, i, 1));
		if (i >= 4)
			ASSERT_EQ(caller[i - 4], mmap(caller[i - 4], RETURNS_PAGE, PROT_NONE,
						      MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED,
						      -1, 0));
	}
	count = COUNT(id);
	EXPECT_EQ(rounds, HITS(id));
	EXPECT_EQ(rounds, count.return_hits + count.misses);
	EXPECT_LT(rounds / 2, count.return_hits);
	UNPROBE(id);
}

static long unreclaimable_kb(void)
{
	FILE *file = fopen("/proc/meminfo", "r");
	char line[128];
	long kb = -1;

	while (file && fgets(line, sizeof(line), file))
		if (sscanf(line, "SUnreclaim: %ld", &kb) == 1)
			break;
	if (file)
		fclose(file);
	return kb;
}

#define CGROUPS	"/sys/fs/cgroup/"
#define OWN	CGROUPS "uprobe_returns"

static bool put(const char *file, const char *text)
{
	int fd = open(file, O_WRONLY);
	bool good = fd >= 0 && write(fd, text, strlen(text)) > 0;

	close(fd);
	return good;
}

/* Makes a memory cgroup, if the kernel has any. */
static bool cgroup_make(void)
{
	mount("cgroup2", CGROUPS, "cgroup2", 0, NULL);
	return put(CGROUPS "cgroup.subtree_control", "+memory") && !mkdir(OWN, 0755);
}

static void cgroup_remove(void)
{
	rmdir(OWN);
	put(CGROUPS "cgroup.subtree_control", "-memory");
}

/* Returns the kernel objects that are charged to the cgroup, in kB. */
static long charged_kb(void)
{
	FILE *file = fopen(OWN "/memory.stat", "r");
	char line[128];
	long bytes = -1;

	while (file && fgets(line, sizeof(line), file))
		if (sscanf(line, "slab_unreclaimable %ld", &bytes) == 1)
			break;
	if (file)
		fclose(file);
	return bytes / 1024;
}

/* KASAN keeps freed objects in a quarantine until their cache is shrunk. */
static void shrink_caches(void)
{
	glob_t caches;
	size_t i;
	int fd;

	if (glob("/sys/kernel/slab/*kmalloc*/shrink", 0, NULL, &caches))
		return;
	for (i = 0; i < caches.gl_pathc; i++) {
		fd = open(caches.gl_pathv[i], O_WRONLY);
		if (fd >= 0 && write(fd, "1", 1) != 1)
			break;
		close(fd);
	}
	globfree(&caches);
}

#define CHILD_DEPTH	8000UL

/*
 * The memory is charged to the cgroup of the process. A killed process leaves
 * nothing behind, although the probe is still registered.
 */
TEST_F_TIMEOUT(limits, killed, TIMEOUT)
{
	bool has_cgroup = cgroup_make();
	long before, inside, after = 0;
	unsigned long now, i;
	int status, id;
	pid_t child;

	ASSERT_EQ(0, limit_kb(1UL << 20, &now));
	child = fork();
	ASSERT_LE(0, child);
	if (!child) {
		if (has_cgroup && !put(OWN "/cgroup.procs", "0"))
			_exit(1);
		raise(SIGSTOP);
		stacks = map_stacks(CHILD_DEPTH);
		if (!stacks || setgid(1000) || setuid(1000))
			_exit(1);
		nest(CHILD_DEPTH, 0);
		raise(SIGSTOP);
		_exit(0);
	}
	ASSERT_EQ(child, waitpid(child, &status, WUNTRACED));
	id = PROBE_HOW(OF(call_probed), .pid = child,
		       .flags = UPROBES_TEST_TASK | UPROBES_TEST_RETURN);
	before = unreclaimable_kb();
	kill(child, SIGCONT);
	ASSERT_EQ(child, waitpid(child, &status, WUNTRACED));
	ASSERT_TRUE(WIFSTOPPED(status));
	EXPECT_EQ(CHILD_DEPTH, RETURNS(id));
	inside = unreclaimable_kb();
	EXPECT_LT(before + (long)CHILD_DEPTH, inside);
	if (has_cgroup)
		EXPECT_LT((long)CHILD_DEPTH, charged_kb());
	kill(child, SIGKILL);
	ASSERT_EQ(child, waitpid(child, &status, 0));
	for (i = 0; i < 100; i++) {
		shrink_caches();
		after = unreclaimable_kb();
		if (after < before + (long)CHILD_DEPTH / 2)
			break;
		sleep_ms(100);
	}
	EXPECT_GT(before + (long)CHILD_DEPTH / 2, after);
	UNPROBE(id);
	cgroup_remove();
}

TEST_HARNESS_MAIN

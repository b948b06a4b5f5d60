// SPDX-License-Identifier: GPL-2.0
/* Probes that end with a process, its code or a module, and probes that a worker ends. */
#include <pthread.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "module_fixture.h"
#include "kernel_log.h"
#include "returns_text.h"

#define ALL	(UPROBES_TEST_TASK | UPROBES_TEST_INTERRUPT | UPROBES_TEST_RETURN)

/* Registered by one thread, killed by another. */
static atomic_int *victim;

static void *kill_victims(void *arg)
{
	int last = 0;

	for (;;) {
		int pid = *(atomic_int *)arg;

		if (pid < 0)
			return NULL;
		if (pid == last)
			continue;
		last = pid;
		/* Kill at another time in each round. */
		for (volatile unsigned int i = 0; i < (unsigned int)pid % 64 * 400; i++)
			;
		kill(pid, SIGKILL);
	}
}

static void child_calls(void)
{
	for (;;)
		call_probed(returns_leaf, 1, 2);
}

TEST_F_TIMEOUT(module, dies_while_registering, TIMEOUT)
{
	unsigned int i, rounds = scaled(300), registered = 0, gone = 0;
	static atomic_int pid;
	pthread_t thread;

	victim = &pid;
	ASSERT_EQ(0, pthread_create(&thread, NULL, kill_victims, victim));
	for (i = 0; i < rounds; i++) {
		int child = fork(), id, status = -1;

		if (!child)
			child_calls();
		pid = child;
		id = REGISTER(.pid = child, OF(returns_leaf), .flags = ALL,
			      .size = i % 2 ? SIZE_OF(returns_leaf) : 0);
		if (id > 0) {
			registered++;
			if (i % 3)
				UNPROBE(id);
		} else {
			ASSERT_EQ(-ESRCH, id);
			gone++;
		}
		ASSERT_EQ(child, waitpid(child, &status, 0));
		ASSERT_EQ(SIGKILL, status);
		if (id > 0 && i % 3 == 0)
			UNPROBE(id);
	}
	pid = -1;
	ASSERT_EQ(0, pthread_join(thread, NULL));
	TH_LOG("%u registered, %u gone before", registered, gone);
}

/* Code is loaded, unloaded, and loaded again elsewhere, while it has return probes. */
TEST_F_TIMEOUT(module, reloaded, TIMEOUT)
{
	size_t size = SIZE_OF(returns_leaf);
	unsigned int i;
	char *at;

	for (i = 0; i < 20; i++) {
		int id, sized;

		at = mmap(NULL, 4096 * (1 + i % 3), PROT_READ | PROT_WRITE | PROT_EXEC,
			  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		ASSERT_NE(MAP_FAILED, at);
		memcpy(at + 64 * i, returns_leaf, size);
		id = PROBE_HOW(OF(at + 64 * i), .flags = ALL);
		sized = PROBE_HOW(OF(at + 64 * i), .flags = ALL, .size = size);
		EXPECT_EQ(3, call_probed((probed_fn)(at + 64 * i), 1, 2));
		EXPECT_EQ(1, COUNT(id).return_hits);
		EXPECT_EQ(1, COUNT(sized).return_hits);
		ASSERT_EQ(0, munmap(at, 4096 * (1 + i % 3)));
		EXPECT_EQ(3, call_probed(returns_leaf, 1, 2));
		EXPECT_EQ(1, COUNT(id).return_hits);
		UNPROBE(id);
		UNPROBE(sized);
	}
	EXPECT_TRUE(page_is_of_file(getpid(), call_probed));
}

static probed_fn unmapped;

/* Unmaps its caller's text, and exits instead of returning there. */
static unsigned long unmap_and_exit(unsigned long base, unsigned long add)
{
	munmap((void *)base, 4096);
	syscall(SYS_exit, 0);
	return 0;
}

static void *lose_caller(void *arg)
{
	((caller_fn)(void *)unmapped)(unmap_and_exit, (unsigned long)unmapped, 0);
	return NULL;
}

/* The text at the return address is unmapped, and the thread exits. */
TEST_F_TIMEOUT(module, site_and_thread_go, TIMEOUT)
{
	int id = PROBE_HOW(OF(unmap_and_exit), .flags = ALL);
	unsigned int i;

	for (i = 1; i <= 10; i++) {
		pthread_t thread;

		unmapped = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC,
				MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		ASSERT_NE(MAP_FAILED, (void *)unmapped);
		memcpy(unmapped, call_from_copy, SIZE_OF(call_from_copy));
		ASSERT_EQ(0, pthread_create(&thread, NULL, lose_caller, NULL));
		ASSERT_EQ(0, pthread_join(thread, NULL));
		EXPECT_EQ(i, HITS(id));
	}
	EXPECT_EQ(0, COUNT(id).return_hits);
	UNPROBE(id);
}

/* The protection of return addresses changes during calls. */
static void *protected;

static unsigned long protect_caller(unsigned long first, unsigned long second)
{
	return mprotect(protected, 4096, first) || mprotect(protected, 4096, second);
}

TEST_F_TIMEOUT(module, site_is_protected, TIMEOUT)
{
	int id = PROBE_HOW(OF(protect_caller), .flags = ALL);
	unsigned long long returned;
	unsigned int i;

	protected = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, protected);
	memcpy(protected, call_from_copy, SIZE_OF(call_from_copy));
	for (i = 1; i <= 20; i++) {
		ASSERT_EQ(0, ((caller_fn)protected)(protect_caller, PROT_NONE,
						    PROT_READ | PROT_EXEC));
		EXPECT_EQ(i, HITS(id));
	}
	/* No return is counted twice, detected or not, and the text is the program's. */
	EXPECT_GE(20, COUNT(id).return_hits + COUNT(id).misses);
	returned = COUNT(id).return_hits;
	TH_LOG("%llu of 20 returns detected", returned);
	UNPROBE(id);
	EXPECT_EQ(0, memcmp(protected, call_from_copy, SIZE_OF(call_from_copy)));
}

#define LEAVER	"uprobes_test_leaver"

static int load_leaver(pid_t pid, const void *at, bool returns)
{
	char path[512], options[128];
	const char *dir = getenv("KMODDIR");
	int fd, ret;

	snprintf(options, sizeof(options), "pid=%d vaddr=%lu returns=%d", pid,
		 (unsigned long)at, returns);
	if (!dir) {
		snprintf(path, sizeof(path), "modprobe -q " LEAVER " %s", options);
		return system(path) ? -ENOENT : 0;
	}
	snprintf(path, sizeof(path), "%s/kernel/uprobes/test/" LEAVER ".ko", dir);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -ENOENT;
	ret = syscall(SYS_finit_module, fd, options, 0) ? -errno : 0;
	close(fd);
	return ret;
}

static int unload_leaver(void)
{
	return syscall(SYS_delete_module, LEAVER, 0) ? -errno : 0;
}

/* A handler of an unloaded module is not called any more. */
TEST_F_TIMEOUT(module, module_leaves_probe, TIMEOUT)
{
	int log = log_open(), other = PROBE(returns_leaf), ret;
	unsigned int i;

	ASSERT_LE(0, log);
	ret = load_leaver(getpid(), returns_leaf, false);
	if (ret == -ENOENT)
		SKIP(return, "no " LEAVER);
	for (i = 0; i < 6; i++) {
		if (i)
			ret = load_leaver(getpid(), returns_leaf, i % 2);
		ASSERT_EQ(0, ret);
		EXPECT_EQ(4 + i % 2, call_probed(returns_leaf, 1, 2));
		ASSERT_EQ(0, unload_leaver());
		EXPECT_EQ(1, log_lines(log, LEAVER, "has left 1 probe"));
		EXPECT_EQ(3, call_probed(returns_leaf, 1, 2));
	}
	EXPECT_EQ(12, HITS(other));
	UNPROBE(other);
	EXPECT_TRUE(text_is_of_file(getpid(), returns_at_once, 4096));
	EXPECT_TRUE(page_is_of_file(getpid(), returns_at_once));

	/* The module is refused when there is nothing to probe. */
	EXPECT_EQ(-EINVAL, load_leaver(getpid(), NULL, false));
	close(log);
}

/* The process exits before the module is unloaded. */
TEST_F_TIMEOUT(module, process_leaves_first, TIMEOUT)
{
	struct target target;
	int ret;

	ASSERT_TRUE(target_start(&target));
	ret = load_leaver(target.pid, returns_leaf, true);
	if (ret == -ENOENT)
		SKIP(return, "no " LEAVER);
	ASSERT_EQ(0, ret);
	EXPECT_EQ(500, target_call(&target, returns_leaf, 1, 2, 100));
	EXPECT_EQ(0, target_stop(&target));
	ASSERT_EQ(0, unload_leaver());
}

static atomic_bool stop;
static atomic_uint wrong;

static void *call_until_stop(void *arg)
{
	while (!stop) {
		unsigned long got = call_probed(returns_leaf, 1, 2);

		wrong += got < 3 || got > 5;
	}
	return NULL;
}

/* Threads hit the probe while the module is unloaded. */
TEST_F_TIMEOUT(module, module_leaves_while_hit, TIMEOUT)
{
	unsigned int i, rounds = scaled(50);
	pthread_t thread[2];

	if (load_leaver(getpid(), returns_leaf, true))
		SKIP(return, "no " LEAVER);
	ASSERT_EQ(0, unload_leaver());
	for (i = 0; i < 2; i++)
		ASSERT_EQ(0, pthread_create(&thread[i], NULL, call_until_stop, NULL));
	for (i = 0; i < rounds; i++) {
		ASSERT_EQ(0, load_leaver(getpid(), returns_leaf, i % 2));
		ASSERT_EQ(0, unload_leaver());
	}
	stop = true;
	for (i = 0; i < 2; i++)
		ASSERT_EQ(0, pthread_join(thread[i], NULL));
	EXPECT_EQ(0, wrong);
	EXPECT_EQ(3, call_probed(returns_leaf, 1, 2));
	EXPECT_TRUE(text_is_of_file(getpid(), returns_at_once, 4096));
}

/* A worker ends a probe that its handler unregisters. Its workqueue is not deprecated. */
TEST_F_TIMEOUT(module, work_queue, TIMEOUT)
{
	int log = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	int id = PROBE_HOW(OF(returns_leaf), .flags = UPROBES_TEST_TASK | UPROBES_TEST_NOTIFY,
			   .act_in = UPROBES_TEST_TASK, .act = UPROBES_TEST_ACT_UNREGISTER);

	ASSERT_LE(0, log);
	EXPECT_EQ(3, call_probed(returns_leaf, 1, 2));
	EXPECT_TRUE(dev_notified(self->dev, id));
	EXPECT_EQ(0, log_lines(log, "deprecated workqueue", "uprobes"));
	close(log);
	UNPROBE(id);
}

TEST_HARNESS_MAIN

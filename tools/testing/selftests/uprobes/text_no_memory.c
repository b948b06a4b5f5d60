// SPDX-License-Identifier: GPL-2.0
/*
 * Failing allocations while text is changed: each fails once, or all of them do. This needs a
 * kernel with fault injection or with memory cgroups.
 */
#include <stdatomic.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "fail_nth.h"
#include "text_fixture.h"

#define EACH(nth, more)	for (nth = 1, more = true; more && nth < 1000; nth++)

/* A probe that could not be set leaves nothing behind. */
TEST_F_TIMEOUT(module, set, TIMEOUT)
{
	unsigned char *text = anonymous_text(RX);
	unsigned int nth;
	bool more;
	int id;

	ASSERT_NE(MAP_FAILED, text);
	if (!fail_set_up())
		SKIP(return, "no fault injection");
	EACH(nth, more) {
		fail(nth);
		id = dev_register(self->dev, getpid(), text, UPROBES_TEST_TASK);
		more = failed();
		EXPECT_TRUE(id > 0 || id == -ENOMEM);
		if (id > 0)
			UNPROBE(id);
		EXPECT_EQ(0, memcmp(text, add_code, sizeof(add_code)));
		use(_metadata, self->dev, text);
	}
	TH_LOG("%u allocations", nth - 2);
	EXPECT_LT(3, nth);
}

/* Removing a probe always removes it, and another one can be set. */
TEST_F_TIMEOUT(module, removed, TIMEOUT)
{
	unsigned char *text = anonymous_text(RX);
	unsigned int nth;
	bool more;
	int id, status;
	pid_t pid;

	ASSERT_NE(MAP_FAILED, text);
	if (!fail_set_up())
		SKIP(return, "no fault injection");
	EACH(nth, more) {
		id = PROBE(text);
		/* The child has the page as well, so the removal needs a copy. */
		pid = fork();
		if (!pid) {
			pause();
			_exit(0);
		}
		fail(nth);
		UNPROBE(id);
		more = failed();
		EXPECT_EQ(0, memcmp(text, add_code, sizeof(add_code)));
		kill(pid, SIGKILL);
		waitpid(pid, &status, 0);
		use(_metadata, self->dev, text);
	}
	TH_LOG("%u allocations", nth - 2);
	EXPECT_LT(2, nth);
}

/* An int3 never moves along with the text. */
TEST_F_TIMEOUT(module, moved, TIMEOUT)
{
	unsigned char *text, *place, *moved;
	unsigned int nth;
	bool more;
	int id;

	if (!fail_set_up())
		SKIP(return, "no fault injection");
	EACH(nth, more) {
		text = anonymous_text(RX);
		ASSERT_NE(MAP_FAILED, text);
		place = mmap(NULL, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		ASSERT_NE(MAP_FAILED, place);
		id = PROBE(text);
		fail(nth);
		moved = mremap(text, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, place);
		more = failed();
		if (moved == MAP_FAILED)
			moved = text;
		/* If the text could not be moved, the probe may be there or not. */
		EXPECT_TRUE(moved == text || byte_at(moved) == add_code[0]);
		EXPECT_EQ(3, call(moved, 1, 2));
		UNPROBE(id);
		EXPECT_EQ(0, memcmp(moved, add_code, sizeof(add_code)));
		munmap(moved, PAGE);
	}
	TH_LOG("%u allocations", nth - 2);
	EXPECT_LT(3, nth);
}

/* fork() fails if it cannot give the child the program's text. */
TEST_F_TIMEOUT(module, forked, TIMEOUT)
{
	unsigned char *text = anonymous_text(RX);
	unsigned int nth, refused = 0;
	int id, status;
	bool more;
	pid_t pid;

	ASSERT_NE(MAP_FAILED, text);
	if (!fail_set_up())
		SKIP(return, "no fault injection");
	id = PROBE(text);
	EACH(nth, more) {
		fail(nth);
		pid = fork();
		if (!pid)
			_exit(memcmp(text, add_code, sizeof(add_code)) || call(text, 1, 2) != 3);
		more = failed();
		if (pid < 0) {
			EXPECT_EQ(ENOMEM, errno);
			refused++;
			continue;
		}
		ASSERT_EQ(pid, waitpid(pid, &status, 0));
		EXPECT_EQ(0, status);
		EXPECT_EQ(3, call(text, 1, 2));
	}
	TH_LOG("%u allocations, %u of which are fork()'s error", nth - 2, refused);
	EXPECT_LT(3, nth);
	EXPECT_LT(0, refused);
	UNPROBE(id);
	EXPECT_EQ(0, memcmp(text, add_code, sizeof(add_code)));
}

#define CGROUPS	"/sys/fs/cgroup/"
#define FULL	CGROUPS "text_no_memory"

/* Orders to a process in a cgroup without memory, and their results. */
struct orders {
	atomic_int turn;
	unsigned char *text[2];
	int ids[2];
	int error;
	unsigned long called;
	unsigned char byte;
};

/*
 * Probes two pages, which KSM merges, so that restoring one takes a copy. The process is exempt
 * from being killed for the memory of its cgroup.
 */
static void obey(int dev, struct orders *orders)
{
	unsigned char *place = anonymous_text(PROT_NONE), *text;
	unsigned int i;

	if (place == MAP_FAILED || !set_file(FULL "/cgroup.procs", "0") ||
	    !set_file("/proc/self/oom_score_adj", "-1000"))
		_exit(1);
	for (i = 0; i < 2; i++) {
		text = anonymous_text(RX);
		if (text == MAP_FAILED || madvise(text, PAGE, MADV_MERGEABLE))
			_exit(1);
		orders->text[i] = text;
		orders->ids[i] = dev_register(dev, getpid(), text, UPROBES_TEST_TASK);
	}
	orders->turn = 1;
	while (orders->turn != 2)
		syscall(SYS_sched_yield);
	if (syscall(SYS_mremap, text, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, place) < 0)
		orders->error = errno;
	orders->turn = 3;
	while (orders->turn != 4)
		syscall(SYS_sched_yield);
	orders->called = call(text, 1, 2);
	orders->byte = byte_at(text);
	orders->turn = 5;
	pause();
}

static bool takes_turn(struct orders *orders, int turn)
{
	uint64_t end = now_ms() + 20000;

	while (orders->turn != turn && now_ms() < end)
		sleep_ms(5);
	return orders->turn == turn;
}

/* No thread waits forever for the memory of a process in a cgroup without memory. */
TEST_F_TIMEOUT(module, full_cgroup, TIMEOUT)
{
	struct orders *orders;
	uint64_t start;
	int status;
	pid_t pid;

	mount("cgroup2", CGROUPS, "cgroup2", 0, NULL);
	if (!set_file(CGROUPS "cgroup.subtree_control", "+memory") || mkdir(FULL, 0755))
		SKIP(return, "no memory cgroups");
	orders = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, orders);
	memset(orders, 0, PAGE);
	pid = fork();
	if (!pid)
		obey(self->dev, orders);
	ASSERT_TRUE(takes_turn(orders, 1));
	ASSERT_LT(0, orders->ids[0]);
	ASSERT_LT(0, orders->ids[1]);
	ASSERT_TRUE(merges(pid, orders->text[0], pid, orders->text[1]));
	set_file(FULL "/memory.max", "0");
	/* Wait for the CPUs to return the memory that they have in stock. */
	sleep_ms(500);
	orders->turn = 2;
	EXPECT_TRUE(takes_turn(orders, 3));
	EXPECT_EQ(ENOMEM, orders->error);

	/* Unregistering gives up after a while. The next hit removes the breakpoint. */
	start = now_ms();
	UNPROBE(orders->ids[1]);
	TH_LOG("removed after %llu ms", (unsigned long long)(now_ms() - start));
	set_file(FULL "/memory.max", "max");
	orders->turn = 4;
	EXPECT_TRUE(takes_turn(orders, 5));
	EXPECT_EQ(3, orders->called);
	EXPECT_EQ(add_code[0], orders->byte);
	kill(pid, SIGKILL);
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	UNPROBE(orders->ids[0]);
	rmdir(FULL);
	set_file(CGROUPS "cgroup.subtree_control", "-memory");
}

TEST_HARNESS_MAIN

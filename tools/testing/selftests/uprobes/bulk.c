// SPDX-License-Identifier: GPL-2.0
/* Registration and unregistration of many probes at once, all or none. */
#include <stdatomic.h>
#include <pthread.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "module_fixture.h"

#define PAGE	4096UL
#define PROBES	500U
#define STRIDE	4U

/* Returns DI + PROBES, one instruction for each. */
static unsigned char *make_text(void)
{
	unsigned char *text = mmap(NULL, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC,
				   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	unsigned int i;

	if (text == MAP_FAILED)
		return NULL;
	/* lea 1(%rdi),%rdi, many times; mov %rdi,%rax; ret */
	for (i = 0; i < PROBES; i++)
		memcpy(text + STRIDE * i, "\x48\x8d\x7f\x01", STRIDE);
	memcpy(text + STRIDE * i, "\x48\x89\xf8\xc3", STRIDE);
	return text;
}

static struct uprobes_test_bulk bulk_of(const void *text)
{
	return (struct uprobes_test_bulk) {
		.pid = getpid(),
		.num = PROBES,
		.vaddr = (unsigned long)text,
		.stride = STRIDE,
		.bad = PROBES,
	};
}

#define BULK(how)	dev_bulk(self->dev, &(how))
#define BULK_HITS(id)	ioctl(self->dev, UPROBES_TEST_BULK_HITS, id)
#define SINGLY(id)	ioctl(self->dev, UPROBES_TEST_BULK_SINGLY, id)

TEST_F_TIMEOUT(module, all, TIMEOUT)
{
	unsigned char *text = make_text(), before[PAGE];
	struct uprobes_test_bulk how = bulk_of(text);
	uint64_t start, singly, at_once;
	unsigned int i;
	int id;

	ASSERT_NE(NULL, text);
	memcpy(before, text, PAGE);
	id = BULK(how);
	ASSERT_LT(0, id);
	for (i = 1; i <= 10; i++) {
		ASSERT_EQ(PROBES + i, ((probed_fn)text)(i, 0));
		ASSERT_EQ(PROBES * i, BULK_HITS(id));
	}
	start = now_ms();
	UNPROBE(id);
	at_once = now_ms() - start;
	EXPECT_EQ(0, memcmp(text, before, PAGE));
	EXPECT_EQ(PROBES + 1, ((probed_fn)text)(1, 0));

	id = BULK(how);
	ASSERT_LT(0, id);
	start = now_ms();
	ASSERT_EQ(0, SINGLY(id));
	singly = now_ms() - start;
	EXPECT_EQ(0, memcmp(text, before, PAGE));
	EXPECT_EQ(0, BULK_HITS(id));
	/* Unregister all of them once more. */
	UNPROBE(id);
	TH_LOG("%u probes unregistered at once: %llu ms, one by one: %llu ms", PROBES,
	       (unsigned long long)at_once, (unsigned long long)singly);
	EXPECT_LE(at_once, singly);
}

/* Whichever probe is refused, none stays registered. */
TEST_F_TIMEOUT(module, none, TIMEOUT)
{
	static const unsigned int bad[] = { 0, 1, PROBES / 2, PROBES - 1 };
	unsigned char *text = make_text(), before[PAGE];
	struct uprobes_test_bulk how = bulk_of(text);
	unsigned int i;
	int id;

	ASSERT_NE(NULL, text);
	memcpy(before, text, PAGE);
	for (i = 0; i < 4; i++) {
		how.bad = bad[i];
		EXPECT_EQ(-EINVAL, BULK(how));
		EXPECT_EQ(0, memcmp(text, before, PAGE));
		EXPECT_EQ(PROBES + i, ((probed_fn)text)(i, 0));
	}
	/* The same probe is passed twice. */
	how.bad = PROBES;
	for (i = 1; i < 4; i++) {
		how.twice = bad[i];
		EXPECT_EQ(-EBUSY, BULK(how));
		EXPECT_EQ(0, memcmp(text, before, PAGE));
		EXPECT_EQ(PROBES + i, ((probed_fn)text)(i, 0));
	}
	/* One of the probes is at a foreign breakpoint. */
	how.twice = 0;
	text[STRIDE * 300] = 0xcc;
	EXPECT_EQ(-EEXIST, BULK(how));
	text[STRIDE * 300] = before[STRIDE * 300];
	EXPECT_EQ(0, memcmp(text, before, PAGE));

	id = BULK(how);
	ASSERT_LT(0, id);
	EXPECT_EQ(PROBES, ((probed_fn)text)(0, 0));
	EXPECT_EQ(PROBES, BULK_HITS(id));
	UNPROBE(id);
}

/* Several probes at one address, among other consumers. */
TEST_F_TIMEOUT(module, at_one_place, TIMEOUT)
{
	struct uprobes_test_bulk how = bulk_of(probed_lea);
	int other = PROBE(probed_lea), id;

	how.stride = 0;
	how.num = 50;
	id = BULK(how);
	ASSERT_LT(0, id);
	EXPECT_EQ(3, probed_lea(1, 2));
	EXPECT_EQ(50, BULK_HITS(id));
	UNPROBE(id);
	EXPECT_EQ(3, probed_lea(1, 2));
	EXPECT_EQ(2, HITS(other));
	UNPROBE(other);
	EXPECT_TRUE(page_is_of_file(getpid(), probed_lea));
}

static atomic_bool stop;
static atomic_uint wrong;

static void *call_until_stop(void *arg)
{
	while (!stop)
		wrong += ((probed_fn)arg)(5, 0) != PROBES + 5;
	return NULL;
}

/* Threads hit the probes while they are registered and unregistered, or fail to register. */
TEST_F_TIMEOUT(module, while_hit, TIMEOUT)
{
	unsigned int i, rounds = scaled(20);
	unsigned char *text = make_text();
	struct uprobes_test_bulk how = bulk_of(text);
	pthread_t thread[2];

	ASSERT_NE(NULL, text);
	for (i = 0; i < 2; i++)
		ASSERT_EQ(0, pthread_create(&thread[i], NULL, call_until_stop, text));
	for (i = 0; i < rounds; i++) {
		int id = BULK(how);

		ASSERT_LT(0, id);
		UNPROBE(id);
		how.bad = PROBES - 1;
		ASSERT_EQ(-EINVAL, BULK(how));
		how.bad = PROBES;
	}
	stop = true;
	for (i = 0; i < 2; i++)
		ASSERT_EQ(0, pthread_join(thread[i], NULL));
	EXPECT_EQ(0, wrong);
}

/* A process exits with all its probes. */
TEST_F_TIMEOUT(module, process_ends, TIMEOUT)
{
	struct uprobes_test_bulk how = bulk_of(probed_lea);
	struct target target;
	int id;

	ASSERT_TRUE(target_start(&target));
	how.pid = target.pid;
	how.num = 20;
	how.stride = 0;
	id = BULK(how);
	ASSERT_LT(0, id);
	EXPECT_EQ(300, target_call(&target, probed_lea, 1, 2, 100));
	EXPECT_EQ(0, target_stop(&target));
	EXPECT_EQ(2000, BULK_HITS(id));
	UNPROBE(id);
	EXPECT_EQ(-ESRCH, BULK(how));
}

/* So many probes that fork()'s record of them takes some memory. */
TEST_F_TIMEOUT(module, many_and_fork, TIMEOUT)
{
	enum { PARTS = 36 };
	unsigned char *text[PARTS];
	struct uprobes_test_bulk how;
	int ids[PARTS], status;
	unsigned int i;
	pid_t pid;

	for (i = 0; i < PARTS; i++) {
		text[i] = make_text();
		ASSERT_NE(NULL, text[i]);
		how = bulk_of(text[i]);
		ids[i] = BULK(how);
		ASSERT_LT(0, ids[i]);
	}
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		for (i = 0; i < PARTS; i++)
			if (((probed_fn)text[i])(1, 0) != PROBES + 1)
				_exit(1);
		_exit(0);
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
	for (i = 0; i < PARTS; i++) {
		EXPECT_EQ(PROBES + 1, ((probed_fn)text[i])(1, 0));
		EXPECT_EQ(PROBES, BULK_HITS(ids[i]));
		UNPROBE(ids[i]);
		munmap(text[i], PAGE);
	}
}

TEST_HARNESS_MAIN

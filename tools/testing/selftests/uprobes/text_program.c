// SPDX-License-Identifier: GPL-2.0
/* Programs that discard, move and change their own text while it is probed. */
#include <pthread.h>
#include <setjmp.h>
#include <stdatomic.h>

#include "text_fixture.h"

#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL	102
#define MADV_GUARD_REMOVE	103
#endif

static atomic_bool stop;
static atomic_uint traps, wrong;
static atomic_ullong calls;
static unsigned char *text;
static __thread sigjmp_buf missing;

static void on_trap(int signal)
{
	traps++;
}

static void on_missing(int signal)
{
	siglongjmp(missing, 1);
}

/* Calls the text until @stop is set, and retries while the text is missing. */
static void *call_until_stop(void *arg)
{
	while (!stop) {
		if (sigsetjmp(missing, 1))
			continue;
		if (call(text, 1, 2) != 3)
			wrong++;
		calls++;
	}
	return NULL;
}

static void catch(void)
{
	signal(SIGTRAP, on_trap);
	signal(SIGBUS, on_missing);
	signal(SIGSEGV, on_missing);
	stop = false;
	traps = 0;
	wrong = 0;
}

static bool wait_for_calls(unsigned int more)
{
	unsigned long long enough = calls + more;
	uint64_t end = now_ms() + 20000;

	while (calls < enough && now_ms() < end)
		sched_yield();
	return calls >= enough;
}

#define DISCARDED	(4UL << 20)

static unsigned char *map_last_page_text(int *fd)
{
	unsigned char *map;

	*fd = memfd_create("text", MFD_CLOEXEC);
	if (*fd < 0 || ftruncate(*fd, DISCARDED) ||
	    pwrite(*fd, add_code, sizeof(add_code), DISCARDED - PAGE) != sizeof(add_code))
		return MAP_FAILED;
	map = mmap(NULL, DISCARDED, RX, MAP_PRIVATE, *fd, 0);
	if (map != MAP_FAILED)
		text = map + DISCARDED - PAGE;
	return map;
}

/* Faults in the whole mapping, so that discarding it takes some time. */
static void touch(const unsigned char *map)
{
	unsigned long at;

	for (at = 0; at < DISCARDED; at += PAGE)
		byte_at(map + at);
}

static bool discard(unsigned char *map, unsigned int how)
{
	switch (how) {
	case 0:
		return !madvise(map, DISCARDED, MADV_DONTNEED);
	default:
		/* Guards replace the pages for a moment. */
		if (madvise(map, DISCARDED, MADV_GUARD_INSTALL))
			return errno == EINVAL;
		return !madvise(map, DISCARDED, MADV_GUARD_REMOVE);
	}
}

/* A thread executes the text while another one discards it, and the probe with it. */
TEST_F_TIMEOUT(module, discarded_while_executed, TIMEOUT)
{
	unsigned int i, rounds = scaled(40);
	unsigned char *map;
	pthread_t thread;
	int fd, id;

	map = map_last_page_text(&fd);
	ASSERT_NE(MAP_FAILED, map);
	catch();
	ASSERT_EQ(0, pthread_create(&thread, NULL, call_until_stop, NULL));
	for (i = 0; i < rounds; i++) {
		touch(map);
		id = PROBE(text);
		ASSERT_TRUE(wait_for_calls(1));
		ASSERT_TRUE(discard(map, i % 2));
		ASSERT_TRUE(wait_for_calls(1));
		UNPROBE(id);
	}
	stop = true;
	pthread_join(thread, NULL);
	EXPECT_EQ(0, traps);
	EXPECT_EQ(0, wrong);
	EXPECT_EQ(0, memcmp(text, add_code, sizeof(add_code)));
	munmap(map, DISCARDED);
	close(fd);
}

/* Truncation discards the text. It finds the pages through the file, without the process's lock. */
TEST_F_TIMEOUT(module, truncated_while_executed, TIMEOUT)
{
	unsigned int i, rounds = scaled(40);
	unsigned char *map;
	pthread_t thread;
	int fd, id;

	map = map_last_page_text(&fd);
	ASSERT_NE(MAP_FAILED, map);
	catch();
	ASSERT_EQ(0, pthread_create(&thread, NULL, call_until_stop, NULL));
	for (i = 0; i < rounds; i++) {
		touch(map);
		id = PROBE(text);
		ASSERT_TRUE(wait_for_calls(1));
		ASSERT_EQ(0, ftruncate(fd, 0));
		/* Write the text before the size makes it accessible at its place. */
		ASSERT_EQ(sizeof(add_code),
			  pwrite(fd, add_code, sizeof(add_code), DISCARDED - PAGE));
		ASSERT_EQ(0, ftruncate(fd, DISCARDED));
		ASSERT_TRUE(wait_for_calls(1));
		UNPROBE(id);
	}
	stop = true;
	pthread_join(thread, NULL);
	EXPECT_EQ(0, traps);
	EXPECT_EQ(0, wrong);
	munmap(map, DISCARDED);
	close(fd);
}

static atomic_int turn;
static atomic_uint delay;

/* Stores a byte once in each turn, after a delay. */
static void *store(void *arg)
{
	unsigned int i;

	while (!stop) {
		if (!turn)
			continue;
		for (i = 0; i < delay; i++)
			asm volatile("pause");
		__atomic_store_n(text, 0x91, __ATOMIC_RELAXED);
		turn = 0;
	}
	return NULL;
}

/* The program's stores are kept while a probe is set, in place, or removed. */
TEST_F_TIMEOUT(module, stores_are_kept, TIMEOUT)
{
	unsigned int i, lost = 0, rounds = scaled(300);
	pthread_t thread;
	int id;

	text = anonymous_text(RWX);
	ASSERT_NE(MAP_FAILED, text);
	stop = false;
	ASSERT_EQ(0, pthread_create(&thread, NULL, store, NULL));
	for (i = 0; i < rounds; i++) {
		__atomic_store_n(text, 0x90, __ATOMIC_RELAXED);
		delay = i * 37 % 4000;
		turn = 1;
		id = PROBE(text);
		UNPROBE(id);
		while (turn)
			sched_yield();
		lost += byte_at(text) != 0x91;
	}
	/* The program stores only during the removal. */
	for (i = 0; i < rounds; i++) {
		__atomic_store_n(text, 0x90, __ATOMIC_RELAXED);
		id = PROBE(text);
		delay = i * 37 % 2000;
		turn = 1;
		UNPROBE(id);
		while (turn)
			sched_yield();
		lost += byte_at(text) != 0x91;
	}
	stop = true;
	pthread_join(thread, NULL);
	EXPECT_EQ(0, lost);
}

static unsigned char *map_private(void *at, int prot)
{
	return mmap(at, PAGE, prot, MAP_PRIVATE | MAP_ANONYMOUS | (at ? MAP_FIXED : 0), -1, 0);
}

/* Copies the text, maps memory over it, and copies it back, as BOLT's hugify does. */
static bool copy_out_and_back(void)
{
	unsigned char copy[PAGE];

	memcpy(copy, text, PAGE);
	if (map_private(text, PROT_READ | PROT_WRITE) == MAP_FAILED)
		return false;
	memcpy(text, copy, PAGE);
	return !mprotect(text, PAGE, RX);
}

/* Copies the text, and moves the copy to its place, as iodlr does. */
static bool move_a_copy_over(void)
{
	unsigned char *copy = map_private(NULL, PROT_READ | PROT_WRITE);

	if (copy == MAP_FAILED)
		return false;
	memcpy(copy, text, PAGE);
	return !mprotect(copy, PAGE, RX) &&
	       mremap(copy, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, text) == text;
}

/* A program that replaces its text by a copy continues, and loses the probe. */
TEST_F_TIMEOUT(module, moved_by_itself, TIMEOUT)
{
	unsigned int how;
	int fd, id;

	catch();
	for (how = 0; how < 4; how++) {
		fd = text_file(NULL);
		ASSERT_LE(0, fd);
		text = mmap(NULL, PAGE, RX, MAP_PRIVATE, fd, 0);
		ASSERT_NE(MAP_FAILED, text);
		id = PROBE(text);
		EXPECT_EQ(3, call(text, 1, 2));
		ASSERT_TRUE(how % 2 ? move_a_copy_over() : copy_out_and_back());
		EXPECT_EQ(INT3, byte_at(text));
		/* The next call, or the removal, takes the breakpoint out of the copy. */
		if (how < 2) {
			EXPECT_EQ(3, call(text, 1, 2));
			EXPECT_EQ(add_code[0], byte_at(text));
		}
		EXPECT_EQ(1, HITS(id));
		UNPROBE(id);
		EXPECT_EQ(0, memcmp(text, add_code, sizeof(add_code)));
		EXPECT_EQ(3, call(text, 1, 2));
		use(_metadata, self->dev, text);
		munmap(text, PAGE);
		close(fd);
	}
	EXPECT_EQ(0, traps);
}

/* The program replaces its text by a copy, and a new probe is set before the first call. */
TEST_F_TIMEOUT(module, moved_then_another_probe, TIMEOUT)
{
	int first, id;

	catch();
	text = anonymous_text(RX);
	ASSERT_NE(MAP_FAILED, text);
	first = PROBE(text);
	ASSERT_TRUE(copy_out_and_back());
	id = PROBE(text);
	EXPECT_EQ(3, call(text, 1, 2));
	EXPECT_EQ(1, HITS(id));
	EXPECT_EQ(0, HITS(first));
	UNPROBE(first);
	EXPECT_EQ(3, call(text, 1, 2));
	EXPECT_EQ(2, HITS(id));
	UNPROBE(id);
	EXPECT_EQ(0, memcmp(text, add_code, sizeof(add_code)));
	EXPECT_EQ(0, traps);
}

/* A breakpoint that a debugger writes to the moved text is the debugger's. */
TEST_F_TIMEOUT(module, moved_then_debugged, TIMEOUT)
{
	int mem = open("/proc/self/mem", O_RDWR | O_CLOEXEC), id;
	unsigned char got, trap = INT3;

	ASSERT_LE(0, mem);
	catch();
	text = anonymous_text(RWX);
	ASSERT_NE(MAP_FAILED, text);
	id = PROBE(text);
	ASSERT_TRUE(copy_out_and_back());
	ASSERT_EQ(0, mprotect(text, PAGE, RWX));
	/* A read shows the program's byte. A written int3 is in place, and is hit. */
	ASSERT_EQ(1, pread(mem, &got, 1, (off_t)(unsigned long)text));
	EXPECT_EQ(add_code[0], got);
	ASSERT_EQ(1, pwrite(mem, &trap, 1, (off_t)(unsigned long)text));
	ASSERT_EQ(1, pread(mem, &got, 1, (off_t)(unsigned long)text));
	EXPECT_EQ(INT3, got);
	call(text, 1, 2);
	EXPECT_EQ(1, traps);
	UNPROBE(id);
	EXPECT_EQ(INT3, byte_at(text));
	close(mem);
}

/*
 * Data replaces text on a stack, with an int3 byte in place of the breakpoint. A nested function of
 * GCC's, for example, has a trampoline on the stack until its caller returns.
 */
TEST_F_TIMEOUT(module, data_where_text_was, TIMEOUT)
{
	unsigned char data[PAGE];
	int status, id;
	pid_t pid;

	text = mmap(NULL, PAGE, RWX, MAP_PRIVATE | MAP_ANONYMOUS | MAP_GROWSDOWN, -1, 0);
	ASSERT_NE(MAP_FAILED, text);
	memcpy(text, add_code, sizeof(add_code));
	memset(data, INT3, PAGE);
	id = PROBE(text);
	EXPECT_EQ(3, call(text, 1, 2));
	memcpy(text, data, PAGE);
	pid = fork();
	if (!pid)
		_exit(memcmp(data, text, PAGE) != 0);
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
	UNPROBE(id);
	EXPECT_EQ(0, memcmp(data, text, PAGE));

	/* The memory becomes text again. */
	memcpy(text, add_code, sizeof(add_code));
	use(_metadata, self->dev, text);
}

/* A program that changes the rest of a probed instruction continues with the new instruction. */
TEST_F_TIMEOUT(module, rest_written_by_the_program, TIMEOUT)
{
	int status, id, another;
	unsigned char *moved;
	unsigned int i;
	pid_t pid;

	catch();
	for (i = 0; i < 3; i++) {
		text = anonymous_text(RWX);
		ASSERT_NE(MAP_FAILED, text);
		id = PROBE(text);
		EXPECT_EQ(3, call(text, 1, 2));
		/* From LEA RAX, [RDI + RSI] to LEA RAX, [RDI + RSI * 2]. */
		text[3] = 0x77;
		if (i == 1) {
			another = fork();
			if (!another)
				_exit(call(text, 1, 2) != 5);
			ASSERT_EQ(another, waitpid(another, &status, 0));
			EXPECT_EQ(0, status);
		}
		if (i == 2) {
			moved = map_private(NULL, PROT_NONE);
			text = mremap(text, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, moved);
			ASSERT_EQ(moved, text);
		}
		UNPROBE(id);
		pid = fork();
		if (!pid)
			_exit(i == 2 && call(text, 1, 2) != 5);
		ASSERT_EQ(pid, waitpid(pid, &status, 0));
		EXPECT_EQ(0, status);
		EXPECT_EQ(5, call(text, 1, 2));
		EXPECT_EQ(add_code[0], byte_at(text));
		/* A new probe executes the new instruction, too. */
		another = PROBE(text);
		EXPECT_EQ(5, call(text, 1, 2));
		EXPECT_EQ(1, HITS(another));
		UNPROBE(another);
	}
	EXPECT_EQ(0, traps);
}

TEST_HARNESS_MAIN

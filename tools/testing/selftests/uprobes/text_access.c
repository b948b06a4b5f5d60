// SPDX-License-Identifier: GPL-2.0
/*
 * Access from outside to the text of a probed process. Reads show the text without our breakpoints,
 * and writes go below them. The process uses these interfaces on itself, so that it can compare
 * with its own memory.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/uio.h>

#include "text_fixture.h"

static int mem;

static bool write_mem(void *at, const void *bytes, size_t len)
{
	return pwrite(mem, bytes, len, (off_t)(unsigned long)at) == (ssize_t)len;
}

static bool write_byte(void *at, unsigned char byte)
{
	return write_mem(at, &byte, 1);
}

static bool read_vm(const void *at, void *to, size_t len)
{
	struct iovec local = { to, len }, remote = { (void *)at, len };

	return process_vm_readv(getpid(), &local, 1, &remote, 1, 0) == (ssize_t)len;
}

static atomic_uint traps;

static void on_trap(int signal)
{
	traps++;
}

/*
 * Returns text with add_code in two places. It is writable, because the kernel's configuration
 * decides whether /proc/PID/mem overrides protections. coexistence.c tests that ptrace() does.
 */
#define SECOND	16

static unsigned char *start(struct __test_metadata *_metadata)
{
	unsigned char *text = anonymous_text(RWX);

	ASSERT_NE(MAP_FAILED, text);
	memcpy(text + SECOND, add_code, sizeof(add_code));
	mem = open("/proc/self/mem", O_RDWR | O_CLOEXEC);
	ASSERT_LE(0, mem);
	signal(SIGTRAP, on_trap);
	traps = 0;
	return text;
}

TEST_F_TIMEOUT(module, reads_show_the_program, TIMEOUT)
{
	unsigned char *text = start(_metadata), want[PAGE], got[PAGE];
	unsigned int skip;
	int one, two;

	memcpy(want, text, PAGE);
	one = PROBE(text);
	two = PROBE(text + SECOND);
	EXPECT_EQ(INT3, byte_at(text));
	EXPECT_EQ(INT3, byte_at(text + SECOND));
	for (skip = 0; skip < 2 * SECOND; skip++) {
		ASSERT_TRUE(text_read(getpid(), text + skip, got, PAGE - skip));
		EXPECT_EQ(0, memcmp(want + skip, got, PAGE - skip));
		ASSERT_TRUE(read_vm(text + skip, got, PAGE - skip));
		EXPECT_EQ(0, memcmp(want + skip, got, PAGE - skip));
		ASSERT_TRUE(text_read(getpid(), text + skip, got, 1));
		EXPECT_EQ(want[skip], got[0]);
	}
	UNPROBE(one);
	UNPROBE(two);
	close(mem);
}

/* Reads two pages at once, with breakpoints at the end of one and the beginning of the next. */
TEST_F_TIMEOUT(module, reads_across_pages, TIMEOUT)
{
	unsigned char *text = mmap(NULL, 2 * PAGE, RWX, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	unsigned char want[2 * PAGE], got[2 * PAGE];
	int one, two;

	ASSERT_NE(MAP_FAILED, text);
	memset(text, 0x90, 2 * PAGE);
	memcpy(text + PAGE - 6, add_code, sizeof(add_code));
	memcpy(want, text, 2 * PAGE);
	one = PROBE(text + PAGE - 6);
	two = PROBE(text + PAGE);
	ASSERT_TRUE(text_read(getpid(), text, got, 2 * PAGE));
	EXPECT_EQ(0, memcmp(want, got, 2 * PAGE));
	memset(got, 0, sizeof(got));
	ASSERT_TRUE(read_vm(text, got, 2 * PAGE));
	EXPECT_EQ(0, memcmp(want, got, 2 * PAGE));
	mem = open("/proc/self/mem", O_RDWR | O_CLOEXEC);
	ASSERT_TRUE(write_mem(text, want, 2 * PAGE));
	EXPECT_EQ(INT3, byte_at(text + PAGE - 6));
	EXPECT_EQ(INT3, byte_at(text + PAGE));
	UNPROBE(one);
	UNPROBE(two);
	EXPECT_EQ(0, memcmp(want, text, 2 * PAGE));
	close(mem);
}

/* Writes back the same bytes, as POKETEXT does with the bytes around the intended one. */
TEST_F_TIMEOUT(module, writing_the_same_changes_nothing, TIMEOUT)
{
	unsigned char *text = start(_metadata), word[8];
	unsigned int before;
	int id = PROBE(text + SECOND);

	for (before = 0; before < 8; before++) {
		ASSERT_TRUE(text_read(getpid(), text + SECOND - before, word, 8));
		ASSERT_TRUE(write_mem(text + SECOND - before, word, 8));
		EXPECT_EQ(INT3, byte_at(text + SECOND));
		EXPECT_EQ(3, call(text + SECOND, 1, 2));
		EXPECT_EQ(before + 1, HITS(id));
	}
	/* The neighbouring byte is written, and the probed one with it. */
	ASSERT_TRUE(text_read(getpid(), text + SECOND - 4, word, 8));
	word[0] = 0x99;
	ASSERT_TRUE(write_mem(text + SECOND - 4, word, 8));
	EXPECT_EQ(0x99, byte_at(text + SECOND - 4));
	EXPECT_EQ(3, call(text + SECOND, 1, 2));
	EXPECT_EQ(9, HITS(id));
	UNPROBE(id);
	EXPECT_EQ(0, memcmp(text + SECOND, add_code, sizeof(add_code)));
	close(mem);
}

/* Text is saved while there is a probe, and written back when there is none. */
TEST_F_TIMEOUT(module, saved_text_is_the_program_s, TIMEOUT)
{
	unsigned char *text = start(_metadata), saved[8], saved_vm[8];
	int id = PROBE(text);

	ASSERT_TRUE(text_read(getpid(), text, saved, 8));
	ASSERT_TRUE(read_vm(text, saved_vm, 8));
	UNPROBE(id);
	ASSERT_TRUE(write_mem(text, saved, 8));
	EXPECT_EQ(3, call(text, 1, 2));
	ASSERT_TRUE(write_mem(text, saved_vm, 8));
	EXPECT_EQ(3, call(text, 1, 2));
	EXPECT_EQ(0, traps);
	close(mem);
}

/* A debugger's breakpoint in place of ours is the debugger's, whichever is removed first. */
TEST_F_TIMEOUT(module, debugger_s_breakpoint_survives, TIMEOUT)
{
	unsigned char *text = start(_metadata), saved;
	int id = PROBE(text);

	ASSERT_TRUE(text_read(getpid(), text, &saved, 1));
	ASSERT_TRUE(write_byte(text, INT3));
	/* A write elsewhere in the page. */
	EXPECT_TRUE(write_mem(text + 64, &saved, 1));
	call(text, 1, 2);
	EXPECT_EQ(1, traps);
	EXPECT_EQ(0, HITS(id));
	UNPROBE(id);
	EXPECT_EQ(INT3, byte_at(text));
	call(text, 1, 2);
	EXPECT_EQ(2, traps);
	ASSERT_TRUE(write_byte(text, saved));
	EXPECT_EQ(0, memcmp(text, add_code, sizeof(add_code)));
	EXPECT_EQ(3, call(text, 1, 2));
	EXPECT_EQ(2, traps);
	close(mem);
}

/*
 * When the debugger removes its breakpoint, ours is back: the debugger can step over the
 * instruction, and the probe counts.
 */
TEST_F_TIMEOUT(module, probe_comes_back, TIMEOUT)
{
	unsigned char *text = start(_metadata), saved, got;
	unsigned int i;
	int id = PROBE(text), other = -1;

	for (i = 0; i < 20; i++) {
		ASSERT_TRUE(text_read(getpid(), text, &saved, 1));
		EXPECT_EQ(add_code[0], saved);
		ASSERT_TRUE(write_byte(text, INT3));
		ASSERT_TRUE(text_read(getpid(), text, &got, 1));
		EXPECT_EQ(INT3, got);
		/* A second consumer does not change the owner of the breakpoint. */
		if (i == 10)
			other = PROBE(text);
		call(text, 1, 2);
		EXPECT_EQ(i + 1, traps);
		EXPECT_EQ(i, HITS(id));
		ASSERT_TRUE(write_byte(text, saved));
		EXPECT_EQ(INT3, byte_at(text));
		EXPECT_EQ(3, call(text, 1, 2));
		EXPECT_EQ(i + 1, HITS(id));
	}
	EXPECT_EQ(10, HITS(other));
	UNPROBE(id);
	UNPROBE(other);
	EXPECT_EQ(0, memcmp(text, add_code, sizeof(add_code)));
	close(mem);
}

/* Writes other text, of any number of instructions. */
TEST_F_TIMEOUT(module, new_text_is_kept, TIMEOUT)
{
	unsigned char *text = start(_metadata);
	int id = PROBE(text), again;

	EXPECT_EQ(30, call(text, 10, 20));
	ASSERT_TRUE(write_mem(text, sub_code, sizeof(sub_code)));
	EXPECT_EQ(10, call(text, 30, 20));
	EXPECT_EQ(1, HITS(id));
	EXPECT_EQ(0, memcmp(text, sub_code, sizeof(sub_code)));
	again = PROBE(text);
	EXPECT_EQ(10, call(text, 30, 20));
	EXPECT_EQ(1, HITS(again));
	UNPROBE(id);
	EXPECT_EQ(10, call(text, 30, 20));
	EXPECT_EQ(2, HITS(again));
	UNPROBE(again);
	EXPECT_EQ(0, memcmp(text, sub_code, sizeof(sub_code)));
	close(mem);
}

/* A write behind the first byte changes the instruction, to lea (%rsi,%rsi), %rax. */
TEST_F_TIMEOUT(module, rest_of_the_instruction, TIMEOUT)
{
	unsigned char *text = start(_metadata);
	int id = PROBE(text);

	EXPECT_EQ(30, call(text, 10, 20));
	ASSERT_TRUE(write_byte(text + 3, 0x36));
	EXPECT_EQ(40, call(text, 10, 20));
	EXPECT_EQ(40, call(text, 10, 20));
	EXPECT_EQ(1, HITS(id));
	EXPECT_EQ(add_code[0], byte_at(text));
	EXPECT_EQ(0x36, byte_at(text + 3));
	UNPROBE(id);
	EXPECT_EQ(40, call(text, 10, 20));

	/* No thread executes the instruction in between. */
	id = PROBE(text);
	ASSERT_TRUE(write_byte(text + 3, 0x37));
	UNPROBE(id);
	EXPECT_EQ(0, memcmp(text, add_code, sizeof(add_code)));
	EXPECT_EQ(0, traps);
	close(mem);
}

/* The program's own stores cannot be distinguished from its previous bytes, and are kept. */
TEST_F_TIMEOUT(module, own_stores, TIMEOUT)
{
	unsigned char *text = start(_metadata), byte = add_code[0];
	struct iovec local = { &byte, 1 }, remote = { text, 1 };
	int id = PROBE(text);

	ASSERT_EQ(1, process_vm_writev(getpid(), &local, 1, &remote, 1, 0));
	EXPECT_EQ(3, call(text, 1, 2));
	EXPECT_EQ(0, HITS(id));
	UNPROBE(id);
	EXPECT_EQ(0, memcmp(text, add_code, sizeof(add_code)));

	id = PROBE(text);
	memcpy(text, sub_code, sizeof(sub_code));
	EXPECT_EQ(10, call(text, 30, 20));
	UNPROBE(id);
	EXPECT_EQ(0, memcmp(text, sub_code, sizeof(sub_code)));
	close(mem);
}

static void *rewrite(void *text)
{
	unsigned char word[8];
	unsigned int i;

	for (i = 0; i < scaled(20000); i++)
		if (pread(mem, word, 8, (off_t)(unsigned long)text) != 8 ||
		    word[0] == INT3 || !write_mem(text, word, 8))
			return "a rewrite has failed";
	return NULL;
}

/* The breakpoint is never absent, not even for a moment. */
TEST_F_TIMEOUT(module, no_hit_is_lost, TIMEOUT)
{
	unsigned char *text = start(_metadata);
	int id = PROBE(text);
	unsigned int calls = 0;
	void *failed;
	pthread_t thread;

	ASSERT_EQ(0, pthread_create(&thread, NULL, rewrite, text));
	while (pthread_tryjoin_np(thread, &failed))
		ASSERT_EQ(++calls + 1, call(text, calls, 1));
	EXPECT_EQ(NULL, failed);
	EXPECT_EQ(calls, HITS(id));
	EXPECT_LT(100, calls);
	UNPROBE(id);
	EXPECT_EQ(0, memcmp(text, add_code, sizeof(add_code)));
	close(mem);
}

TEST_HARNESS_MAIN

// SPDX-License-Identifier: GPL-2.0
/*
 * Data in place of probed text that the program has unmapped or overwritten. A byte of the data
 * looks like a breakpoint, and stays as it is.
 */
#include <stdatomic.h>
#include <sys/mman.h>

#include "text_fixture.h"

/* PUSH RBP; LEA RAX, [RDI + RSI]; POP RBP; RET: three instructions of one byte. */
static const unsigned char push_code[] = { 0x55, 0x48, 0x8d, 0x04, 0x37, 0x5d, 0xc3 };
static const unsigned int starts[] = { 0, 1, 5, 6 };
#define STARTS	ARRAY_SIZE(starts)

static atomic_uint traps;
static int mem;

static void on_trap(int signal)
{
	traps++;
}

static unsigned char *map_at(void *at, size_t len, int prot, int flags)
{
	flags |= MAP_PRIVATE | MAP_ANONYMOUS | (at ? MAP_FIXED : 0);
	return mmap(at, len, prot, flags, -1, 0);
}

static unsigned char *start(struct __test_metadata *_metadata, int flags)
{
	unsigned char *text = map_at(NULL, PAGE, RWX, flags);

	ASSERT_NE(MAP_FAILED, text);
	memcpy(text, push_code, sizeof(push_code));
	mem = open("/proc/self/mem", O_RDWR | O_CLOEXEC);
	ASSERT_LE(0, mem);
	signal(SIGTRAP, on_trap);
	traps = 0;
	return text;
}

/* Returns whether a debugger sees the bytes. */
static bool shows(const void *at, const unsigned char *want, size_t len)
{
	unsigned char got[PAGE];

	return pread(mem, got, len, (off_t)(unsigned long)at) == (ssize_t)len &&
	       !memcmp(want, got, len);
}

/* Replaces the text by RET, with a byte that looks like a breakpoint at @offset. */
static bool replace_by_data(unsigned char *text, unsigned char *data, unsigned int offset, int prot)
{
	memset(data, 0xc3, PAGE);
	data[offset] = INT3;
	if (munmap(text, PAGE) || map_at(text, PAGE, PROT_READ | PROT_WRITE, 0) != text)
		return false;
	memcpy(text, data, PAGE);
	return !mprotect(text, PAGE, prot);
}

enum { REMOVED, FORKED, MOVED, PROBED, EXECUTED, WAYS };

TEST_F_TIMEOUT(module, data_where_text_was_unmapped, TIMEOUT)
{
	unsigned char *text, *place, data[PAGE];
	unsigned int i, way;
	int id, status;
	pid_t pid;

	for (i = 0; i < STARTS; i++) {
		for (way = 0; way < WAYS; way++) {
			text = start(_metadata, 0);
			id = PROBE(text + starts[i]);
			ASSERT_TRUE(replace_by_data(text, data, starts[i], way == EXECUTED ?
						    RX : PROT_READ | PROT_WRITE));
			EXPECT_TRUE(shows(text, data, PAGE));
			switch (way) {
			case FORKED:
				pid = fork();
				if (!pid)
					_exit(memcmp(data, text, PAGE) != 0);
				ASSERT_EQ(pid, waitpid(pid, &status, 0));
				EXPECT_EQ(0, status);
				break;
			case MOVED:
				place = map_at(NULL, PAGE, PROT_NONE, 0);
				text = mremap(text, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED,
					      place);
				ASSERT_EQ(place, text);
				break;
			case PROBED:
				EXPECT_EQ(-EINVAL, dev_register(self->dev, getpid(),
								text + starts[i],
								UPROBES_TEST_TASK));
				break;
			case EXECUTED:
				call(text + starts[i], 1, 2);
				EXPECT_EQ(1, traps);
				break;
			}
			EXPECT_EQ(0, memcmp(data, text, PAGE));
			UNPROBE(id);
			EXPECT_EQ(0, memcmp(data, text, PAGE));
			munmap(text, PAGE);
			close(mem);
		}
	}
}

/* Nothing is unmapped on a stack. For a one-byte instruction, the text after it decides, too. */
TEST_F_TIMEOUT(module, data_on_a_stack, TIMEOUT)
{
	unsigned char *text, data[PAGE];
	int id, status;
	unsigned int i;
	pid_t pid;

	memset(data, INT3, PAGE);
	for (i = 0; i < STARTS; i++) {
		text = start(_metadata, MAP_GROWSDOWN);
		id = PROBE(text + starts[i]);
		EXPECT_TRUE(shows(text, push_code, sizeof(push_code)));
		EXPECT_EQ(3, call(text, 1, 2));
		EXPECT_EQ(1, HITS(id));
		memcpy(text, data, PAGE);
		EXPECT_TRUE(shows(text, data, PAGE));
		pid = fork();
		if (!pid)
			_exit(memcmp(data, text, PAGE) != 0);
		ASSERT_EQ(pid, waitpid(pid, &status, 0));
		EXPECT_EQ(0, status);
		UNPROBE(id);
		EXPECT_EQ(0, memcmp(data, text, PAGE));
		memcpy(text, push_code, sizeof(push_code));
		use(_metadata, self->dev, text);
		munmap(text, PAGE);
		close(mem);
	}
}

/* Replaces the text by a copy of itself, with several breakpoints in it. */
static bool copy_out_and_back(unsigned char *text)
{
	unsigned char copy[PAGE];

	memcpy(copy, text, PAGE);
	if (map_at(text, PAGE, PROT_READ | PROT_WRITE, 0) != text)
		return false;
	memcpy(text, copy, PAGE);
	return !mprotect(text, PAGE, RX);
}

/* Each breakpoint is removed next to the others, in ascending and in descending order. */
TEST_F_TIMEOUT(module, copied_with_its_neighbours, TIMEOUT)
{
	unsigned char *text, before[PAGE];
	int ids[STARTS], status;
	unsigned int i, way;
	pid_t pid;

	for (way = 0; way < 4; way++) {
		text = start(_metadata, 0);
		memcpy(before, text, PAGE);
		for (i = 0; i < STARTS; i++)
			ids[i] = PROBE(text + starts[i]);
		ASSERT_TRUE(copy_out_and_back(text));
		EXPECT_EQ(INT3, byte_at(text));
		EXPECT_TRUE(shows(text, before, PAGE));
		if (way == 1) {
			pid = fork();
			if (!pid)
				_exit(memcmp(before, text, PAGE) || call(text, 1, 2) != 3);
			ASSERT_EQ(pid, waitpid(pid, &status, 0));
			EXPECT_EQ(0, status);
		}
		if (way == 2)
			EXPECT_EQ(3, call(text, 1, 2));
		for (i = 0; i < STARTS; i++)
			UNPROBE(ids[way == 3 ? STARTS - 1 - i : i]);
		EXPECT_EQ(0, memcmp(before, text, PAGE));
		EXPECT_EQ(3, call(text, 1, 2));
		EXPECT_EQ(0, traps);
		munmap(text, PAGE);
		close(mem);
	}
}

/* The rest of the instruction is in a page that is not present. */
TEST_F_TIMEOUT(module, copied_without_the_next_page, TIMEOUT)
{
	int fd = memfd_create("text", MFD_CLOEXEC), id, status;
	unsigned char *map, *text;
	unsigned int way;
	pid_t pid;

	ASSERT_LE(0, fd);
	signal(SIGTRAP, on_trap);
	traps = 0;
	ASSERT_EQ(0, ftruncate(fd, 2 * PAGE));
	ASSERT_EQ(sizeof(add_code), pwrite(fd, add_code, sizeof(add_code), PAGE - 2));
	for (way = 0; way < 3; way++) {
		map = mmap(NULL, 2 * PAGE, RX, MAP_PRIVATE, fd, 0);
		ASSERT_NE(MAP_FAILED, map);
		text = map + PAGE - 2;
		id = PROBE(text);
		EXPECT_EQ(3, call(text, 1, 2));
		ASSERT_TRUE(copy_out_and_back(map));
		ASSERT_EQ(0, madvise(map + PAGE, PAGE, MADV_DONTNEED));
		if (way == 1) {
			pid = fork();
			if (!pid)
				_exit(call(text, 1, 2) != 3);
			ASSERT_EQ(pid, waitpid(pid, &status, 0));
			EXPECT_EQ(0, status);
		}
		if (way == 2)
			EXPECT_EQ(3, call(text, 1, 2));
		UNPROBE(id);
		EXPECT_EQ(0, memcmp(text, add_code, sizeof(add_code)));
		EXPECT_EQ(3, call(text, 1, 2));
		EXPECT_EQ(0, traps);
		munmap(map, 2 * PAGE);
	}
	close(fd);
}

static void too_late(int signal)
{
	_exit(1);
}

/*
 * A new instruction ends where an old one with a lost breakpoint began, and its last byte looks
 * like that breakpoint. The new instruction can be probed.
 */
TEST_F_TIMEOUT(module, new_instruction_over_a_lost_one, TIMEOUT)
{
	/* MOV RAX, IMM64; RET */
	static const unsigned char mov_code[] = {
		0x48, 0xb8, 0x11, 0, 0, 0, 0, 0, 0, INT3, 0xc3
	};
	unsigned char *text = start(_metadata, 0);
	int first, id;

	memcpy(text + 9, add_code, sizeof(add_code));
	first = PROBE(text + 9);
	ASSERT_EQ(0, munmap(text, PAGE));
	ASSERT_EQ(text, map_at(text, PAGE, RWX, 0));
	memcpy(text, mov_code, sizeof(mov_code));
	signal(SIGALRM, too_late);
	alarm(20);
	id = PROBE(text);
	alarm(0);
	EXPECT_EQ(0xcc00000000000011, call(text, 1, 2));
	EXPECT_EQ(1, HITS(id));
	UNPROBE(first);
	UNPROBE(id);
	EXPECT_EQ(0, memcmp(text, mov_code, sizeof(mov_code)));
	close(mem);
}

/* The page of a probe is discarded, and read. The removal allocates no page. */
TEST_F_TIMEOUT(module, zero_page, TIMEOUT)
{
	unsigned char *text = start(_metadata, 0);
	int id = PROBE(text);

	ASSERT_EQ(0, madvise(text, PAGE, MADV_DONTNEED));
	EXPECT_EQ(0, byte_at(text));
	EXPECT_EQ(0, smaps_kb(getpid(), text, "Anonymous"));
	UNPROBE(id);
	EXPECT_EQ(0, smaps_kb(getpid(), text, "Anonymous"));
	EXPECT_EQ(0, byte_at(text));
	close(mem);
}

TEST_HARNESS_MAIN

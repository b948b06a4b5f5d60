// SPDX-License-Identifier: GPL-2.0
/* Tests of breakpoints through UBP alone: counts, refusals, and permissions. */
#include <sys/mman.h>
#include <sys/syscall.h>

#include "ubp_fixture.h"

#define CALLS	1000
#define PAGE	4096

/* Returns how many of CALLS calls returned a wrong value. */
static unsigned int call_many(probed_fn function)
{
	unsigned int i, wrong = 0;

	for (i = 0; i < CALLS; i++)
		wrong += function(i, 7) != i + 7;
	return wrong;
}

static const probed_fn functions[] = { probed_nop, probed_push, probed_lea };

/* Each way to execute the instruction, with each set of handlers. */
TEST_F_TIMEOUT(ubp, hits_are_counted_where_there_is_a_handler, TIMEOUT)
{
	unsigned int i, flags, plan;

	for (i = 0; i < ARRAY_SIZE(functions); i++) {
		for (flags = 0; flags <= BOTH; flags++) {
			struct ubp_test_count count;
			int id = ubp_insert(self->dev, 0, functions[i], flags, &plan);

			ASSERT_LT(0, id);
			EXPECT_NE(UBP_TEST_REFUSED, plan);
			EXPECT_EQ(0xcc, byte_at(functions[i]));
			EXPECT_EQ(0, call_many(functions[i]));
			ASSERT_EQ(0, ubp_count(self->dev, id, &count));
			EXPECT_EQ(flags & UBP_TEST_TASK ? CALLS : 0, count.task_hits);
			EXPECT_EQ(flags & UBP_TEST_INTERRUPT ? CALLS : 0, count.interrupt_hits);
			REMOVE(id);
			EXPECT_TRUE(text_is_of_file(getpid(), functions[i], 64));
			EXPECT_TRUE(page_is_of_file(getpid(), functions[i]));
			EXPECT_EQ(0, call_many(functions[i]));
		}
	}
}

TEST_F(ubp, plan_is_that_of_the_analysis)
{
	unsigned int i, plan;

	for (i = 0; i < ARRAY_SIZE(functions); i++) {
		struct ubp_test_insn insn = {
			.vaddr = (unsigned long)functions[i],
			.avail = UBP_TEST_INSN_SIZE,
		};
		int id;

		memcpy(insn.bytes, functions[i], UBP_TEST_INSN_SIZE);
		ASSERT_EQ(0, ubp_analyze(self->dev, &insn, 1));
		id = ubp_insert(self->dev, 0, functions[i], 0, &plan);
		ASSERT_LT(0, id);
		EXPECT_EQ(insn.plan, plan);
		REMOVE(id);
	}
}

/* push %rbp; mov %rsp, %rbp; lea (%rdi,%rsi), %rax; pop %rbp; ret */
static const unsigned int offsets[] = { 0, 1, 4, 8, 9 };
#define NEIGHBOURS	ARRAY_SIZE(offsets)

static const char *instruction(unsigned int i)
{
	return (const char *)probed_push + offsets[i % NEIGHBOURS];
}

/*
 * Each instruction of a function: most are within the bytes that UBP reads for
 * another one.
 */
TEST_F_TIMEOUT(ubp, neighbours_do_not_disturb_each_other, TIMEOUT)
{
	unsigned int first, i, inserted;
	int ids[NEIGHBOURS];

	for (first = 0; first < NEIGHBOURS; first++) {
		for (inserted = 0; inserted < NEIGHBOURS; inserted++) {
			ids[inserted] = INSERT(instruction(first + inserted));
			EXPECT_EQ(0, call_many(probed_push));
			for (i = 0; i <= inserted; i++)
				EXPECT_HITS((inserted - i + 1) * CALLS, ids[i]);
		}
		/* Remove them in the order of insertion. */
		for (i = 0; i < NEIGHBOURS; i++) {
			REMOVE(ids[i]);
			EXPECT_EQ(0, call_many(probed_push));
			if (i + 1 < NEIGHBOURS)
				EXPECT_EQ(0xcc, byte_at(instruction(first + NEIGHBOURS - 1)));
		}
		EXPECT_TRUE(text_is_of_file(getpid(), probed_push, 64));
	}
}

TEST_F(ubp, thread_number_means_its_process)
{
	struct target target;
	int id;

	ASSERT_TRUE(target_start(&target));
	id = ubp_insert(self->dev, target.pid, probed_lea, BOTH, NULL);
	ASSERT_LT(0, id);
	EXPECT_EQ(3 * CALLS, target_call(&target, probed_lea, 1, 2, CALLS));
	EXPECT_HITS(CALLS, id);
	/* The page of the same file in this process. */
	EXPECT_TRUE(page_is_of_file(getpid(), probed_lea));
	EXPECT_EQ(0, call_many(probed_lea));
	EXPECT_HITS(CALLS, id);
	REMOVE(id);
	EXPECT_TRUE(text_is_of_file(target.pid, probed_nop, PAGE));
	EXPECT_TRUE(page_is_of_file(target.pid, probed_nop));
	EXPECT_EQ(0, target_stop(&target));

	id = ubp_insert(self->dev, gettid(), probed_lea, BOTH, NULL);
	ASSERT_LT(0, id);
	EXPECT_EQ(0, call_many(probed_lea));
	EXPECT_HITS(CALLS, id);
	REMOVE(id);
}

/* Maps executable memory of this process. */
static unsigned char *map_code(unsigned int flags, int fd)
{
	return mmap(NULL, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC, flags, fd, 0);
}

/* Insertion and validation fail with the same error. */
#define EXPECT_REFUSED(error, pid, at) do {					\
	EXPECT_EQ(-(error), ubp_insert(self->dev, pid, at, BOTH, NULL));	\
	EXPECT_EQ(-(error), ubp_validate(self->dev, pid, at));			\
} while (0)

TEST_F(ubp, einval_where_no_text_of_ones_own_is)
{
	int fd = memfd_create("text", 0);
	unsigned char *shared;

	ASSERT_LE(0, fd);
	ASSERT_EQ(0, ftruncate(fd, PAGE));
	shared = map_code(MAP_SHARED, fd);
	ASSERT_NE(MAP_FAILED, shared);
	shared[0] = 0x90;
	EXPECT_REFUSED(EINVAL, 0, shared);
	EXPECT_EQ(0x90, shared[0]);
	EXPECT_REFUSED(EINVAL, 0, &probed_data);
	EXPECT_REFUSED(EINVAL, 0, NULL);
	EXPECT_REFUSED(EINVAL, 0, (void *)-PAGE);
	EXPECT_EQ(-EINVAL, ubp_insert(self->dev, 0, probed_nop, UBP_TEST_FORCE + 1, NULL));
}

TEST_F(ubp, esrch_without_a_process)
{
	pid_t pid = fork();

	if (!pid)
		_exit(0);
	ASSERT_LT(0, pid);
	ASSERT_TRUE(wait_state(pid, pid, "Z"));
	EXPECT_REFUSED(ESRCH, pid, probed_nop);
	ASSERT_EQ(pid, waitpid(pid, NULL, 0));
	EXPECT_REFUSED(ESRCH, pid, probed_nop);
	/* A kernel thread. */
	EXPECT_REFUSED(ESRCH, 2, probed_nop);
}

TEST_F(ubp, eexist_beside_other_breakpoints)
{
	unsigned char *code = map_code(MAP_PRIVATE | MAP_ANONYMOUS, -1);
	int id;

	ASSERT_NE(MAP_FAILED, code);
	code[0] = 0xcc;
	EXPECT_REFUSED(EEXIST, 0, code);

	id = INSERT(probed_nop);
	EXPECT_EQ(-EEXIST, ubp_insert(self->dev, 0, probed_nop, BOTH, NULL));
	/*
	 * Validation succeeds, because a breakpoint is possible at this
	 * address.
	 */
	EXPECT_EQ(0, ubp_validate(self->dev, 0, probed_nop));
	EXPECT_EQ(0, call_many(probed_nop));
	EXPECT_HITS(CALLS, id);
	REMOVE(id);
}

TEST_F(ubp, eperm_for_what_cannot_be_probed)
{
	static const unsigned char refused[][4] = {
		{ 0x0f, 0x05 },	/* syscall */
		{ 0xfa },	/* cli */
		{ 0xf4 },	/* hlt */
		{ 0xcd, 0x80 },	/* int $0x80 */
	};
	unsigned char *code = map_code(MAP_PRIVATE | MAP_ANONYMOUS, -1);
	unsigned int i;

	ASSERT_NE(MAP_FAILED, code);
	for (i = 0; i < ARRAY_SIZE(refused); i++) {
		memcpy(code, refused[i], sizeof(refused[i]));
		EXPECT_REFUSED(EPERM, 0, code);
		EXPECT_EQ(0, memcmp(code, refused[i], sizeof(refused[i])));
	}
}

TEST_F(ubp, efault_without_the_whole_instruction)
{
	unsigned char *code = map_code(MAP_PRIVATE | MAP_ANONYMOUS, -1);
	int fd = memfd_create("text", 0);
	unsigned char *beyond;

	ASSERT_NE(MAP_FAILED, code);
	code[PAGE - 1] = 0xe8;
	ASSERT_EQ(0, mprotect(code, PAGE, PROT_READ | PROT_EXEC));
	EXPECT_REFUSED(EFAULT, 0, code + PAGE - 1);

	ASSERT_LE(0, fd);
	beyond = map_code(MAP_PRIVATE, fd);
	ASSERT_NE(MAP_FAILED, beyond);
	EXPECT_REFUSED(EFAULT, 0, beyond);
}

static bool write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	bool done = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);

	if (fd >= 0)
		close(fd);
	return done;
}

/*
 * Makes the @nth allocation of this thread fail. Returns whether the previous
 * request has failed an allocation.
 */
static bool fail_nth(unsigned int nth)
{
	char path[64], text[16] = "";
	int fd;

	snprintf(path, sizeof(path), "/proc/self/task/%d/fail-nth", gettid());
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0 || pread(fd, text, sizeof(text) - 1, 0) < 0)
		text[0] = 0;
	dprintf(fd, "%u", nth);
	close(fd);
	return atoi(text) == 0;
}

/* Each allocation fails in turn, until none is left to fail. */
TEST_F_TIMEOUT(ubp, enomem_leaves_nothing_behind, TIMEOUT)
{
	unsigned int nth, failures = 0;

	if (!write_file("/sys/kernel/debug/failslab/ignore-gfp-wait", "N") ||
	    !write_file("/sys/kernel/debug/fail_page_alloc/ignore-gfp-wait", "N"))
		SKIP(return, "no fault injection");
	write_file("/sys/kernel/debug/failslab/verbose", "0");
	write_file("/sys/kernel/debug/fail_page_alloc/verbose", "0");

	for (nth = 1; nth < 200; nth++) {
		bool failed;
		int id;

		fail_nth(nth);
		id = ubp_insert(self->dev, 0, probed_lea, BOTH, NULL);
		failed = fail_nth(0);
		if (id > 0) {
			EXPECT_EQ(0, call_many(probed_lea));
			EXPECT_HITS(CALLS, id);
			REMOVE(id);
		} else {
			EXPECT_EQ(-ENOMEM, id) TH_LOG("allocation %u", nth);
			failures++;
		}
		EXPECT_TRUE(text_is_of_file(getpid(), probed_lea, 64));
		EXPECT_EQ(0, call_many(probed_lea));
		if (!failed)
			break;
	}
	TH_LOG("%u insertions failed", failures);
	EXPECT_LT(0, failures);
	EXPECT_GT(200, nth);
	write_file("/sys/kernel/debug/failslab/ignore-gfp-wait", "Y");
	write_file("/sys/kernel/debug/fail_page_alloc/ignore-gfp-wait", "Y");
}

/* A uprobe, and a breakpoint without a uprobe, at the same address. */
TEST_F(ubp, eexist_beside_uprobes)
{
	int uprobes = dev_open(), id, probe;

	if (uprobes < 0)
		SKIP(return, "no " UPROBES_TEST_DEVICE);
	id = INSERT(probed_nop);
	EXPECT_EQ(-EEXIST, dev_register(uprobes, getpid(), probed_nop, UPROBES_TEST_TASK));
	EXPECT_EQ(0, call_many(probed_nop));
	EXPECT_HITS(CALLS, id);
	REMOVE(id);

	probe = dev_register(uprobes, getpid(), probed_nop, UPROBES_TEST_TASK);
	ASSERT_LT(0, probe);
	EXPECT_EQ(-EEXIST, ubp_insert(self->dev, 0, probed_nop, BOTH, NULL));
	/* At different addresses they do not conflict. */
	id = INSERT((const char *)probed_nop + 1);
	EXPECT_EQ(0, call_many(probed_nop));
	EXPECT_EQ(CALLS, dev_hits(uprobes, probe));
	EXPECT_HITS(CALLS, id);
	EXPECT_EQ(0, dev_unregister(uprobes, probe));
	EXPECT_EQ(0, call_many(probed_nop));
	EXPECT_HITS(2 * CALLS, id);
	REMOVE(id);
	close(uprobes);
}

TEST_F(ubp, analysis_tells_length_plan_and_reason)
{
	struct ubp_test_insn insns[] = {
		/* push %rbp */
		{ .bytes = { 0x55 }, .avail = 15 },
		/* inc %eax; in 64-bit code a prefix, here of another push */
		{ .bytes = { 0x40, 0x50 }, .avail = 15, .is_32bit = 1 },
		{ .bytes = { 0x40, 0x50 }, .avail = 15 },
		/* syscall */
		{ .bytes = { 0x0f, 0x05 }, .avail = 15 },
		/* call */
		{ .bytes = { 0xe8 }, .avail = 4 },
		{ .bytes = { 0xcc }, .avail = 1 },
		{ .avail = 0 },
		/*
		 * ud2, followed by bytes that make the kernel's decoder take it
		 * for a prefix
		 */
		{ .bytes = { 0x0f, 0x0b, 0x6b, 0x76, 0x6d, 0x90 }, .avail = 15 },
	};
	unsigned int i;

	ASSERT_EQ(0, ubp_analyze(self->dev, insns, ARRAY_SIZE(insns)));
	EXPECT_EQ(1, insns[0].len);
	EXPECT_EQ(UBP_TEST_EMULATE, insns[0].plan);
	EXPECT_EQ(1, insns[1].len);
	EXPECT_EQ(2, insns[2].len);
	EXPECT_EQ(UBP_TEST_EMULATE, insns[2].plan);
	EXPECT_EQ(2, insns[3].len);
	EXPECT_STREQ("System call instruction", insns[3].reason);
	EXPECT_EQ(0, insns[4].len);
	EXPECT_EQ(1, insns[5].len);
	EXPECT_EQ(0, insns[6].len);
	EXPECT_EQ(2, insns[7].len);
	for (i = 0; i < ARRAY_SIZE(insns); i++)
		EXPECT_EQ(i >= 3, insns[i].plan == UBP_TEST_REFUSED && insns[i].reason[0]);
	EXPECT_EQ(-EFAULT, ubp_analyze(self->dev, NULL, 1));
	EXPECT_EQ(-EINVAL, ubp_analyze(self->dev, insns, ~0UL));
	EXPECT_EQ(0, ubp_analyze(self->dev, NULL, 0));
}

TEST_F(ubp, numbers_are_those_of_the_file)
{
	int other = ubp_open(), id = INSERT(probed_nop);
	struct ubp_test_count count;

	ASSERT_LE(0, other);
	EXPECT_EQ(-ENOENT, ubp_remove(other, id));
	EXPECT_EQ(-ENOENT, ubp_count(other, id, &count));
	REMOVE(id);
	EXPECT_EQ(-ENOENT, ubp_remove(self->dev, id));
	EXPECT_EQ(-ENOENT, ubp_count(self->dev, id, &count));
	EXPECT_EQ(-ENOENT, ubp_remove(self->dev, 0));
	close(other);
}

TEST_HARNESS_MAIN

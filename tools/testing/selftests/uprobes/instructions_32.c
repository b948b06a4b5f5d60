// SPDX-License-Identifier: GPL-2.0
/* Probed instructions of a 32-bit program, which must not change its results. */
#include "module_fixture.h"

#define REGISTERS	4096

/* Output of the program. */
struct result {
	uint8_t registers[REGISTERS];
	uint32_t addresses[256];
	unsigned int count;
};

/* Lets the program run, and reads its output. */
static bool finish(pid_t pid, int from, struct result *result)
{
	size_t size = sizeof(result->registers) + sizeof(result->addresses), got = 0;
	int status = -1;
	ssize_t n;

	memset(result, 0, sizeof(*result));
	kill(pid, SIGCONT);
	while ((n = read(from, (char *)result + got, size - got)) > 0)
		got += n;
	close(from);
	waitpid(pid, &status, 0);
	if (status || got <= REGISTERS)
		return false;
	/* The list ends with a zero. */
	result->count = (got - REGISTERS) / sizeof(uint32_t) - 1;
	return true;
}

static void compare(struct __test_metadata *_metadata, int dev, unsigned int handlers, bool all)
{
	static struct result native, probed;
	unsigned int i, j;
	int id[256], from;
	pid_t pid;

	pid = start_stopped("target32", &from);
	if (pid < 0)
		SKIP(return, "no 32-bit programs here");
	ASSERT_TRUE(finish(pid, from, &native));
	ASSERT_LT(40, native.count);

	/* All at once, or one in each run. */
	for (i = 0; i < native.count; i += all ? native.count : 1) {
		unsigned int end = all ? native.count : i + 1;

		pid = start_stopped("target32", &from);
		ASSERT_LT(0, pid);
		for (j = i; j < end; j++) {
			id[j] = dev_register(dev, pid, (void *)(long)native.addresses[j],
					     handlers);
			ASSERT_LT(0, id[j]) TH_LOG("instruction %u: %d", j, id[j]);
		}
		EXPECT_TRUE(finish(pid, from, &probed)) TH_LOG("instruction %u", i);
		EXPECT_EQ(0, memcmp(&native, &probed, sizeof(native)))
			TH_LOG("instruction %u", i);
		for (j = i; j < end; j++) {
			EXPECT_EQ(1, dev_hits(dev, id[j])) TH_LOG("instruction %u", j);
			ASSERT_EQ(0, dev_unregister(dev, id[j]));
		}
	}
}

TEST_F_TIMEOUT(module, each, TIMEOUT)
{
	compare(_metadata, self->dev, UPROBES_TEST_TASK, false);
}

TEST_F_TIMEOUT(module, all, TIMEOUT)
{
	compare(_metadata, self->dev, UPROBES_TEST_TASK | UPROBES_TEST_INTERRUPT, true);
}

/* Returns how often the program has stored its registers: nine words each, with the flags last. */
static unsigned int stores(const struct result *result)
{
	const uint32_t *words = (const uint32_t *)result->registers;
	unsigned int n = 0;

	/* One bit of the flags is always set. */
	while (9 * n + 8 < REGISTERS / sizeof(*words) && words[9 * n + 8] & 2)
		n++;
	return n;
}

/* Returns the target of a call instruction, or 0 if it is another one. */
static unsigned long callee(pid_t pid, unsigned long at)
{
	unsigned char insn[5];
	int32_t offset;

	if (!text_read(pid, (void *)at, insn, sizeof(insn)) || insn[0] != 0xe8)
		return 0;
	memcpy(&offset, insn + 1, sizeof(offset));
	return at + sizeof(insn) + offset;
}

/* The function that stores registers, and one that calls it and returns by the next instruction. */
TEST_F_TIMEOUT(module, returns, TIMEOUT)
{
	static struct result native, probed;
	unsigned long function = 0, return_address = 0, store;
	int unsized, by_size, stored, from;
	struct uprobes_test_count count;
	unsigned int i;
	pid_t pid;

	pid = start_stopped("target32", &from);
	if (pid < 0)
		SKIP(return, "no 32-bit programs here");
	ASSERT_TRUE(finish(pid, from, &native));
	pid = start_stopped("target32", &from);
	ASSERT_LT(0, pid);
	for (i = 0; i < native.count && !function; i++) {
		function = callee(pid, native.addresses[i]);
		return_address = native.addresses[i] + 5;
	}
	store = callee(pid, function);
	ASSERT_NE(0, store);
	unsized = PROBE_HOW(.pid = pid, OF(function), .flags = UPROBES_TEST_RETURN);
	by_size = PROBE_HOW(.pid = pid, OF(function), .flags = UPROBES_TEST_RETURN, .size = 6);
	stored = PROBE_HOW(.pid = pid, OF(store), .flags = UPROBES_TEST_TASK | UPROBES_TEST_RETURN);
	EXPECT_TRUE(finish(pid, from, &probed));
	EXPECT_EQ(0, memcmp(&native, &probed, sizeof(native)));
	EXPECT_EQ(1, COUNT(unsized).return_hits);
	EXPECT_EQ(return_address, COUNT(unsized).return_ip);
	EXPECT_EQ(1, COUNT(by_size).return_hits);
	EXPECT_EQ(return_address, COUNT(by_size).return_ip);
	count = COUNT(stored);
	ASSERT_LT(40, stores(&native));
	EXPECT_EQ(stores(&native), count.task_hits);
	EXPECT_EQ(stores(&native), count.return_hits);
	EXPECT_EQ(0, count.misses);
	UNPROBE(unsized);
	UNPROBE(by_size);
	UNPROBE(stored);
}

TEST_HARNESS_MAIN

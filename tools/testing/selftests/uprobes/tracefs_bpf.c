// SPDX-License-Identifier: GPL-2.0
/* BPF programs on the events of uprobe_events, attached through perf. */
#include <sys/mman.h>

#include "bpf_fixture.h"
#include "callchain.h"

/* Counts hits and records registers. Returns 0 for an odd DI if @picky, else 1. */
static int load_counting(int map, bool picky)
{
	const struct bpf_insn body[] = {
		MOV_IMM(1, 1),
		INSN(BPF_STX | BPF_ATOMIC | BPF_DW, 7, 1, offsetof(struct seen, hits), BPF_ADD),
		LOAD(1, 6, DI), SEE(di, 1),
		LOAD(2, 6, IP), SEE(ip, 2),
		MOV_IMM(0, 1),
		INSN(BPF_JMP | BPF_JSET | BPF_K, 1, 0, 1, 1),
		EXIT(),
		MOV_IMM(0, picky ? 0 : 1),
		EXIT(),
	};

	return load_with_value(map, body, sizeof(body) / sizeof(*body), 0, 0);
}

/* Reads a number at DI by a helper that may sleep. */
static int load_reading(int map)
{
	const struct bpf_insn body[] = {
		MOV(1, 7), ADD_IMM(1, offsetof(struct seen, read)),
		MOV_IMM(2, sizeof(uint64_t)),
		LOAD(3, 6, DI),
		CALL(BPF_FUNC_copy_from_user),
		SEE(di, 0),
		LOAD(1, 7, offsetof(struct seen, hits)), ADD_IMM(1, 1), SEE(hits, 1),
		MOV_IMM(0, 1),
		EXIT(),
	};

	return load_with_value(map, body, sizeof(body) / sizeof(*body), BPF_F_SLEEPABLE, 0);
}

/* Records the probed address, and the addresses of the callers. */
static int load_looking(int map)
{
	const struct bpf_insn body[] = {
		MOV(1, 6),
		CALL(BPF_FUNC_get_func_ip),
		SEE(function, 0),
		MOV(1, 6),
		MOV(2, 7), ADD_IMM(2, offsetof(struct seen, stack)),
		MOV_IMM(3, STACK_MAX * sizeof(uint64_t)),
		MOV_IMM(4, BPF_F_USER_STACK),
		CALL(BPF_FUNC_get_stack),
		SEE(stack_size, 0),
		LOAD(1, 7, offsetof(struct seen, hits)), ADD_IMM(1, 1), SEE(hits, 1),
		MOV_IMM(0, 1),
		EXIT(),
	};

	return load_with_value(map, body, sizeof(body) / sizeof(*body), 0, 0);
}

static int attach(int perf, int program)
{
	return ioctl(perf, PERF_EVENT_IOC_SET_BPF, program) ? -errno : 0;
}

TEST_F_TIMEOUT(events, program_counts, TIMEOUT)
{
	struct target *target = &self->target;
	int map = map_create(), perf, program;
	struct seen seen;

	if (map == -ENOSYS)
		SKIP(return, "no BPF");
	ASSERT_LE(0, map);
	program = load_counting(map, false);
	ASSERT_LE(0, program);
	ASSERT_EQ(0, create(target->pid, probed_lea, "a=%di:u64 text=+0(%si):string"));
	perf = perf_count(target->pid);
	ASSERT_LE(0, perf);
	ASSERT_EQ(0, attach(perf, program));
	target_call(target, probed_lea, 7, 3, 50);
	seen = map_read(map);
	EXPECT_EQ(50, seen.hits);
	EXPECT_EQ(7, seen.di);
	EXPECT_EQ((unsigned long)probed_lea, seen.ip);
	EXPECT_EQ(50, perf_read(perf));
	close(perf);
	target_call(target, probed_lea, 7, 3, 10);
	EXPECT_EQ(50, map_read(map).hits);
	EXPECT_TRUE(page_is_of_file(target->pid, probed_lea));
	close(program);
	close(map);
}

/* perf does not see a hit that the program returns 0 for. Tracing does. */
TEST_F_TIMEOUT(events, program_filters, TIMEOUT)
{
	struct target *target = &self->target;
	int map = map_create(), perf, program;
	unsigned int i;
	char *trace;

	if (map == -ENOSYS)
		SKIP(return, "no BPF");
	ASSERT_LE(0, map);
	program = load_counting(map, true);
	ASSERT_LE(0, program);
	ASSERT_EQ(0, create(target->pid, probed_lea, "a=%di:u64"));
	ASSERT_EQ(0, tracefs_replace(EVENT "/enable", "1"));
	perf = perf_count(target->pid);
	ASSERT_LE(0, perf);
	ASSERT_EQ(0, attach(perf, program));
	for (i = 0; i < 10; i++)
		target_call(target, probed_lea, i, 0, i);
	EXPECT_EQ(45, map_read(map).hits);
	EXPECT_EQ(20, perf_read(perf));
	EXPECT_EQ(45, profile_hits("hit"));
	trace = tracefs_read("trace");
	EXPECT_EQ(45, count_lines(trace, " hit: ("));
	free(trace);
	close(perf);
	close(program);
	close(map);
}

/* A program that may sleep reads memory that must be faulted in first. */
TEST_F_TIMEOUT(events, program_sleeps, TIMEOUT)
{
	int map = map_create(), perf, program, memfd;
	uint64_t *memory, number = 0x1234567890abcdef;
	struct seen seen;

	if (map == -ENOSYS)
		SKIP(return, "no BPF");
	ASSERT_LE(0, map);
	program = load_reading(map);
	ASSERT_LE(0, program);
	memfd = memfd_create("selftest", MFD_CLOEXEC);
	ASSERT_LE(0, memfd);
	ASSERT_EQ(sizeof(number), write(memfd, &number, sizeof(number)));
	/* The memory is in no page table yet. */
	memory = mmap(NULL, 4096, PROT_READ, MAP_SHARED, memfd, 0);
	ASSERT_NE(MAP_FAILED, memory);

	ASSERT_EQ(0, create(getpid(), probed_nop, ""));
	perf = perf_count(0);
	ASSERT_LE(0, perf);
	ASSERT_EQ(0, attach(perf, program));
	probed_nop((unsigned long)memory, 0);
	seen = map_read(map);
	EXPECT_EQ(1, seen.hits);
	EXPECT_EQ(0, seen.di);
	EXPECT_EQ(number, seen.read);
	EXPECT_EQ(1, perf_read(perf));
	close(perf);
	munmap(memory, 4096);
	close(memfd);
	close(program);
	close(map);
}

/* Two perf events with a program each. Both programs run, because they belong to the event. */
TEST_F_TIMEOUT(events, two_programs, TIMEOUT)
{
	struct target *target = &self->target;
	int maps[2], perfs[2], programs[2], i;

	ASSERT_EQ(0, create(target->pid, probed_nop, ""));
	for (i = 0; i < 2; i++) {
		maps[i] = map_create();
		if (maps[i] == -ENOSYS)
			SKIP(return, "no BPF");
		ASSERT_LE(0, maps[i]);
		programs[i] = load_counting(maps[i], false);
		ASSERT_LE(0, programs[i]);
		perfs[i] = perf_count(target->pid);
		ASSERT_LE(0, perfs[i]);
		ASSERT_EQ(0, attach(perfs[i], programs[i]));
		target_call(target, probed_nop, 0, 0, 10);
	}
	EXPECT_EQ(20, map_read(maps[0]).hits);
	EXPECT_EQ(10, map_read(maps[1]).hits);
	close(perfs[0]);
	target_call(target, probed_nop, 0, 0, 10);
	EXPECT_EQ(20, map_read(maps[0]).hits);
	EXPECT_EQ(20, map_read(maps[1]).hits);
	EXPECT_EQ(20, perf_read(perfs[1]));
	close(perfs[1]);
	for (i = 0; i < 2; i++) {
		close(programs[i]);
		close(maps[i]);
	}
}

/* A program sees the probed function and its callers, at entry and at return. */
TEST_F_TIMEOUT(events, program_sees_function_and_callers, TIMEOUT)
{
	const char * const callers[] = { chain_inner_site, chain_outer_site, call_chain_site };
	int map = map_create(), perf, program;
	unsigned int round, i;

	if (map == -ENOSYS)
		SKIP(return, "no BPF");
	ASSERT_LE(0, map);
	program = load_looking(map);
	ASSERT_LE(0, program);
	for (round = 0; round < 2; round++) {
		struct seen seen;
		bool at_site;

		ASSERT_EQ(0, tracefs_append("uprobe_events", "%c:selftest/hit %d:%p",
					    round ? 'r' : 'p', getpid(), chain_push));
		perf = perf_count(0);
		ASSERT_LE(0, perf);
		ASSERT_EQ(0, attach(perf, program));
		call_chain(chain_push);
		seen = map_read(map);
		EXPECT_EQ(round + 1, seen.hits);
		EXPECT_EQ((unsigned long)chain_push, seen.function);
		ASSERT_LE(4 * sizeof(uint64_t), seen.stack_size);
		ASSERT_GE(sizeof(seen.stack), seen.stack_size);
		/* The stack of a return may begin at the return address. */
		at_site = round && seen.stack[0] == (unsigned long)chain_inner_site;
		for (i = 0; i < 3; i++) {
			EXPECT_EQ((unsigned long)callers[i], seen.stack[i + !at_site]);
		}
		if (!round) {
			EXPECT_EQ((unsigned long)chain_push, seen.stack[0]);
		}
		close(perf);
		ASSERT_EQ(0, tracefs_append("uprobe_events", "-:selftest/hit"));
	}
	close(program);
	close(map);
}

/* As on any uprobe event, a program must be one that takes registers. */
TEST_F_TIMEOUT(events, other_programs_are_refused, TIMEOUT)
{
	const struct bpf_insn nothing[] = { MOV_IMM(0, 1), EXIT() };
	int map = map_create(), perf, program;

	if (map == -ENOSYS)
		SKIP(return, "no BPF");
	ASSERT_LE(0, map);
	close(map);
	program = load(BPF_PROG_TYPE_TRACEPOINT, nothing, 2, 0, 0);
	ASSERT_LE(0, program);
	ASSERT_EQ(0, create(self->target.pid, probed_nop, ""));
	perf = perf_count(self->target.pid);
	ASSERT_LE(0, perf);
	EXPECT_EQ(-EINVAL, attach(perf, program));
	close(perf);
	close(program);
}

TEST_HARNESS_MAIN

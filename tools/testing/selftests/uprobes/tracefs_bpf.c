// SPDX-License-Identifier: GPL-2.0
/* BPF programs on the events of uprobe_events, attached through perf. */
#include <linux/bpf.h>
#include <stddef.h>
#include <sys/mman.h>

#include "callchain.h"
#include "perf_fixture.h"

#define DI	offsetof(struct registers, di)
#define IP	offsetof(struct registers, ip)

#define STACK_MAX	8

/* Context of the programs: struct pt_regs, as of x86-64. */
struct registers {
	uint64_t r15, r14, r13, r12, bp, bx, r11, r10, r9, r8, ax, cx, dx, si, di, orig_ax, ip;
};

/* Data that a program leaves in its map. */
struct seen {
	uint64_t hits;
	uint64_t di;
	uint64_t ip;
	uint64_t read;
	uint64_t function;
	uint64_t stack_size;
	uint64_t stack[STACK_MAX];
};

static long bpf(int cmd, union bpf_attr *attr, unsigned int size)
{
	long ret = syscall(SYS_bpf, cmd, attr, size);

	return ret < 0 ? -errno : ret;
}

static int map_create(void)
{
	union bpf_attr attr = {
		.map_type = BPF_MAP_TYPE_ARRAY,
		.key_size = sizeof(uint32_t),
		.value_size = sizeof(struct seen),
		.max_entries = 1,
	};

	return bpf(BPF_MAP_CREATE, &attr, sizeof(attr));
}

static struct seen map_read(int map)
{
	struct seen seen = {};
	uint32_t key = 0;
	union bpf_attr attr = {
		.map_fd = map,
		.key = (unsigned long)&key,
		.value = (unsigned long)&seen,
	};

	bpf(BPF_MAP_LOOKUP_ELEM, &attr, sizeof(attr));
	return seen;
}

static int load(enum bpf_prog_type type, const struct bpf_insn *insns, unsigned int n,
		unsigned int flags)
{
	static char log[1 << 16];
	union bpf_attr attr = {
		.prog_type = type,
		.insns = (unsigned long)insns,
		.insn_cnt = n,
		.license = (unsigned long)"GPL",
		.log_buf = (unsigned long)log,
		.log_size = sizeof(log),
		.log_level = 1,
		.prog_flags = flags,
	};
	int fd = bpf(BPF_PROG_LOAD, &attr, sizeof(attr));

	if (fd < 0)
		ksft_print_msg("BPF: %s\n%s\n", strerror(-fd), log);
	return fd;
}

#define INSN(CODE, DST, SRC, OFF, IMM) \
	((struct bpf_insn){ .code = CODE, .dst_reg = DST, .src_reg = SRC, .off = OFF, .imm = IMM })
#define MOV(dst, src)		INSN(BPF_ALU64 | BPF_MOV | BPF_X, dst, src, 0, 0)
#define MOV_IMM(dst, imm)	INSN(BPF_ALU64 | BPF_MOV | BPF_K, dst, 0, 0, imm)
#define ADD_IMM(dst, imm)	INSN(BPF_ALU64 | BPF_ADD | BPF_K, dst, 0, 0, imm)
#define LOAD(dst, src, off)	INSN(BPF_LDX | BPF_MEM | BPF_DW, dst, src, off, 0)
#define STORE(dst, off, src)	INSN(BPF_STX | BPF_MEM | BPF_DW, dst, src, off, 0)
#define CALL(function)		INSN(BPF_JMP | BPF_CALL, 0, 0, 0, function)
#define EXIT()			INSN(BPF_JMP | BPF_EXIT, 0, 0, 0, 0)

#define SEE(field, reg)	STORE(7, offsetof(struct seen, field), reg)

/* Loads @body behind code that puts the registers in R6, and the value in the map in R7. */
static int load_with_value(int map, const struct bpf_insn *body, unsigned int n,
			   unsigned int flags)
{
	const struct bpf_insn start[] = {
		MOV(6, 1),
		INSN(BPF_ST | BPF_MEM | BPF_W, 10, 0, -4, 0),
		MOV(2, 10), ADD_IMM(2, -4),
		INSN(BPF_LD | BPF_IMM | BPF_DW, 1, BPF_PSEUDO_MAP_FD, 0, map),
		INSN(0, 0, 0, 0, 0),
		CALL(BPF_FUNC_map_lookup_elem),
		INSN(BPF_JMP | BPF_JNE | BPF_K, 0, 0, 2, 0),
		MOV_IMM(0, 1), EXIT(),
		MOV(7, 0),
	};
	struct bpf_insn insns[64];

	memcpy(insns, start, sizeof(start));
	memcpy((char *)insns + sizeof(start), body, n * sizeof(*body));
	return load(BPF_PROG_TYPE_KPROBE, insns, sizeof(start) / sizeof(*start) + n, flags);
}

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

	return load_with_value(map, body, sizeof(body) / sizeof(*body), 0);
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

	return load_with_value(map, body, sizeof(body) / sizeof(*body), BPF_F_SLEEPABLE);
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

	return load_with_value(map, body, sizeof(body) / sizeof(*body), 0);
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
	program = load(BPF_PROG_TYPE_TRACEPOINT, nothing, 2, 0);
	ASSERT_LE(0, program);
	ASSERT_EQ(0, create(self->target.pid, probed_nop, ""));
	perf = perf_count(self->target.pid);
	ASSERT_LE(0, perf);
	EXPECT_EQ(-EINVAL, attach(perf, program));
	close(perf);
	close(program);
}

TEST_HARNESS_MAIN

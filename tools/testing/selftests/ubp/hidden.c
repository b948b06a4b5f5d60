// SPDX-License-Identifier: GPL-2.0
/*
 * Tests that no address in a slot is visible outside of UBP: not in perf
 * samples with their call chains and registers, not in signals, and not to
 * another process.
 *
 * The thread spends nearly all its time in one probed instruction, a rep stos,
 * so that most interruptions hit that instruction.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/perf_event.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/rseq.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "texts.h"
#include "ubp_selftest.h"
#include "kselftest_harness.h"

#define LENGTH		(256 * 1024)
#define RING_PAGES	256
#define REGISTER_IP	8	/* PERF_REG_X86_IP */

static char memory[LENGTH];

/* Returns the address of the area with the slots. */
static uintptr_t area(void)
{
	FILE *maps = fopen("/proc/self/maps", "r");
	uintptr_t start = 0;
	char line[512];

	while (maps && fgets(line, sizeof(line), maps)) {
		if (strstr(line, "[uprobes]"))
			start = strtoul(line, NULL, 16);
	}
	if (maps)
		fclose(maps);
	return start;
}

FIXTURE(hidden)
{
	int dev, id;
	uintptr_t area;
};

FIXTURE_SETUP(hidden)
{
	unsigned int plan;

	self->dev = ubp_open();
	if (self->dev < 0)
		SKIP(return, "no %s", UBP_TEST_DEVICE);
	self->id = ubp_insert(self->dev, 0, fill_rep, UBP_TEST_TASK, &plan);
	ASSERT_GT(self->id, 0);
	ASSERT_EQ(UBP_TEST_BOOST, plan);
	self->area = area();
	ASSERT_NE(0, self->area);
}

FIXTURE_TEARDOWN(hidden)
{
	close(self->dev);
}

static bool is_hidden(uintptr_t area, uint64_t ip)
{
	return ip - area >= 4096;
}

/* The part of a sample that the test uses. */
struct sample {
	struct perf_event_header header;
	uint64_t ip;
	uint64_t depth;
	uint64_t chain[];
};

struct ring {
	struct perf_event_mmap_page *control;
	char *data;
	size_t size;
};

static int open_samples(struct ring *ring)
{
	struct perf_event_attr attr = {
		.type = PERF_TYPE_SOFTWARE,
		.size = sizeof(attr),
		.config = PERF_COUNT_SW_CPU_CLOCK,
		.sample_period = 200000,
		.sample_type = PERF_SAMPLE_IP | PERF_SAMPLE_CALLCHAIN | PERF_SAMPLE_REGS_USER,
		.sample_regs_user = 1 << REGISTER_IP,
		.exclude_callchain_kernel = 1,
	};
	size_t page = sysconf(_SC_PAGESIZE);
	int fd = syscall(SYS_perf_event_open, &attr, 0, -1, -1, PERF_FLAG_FD_CLOEXEC);
	void *map;

	if (fd < 0)
		return -1;
	map = mmap(NULL, (RING_PAGES + 1) * page, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED)
		return -1;
	ring->control = map;
	ring->data = (char *)map + page;
	ring->size = RING_PAGES * page;
	return fd;
}

TEST_F(hidden, from_perf)
{
	uint64_t head, tail, *registers;
	int fd, i, total = 0, there = 0;
	struct sample *sample;
	struct ring ring;

	fd = open_samples(&ring);
	if (fd < 0)
		SKIP(return, "no perf events");
	for (i = 0; i < 400; i++)
		fill(memory, LENGTH);
	close(fd);
	head = ring.control->data_head;
	__sync_synchronize();
	ASSERT_LE(head, ring.size);
	for (tail = 0; tail < head; tail += sample->header.size) {
		sample = (struct sample *)(ring.data + tail);
		if (sample->header.type != PERF_RECORD_SAMPLE)
			continue;
		total++;
		there += sample->ip == (uintptr_t)fill_rep;
		ASSERT_TRUE(is_hidden(self->area, sample->ip));
		for (i = 0; i < (int)sample->depth; i++)
			ASSERT_TRUE(is_hidden(self->area, sample->chain[i]));
		/* The ABI, followed by the only register. */
		registers = sample->chain + sample->depth;
		if (registers[0] != PERF_SAMPLE_REGS_ABI_NONE)
			ASSERT_TRUE(is_hidden(self->area, registers[1]));
	}
	TH_LOG("%d of %d samples at the instruction", there, total);
	EXPECT_GT(total, 20);
	/* Many samples had to be translated. */
	EXPECT_GT(there, total / 4);
}

static int bpf(int command, union bpf_attr *attr)
{
	return syscall(SYS_bpf, command, attr, sizeof(*attr));
}

/*
 * Counts perf events with an instruction pointer in the page at @page, in entry
 * 1.
 */
static int load_counter(int map, uintptr_t page)
{
	const struct bpf_insn code[] = {
		/* r6 = ctx->regs.ip - page */
		{ BPF_LDX | BPF_MEM | BPF_DW, 6, 1, 16 * 8, 0 },
		{ BPF_LD | BPF_IMM | BPF_DW, 7, 0, 0, (int)page },
		{ 0, 0, 0, 0, page >> 32 },
		{ BPF_ALU64 | BPF_SUB | BPF_X, 6, 7, 0, 0 },
		/* *(u32 *)(r10 - 4) = r6 < 4096 */
		{ BPF_ST | BPF_MEM | BPF_W, 10, 0, -4, 0 },
		{ BPF_JMP | BPF_JGE | BPF_K, 6, 0, 1, 4096 },
		{ BPF_ST | BPF_MEM | BPF_W, 10, 0, -4, 1 },
		/* map[*(u32 *)(r10 - 4)]++ */
		{ BPF_ALU64 | BPF_MOV | BPF_X, 2, 10, 0, 0 },
		{ BPF_ALU64 | BPF_ADD | BPF_K, 2, 0, 0, -4 },
		{ BPF_LD | BPF_IMM | BPF_DW, 1, BPF_PSEUDO_MAP_FD, 0, map },
		{ 0, 0, 0, 0, 0 },
		{ BPF_JMP | BPF_CALL, 0, 0, 0, BPF_FUNC_map_lookup_elem },
		{ BPF_JMP | BPF_JEQ | BPF_K, 0, 0, 2, 0 },
		{ BPF_ALU64 | BPF_MOV | BPF_K, 1, 0, 0, 1 },
		{ BPF_STX | BPF_ATOMIC | BPF_DW, 0, 1, 0, BPF_ADD },
		{ BPF_ALU64 | BPF_MOV | BPF_K, 0, 0, 0, 0 },
		{ BPF_JMP | BPF_EXIT, 0, 0, 0, 0 },
	};
	union bpf_attr attr = {
		.prog_type = BPF_PROG_TYPE_PERF_EVENT,
		.insn_cnt = ARRAY_SIZE(code),
		.insns = (uintptr_t)code,
		.license = (uintptr_t)"GPL",
	};

	return bpf(BPF_PROG_LOAD, &attr);
}

static uint64_t map_value(int map, uint32_t key)
{
	uint64_t value = 0;
	union bpf_attr attr = {
		.map_fd = map,
		.key = (uintptr_t)&key,
		.value = (uintptr_t)&value,
	};

	return bpf(BPF_MAP_LOOKUP_ELEM, &attr) ? -1 : value;
}

TEST_F(hidden, from_bpf)
{
	union bpf_attr map_attr = {
		.map_type = BPF_MAP_TYPE_ARRAY,
		.key_size = sizeof(uint32_t),
		.value_size = sizeof(uint64_t),
		.max_entries = 2,
	};
	int map = bpf(BPF_MAP_CREATE, &map_attr), program, fd;
	struct ring ring;

	if (map < 0)
		SKIP(return, "no BPF");
	program = load_counter(map, self->area);
	ASSERT_LE(0, program);
	fd = open_samples(&ring);
	if (fd < 0)
		SKIP(return, "no perf events");
	ASSERT_EQ(0, ioctl(fd, PERF_EVENT_IOC_SET_BPF, program));
	while (map_value(map, 0) + map_value(map, 1) < 100)
		fill(memory, LENGTH);
	close(fd);
	EXPECT_EQ(0, map_value(map, 1));
	close(program);
	close(map);
}

static volatile uintptr_t slots;
static volatile int signals, seen_in_slot, elsewhere;

static void on_alarm(int sig, siginfo_t *info, void *context)
{
	uintptr_t ip = ((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP];

	signals++;
	if (!is_hidden(slots, ip))
		seen_in_slot++;
	/* The instruction has been completed, or has not begun. */
	if (ip == (uintptr_t)fill_rep)
		elsewhere++;
}

TEST_F(hidden, from_signal_handlers)
{
	struct itimerval often = { { 0, 1500 }, { 0, 1500 } }, never = {};
	struct sigaction action = { .sa_sigaction = on_alarm, .sa_flags = SA_SIGINFO };
	struct timespec begin, end;
	struct ubp_test_count count;
	int i;

	slots = self->area;
	ASSERT_EQ(0, sigaction(SIGALRM, &action, NULL));
	ASSERT_EQ(0, setitimer(ITIMER_REAL, &often, NULL));
	/*
	 * If a signal made the instruction step, each call would take more than
	 * a second.
	 */
	clock_gettime(CLOCK_MONOTONIC, &begin);
	for (i = 0; i < 200; i++)
		fill(memory, LENGTH);
	clock_gettime(CLOCK_MONOTONIC, &end);
	ASSERT_EQ(0, setitimer(ITIMER_REAL, &never, NULL));
	EXPECT_LT(end.tv_sec - begin.tv_sec, 20);
	EXPECT_GT(signals, 0);
	EXPECT_EQ(0, seen_in_slot);
	EXPECT_EQ(0, elsewhere);
	ASSERT_EQ(0, ubp_count(self->dev, self->id, &count));
	EXPECT_EQ(200, count.task_hits);
}

static atomic_bool enough;

/* Competes for the CPU with other threads. */
static void *compete(void *unused)
{
	while (!enough)
		sched_yield();
	return NULL;
}

static void stay_on_one_processor(void)
{
	cpu_set_t first;

	CPU_ZERO(&first);
	CPU_SET(sched_getcpu(), &first);
	sched_setaffinity(0, sizeof(first), &first);
}

/*
 * Each run that is preempted, or gets a signal, in the instruction must be
 * aborted.
 */
TEST_F(hidden, from_restartable_sequences)
{
	struct itimerval often = { { 0, 3000 }, { 0, 3000 } }, never = {};
	struct sigaction action = { .sa_sigaction = on_alarm, .sa_flags = SA_SIGINFO };
	struct rseq *rseq = (void *)((char *)__builtin_thread_pointer() + __rseq_offset);
	struct ubp_test_count count;
	int native = 0, probed = 0, id, i;
	pthread_t other;

	if (!__rseq_size)
		SKIP(return, "the C library has not registered rseq");
	stay_on_one_processor();
	ASSERT_EQ(0, pthread_create(&other, NULL, compete, NULL));
	for (i = 0; i < 400; i++)
		native += fill_section(memory, LENGTH, (volatile uint64_t *)&rseq->rseq_cs);
	id = ubp_insert(self->dev, 0, fill_section_rep, UBP_TEST_TASK, NULL);
	ASSERT_GT(id, 0);
	for (i = 0; i < 400; i++)
		probed += fill_section(memory, LENGTH, (volatile uint64_t *)&rseq->rseq_cs);
	TH_LOG("aborted: %d of 400, and %d with a breakpoint", native, probed);
	EXPECT_GT(native, 0);
	EXPECT_GT(probed, native / 4);

	/* The instruction is completed before a signal is delivered. */
	slots = self->area;
	ASSERT_EQ(0, sigaction(SIGALRM, &action, NULL));
	ASSERT_EQ(0, setitimer(ITIMER_REAL, &often, NULL));
	for (i = 0; i < 400; i++)
		fill_section(memory, LENGTH, (volatile uint64_t *)&rseq->rseq_cs);
	ASSERT_EQ(0, setitimer(ITIMER_REAL, &never, NULL));
	EXPECT_GT(signals, 0);
	EXPECT_EQ(0, seen_in_slot);
	enough = true;
	ASSERT_EQ(0, pthread_join(other, NULL));
	ASSERT_EQ(0, ubp_count(self->dev, id, &count));
	EXPECT_EQ(800, count.task_hits);
}

TEST_F(hidden, from_ptrace)
{
	int status, i, inside = 0;
	uintptr_t ip;
	pid_t child;

	/* A child, which does not inherit breakpoints of its parent. */
	child = fork();
	ASSERT_GE(child, 0);
	if (!child) {
		for (;;)
			fill(memory, 8192);
	}
	ASSERT_GT(ubp_insert(self->dev, child, fill_rep, UBP_TEST_TASK, NULL), 0);
	ASSERT_EQ(0, ptrace(PTRACE_SEIZE, child, NULL, NULL));
	for (i = 0; i < 200; i++) {
		usleep(rand() % 2000);
		ASSERT_EQ(0, ptrace(PTRACE_INTERRUPT, child, NULL, NULL));
		ASSERT_EQ(child, waitpid(child, &status, 0));
		ASSERT_TRUE(WIFSTOPPED(status));
		ip = ptrace(PTRACE_PEEKUSER, child, offsetof(struct user_regs_struct, rip), NULL);
		inside += ip >= (uintptr_t)fill && ip <= (uintptr_t)fill_next + 2;
		ASSERT_EQ(0, ptrace(PTRACE_CONT, child, NULL, NULL));
	}
	/*
	 * Nearly all stops are in fill(); the others are on the way back from
	 * system calls.
	 */
	EXPECT_GT(inside, 150);
	kill(child, SIGKILL);
	waitpid(child, &status, 0);
}

TEST_HARNESS_MAIN

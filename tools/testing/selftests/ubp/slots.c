// SPDX-License-Identifier: GPL-2.0
/*
 * Tests of slots: when a process gets the mapping in which displaced
 * instructions are executed, and when the mapping is removed, even if threads
 * may be in it.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "texts.h"
#include "ubp_selftest.h"
#include "kselftest_harness.h"

#define MANY		1000

/* Returns the number of areas of the process. */
static int areas(void)
{
	FILE *maps = fopen("/proc/self/maps", "r");
	char line[512];
	int count = 0;

	while (maps && fgets(line, sizeof(line), maps))
		count += !!strstr(line, "[uprobes]");
	if (maps)
		fclose(maps);
	return count;
}

/* Waits until a worker has freed all areas, for at most two seconds. */
static int areas_left(void)
{
	int tries;

	for (tries = 0; areas() && tries < 200; tries++)
		usleep(10000);
	return areas();
}

FIXTURE(slots)
{
	int dev;
};

FIXTURE_SETUP(slots)
{
	self->dev = ubp_open();
	if (self->dev < 0)
		SKIP(return, "no %s", UBP_TEST_DEVICE);
	ASSERT_EQ(0, areas());
}

FIXTURE_TEARDOWN(slots)
{
	close(self->dev);
}

TEST_F(slots, nothing_is_mapped_for_what_does_not_gain_by_it)
{
	void *const places[] = { branch_first, branch_jump, branch_call };
	unsigned int plan, i;

	for (i = 0; i < 3; i++) {
		ASSERT_GT(ubp_insert(self->dev, 0, places[i], UBP_TEST_TASK, &plan), 0);
		EXPECT_EQ(UBP_TEST_EMULATE, plan);
	}
	branch_first();
	EXPECT_EQ(0, areas());
}

TEST_F(slots, what_could_be_emulated_is_boosted)
{
	unsigned int plan;
	long value = 42;

	ASSERT_GT(ubp_insert(self->dev, 0, load_first, UBP_TEST_TASK, &plan), 0);
	EXPECT_EQ(UBP_TEST_EMULATE, plan);
	ASSERT_GT(ubp_insert(self->dev, 0, load_ret, UBP_TEST_TASK, &plan), 0);
	EXPECT_EQ(UBP_TEST_EMULATE, plan);
	EXPECT_EQ(42, load_first(&value));
	EXPECT_EQ(1, areas());
}

TEST_F(slots, the_mapping_goes_with_the_last_breakpoint)
{
	struct ubp_test_count count = {};
	unsigned int plan;
	long value = 42;
	int id, other, i;

	for (i = 0; i < 3; i++) {
		id = ubp_insert(self->dev, 0, load_value, UBP_TEST_TASK, &plan);
		ASSERT_GT(id, 0);
		EXPECT_EQ(UBP_TEST_BOOST, plan);
		other = ubp_insert(self->dev, 0, load_swap, UBP_TEST_TASK, &plan);
		ASSERT_GT(other, 0);
		EXPECT_EQ(UBP_TEST_BOOST, plan);
		EXPECT_EQ(1, areas());
		EXPECT_EQ(42, load_first(&value));
		ASSERT_EQ(0, ubp_remove(self->dev, id));
		usleep(100000);
		EXPECT_EQ(1, areas());
		EXPECT_EQ(42, load_first(&value));
		count.id = other;
		ASSERT_EQ(0, ubp_count(self->dev, other, &count));
		EXPECT_EQ(2, count.task_hits);
		ASSERT_EQ(0, ubp_remove(self->dev, other));
		EXPECT_EQ(0, areas_left());
		EXPECT_EQ(42, load_first(&value));
	}
}

TEST_F(slots, as_many_areas_as_needed)
{
	/*
	 * Code with enough bswap %rax to need several pages of slots, followed
	 * by ret.
	 */
	static const unsigned char bswap[] = { 0x48, 0x0f, 0xc8 };
	unsigned char *code = mmap(NULL, UBP_PAGE, PROT_READ | PROT_WRITE | PROT_EXEC,
				   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	long (*run)(void) = (void *)code;
	struct ubp_test_count count;
	static int ids[MANY];
	int i;

	ASSERT_NE(MAP_FAILED, code);
	for (i = 0; i < MANY; i++)
		memcpy(code + i * 3, bswap, 3);
	code[MANY * 3] = 0xc3;
	for (i = 0; i < MANY; i++) {
		ids[i] = ubp_insert(self->dev, 0, code + i * 3, UBP_TEST_INTERRUPT, NULL);
		ASSERT_GT(ids[i], 0);
	}
	/* A page has at most 128 slots. */
	EXPECT_GE(areas(), MANY / 128);
	run();
	run();
	for (i = 0; i < MANY; i++) {
		ASSERT_EQ(0, ubp_count(self->dev, ids[i], &count));
		ASSERT_EQ(2, count.interrupt_hits);
	}
	/* Closing the file removes all breakpoints. */
	close(self->dev);
	EXPECT_EQ(0, areas_left());
	for (i = 0; i < MANY; i++)
		ASSERT_EQ(0, memcmp(code + i * 3, bswap, 3));
	self->dev = ubp_open();
}

static volatile uintptr_t fault_ip, fault_addr;

static void on_fault(int sig, siginfo_t *info, void *context)
{
	ucontext_t *uc = context;

	fault_ip = uc->uc_mcontext.gregs[REG_RIP];
	fault_addr = (uintptr_t)info->si_addr;
	uc->uc_mcontext.gregs[REG_RIP] = (uintptr_t)call_fault;
}

/*
 * Makes the thread fault at a call that pushes to inaccessible memory. Returns
 * the stack pointer at the fault, or NULL on failure.
 */
static char *fault_at_call(int direct)
{
	struct sigaction action = { .sa_sigaction = on_fault,
				    .sa_flags = SA_SIGINFO | SA_ONSTACK };
	stack_t altstack = { .ss_sp = malloc(65536), .ss_size = 65536 };
	char *hole = mmap(NULL, 2 * UBP_PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (hole == MAP_FAILED || sigaltstack(&altstack, NULL) ||
	    sigaction(SIGSEGV, &action, NULL))
		return NULL;
	call_first(hole + UBP_PAGE, direct);
	return hole + UBP_PAGE;
}

TEST_F(slots, an_emulation_that_cannot_be_exact_gets_a_slot_for_the_time)
{
	unsigned int plan;
	char *stack;
	int id;

	id = ubp_insert(self->dev, 0, call_indirect, UBP_TEST_TASK, &plan);
	ASSERT_GT(id, 0);
	EXPECT_EQ(UBP_TEST_EMULATE, plan);
	EXPECT_EQ(0, areas());
	stack = fault_at_call(0);
	ASSERT_NE(NULL, stack);
	EXPECT_EQ((uintptr_t)call_indirect, fault_ip);
	EXPECT_EQ((uintptr_t)stack - 8, fault_addr);
	EXPECT_EQ(1, areas());
	ASSERT_EQ(0, ubp_remove(self->dev, id));
	EXPECT_EQ(0, areas_left());
}

TEST_F(slots, a_call_that_faults_in_its_slot_is_at_its_place)
{
	struct ubp_test_count count = {};
	unsigned int plan;
	char *stack;

	count.id = ubp_insert(self->dev, 0, call_direct, UBP_TEST_TASK, &plan);
	ASSERT_GT(count.id, 0);
	EXPECT_EQ(UBP_TEST_EMULATE, plan);
	EXPECT_EQ(1, areas());
	stack = fault_at_call(1);
	ASSERT_NE(NULL, stack);
	EXPECT_EQ((uintptr_t)call_direct, fault_ip);
	EXPECT_EQ((uintptr_t)stack - 8, fault_addr);
	ASSERT_EQ(0, ubp_count(self->dev, count.id, &count));
	EXPECT_EQ(1, count.task_hits);
	ASSERT_EQ(0, ubp_remove(self->dev, count.id));
	EXPECT_EQ(0, areas_left());
}

static volatile pid_t thread_id;

static void *load_in_thread(void *from)
{
	thread_id = syscall(SYS_gettid);
	return (void *)load_first(from);
}

/* Returns the instruction pointer of a waiting thread, as shown in /proc. */
static uintptr_t proc_ip(pid_t tid)
{
	uintptr_t ip = 0;
	char path[64];
	FILE *file;
	int tries;

	snprintf(path, sizeof(path), "/proc/self/task/%d/syscall", tid);
	for (tries = 0; !ip && tries < 200; tries++) {
		file = fopen(path, "r");
		if (!file)
			return 0;
		if (fscanf(file, "%*d %*x %lx", &ip) != 1)
			usleep(10000);
		fclose(file);
	}
	return ip;
}

TEST_F(slots, a_thread_in_a_slot_is_led_out)
{
	static long source[UBP_PAGE / sizeof(long)];
	struct uffdio_copy copy = { .src = (uintptr_t)source, .len = UBP_PAGE };
	struct uffd_msg message;
	pthread_t thread;
	void *value;
	int uffd, id;
	char *page = ubp_unserved_page(&uffd);

	if (!page)
		SKIP(return, "no userfaultfd");
	source[0] = 4711;
	id = ubp_insert(self->dev, 0, load_value, UBP_TEST_TASK, NULL);
	ASSERT_GT(id, 0);
	ASSERT_EQ(0, pthread_create(&thread, NULL, load_in_thread, page));
	/* The thread waits within the instruction. */
	ASSERT_EQ((ssize_t)sizeof(message), read(uffd, &message, sizeof(message)));
	ASSERT_EQ(UFFD_EVENT_PAGEFAULT, message.event);
	EXPECT_EQ((uintptr_t)load_value, proc_ip(thread_id));
	ASSERT_EQ(0, ubp_remove(self->dev, id));
	EXPECT_EQ(0, areas_left());
	EXPECT_EQ((uintptr_t)load_value, proc_ip(thread_id));
	copy.dst = (uintptr_t)page;
	ASSERT_EQ(0, ioctl(uffd, UFFDIO_COPY, &copy));
	ASSERT_EQ(0, pthread_join(thread, &value));
	EXPECT_EQ(4711, (long)value);
	close(uffd);
}

TEST_HARNESS_MAIN

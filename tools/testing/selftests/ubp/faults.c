// SPDX-License-Identifier: GPL-2.0
/*
 * Tests of displaced instructions with page faults that wait for user mode:
 * other threads must not wait for them.
 */
#define _GNU_SOURCE
#include <linux/userfaultfd.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#include "texts.h"
#include "ubp_selftest.h"
#include "kselftest_harness.h"

/* Only the test serves faults of @page, through @uffd. */
FIXTURE(faults)
{
	int dev;
	int uffd;
	char *page;
	int id;
	pthread_t thread;
};

FIXTURE_SETUP(faults)
{
	self->dev = ubp_open();
	if (self->dev < 0)
		SKIP(return, "no %s", UBP_TEST_DEVICE);
	self->page = ubp_unserved_page(&self->uffd);
	if (!self->page)
		SKIP(return, "no userfaultfd");
}

FIXTURE_TEARDOWN(faults)
{
	close(self->uffd);
	close(self->dev);
}

static void serve(int uffd, char *page)
{
	struct uffdio_zeropage zero = { .range = { (uintptr_t)page, UBP_PAGE } };

	if (ioctl(uffd, UFFDIO_ZEROPAGE, &zero))
		abort();
}

/* Waits until a thread sleeps in a page fault. */
static bool wait_for_fault(int uffd)
{
	struct uffd_msg message;

	return read(uffd, &message, sizeof(message)) == sizeof(message) &&
	       message.event == UFFD_EVENT_PAGEFAULT;
}

#define EXPECT_TASK_HITS(expected, which) do {				\
	struct ubp_test_count __count;					\
	ASSERT_EQ(0, ubp_count(self->dev, which, &__count));		\
	EXPECT_EQ(expected, __count.task_hits);				\
} while (0)

static void *call_in_thread(void *stack)
{
	call_first(stack, 0);
	return stack;
}

TEST_F(faults, removals_do_not_wait_for_an_emulated_instruction)
{
	unsigned int plan;
	int other, i;

	self->id = ubp_insert(self->dev, 0, call_indirect, UBP_TEST_TASK, &plan);
	ASSERT_GT(self->id, 0);
	EXPECT_EQ(UBP_TEST_EMULATE, plan);
	ASSERT_EQ(0, pthread_create(&self->thread, NULL, call_in_thread, self->page + UBP_PAGE));
	ASSERT_TRUE(wait_for_fault(self->uffd));
	for (i = 0; i < 3; i++) {
		other = ubp_insert(self->dev, 0, branch_first, UBP_TEST_TASK, NULL);
		ASSERT_GT(other, 0);
		branch_first();
		EXPECT_TASK_HITS(1, other);
		ASSERT_EQ(0, ubp_remove(self->dev, other));
	}
	serve(self->uffd, self->page);
	ASSERT_EQ(0, pthread_join(self->thread, NULL));
	EXPECT_EQ((uintptr_t)call_direct,
		  *(uintptr_t *)(self->page + UBP_PAGE - sizeof(uintptr_t)));
	EXPECT_TASK_HITS(1, self->id);
	EXPECT_EQ(0, ubp_remove(self->dev, self->id));
}

/* The thread's own breakpoint can also be removed while the thread waits. */
TEST_F(faults, a_breakpoint_goes_while_its_instruction_is_emulated)
{
	self->id = ubp_insert(self->dev, 0, call_indirect, UBP_TEST_TASK, NULL);
	ASSERT_GT(self->id, 0);
	ASSERT_EQ(0, pthread_create(&self->thread, NULL, call_in_thread, self->page + UBP_PAGE));
	ASSERT_TRUE(wait_for_fault(self->uffd));
	ASSERT_EQ(0, ubp_remove(self->dev, self->id));
	serve(self->uffd, self->page);
	ASSERT_EQ(0, pthread_join(self->thread, NULL));
	EXPECT_EQ((uintptr_t)call_direct,
		  *(uintptr_t *)(self->page + UBP_PAGE - sizeof(uintptr_t)));
}

static struct {
	int uffd;
	char *page;
	volatile uintptr_t ip;
	volatile int signals;
} handler;

static void on_signal(int sig, siginfo_t *info, void *context)
{
	ucontext_t *uc = context;

	handler.ip = uc->uc_mcontext.gregs[REG_RIP];
	handler.signals++;
	if (sig == SIGSEGV)
		uc->uc_mcontext.gregs[REG_RIP] = (uintptr_t)load_swap;
	else
		serve(handler.uffd, handler.page);
}

static bool handle(int sig)
{
	struct sigaction action = {
		.sa_sigaction = on_signal,
		.sa_flags = SA_SIGINFO | SA_ONSTACK,
	};

	return !sigaction(sig, &action, NULL);
}

static void *load_in_thread(void *from)
{
	return (void *)load_first(from);
}

/* The signal's handler serves the fault that the instruction waits for. */
TEST_F(faults, a_signal_does_not_wait_for_a_boosted_instruction)
{
	void *value;

	handler.uffd = self->uffd;
	handler.page = self->page;
	ASSERT_TRUE(handle(SIGUSR1));
	self->id = ubp_insert(self->dev, 0, load_value, UBP_TEST_TASK, NULL);
	ASSERT_GT(self->id, 0);
	ASSERT_EQ(0, pthread_create(&self->thread, NULL, load_in_thread, self->page));
	ASSERT_TRUE(wait_for_fault(self->uffd));
	ASSERT_EQ(0, pthread_kill(self->thread, SIGUSR1));
	ASSERT_EQ(0, pthread_join(self->thread, &value));
	EXPECT_EQ(NULL, value);
	EXPECT_EQ(1, handler.signals);
	EXPECT_EQ((uintptr_t)load_value, handler.ip);
	EXPECT_EQ(0, ubp_remove(self->dev, self->id));
}

static void *call_on_altstack(void *stack)
{
	stack_t altstack = { .ss_sp = malloc(65536), .ss_size = 65536 };

	if (sigaltstack(&altstack, NULL))
		return NULL;
	return call_in_thread(stack);
}

/* The instruction is emulated if its memory is present, and stepped here. */
TEST_F(faults, a_signal_does_not_wait_for_a_stepped_instruction)
{
	handler.uffd = self->uffd;
	handler.page = self->page;
	ASSERT_TRUE(handle(SIGUSR1));
	self->id = ubp_insert(self->dev, 0, call_indirect, UBP_TEST_TASK, NULL);
	ASSERT_GT(self->id, 0);
	ASSERT_EQ(0, pthread_create(&self->thread, NULL, call_on_altstack, self->page + UBP_PAGE));
	ASSERT_TRUE(wait_for_fault(self->uffd));
	ASSERT_EQ(0, pthread_kill(self->thread, SIGUSR1));
	ASSERT_EQ(0, pthread_join(self->thread, NULL));
	EXPECT_EQ(1, handler.signals);
	EXPECT_EQ((uintptr_t)call_indirect, handler.ip);
	EXPECT_EQ((uintptr_t)call_direct,
		  *(uintptr_t *)(self->page + UBP_PAGE - sizeof(uintptr_t)));
	EXPECT_EQ(0, ubp_remove(self->dev, self->id));
}

/*
 * A process with a single thread, which waits for a fault that is served on
 * request.
 */
struct waiting {
	pid_t pid;
	int waits[2];
	int go_on[2];
};

static void *serve_when_told(void *arg)
{
	struct waiting *waiting = arg;
	char byte = 0;

	if (!wait_for_fault(handler.uffd) || write(waiting->waits[1], &byte, 1) != 1 ||
	    read(waiting->go_on[0], &byte, 1) != 1)
		_exit(3);
	serve(handler.uffd, handler.page);
	return NULL;
}

static void wait_and_exit(struct waiting *waiting)
{
	pthread_t thread;
	int dev = ubp_open(), id;

	handler.page = ubp_unserved_page(&handler.uffd);
	id = ubp_insert(dev, 0, load_value, UBP_TEST_TASK, NULL);
	if (!handler.page || id <= 0 ||
	    pthread_create(&thread, NULL, serve_when_told, waiting))
		_exit(2);
	_exit(load_first((long *)handler.page) ? 4 : 0);
}

TEST_F(faults, a_process_stops_while_its_instruction_waits)
{
	struct waiting waiting;
	int status;
	char byte;

	ASSERT_EQ(0, pipe(waiting.waits));
	ASSERT_EQ(0, pipe(waiting.go_on));
	waiting.pid = fork();
	ASSERT_LE(0, waiting.pid);
	if (!waiting.pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		wait_and_exit(&waiting);
	}
	ASSERT_EQ(1, read(waiting.waits[0], &byte, 1));
	ASSERT_EQ(0, kill(waiting.pid, SIGSTOP));
	ASSERT_EQ(waiting.pid, waitpid(waiting.pid, &status, WUNTRACED));
	EXPECT_TRUE(WIFSTOPPED(status));
	ASSERT_EQ(0, kill(waiting.pid, SIGCONT));
	ASSERT_EQ(waiting.pid, waitpid(waiting.pid, &status, WCONTINUED));
	EXPECT_TRUE(WIFCONTINUED(status));
	ASSERT_EQ(1, write(waiting.go_on[1], &byte, 1));
	ASSERT_EQ(waiting.pid, waitpid(waiting.pid, &status, 0));
	EXPECT_EQ(0, status);
}

TEST_F(faults, a_forced_signal_does_not_wait)
{
	long value = 42;

	ASSERT_TRUE(handle(SIGSEGV));
	self->id = ubp_insert(self->dev, 0, load_value, UBP_TEST_FORCE, NULL);
	ASSERT_GT(self->id, 0);
	/* The signal's handler skips the instruction. */
	EXPECT_EQ(0, load_first(&value));
	EXPECT_EQ(1, handler.signals);
	EXPECT_EQ((uintptr_t)load_value, handler.ip);
	EXPECT_EQ(0, ubp_remove(self->dev, self->id));
}

/*
 * Returns whether the kernel logs, from now on, a line that contains both
 * words.
 */
static bool logged(int kmsg, const char *first, const char *second)
{
	char record[2048];
	ssize_t length;

	while ((length = read(kmsg, record, sizeof(record) - 1)) > 0) {
		record[length] = 0;
		if (strstr(record, first) && strstr(record, second))
			return true;
	}
	return false;
}

TEST_F(faults, the_log_tells_of_a_fault_at_the_instruction)
{
	char segfault[64], code[] = "Code: ", bytes[] = "<f0> 48 0f c1 07";
	int kmsg = open("/dev/kmsg", O_RDONLY | O_NONBLOCK);
	int status;
	pid_t pid;

	ASSERT_LE(0, kmsg);
	ASSERT_LE(0, lseek(kmsg, 0, SEEK_END));
	self->id = ubp_insert(self->dev, 0, load_value, UBP_TEST_TASK, NULL);
	ASSERT_GT(self->id, 0);
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		int dev = ubp_open();

		signal(SIGSEGV, SIG_DFL);
		if (dev >= 0 && ubp_insert(dev, 0, load_value, UBP_TEST_TASK, NULL) > 0)
			load_first(NULL);
		_exit(2);
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_TRUE(WIFSIGNALED(status));
	snprintf(segfault, sizeof(segfault), "[%d]: segfault at 0 ip %016lx", pid,
		 (unsigned long)load_value);
	EXPECT_TRUE(logged(kmsg, segfault, ""));
	EXPECT_TRUE(logged(kmsg, code, bytes));
	close(kmsg);
}

#define INSTANCE	"/sys/kernel/tracing/instances/ubp_faults"

static bool set(const char *file, const char *value)
{
	int fd = open(file, O_WRONLY);
	bool done = fd >= 0 && write(fd, value, strlen(value)) == (ssize_t)strlen(value);

	close(fd);
	return done;
}

TEST_F(faults, a_trace_event_tells_of_a_fault_at_the_instruction)
{
	const char *enable = INSTANCE "/events/exceptions/page_fault_user/enable";
	char line[512], address[32], ip[32];
	long *page = mmap(NULL, UBP_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			  -1, 0);
	bool found = false;
	FILE *trace;

	ASSERT_NE(MAP_FAILED, page);
	if (mkdir(INSTANCE, 0700))
		SKIP(return, "no tracefs");
	self->id = ubp_insert(self->dev, 0, load_value, UBP_TEST_TASK, NULL);
	ASSERT_GT(self->id, 0);
	if (!set(enable, "1")) {
		rmdir(INSTANCE);
		SKIP(return, "no event exceptions:page_fault_user");
	}
	EXPECT_EQ(0, load_first(page));
	EXPECT_TRUE(set(enable, "0"));
	snprintf(address, sizeof(address), "address=0x%lx ", (unsigned long)page);
	snprintf(ip, sizeof(ip), "ip=0x%lx ", (unsigned long)load_value);
	trace = fopen(INSTANCE "/trace", "r");
	ASSERT_NE(NULL, trace);
	while (!found && fgets(line, sizeof(line), trace)) {
		found = strstr(line, address);
		if (found)
			EXPECT_NE(NULL, strstr(line, ip)) TH_LOG("%s", line);
	}
	EXPECT_TRUE(found);
	fclose(trace);
	EXPECT_EQ(0, rmdir(INSTANCE));
}

TEST_HARNESS_MAIN

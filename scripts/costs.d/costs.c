// SPDX-License-Identifier: GPL-2.0
/*
 * In the guest, with `-icount shift=0` and one processor: the time-stamp
 * counter counts instructions. Prints how many some operations take, in user
 * mode and in the kernel together: a line NAME INSTRUCTIONS for each.
 *
 *	costs [attached|traced]
 *
 * Each figure is the difference between a long and a short loop, divided by
 * the difference of their lengths; what is around the loops cancels. Of each
 * loop the fewest instructions of all rounds count: then no timer interrupt
 * came in between, where the loop is shorter than a tick (4,000,000).
 *
 * attached: meanwhile another process has a utrace engine with all events.
 * traced: meanwhile another process's system calls are trace events. In both
 * cases it is checked that there are events of that process.
 */
#define _GNU_SOURCE
#include <err.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "utrace_test.h"

#define PAGES		512
#define TRACEFS		"/sys/kernel/tracing/"

/* Of <linux/utrace.h>, which is not for programs. */
#define UTRACE_ATTACH_CREATE	0x0010
#define UTRACE_ALL_EVENTS	0xffff

static inline uint64_t instructions(void)
{
	uint32_t low, high;

	asm volatile("rdtsc" : "=a"(low), "=d"(high) :: "memory");
	return (uint64_t)high << 32 | low;
}

/* Two instructions an iteration, to see that it is these that are counted. */
static uint64_t nothing(long n)
{
	uint64_t start = instructions();

	asm volatile("1: dec %0; jnz 1b" : "+r"(n) :: "cc");
	return instructions() - start;
}

static uint64_t null_syscall(long n)
{
	uint64_t start = instructions();

	asm volatile("1: mov %1, %%eax; syscall; dec %0; jnz 1b"
		     : "+r"(n) : "i"(SYS_getppid) : "rax", "rcx", "r11", "memory", "cc");
	return instructions() - start;
}

/* First accesses to anonymous pages, not the taking away of these. */
static uint64_t page_fault(long n, int writing)
{
	static char *memory;
	uint64_t start;

	if (!memory) {
		memory = mmap(NULL, PAGES * 4096, PROT_READ | PROT_WRITE,
			      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (memory == MAP_FAILED || madvise(memory, PAGES * 4096, MADV_NOHUGEPAGE))
			err(1, "mmap");
		memset(memory, 1, PAGES * 4096);
	}
	if (madvise(memory, PAGES * 4096, MADV_DONTNEED))
		err(1, "madvise");
	start = instructions();
	for (volatile char *page = memory; n; n--, page += 4096) {
		if (writing)
			*page = 1;
		else
			*page;
	}
	return instructions() - start;
}

/* A page is taken and cleared, which is 4096 instructions. */
static uint64_t page_fault_write(long n)
{
	return page_fault(n, 1);
}

/* The zero page. */
static uint64_t page_fault_read(long n)
{
	return page_fault(n, 0);
}

static uint64_t fork_exit_wait(long n)
{
	uint64_t start = instructions();

	for (; n; n--) {
		pid_t pid = fork();

		if (pid == 0)
			_exit(0);
		if (pid < 0 || waitpid(pid, NULL, 0) != pid)
			err(1, "fork, wait");
	}
	return instructions() - start;
}

/* Writes and reads a byte; the reading one is switched to, and back. */
static uint64_t switch_pair(long n)
{
	static int there[2], back[2];
	static pid_t partner;
	uint64_t start;
	char byte = 0;

	if (!partner) {
		if (pipe(there) || pipe(back))
			err(1, "pipe");
		partner = fork();
		if (partner == 0) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			while (read(there[0], &byte, 1) == 1 && write(back[1], &byte, 1) == 1)
				;
			_exit(0);
		}
	}
	start = instructions();
	for (; n; n--)
		if (write(there[1], &byte, 1) != 1 || read(back[0], &byte, 1) != 1)
			err(1, "pipe");
	return instructions() - start;
}

/* For scripts/bench: what is not compared with recorded figures. */
#ifdef BENCH
#define EXIT "exit"	/* the argument with which this program only exits */

/*
 * This program's file, copied to memory: the guest's root is the host's, and while
 * it waits for the host the clock goes on.
 */
static int program(void)
{
	static int copy = -1;
	char part[4096];
	ssize_t len;
	int file;

	if (copy >= 0)
		return copy;
	file = open("/proc/self/exe", O_RDONLY);
	copy = memfd_create("program", 0);
	if (file < 0 || copy < 0)
		err(1, "program");
	while ((len = read(file, part, sizeof(part))) > 0)
		if (write(copy, part, len) != len)
			err(1, "program");
	if (len < 0)
		err(1, "program");
	close(file);
	return copy;
}

static uint64_t exec_exit_wait(long n)
{
	static char *const arguments[] = { "costs", EXIT, NULL }, *const environment[] = { NULL };
	int file = program(), status;
	uint64_t start = instructions();

	for (; n; n--) {
		pid_t pid = vfork();

		if (pid == 0) {
			fexecve(file, arguments, environment);
			_exit(127);
		}
		if (pid < 0 || waitpid(pid, &status, 0) != pid || status)
			err(1, "vfork, exec, wait");
	}
	return instructions() - start;
}

/* Text of a file, as a library's is mapped: there uprobes would be set. */
static uint64_t mmap_text(long n)
{
	int file = program();
	uint64_t start = instructions();

	for (; n; n--) {
		void *text = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, file, 0);

		if (text == MAP_FAILED || munmap(text, 4096))
			err(1, "mmap");
	}
	return instructions() - start;
}

static uint64_t mmap_munmap(long n)
{
	uint64_t start = instructions();

	for (; n; n--) {
		void *memory = mmap(NULL, 4096, PROT_READ | PROT_EXEC,
				    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		if (memory == MAP_FAILED || munmap(memory, 4096))
			err(1, "mmap");
	}
	return instructions() - start;
}
#endif

static const struct {
	const char *name;
	uint64_t (*spend)(long n);
	long few, many;
	int rounds;
} operations[] = {
	{ "nothing", nothing, 1000, 11000, 5 },
	{ "null_syscall", null_syscall, 500, 2500, 25 },
	{ "page_fault_write", page_fault_write, 56, 256, 25 },
	{ "page_fault_read", page_fault_read, 56, 256, 25 },
	{ "fork_exit_wait", fork_exit_wait, 20, 220, 5 },
	{ "switch_pair", switch_pair, 50, 150, 25 },
#ifdef BENCH
	{ "exec_exit_wait", exec_exit_wait, 1, 8, 40 },
	{ "mmap_munmap", mmap_munmap, 50, 250, 25 },
	{ "mmap_text", mmap_text, 50, 250, 25 },
#endif
};

static void put(const char *file, const char *text)
{
	int fd = open(file, O_WRONLY);

	if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text))
		err(1, "%s", file);
	close(fd);
}

/* Whether the trace has an event of a thread. */
static int traced(pid_t pid)
{
	FILE *trace = fopen(TRACEFS "trace", "r");
	char line[512], tid[16];
	int found = 0;

	snprintf(tid, sizeof(tid), "-%d ", pid);
	while (trace && fgets(line, sizeof(line), trace))
		found |= strstr(line, tid) && strstr(line, ": utrace_sys_enter");
	if (trace)
		fclose(trace);
	return found;
}

/* Another process; it makes a system call each time it is asked to. */
struct other {
	pid_t pid;
	int go[2], done[2];
};

static struct other start_other(void)
{
	struct other other;
	char byte;

	if (pipe(other.go) || pipe(other.done))
		err(1, "pipe");
	other.pid = fork();
	if (other.pid < 0)
		err(1, "fork");
	if (other.pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		while (read(other.go[0], &byte, 1) == 1 && getppid() &&
		       write(other.done[1], &byte, 1) == 1)
			;
		_exit(0);
	}
	return other;
}

static void ask(struct other *other)
{
	char byte = 0;

	if (write(other->go[1], &byte, 1) != 1 || read(other->done[0], &byte, 1) != 1)
		err(1, "pipe");
}

static void attach_to_another(void)
{
	struct other other = start_other();
	struct utrace_test_attach attach = {
		.tid = other.pid, .flags = UTRACE_ATTACH_CREATE,
		.callbacks = UTRACE_TEST_ALL_CALLBACKS, .events = UTRACE_ALL_EVENTS,
	};
	struct utrace_test_record record;
	int dev = open(UTRACE_TEST_DEVICE, O_RDWR | O_NONBLOCK), told = 0;

	if (dev < 0)
		err(1, UTRACE_TEST_DEVICE);
	if (ioctl(dev, UTRACE_TEST_ATTACH_PROCESS, &attach) < 0)
		err(1, "attaching");
	ask(&other);
	while (read(dev, &record, sizeof(record)) == sizeof(record))
		told += record.tid == other.pid && record.callback == UTRACE_TEST_SYSCALL_ENTRY;
	if (!told)
		errx(1, "the engine is told of nothing");
}

static void trace_another(void)
{
	struct other other = start_other();
	char text[16];

	snprintf(text, sizeof(text), "%d", other.pid);
	put(TRACEFS "utrace_syscall_pids", text);
	put(TRACEFS "events/utrace/enable", "1");
	ask(&other);
	if (!traced(other.pid))
		errx(1, "there is no event in the trace");
}

int main(int argc, char **argv)
{
#ifdef BENCH
	if (argc == 2 && !strcmp(argv[1], EXIT))
		return 0;
#endif
	if (argc == 2 && !strcmp(argv[1], "attached"))
		attach_to_another();
	else if (argc == 2 && !strcmp(argv[1], "traced"))
		trace_another();
	else if (argc != 1)
		errx(2, "usage: costs [attached|traced]");

	for (size_t i = 0; i < sizeof(operations) / sizeof(operations[0]); i++) {
		long few = operations[i].few, many = operations[i].many;

		uint64_t less = UINT64_MAX, more = UINT64_MAX;

		for (int round = 0; round < operations[i].rounds; round++) {
			uint64_t spent = operations[i].spend(few);

			less = spent < less ? spent : less;
			spent = operations[i].spend(many);
			more = spent < more ? spent : more;
		}
		printf("%s %.2f\n", operations[i].name, (double)(more - less) / (many - few));
	}
	return 0;
}

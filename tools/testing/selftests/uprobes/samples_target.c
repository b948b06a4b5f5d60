// SPDX-License-Identifier: GPL-2.0
/*
 * The process that samples.sh probes. It prints the address of its function, executes the commands
 * on its standard input, and answers each with one line.
 *
 * With two arguments it loads a module instead.
 */
#define _GNU_SOURCE
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define MAX_THREADS	16

static long executed;

/* Returns its argument plus one, and counts its executions. */
static long __attribute__((naked, noipa)) next_of(long number)
{
	asm("push %%rbp\n\t"
	    "mov %%rsp, %%rbp\n\t"
	    "lock incq %0\n\t"
	    "lea 1(%%rdi), %%rax\n\t"
	    "pop %%rbp\n\t"
	    "ret\n"
	    "next_of_end:\n"
	    : "+m"(executed));
}

static long size_of_function(void)
{
	long size;

	asm("movq $next_of_end - next_of, %0" : "=r"(size));
	return size;
}

static atomic_long wrong;
static atomic_long wrong_value;

static void *call(void *times)
{
	long i;

	for (i = 0; i < (long)times; i++) {
		long result = next_of(i);

		if (result != i + 1) {
			wrong++;
			wrong_value = result;
		}
	}
	return NULL;
}

static void reset_counts(void)
{
	executed = 0;
	wrong = 0;
	wrong_value = 0;
}

/* Prints the number of executions, the number of wrong results, and the last of these. */
static void answer_counts(void)
{
	printf("%ld %ld %ld\n", executed, wrong, wrong_value);
	fflush(stdout);
}

static pthread_t ids[MAX_THREADS];
static int threads;

static void start_threads(int number, void *(*function)(void *), long times)
{
	for (threads = 0; threads < number && threads < MAX_THREADS; threads++)
		if (pthread_create(&ids[threads], NULL, function, (void *)times))
			errx(1, "pthread_create");
}

static void wait_for_threads(void)
{
	while (threads)
		pthread_join(ids[--threads], NULL);
}

static void call_in_threads(long times, int number)
{
	reset_counts();
	start_threads(number, call, times);
	wait_for_threads();
	answer_counts();
}

static atomic_bool halted;
static atomic_long called;

static void *call_until_halted(void *times)
{
	while (!halted) {
		call(times);
		called += (long)times;
	}
	return NULL;
}

static void start_calling(int number)
{
	reset_counts();
	called = 0;
	halted = false;
	start_threads(number, call_until_halted, 100);
}

/* Prints by how many the executions exceed the calls, in place of the executions. */
static void stop_calling(void)
{
	halted = true;
	wait_for_threads();
	executed -= called;
	answer_counts();
}

static void call_in_child(long times)
{
	pid_t pid = fork();

	if (pid < 0)
		err(1, "fork");
	if (pid == 0) {
		reset_counts();
		call((void *)times);
		answer_counts();
		_exit(0);
	}
	waitpid(pid, NULL, 0);
}

static void answer_text(void)
{
	const volatile unsigned char *text = (const unsigned char *)next_of;
	long i;

	for (i = 0; i < size_of_function(); i++)
		printf("%02x", text[i]);
	putchar('\n');
	fflush(stdout);
}

static void obey_line(const char *line)
{
	long times;
	int number;

	if (sscanf(line, "call %ld %d", &times, &number) == 2) {
		call_in_threads(times, number);
	} else if (sscanf(line, "call %ld", &times) == 1) {
		reset_counts();
		call((void *)times);
		answer_counts();
	} else if (sscanf(line, "fork %ld", &times) == 1) {
		call_in_child(times);
	} else if (sscanf(line, "run %d", &number) == 1) {
		start_calling(number);
	} else if (!strcmp(line, "halt\n")) {
		stop_calling();
	} else if (!strcmp(line, "text\n")) {
		answer_text();
	} else {
		exit(0);
	}
}

/* Loads a module, and prints the error by its name. insmod prints texts of its own. */
static int load(const char *path, const char *parameters)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		err(1, "%s", path);
	if (syscall(SYS_finit_module, fd, parameters, 0) == 0)
		puts("loaded");
	else
		printf("%s\n", strerrorname_np(errno));
	return 0;
}

int main(int argc, char **argv)
{
	char line[80];

	if (argc == 3)
		return load(argv[1], argv[2]);
	printf("%p %ld\n", next_of, size_of_function());
	fflush(stdout);
	while (fgets(line, sizeof(line), stdin))
		obey_line(line);
	return 0;
}

// SPDX-License-Identifier: GPL-2.0
/*
 * The process that the modules watch for samples.sh. It executes the command in
 * each line of its standard input, and answers with one line. It prints a line
 * when it starts, also after an exec.
 *
 * With two arguments it loads a module instead.
 */
#define _GNU_SOURCE
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* The first instruction of this function faults. */
void read_from(unsigned long address);
asm(".pushsection .text\n"
	"read_from:\n\t"
	"mov (%rdi), %rax\n\t"
	"ret\n"
	".popsection");

static void answer(const char *format, long a, long b)
{
	printf(format, a, b);
	putchar('\n');
	fflush(stdout);
}

static pid_t thread_id(void)
{
	return syscall(SYS_gettid);
}

/* Prints the thread and the address of the instruction that faults, and executes it. */
static void segv(unsigned long address)
{
	answer("%ld 0x%lx", thread_id(), (long)read_from);
	read_from(address);
}

static void on_segv(int signal, siginfo_t *info, void *context)
{
	static const char text[] = "handled\n";

	if (write(STDOUT_FILENO, text, sizeof(text) - 1) < 0)
		_exit(1);
	_exit(0);
}

static void handle_segv(unsigned long address)
{
	struct sigaction action = {
		.sa_sigaction = on_segv,
		.sa_flags = SA_SIGINFO,
	};

	if (sigaction(SIGSEGV, &action, NULL))
		err(1, "sigaction");
	segv(address);
}

/* Replaces the image by exec, @times times in a row. */
static void exec_self(long times)
{
	char left[24];

	snprintf(left, sizeof(left), "%ld", times - 1);
	execl("/proc/self/exe", "samples_target", left, NULL);
	err(1, "exec");
}

/* Runs @function in a new thread while the leader waits, or exits without the process. */
static void in_thread(void *(*function)(void *), bool then_exit)
{
	pthread_t thread;

	if (pthread_create(&thread, NULL, function, NULL))
		errx(1, "pthread_create");
	if (then_exit)
		syscall(SYS_exit, 1);
	for (;;)
		pause();
}

static void *thread_exec(void *unused)
{
	exec_self(1);
	return NULL;
}

static void *thread_segv(void *unused)
{
	segv(8);
	return NULL;
}

static void *thread_obey(void *unused);

/* Creates a child that exits with 7, and reaps it if @reap. */
static void child(bool reap)
{
	pid_t pid = fork();
	siginfo_t info;

	if (pid < 0)
		err(1, "fork");
	if (pid == 0)
		_exit(7);
	if (waitid(P_PID, pid, &info, WEXITED | (reap ? 0 : WNOWAIT)))
		err(1, "waitid");
	answer("%ld %ld", pid, info.si_status);
}

static void obey_line(char *line)
{
	char *word = strtok(line, "\n ");
	char *rest = strtok(NULL, "\n");
	unsigned long number = rest ? strtoul(rest, NULL, 0) : 0;

	if (!word)
		return;
	if (!strcmp(word, "exit"))
		exit(number);
	else if (!strcmp(word, "exec"))
		exec_self(number);
	else if (!strcmp(word, "segv"))
		segv(number);
	else if (!strcmp(word, "handled-segv"))
		handle_segv(number);
	else if (!strcmp(word, "abort"))
		abort();
	else if (!strcmp(word, "child"))
		child(true);
	else if (!strcmp(word, "zombie"))
		child(false);
	else if (!strcmp(word, "thread-exec"))
		in_thread(thread_exec, false);
	else if (!strcmp(word, "thread-segv"))
		in_thread(thread_segv, false);
	else if (!strcmp(word, "leader-exits"))
		in_thread(thread_obey, true);
	else
		answer("here", 0, 0);
}

static void *thread_obey(void *unused)
{
	char line[80];

	while (fgets(line, sizeof(line), stdin))
		obey_line(line);
	exit(99);
}

/* Loads a module and prints the name of the error, which insmod would replace by a message. */
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
	long left = argc == 2 ? atol(argv[1]) : 0;

	if (argc == 3)
		return load(argv[1], argv[2]);
	if (left > 0)
		exec_self(left);
	/* No buffering, because unread input belongs to the image after the next exec. */
	setvbuf(stdin, NULL, _IONBF, 0);
	answer("ready", 0, 0);
	thread_obey(NULL);
}

/* SPDX-License-Identifier: GPL-2.0 */
/* Calls of probed functions: in this program, in a new one, and in another mapping of the file. */
#ifndef _FILES_CALLS_H
#define _FILES_CALLS_H

#include "files.h"

/* In a program that the test executes: calls the function, and exits. */
__attribute__((constructor)) static void child_program(void)
{
	const char *calls = getenv("FILES_CALLS");
	unsigned long sum = 0;
	int i, n;

	if (!calls)
		return;
	n = atoi(calls);
	for (i = 0; i < n; i++)
		sum += call_probed(probed_nop, 3, 4);
	_exit(sum == n * 7UL ? 0 : 1);
}

static inline int execute(unsigned int calls)
{
	char env[64], *argv[] = { "child", NULL }, *envp[] = { env, NULL };
	int status = -1;
	pid_t child;

	snprintf(env, sizeof(env), "FILES_CALLS=%u", calls);
	child = fork();
	if (!child) {
		execve("/proc/self/exe", argv, envp);
		_exit(2);
	}
	waitpid(child, &status, 0);
	return status;
}

static inline unsigned long call(probed_fn fn, unsigned int times)
{
	unsigned long sum = 0;

	while (times--)
		sum += call_probed(fn, 3, 4);
	return sum;
}

/* Maps the page of a function once more. */
static inline void *map_again(const void *fn, void *at)
{
	size_t page = sysconf(_SC_PAGESIZE), in_page = (unsigned long)fn % page;
	struct place_in_file place = file_at(fn);
	int fd = open(place.path, O_RDONLY | O_CLOEXEC);
	void *map = mmap(at, page, PROT_READ | PROT_EXEC,
			 MAP_PRIVATE | (at ? MAP_FIXED : 0), fd, place.offset - in_page);

	close(fd);
	return map == MAP_FAILED ? NULL : map + in_page;
}

#endif /* _FILES_CALLS_H */

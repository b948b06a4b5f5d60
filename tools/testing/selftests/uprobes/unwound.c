// SPDX-License-Identifier: GPL-2.0
/*
 * The program that unwinders.sh probes. It prints the addresses of its
 * functions. For each line that it reads, it calls them, one within the other.
 * The innermost function obeys the line:
 *
 *	walk	prints its callers, as the C library's unwinder finds them
 *	wait	prints "inside", and waits for another line
 *	spin	keeps the CPU busy for two seconds
 */
#include <execinfo.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

static char line[16];

static void walk(void)
{
	void *callers[32];
	int i, n = backtrace(callers, 32);
	char **names = backtrace_symbols(callers, n);

	for (i = 0; names && i < n; i++) {
		char *from = strchr(names[i], '('), *to = strchr(names[i], '+');

		if (from && to && to > from)
			printf("%.*s ", (int)(to - from - 1), from + 1);
	}
	printf("\n");
}

static void spin(void)
{
	time_t end = time(NULL) + 2;

	while (time(NULL) < end)
		;
}

__attribute_noinline__ int unwound_inner(int n)
{
	switch (line[1]) {
	case 'a':
		if (line[2] == 'l') {
			walk();
			break;
		}
		printf("inside\n");
		if (!fgets(line, sizeof(line), stdin))
			return -1;
		break;
	case 'p':
		spin();
		break;
	}
	return n + 1;
}

__attribute_noinline__ int unwound_middle(int n)
{
	return unwound_inner(n + 1) * 2;
}

__attribute_noinline__ int unwound_outer(int n)
{
	return unwound_middle(n + 1) * 2;
}

int main(void)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	printf("%p %p %p\n", unwound_outer, unwound_middle, unwound_inner);
	while (fgets(line, sizeof(line), stdin)) {
		int result = unwound_outer(1);

		printf("result %d\n", result);
	}
	return 0;
}

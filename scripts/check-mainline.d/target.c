// SPDX-License-Identifier: GPL-2.0
/*
 * A program to be probed, which counts by itself.
 *
 *	target COUNT [wait]
 *
 * It calls work() COUNT times, the functions of libtarget.so as often, and passes two markers
 * (USDT) as often.  At the end it prints "NAME=VALUE" for each count and sum, which is the oracle
 * of the clients' cases.  With "wait", it prints "ready PID" and reads a line before, and one after.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "target.h"

struct pair {
	int first;
	long second;
};

#ifdef MARKERS
#define _SDT_HAS_SEMAPHORES 1
#include <sys/sdt.h>

/* The tracer counts these up and down as it attaches and detaches. */
unsigned short target_plain_semaphore __attribute__((section(".probes")));
unsigned short target_guarded_semaphore __attribute__((section(".probes")));

static void markers(int number, long *guarded)
{
	STAP_PROBE1(target, plain, number);
	if (target_guarded_semaphore) {
		(*guarded)++;
		STAP_PROBE2(target, guarded, number, "guarded");
	}
}
#else
static void markers(int number, long *guarded) {}
#endif

__attribute__((noinline)) int work(int number, struct pair *pair, const char *text)
{
	int doubled = number * 2;

	pair->first = doubled;
	pair->second += strlen(text);
	return doubled + 1;
}

/* A tracer can read it at the first call, as main() has printed it. */
static const char text[] = "words";

__attribute__((noinline)) int caller(int number, struct pair *pair)
{
	return work(number, pair, text);
}

/* Its ten-byte nop is an instruction that mainline replaces by a call. */
asm(".globl nop10\n.type nop10, @function\n"
	"nop10:	.byte 0x66, 0x2e, 0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0\n"
	"	ret\n.size nop10, .-nop10\n");
void nop10(void);

int main(int argc, char **argv)
{
	int count = argc > 1 ? atoi(argv[1]) : 1;
	long numbers = 0, results = 0, guarded = 0;
	struct pair pair = { 0, 0 };
	char line[16];

	setlinebuf(stdout);
	printf("text=%s\n", text);
	if (argc > 2) {
		printf("ready %d\n", getpid());
		if (!fgets(line, sizeof(line), stdin))
			return 2;
	}
	for (int number = 1; number <= count; number++) {
		numbers += number;
		results += caller(number, &pair);
		nop10();
		call_library();
		markers(number, &guarded);
	}
	printf("calls=%d\nnumbers=%ld\nresults=%ld\nlengths=%ld\nguarded=%ld\nlibrary=%d\n",
	       count, numbers, results, pair.second, guarded, count * LIBRARY_FUNCTIONS);
	if (argc > 2 && !fgets(line, sizeof(line), stdin))
		return 0;
	return 0;
}

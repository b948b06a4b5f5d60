// SPDX-License-Identifier: GPL-2.0
/* A library of 64 functions, for a wildcard over all of them. */
#include "target.h"

#define ALL(f, i) f(i, 0) f(i, 1) f(i, 2) f(i, 3) f(i, 4) f(i, 5) f(i, 6) f(i, 7)
#define FUNCTIONS(f) \
	ALL(f, 0) ALL(f, 1) ALL(f, 2) ALL(f, 3) ALL(f, 4) ALL(f, 5) ALL(f, 6) ALL(f, 7)

#define DEFINE(i, j) __attribute__((noinline)) int l_##i##_##j(int x) { return x + i * 8 + j; }
FUNCTIONS(DEFINE)

static volatile int sum;

void call_library(void)
{
#define CALL(i, j) sum = l_##i##_##j(sum);
	FUNCTIONS(CALL)
}

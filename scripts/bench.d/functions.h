/* SPDX-License-Identifier: GPL-2.0 */
/* See functions.S. */
#ifndef FUNCTIONS_H
#define FUNCTIONS_H

#define FOR_EACH_FIRST(what)						\
	what(nop) what(endbr64) what(push) what(mov) what(sub) what(lea) what(rip)	\
	what(call) what(jcc) what(ret) what(lock) what(sse) what(avx)

#define DECLARE_FIRST(name)			\
	void first_##name(long number, const char *string);		\
	extern const char first_##name##_end[];
FOR_EACH_FIRST(DECLARE_FIRST)

/* Functions of MANY_STRIDE bytes, each a no-op and a return. */
enum { MANY = 100000, MANY_STRIDE = 2 };
extern const char many[];

#endif

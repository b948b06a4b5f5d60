// SPDX-License-Identifier: GPL-2.0
/*
 * Functions that return in the ways that C compilers make, built with many
 * options, for 64 and 32 bits, without a library. See languages.py for the
 * protocol.
 */
#define PROBED __attribute__((noipa, used))
#define COUNTED(name) static long calls_##name, returns_##name

/* Makes a call that the caller counts when it returns. */
#define CALL(name, ...) ({ __auto_type __r = probed_##name(__VA_ARGS__); returns_##name++; __r; })

#ifdef __x86_64__
static long syscall3(long number, long a, long b, long c)
{
	long ret;

	asm volatile("syscall" : "=a" (ret) : "a" (number), "D" (a), "S" (b), "d" (c)
		     : "rcx", "r11", "memory");
	return ret;
}

#define SYS_READ	0
#define SYS_WRITE	1
#define SYS_EXIT	60
#define STDCALL
asm(".globl _start\n_start: xor %ebp, %ebp\n\tand $-16, %rsp\n\tcall begin\n\tud2");
#else
static long syscall3(long number, long a, long b, long c)
{
	long ret;

	asm volatile("int $0x80" : "=a" (ret) : "a" (number), "b" (a), "c" (b), "d" (c)
		     : "memory");
	return ret;
}

#define SYS_READ	3
#define SYS_WRITE	4
#define SYS_EXIT	1
#define STDCALL		__attribute__((stdcall))
asm(".globl _start\n_start: xor %ebp, %ebp\n\tand $-16, %esp\n\tcall begin\n\tud2");
#endif

static char out[4096];
static unsigned long used;

static void put(const char *text)
{
	while (*text && used < sizeof(out))
		out[used++] = *text++;
}

static void put_number(unsigned long number)
{
	char digits[24];
	int at = sizeof(digits);

	digits[--at] = '\0';
	do {
		digits[--at] = '0' + number % 10;
		number /= 10;
	} while (number);
	put(digits + at);
}

static void flush(void)
{
	syscall3(SYS_WRITE, 1, (long)out, used);
	used = 0;
}

/* Some options make the compiler call these. */
void *memset(void *to, int byte, unsigned long size)
{
	char *at = to;

	while (size--)
		asm volatile("movb %b1, (%0)" : : "r" (at++), "q" (byte) : "memory");
	return to;
}

void *memcpy(void *to, const void *from, unsigned long size)
{
	char *at = to;
	const char *source = from;

	while (size--) {
		asm volatile("" ::: "memory");
		*at++ = *source++;
	}
	return to;
}

unsigned long __stack_chk_guard = 0x5a5a5a;

void __stack_chk_fail(void)
{
	syscall3(SYS_EXIT, 3, 0, 0);
	__builtin_unreachable();
}

COUNTED(leaf);
PROBED unsigned long probed_leaf(unsigned long a, unsigned long b)
{
	calls_leaf++;
	return a + b;
}

COUNTED(recurse);
PROBED unsigned long probed_recurse(unsigned long n)
{
	calls_recurse++;
	return n ? 1 + CALL(recurse, n - 1) : 0;
}

/* Returns when the function that it tail-calls does, with optimization. */
COUNTED(tail);
PROBED unsigned long probed_tail(unsigned long a, unsigned long b)
{
	calls_tail++;
	returns_leaf++;
	return probed_leaf(a + 1, b);
}

COUNTED(pointer);
static unsigned long (*volatile callee)(unsigned long, unsigned long) = probed_leaf;
PROBED unsigned long probed_pointer(unsigned long a, unsigned long b)
{
	unsigned long sum;

	calls_pointer++;
	sum = callee(a, b);
	returns_leaf++;
	return sum + 1;
}

COUNTED(tail_pointer);
PROBED unsigned long probed_tail_pointer(unsigned long a, unsigned long b)
{
	calls_tail_pointer++;
	returns_leaf++;
	return callee(a, b);
}

COUNTED(table);
PROBED unsigned long probed_table(unsigned long kind, unsigned long a)
{
	calls_table++;
	switch (kind % 8) {
	case 0: return a + 11;
	case 1: return CALL(leaf, a, 5);
	case 2: return a * 3;
	case 3: return CALL(recurse, a % 4);
	case 4: return a ^ 21;
	case 5: return CALL(leaf, a, a);
	case 6: return a << 2;
	default: return a - 1;
	}
}

struct large {
	unsigned long words[8];
};

/* 32-bit code returns from this by `ret $4`. */
COUNTED(large);
PROBED struct large probed_large(unsigned long a)
{
	struct large large;
	int i;

	calls_large++;
	for (i = 0; i < 8; i++)
		large.words[i] = a + i;
	return large;
}

COUNTED(uses_large);
PROBED unsigned long probed_uses_large(unsigned long a)
{
	struct large one, two;

	calls_uses_large++;
	one = CALL(large, a);
	two = CALL(large, a + 1);
	return one.words[3] + two.words[7];
}

COUNTED(popping);
PROBED STDCALL unsigned long probed_popping(unsigned long a, unsigned long b, unsigned long c)
{
	calls_popping++;
	return a * b + c;
}

COUNTED(uses_popping);
PROBED unsigned long probed_uses_popping(unsigned long a)
{
	calls_uses_popping++;
	return CALL(popping, a, 2, 3) + CALL(popping, 1, a, 3);
}

COUNTED(frame);
PROBED unsigned long probed_frame(unsigned long size)
{
	volatile char *bytes = __builtin_alloca(size % 512 + 16);
	unsigned long sum = 0, i;

	calls_frame++;
	for (i = 0; i < size % 512 + 16; i++)
		bytes[i] = i;
	for (i = 0; i < size % 512 + 16; i++)
		sum += bytes[i];
	return sum;
}

COUNTED(variadic);
PROBED unsigned long probed_variadic(int count, ...)
{
	__builtin_va_list list;
	unsigned long sum = 0;

	calls_variadic++;
	__builtin_va_start(list, count);
	while (count--)
		sum += __builtin_va_arg(list, unsigned long);
	__builtin_va_end(list);
	return sum;
}

/* An interpreter jumps to each operation. */
COUNTED(interpret);
PROBED unsigned long probed_interpret(const unsigned char *code, unsigned long acc)
{
	static const void *const operations[] = { &&op_add, &&op_double, &&op_call, &&op_end };

	calls_interpret++;
	goto *operations[*code++];
op_add:
	acc += 3;
	goto *operations[*code++];
op_double:
	acc *= 2;
	goto *operations[*code++];
op_call:
	acc = CALL(leaf, acc, 1);
	goto *operations[*code++];
op_end:
	return acc;
}

/* Never returns when @depth is 0. */
static void *way_out[5];
COUNTED(jump);
PROBED unsigned long probed_jump(unsigned long depth)
{
	calls_jump++;
	if (!depth)
		__builtin_longjmp(way_out, 1);
	return CALL(jump, depth - 1) + 1;
}

COUNTED(catches);
PROBED unsigned long probed_catches(unsigned long depth)
{
	calls_catches++;
	if (__builtin_setjmp(way_out))
		return 77;
	return CALL(jump, depth);
}

COUNTED(floats);
PROBED double probed_floats(double a, double b)
{
	calls_floats++;
	return a * b + 1;
}

/* Compilers put the unlikely part elsewhere. */
COUNTED(cold);
__attribute__((cold, noipa)) static unsigned long unlikely_part(unsigned long a)
{
	return a * 7;
}

PROBED unsigned long probed_cold(unsigned long a)
{
	calls_cold++;
	if (__builtin_expect(a % 16 == 5, 0))
		return unlikely_part(a) + 1;
	return a + 2;
}

static unsigned long iterate(void)
{
	static const unsigned char code[] = { 0, 1, 2, 0, 2, 1, 3 };
	unsigned long sum = 0, i;

	for (i = 0; i < 32; i++) {
		sum += CALL(leaf, i, 1);
		sum += CALL(recurse, i % 16);
		sum += CALL(tail, i, 2);
		sum += CALL(pointer, i, 3);
		sum += CALL(tail_pointer, i, 4);
		sum += CALL(table, i, i);
		sum += CALL(uses_large, i);
		sum += CALL(uses_popping, i);
		sum += CALL(frame, i * 9);
		sum += CALL(variadic, 3, i, i + 1, i + 2);
		sum += CALL(interpret, code, i);
		sum += CALL(catches, i % 5);
		sum += (unsigned long)CALL(floats, i, 2.0);
		sum += CALL(cold, i);
	}
	return sum;
}

#define REPORT(name) do {				\
	put("count " #name " ");			\
	put_number(calls_##name);			\
	put(" ");					\
	put_number(returns_##name);			\
	put("\n");					\
	calls_##name = 0;				\
	returns_##name = 0;				\
} while (0)

static void report(unsigned long sum)
{
	REPORT(leaf);
	REPORT(recurse);
	REPORT(tail);
	REPORT(pointer);
	REPORT(tail_pointer);
	REPORT(table);
	REPORT(large);
	REPORT(uses_large);
	REPORT(popping);
	REPORT(uses_popping);
	REPORT(frame);
	REPORT(variadic);
	REPORT(interpret);
	REPORT(jump);
	REPORT(catches);
	REPORT(floats);
	REPORT(cold);
	put("iterations 1\nsum ");
	put_number(sum);
	put("\ndone\n");
	flush();
}

void __stack_chk_fail_local(void) __attribute__((alias("__stack_chk_fail")));

__attribute__((noreturn, used, force_align_arg_pointer, optimize("no-stack-protector")))
void begin(void)
{
	char byte;

	put("ready\n");
	flush();
	while (syscall3(SYS_READ, 0, (long)&byte, 1) == 1)
		if (byte == '\n')
			report(iterate());
	syscall3(SYS_EXIT, 0, 0, 0);
	__builtin_unreachable();
}

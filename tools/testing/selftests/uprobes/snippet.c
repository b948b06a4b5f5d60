// SPDX-License-Identifier: GPL-2.0
/* Execution of snippets and comparison of their effects (see snippet.h). */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

#include "kselftest.h"
#include "snippet.h"

#define PAGE	4096

unsigned char *snippet_page;

/* Variables of the code in snippet_run.S. */
struct outcome cpu;
uint64_t cpu_entry;
uint64_t cpu_host_sp;

static void on_signal(int signal, siginfo_t *info, void *context)
{
	greg_t *regs = ((ucontext_t *)context)->uc_mcontext.gregs;

	if (signal == SIGTRAP && info->si_code == TRAP_TRACE) {
		if (cpu.steps < 64) {
			cpu.step_ip[cpu.steps] = regs[REG_RIP];
			cpu.step_flags[cpu.steps] = regs[REG_EFL];
		}
		cpu.steps++;
		return;
	}
	cpu.signal = signal;
	cpu.code = info->si_code;
	cpu.address = signal == SIGTRAP ? 0 : (uint64_t)info->si_addr;
	cpu.ip = regs[REG_RIP];
	regs[REG_RIP] = (greg_t)cpu_done;
}

bool snippet_setup(void)
{
	static const int signals[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP };
	struct sigaction action = {
		.sa_sigaction = on_signal,
		.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER,
	};
	static char handler_stack[65536];
	stack_t stack = { .ss_sp = handler_stack, .ss_size = sizeof(handler_stack) };
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(signals); i++)
		if (sigaction(signals[i], &action, NULL))
			return false;
	snippet_page = mmap(NULL, 3 * PAGE, PROT_READ | PROT_WRITE | PROT_EXEC,
			    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	return snippet_page != MAP_FAILED && !sigaltstack(&stack, NULL);
}

void *snippet_place(const struct snippet *snippet)
{
	/* jmp *0(%rip), followed by its target. */
	static const unsigned char jump[] = { 0xff, 0x25, 0, 0, 0, 0 };
	size_t len = snippet->end - snippet->start;
	const void *done = cpu_done;

	memset(snippet_page, 0x90, PAGE);
	memcpy(snippet_page, snippet->start, len);
	memcpy(snippet_page + len, jump, sizeof(jump));
	memcpy(snippet_page + len + sizeof(jump), &done, sizeof(done));
	return snippet_page + (snippet->probe - snippet->start);
}

void snippet_run(uint64_t flags, struct outcome *outcome)
{
	unsigned char *data = snippet_page + PAGE, *stack = data + PAGE;
	unsigned int i;

	memset(&cpu, 0, sizeof(cpu));
	/* Words that look like addresses, and then bytes that do not. */
	for (i = 0; i < PAGE / 2; i += 8)
		*(uint64_t *)(data + i) = (uint64_t)stack + 1024 + i % 256;
	for (; i < PAGE; i++)
		data[i] = i * 37 + i / 256;
	for (i = 0; i < PAGE; i += 8)
		*(uint64_t *)(stack + i) = 0x5a5a000000000000 + i;
	for (i = 0; i < 16; i++)
		cpu.gpr[i] = 0x0123456789abcdef * (i + 1);
	cpu.gpr[AX] = 0x11223344;
	cpu.gpr[CX] = 5;
	cpu.gpr[DX] = 0;
	cpu.gpr[BX] = (uint64_t)data + 2048;
	cpu.gpr[SP] = (uint64_t)stack + 2048;
	cpu.gpr[BP] = (uint64_t)stack + 2560;
	cpu.gpr[SI] = (uint64_t)data + 2176;
	cpu.gpr[DI] = (uint64_t)data + 3072;
	cpu.gpr[8] = 0;
	cpu.gpr[9] = 0x8000000000000000;	/* Not canonical. */
	cpu.gpr[15] = 64;
	for (i = 0; i < 8; i++)
		cpu.vector[i / 2][i % 2] = 0x3ff0000040000000 + (i << 16);
	cpu.flags = flags;
	cpu_entry = (uint64_t)snippet_page;
	cpu_run();
	memcpy(cpu.memory, data, sizeof(cpu.memory));
	*outcome = cpu;
}

void snippet_forget_steps(struct outcome *native, struct outcome *probed)
{
	native->steps = 0;
	probed->steps = 0;
}

static unsigned int differ(const char *name, const char *what, unsigned int number,
			   uint64_t native, uint64_t probed)
{
	if (native == probed)
		return 0;
	printf("# %s: %s %u: native %#llx, probed %#llx\n", name, what, number,
	       (unsigned long long)native, (unsigned long long)probed);
	return 1;
}

unsigned int snippet_compare(const char *name, const struct outcome *native,
			     const struct outcome *probed)
{
	unsigned int i, n = 0;

	for (i = 0; i < 16; i++)
		n += differ(name, "register", i, native->gpr[i], probed->gpr[i]);
	for (i = 0; i < 8; i++)
		n += differ(name, "vector", i, native->vector[i / 2][i % 2],
			    probed->vector[i / 2][i % 2]);
	n += differ(name, "flags", 0, native->flags, probed->flags);
	n += differ(name, "signal", 0, native->signal, probed->signal);
	n += differ(name, "si_code", 0, native->code, probed->code);
	n += differ(name, "si_addr", 0, native->address, probed->address);
	n += differ(name, "ip of the fault", 0, native->ip, probed->ip);
	n += differ(name, "steps", 0, native->steps, probed->steps);
	for (i = 0; i < 64 && i < native->steps && n < 10; i++) {
		n += differ(name, "ip of step", i, native->step_ip[i], probed->step_ip[i]);
		n += differ(name, "flags of step", i, native->step_flags[i],
			    probed->step_flags[i]);
	}
	/* A few wrong bytes are enough. */
	for (i = 0; i < sizeof(native->memory) && n < 20; i++)
		n += differ(name, "memory", i, native->memory[i], probed->memory[i]);
	return n;
}

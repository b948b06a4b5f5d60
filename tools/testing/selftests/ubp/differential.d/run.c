// SPDX-License-Identifier: GPL-2.0
/*
 * Execution of one instruction: see run.h.
 *
 * The handlers are compiled without stack protector, because its canary is in a
 * segment that the instruction may have changed.
 */
#include <stdio.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <x86intrin.h>

#include "disturb.h"
#include "kselftest.h"
#include "run.h"
#include "segments.h"

/* Number of seconds after which a run counts as endless. */
#define PATIENCE	4

#define HWCAP2_FSGSBASE	2

static enum { IDLE, ENTERING, RUNNING } phase;

static const struct start *starting;
static struct outcome *result;
static unsigned int prologue;
static unsigned int run_number;
static bool has_fsgsbase;

/* State of the program at the signal that begins a run. */
static greg_t home_gregs[NGREG];
static uint8_t home_frame[FRAME_MAX];
static sigset_t home_mask;
static struct segments home_segments;
static struct shared_run *shared;

bool run_has_fsgsbase(void)
{
	return has_fsgsbase;
}

/*
 * Restores the program's own segments and flags; the previous segments go to
 * @seen.
 */
static __always_inline void be_at_home(struct segments *seen)
{
	/*
	 * Functions of the C library would fail with alignment checks enabled.
	 */
	__writeeflags(0x202);
	segments_get(seen, has_fsgsbase);
	segments_set(&home_segments, has_fsgsbase);
}

static void on_enter(int signal, siginfo_t *info, void *context)
{
	ucontext_t *uc = context;
	uint8_t *frame = (uint8_t *)uc->uc_mcontext.fpregs;
	unsigned int i;

	if (!frame_size) {
		state_setup(frame);
		return;
	}
	memcpy(home_gregs, uc->uc_mcontext.gregs, sizeof(home_gregs));
	memcpy(home_frame, frame, frame_size);
	home_mask = uc->uc_sigmask;

	for (i = 0; i < GPRS; i++)
		uc->uc_mcontext.gregs[greg_of[i]] = starting->gpr[i];
	uc->uc_mcontext.gregs[REG_IP] = starting->ip - prologue;
	uc->uc_mcontext.gregs[REG_EFL] = starting->flags;
	memcpy(frame, starting->frame, frame_size);
	sigemptyset(&uc->uc_sigmask);
#ifndef __x86_64__
	uc->uc_mcontext.gregs[REG_FS] = case_segments.fs;
	uc->uc_mcontext.gregs[REG_GS] = case_segments.gs;
#endif
	phase = RUNNING;
	if (IS_64BIT)
		segments_set(&case_segments, has_fsgsbase);
}

/* Saves the current state as the result, and returns to the program. */
static void finish(int signal, siginfo_t *info, ucontext_t *uc, const struct segments *seen)
{
	uint8_t *frame = (uint8_t *)uc->uc_mcontext.fpregs;

	phase = IDLE;
	result->signal = signal;
	result->code = info->si_code;
	result->address = signal == SIGALRM ? 0 : (uintptr_t)info->si_addr;
	result->segments = *seen;
	memcpy(result->gregs, uc->uc_mcontext.gregs, sizeof(result->gregs));
#ifdef __x86_64__
	result->cr2 = result->gregs[REG_CR2];
	result->gregs[REG_CR2] = 0;
#else
	result->cr2 = uc->uc_mcontext.cr2;
#endif
	memcpy(result->frame, frame, frame_size);
	memcpy(uc->uc_mcontext.gregs, home_gregs, sizeof(home_gregs));
	memcpy(frame, home_frame, frame_size);
	uc->uc_sigmask = home_mask;
}

static void on_result(int signal, siginfo_t *info, void *context)
{
	ucontext_t *uc = context;
	struct segments seen;

	be_at_home(&seen);
	disturb_end();
	if (phase != RUNNING) {
		static const char text[] = "# an exception of the test itself\n";

		if (write(STDOUT_FILENO, text, sizeof(text) - 1) < 0)
			_exit(4);
		_exit(3);
	}
	/*
	 * A trap at the instruction itself follows an iteration of a string
	 * instruction. With a breakpoint, all iterations are one step.
	 */
	if (signal == SIGTRAP && info->si_code == TRAP_TRACE &&
	    (uintptr_t)uc->uc_mcontext.gregs[REG_IP] == starting->ip) {
		segments_set(&seen, has_fsgsbase);
		return;
	}
	finish(signal, info, uc, &seen);
}

/* Handles signals from outside: disturbances, and the watchdog's. */
static void on_disturbance(int signal, siginfo_t *info, void *context)
{
	static unsigned int ticks, at_run;
	ucontext_t *uc = context;
	uintptr_t ip = uc->uc_mcontext.gregs[REG_IP];
	struct segments seen;

	be_at_home(&seen);
	if (signal == SIGALRM) {
		if (phase != RUNNING || at_run != run_number) {
			ticks = 0;
			at_run = run_number;
		} else if (++ticks == PATIENCE) {
			finish(signal, info, uc, &seen);
			return;
		}
	} else {
		disturb_again();
	}
	disturb_saw(shared, ip);
	segments_set(&seen, has_fsgsbase);
}

static void handle(int signal, void (*handler)(int, siginfo_t *, void *))
{
	struct sigaction action = {
		.sa_sigaction = handler,
		.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART,
	};

	/* Disturbances must not interrupt the handlers. */
	sigfillset(&action.sa_mask);
	sigaction(signal, &action, NULL);
}

bool run_setup(struct shared_run *shared_run, struct rng *rng, unsigned int disturb)
{
	static const int results[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP };
	static uint8_t handler_stack[128 * 1024];
	stack_t stack = { .ss_sp = handler_stack, .ss_size = sizeof(handler_stack) };
	unsigned int i;

	shared = shared_run;
#ifdef __x86_64__
	has_fsgsbase = getauxval(AT_HWCAP2) & HWCAP2_FSGSBASE;
#endif
	if (sigaltstack(&stack, NULL))
		return false;
	handle(SIGUSR1, on_enter);
	raise(SIGUSR1);
	if (!frame_size)
		return false;
	segments_get(&home_segments, has_fsgsbase);
	if (!segments_setup(has_fsgsbase))
		return false;
	for (i = 0; i < ARRAY_SIZE(results); i++)
		handle(results[i], on_result);
	handle(SIGALRM, on_disturbance);
	handle(SIGPROF, on_disturbance);
	return disturb_setup(rng, disturb);
}

void run(const struct start *start, unsigned int prologue_len, struct outcome *outcome)
{
	arena_restore();
	arena_patch(start->patch_at, &start->patch, start->patch_len);
	starting = start;
	prologue = prologue_len;
	run_number++;
	result = outcome;
	phase = ENTERING;
	syscall(SYS_tgkill, getpid(), syscall(SYS_gettid), SIGUSR1);
	arena_save(&outcome->memory);
}

// SPDX-License-Identifier: GPL-2.0
/* Signals that arrive at probed instructions: the addresses that handlers see, and the counts. */
#include <pthread.h>
#include <setjmp.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <time.h>
#include <ucontext.h>

#include "module_fixture.h"

#define PROBES	9
#define SIZE	20

/* Offsets of the instructions in probed_mixed, in the order of their execution. */
static const unsigned int offsets[PROBES] = { 0, 1, 5, 12, 15, 17, 19, 10, 11 };

static unsigned long slots_start, slots_end;
static atomic_uint signals, in_slots, in_function;

/* Finds the mapping of the XOL area. */
static void find_slots(pid_t pid)
{
	char path[32], line[512];
	FILE *maps;

	snprintf(path, sizeof(path), "/proc/%d/maps", pid);
	maps = fopen(path, "r");
	while (maps && fgets(line, sizeof(line), maps)) {
		if (strstr(line, "[uprobes]"))
			sscanf(line, "%lx-%lx", &slots_start, &slots_end);
	}
	if (maps)
		fclose(maps);
}

static bool is_slot(unsigned long ip)
{
	return slots_start <= ip && ip < slots_end;
}

static void note(unsigned long ip)
{
	signals++;
	in_slots += is_slot(ip);
	in_function += ip - (unsigned long)probed_mixed < SIZE;
}

static void on_timer(int signal, siginfo_t *info, void *context)
{
	note(((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP]);
}

static timer_t start_timer(int signal, unsigned int usec)
{
	struct sigevent event = {
		.sigev_notify = SIGEV_THREAD_ID,
		.sigev_signo = signal,
		._sigev_un._tid = syscall(SYS_gettid),
	};
	struct itimerspec when = {
		.it_interval.tv_nsec = usec * 1000L,
		.it_value.tv_nsec = usec * 1000L,
	};
	timer_t timer;

	if (timer_create(CLOCK_MONOTONIC, &event, &timer) ||
	    timer_settime(timer, 0, &when, NULL))
		abort();
	return timer;
}

static void handle(int signal, void (*handler)(int, siginfo_t *, void *), int flags)
{
	struct sigaction action = { .sa_sigaction = handler, .sa_flags = SA_SIGINFO | flags };

	sigaction(signal, &action, NULL);
}

static void probe_all(struct __test_metadata *_metadata, int dev, pid_t pid, int *id)
{
	unsigned int i;

	for (i = 0; i < PROBES; i++) {
		id[i] = dev_register(dev, pid, (char *)probed_mixed + offsets[i],
				     UPROBES_TEST_TASK);
		ASSERT_LT(0, id[i]);
	}
}

static void expect_all(struct __test_metadata *_metadata, int dev, int *id, long long hits)
{
	unsigned int i;

	for (i = 0; i < PROBES; i++) {
		EXPECT_EQ(hits, dev_hits(dev, id[i])) TH_LOG("instruction %u", i);
		ASSERT_EQ(0, dev_unregister(dev, id[i]));
	}
}

TEST_F_TIMEOUT(module, timer_storm, TIMEOUT)
{
	unsigned long long rounds = 0;
	uint64_t end;
	unsigned int wrong = 0;
	timer_t timer;
	int id[PROBES];

	probe_all(_metadata, self->dev, getpid(), id);
	handle(SIGRTMIN, on_timer, SA_RESTART);
	probed_mixed(0, 0);
	find_slots(getpid());
	timer = start_timer(SIGRTMIN, 1000);
	for (end = now_ms() + 3000; now_ms() < end;) {
		unsigned int i;

		for (i = 0; i < 100; i++)
			wrong += probed_mixed(i, 3) != i + 3;
		rounds += 100;
	}
	timer_delete(timer);
	EXPECT_EQ(0, wrong);
	EXPECT_EQ(0, in_slots);
	EXPECT_LT(100, signals);
	TH_LOG("%llu calls, %u signals, %u of them at a probe", rounds, signals, in_function);
	expect_all(_metadata, self->dev, id, rounds + 1);
}

static atomic_ullong thread_rounds;
static atomic_uint thread_wrong;
static atomic_bool stop;

static void *call_with_timer(void *arg)
{
	timer_t timer = start_timer(SIGRTMIN, 1000);

	while (!stop) {
		thread_wrong += probed_mixed(1, 2) != 3;
		thread_rounds++;
	}
	timer_delete(timer);
	return NULL;
}

TEST_F_TIMEOUT(module, timer_storm_in_threads, TIMEOUT)
{
	pthread_t thread[4];
	int id[PROBES];
	unsigned int i;

	probe_all(_metadata, self->dev, getpid(), id);
	handle(SIGRTMIN, on_timer, SA_RESTART);
	probed_mixed(0, 0);
	find_slots(getpid());
	for (i = 0; i < 4; i++)
		ASSERT_EQ(0, pthread_create(&thread[i], NULL, call_with_timer, NULL));
	sleep_ms(3000);
	stop = true;
	for (i = 0; i < 4; i++)
		ASSERT_EQ(0, pthread_join(thread[i], NULL));
	EXPECT_EQ(0, thread_wrong);
	EXPECT_EQ(0, in_slots);
	expect_all(_metadata, self->dev, id, thread_rounds + 1);
}

static unsigned long long nested;

static void on_timer_call(int signal, siginfo_t *info, void *context)
{
	on_timer(signal, info, context);
	nested++;
	if (probed_mixed(40, 2) != 42)
		thread_wrong++;
}

/* The signal handler hits the probes that it interrupted. */
TEST_F_TIMEOUT(module, handler_hits_probe, TIMEOUT)
{
	unsigned long long rounds = 0;
	uint64_t end;
	timer_t timer;
	int id[PROBES];

	probe_all(_metadata, self->dev, getpid(), id);
	handle(SIGRTMIN, on_timer_call, SA_RESTART);
	timer = start_timer(SIGRTMIN, 1000);
	for (end = now_ms() + 2000; now_ms() < end; rounds++)
		thread_wrong += probed_mixed(1, 2) != 3;
	timer_delete(timer);
	EXPECT_EQ(0, thread_wrong);
	EXPECT_LT(0, nested);
	expect_all(_metadata, self->dev, id, rounds + nested);
}

static sigjmp_buf out;

static void on_timer_jump(int signal, siginfo_t *info, void *context)
{
	on_timer(signal, info, context);
	siglongjmp(out, 1);
}

/* The signal handler does not return to the interrupted code. */
TEST_F_TIMEOUT(module, handler_jumps_out, TIMEOUT)
{
	static atomic_uint jumps, rounds, begun;
	timer_t timer;
	int id[PROBES];
	unsigned int i;

	probe_all(_metadata, self->dev, getpid(), id);
	probed_mixed(0, 0);
	find_slots(getpid());
	handle(SIGRTMIN, on_timer_jump, SA_NODEFER);
	timer = start_timer(SIGRTMIN, 2000);
	if (sigsetjmp(out, 1))
		jumps++;
	while (jumps < 300) {
		begun++;
		thread_wrong += probed_mixed(1, 2) != 3;
		rounds++;
	}
	timer_delete(timer);
	EXPECT_EQ(0, thread_wrong);
	EXPECT_EQ(0, in_slots);
	/* A call that was begun but did not end has hit each probe at most once. */
	for (i = 0; i < PROBES; i++) {
		EXPECT_LE(rounds + 1, HITS(id[i]));
		EXPECT_GE(begun + 1, HITS(id[i]));
		UNPROBE(id[i]);
	}
}

/* A debugger that stops the program all the time never sees a slot. */
TEST_F_TIMEOUT(module, interrupted_by_debugger, TIMEOUT)
{
	unsigned int i, stops = scaled(1000), at_probe = 0, seen = 0;
	long long hits[PROBES];
	int id[PROBES], status;
	atomic_int *go;
	pid_t pid;

	go = mmap(NULL, sizeof(*go), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, go);
	pid = fork();
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		/* The counts are compared, so no hit may precede the last probe. */
		while (!*go)
			sched_yield();
		while (probed_mixed(1, 2) == 3)
			;
		_exit(1);
	}
	probe_all(_metadata, self->dev, pid, id);
	*go = 1;
	while (HITS(id[PROBES - 1]) < 10)
		sleep_ms(1);
	find_slots(pid);
	ASSERT_EQ(0, ptrace(PTRACE_SEIZE, pid, NULL, NULL));
	for (i = 0; i < stops; i++) {
		struct user_regs_struct regs;

		ASSERT_EQ(0, ptrace(PTRACE_INTERRUPT, pid, NULL, NULL));
		ASSERT_EQ(pid, waitpid(pid, &status, 0));
		ASSERT_TRUE(WIFSTOPPED(status)) TH_LOG("status %x", status);
		ASSERT_EQ(0, ptrace(PTRACE_GETREGS, pid, NULL, &regs));
		seen += is_slot(regs.rip);
		at_probe += regs.rip - (unsigned long)probed_mixed < SIZE;
		/* The next instruction must not be hit behind the debugger's back. */
		ASSERT_EQ(0, ptrace(PTRACE_CONT, pid, NULL, NULL));
	}
	EXPECT_EQ(0, seen);
	TH_LOG("%u stops, %u at a probe", stops, at_probe);
	ASSERT_EQ(0, kill(pid, SIGKILL));
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	/* The instructions follow one another, and so do their counts. */
	for (i = 0; i < PROBES; i++) {
		hits[i] = HITS(id[i]);
		if (i) {
			EXPECT_GE(hits[i - 1], hits[i]);
			EXPECT_LE(hits[i - 1], hits[i] + 1);
		}
		UNPROBE(id[i]);
	}
}

TEST_HARNESS_MAIN

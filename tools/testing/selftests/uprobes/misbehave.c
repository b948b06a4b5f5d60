// SPDX-License-Identifier: GPL-2.0
/*
 * Handlers that return in another context than they were called in, or sleep where they must not.
 * The log names such a handler once, it is not called again, and the program and the other
 * consumers continue.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <sys/mman.h>

#include "module_fixture.h"
#include "kernel_log.h"
#include "returns_text.h"

#define CALLS	20U

/* The handler that misbehaves, and its action. */
FIXTURE_VARIANT(module)
{
	unsigned int handler;
	unsigned int act;
	const char *name;
	const char *says;
};

#define IN_TASK		.handler = UPROBES_TEST_TASK, .name = "task_handler"
#define IN_INTERRUPT	.handler = UPROBES_TEST_INTERRUPT, .name = "interrupt_handler"
#define IN_RETURN	.handler = UPROBES_TEST_RETURN, .name = "return_handler"

FIXTURE_VARIANT_ADD(module, task_interrupts) {
	IN_TASK, .act = UPROBES_TEST_ACT_IRQS_OFF, .says = "interrupts",
};

FIXTURE_VARIANT_ADD(module, task_preemption) {
	IN_TASK, .act = UPROBES_TEST_ACT_PREEMPT_OFF, .says = "preemption",
};

FIXTURE_VARIANT_ADD(module, task_bottom_halves) {
	IN_TASK, .act = UPROBES_TEST_ACT_BH_OFF, .says = "preemption",
};

FIXTURE_VARIANT_ADD(module, task_rcu) {
	IN_TASK, .act = UPROBES_TEST_ACT_RCU_LOCK, .says = "RCU",
};

FIXTURE_VARIANT_ADD(module, task_rcu_trace) {
	IN_TASK, .act = UPROBES_TEST_ACT_RCU_TRACE_LOCK, .says = "Tasks Trace RCU",
};

FIXTURE_VARIANT_ADD(module, task_preemption_on) {
	IN_TASK, .act = UPROBES_TEST_ACT_PREEMPT_ON, .says = "preemption",
};

FIXTURE_VARIANT_ADD(module, task_bottom_halves_on) {
	IN_TASK, .act = UPROBES_TEST_ACT_BH_ON, .says = "preemption",
};

FIXTURE_VARIANT_ADD(module, task_page_faults) {
	IN_TASK, .act = UPROBES_TEST_ACT_FAULTS_OFF, .says = "page faults",
};

FIXTURE_VARIANT_ADD(module, task_migration) {
	IN_TASK, .act = UPROBES_TEST_ACT_MIGRATION_OFF, .says = "migration",
};

FIXTURE_VARIANT_ADD(module, task_everything) {
	IN_TASK, .act = UPROBES_TEST_ACT_EVERYTHING, .says = "migration",
};

FIXTURE_VARIANT_ADD(module, interrupt_interrupts) {
	IN_INTERRUPT, .act = UPROBES_TEST_ACT_IRQS_ON, .says = "interrupts",
};

FIXTURE_VARIANT_ADD(module, interrupt_preemption) {
	IN_INTERRUPT, .act = UPROBES_TEST_ACT_PREEMPT_OFF, .says = "preemption",
};

FIXTURE_VARIANT_ADD(module, interrupt_bottom_halves) {
	IN_INTERRUPT, .act = UPROBES_TEST_ACT_BH_OFF, .says = "preemption",
};

FIXTURE_VARIANT_ADD(module, interrupt_rcu) {
	IN_INTERRUPT, .act = UPROBES_TEST_ACT_RCU_LOCK, .says = "RCU",
};

FIXTURE_VARIANT_ADD(module, interrupt_sleeps) {
	IN_INTERRUPT, .act = UPROBES_TEST_ACT_SLEEP, .says = "slept",
};

FIXTURE_VARIANT_ADD(module, interrupt_rcu_trace) {
	IN_INTERRUPT, .act = UPROBES_TEST_ACT_RCU_TRACE_LOCK, .says = "Tasks Trace RCU",
};

FIXTURE_VARIANT_ADD(module, interrupt_preemption_on) {
	IN_INTERRUPT, .act = UPROBES_TEST_ACT_PREEMPT_ON, .says = "preemption",
};

FIXTURE_VARIANT_ADD(module, interrupt_bottom_halves_on) {
	IN_INTERRUPT, .act = UPROBES_TEST_ACT_BH_ON, .says = "preemption",
};

FIXTURE_VARIANT_ADD(module, interrupt_page_faults) {
	IN_INTERRUPT, .act = UPROBES_TEST_ACT_FAULTS_OFF, .says = "page faults",
};

FIXTURE_VARIANT_ADD(module, interrupt_migration) {
	IN_INTERRUPT, .act = UPROBES_TEST_ACT_MIGRATION_OFF, .says = "migration",
};

FIXTURE_VARIANT_ADD(module, interrupt_everything) {
	IN_INTERRUPT, .act = UPROBES_TEST_ACT_EVERYTHING, .says = "migration",
};

FIXTURE_VARIANT_ADD(module, return_interrupts) {
	IN_RETURN, .act = UPROBES_TEST_ACT_IRQS_OFF, .says = "interrupts",
};

FIXTURE_VARIANT_ADD(module, return_preemption) {
	IN_RETURN, .act = UPROBES_TEST_ACT_PREEMPT_OFF, .says = "preemption",
};

FIXTURE_VARIANT_ADD(module, return_bottom_halves) {
	IN_RETURN, .act = UPROBES_TEST_ACT_BH_OFF, .says = "preemption",
};

FIXTURE_VARIANT_ADD(module, return_rcu) {
	IN_RETURN, .act = UPROBES_TEST_ACT_RCU_LOCK, .says = "RCU",
};

FIXTURE_VARIANT_ADD(module, return_rcu_trace) {
	IN_RETURN, .act = UPROBES_TEST_ACT_RCU_TRACE_LOCK, .says = "Tasks Trace RCU",
};

FIXTURE_VARIANT_ADD(module, return_preemption_on) {
	IN_RETURN, .act = UPROBES_TEST_ACT_PREEMPT_ON, .says = "preemption",
};

FIXTURE_VARIANT_ADD(module, return_bottom_halves_on) {
	IN_RETURN, .act = UPROBES_TEST_ACT_BH_ON, .says = "preemption",
};

FIXTURE_VARIANT_ADD(module, return_page_faults) {
	IN_RETURN, .act = UPROBES_TEST_ACT_FAULTS_OFF, .says = "page faults",
};

FIXTURE_VARIANT_ADD(module, return_migration) {
	IN_RETURN, .act = UPROBES_TEST_ACT_MIGRATION_OFF, .says = "migration",
};

FIXTURE_VARIANT_ADD(module, return_everything) {
	IN_RETURN, .act = UPROBES_TEST_ACT_EVERYTHING, .says = "migration",
};

static void announce(unsigned int act)
{
	if (act == UPROBES_TEST_ACT_SLEEP)
		log_expect("BUG: sleeping function called from invalid context");
}

/* Checks that page faults and migration work again, and the wait for hits with them. */
static void program_goes_on(struct __test_metadata *_metadata)
{
	int cpus = sysconf(_SC_NPROCESSORS_ONLN), cpu;
	cpu_set_t set;
	char *page;

	page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, page);
	*page = 1;
	munmap(page, 4096);
	for (cpu = 0; cpu < cpus; cpu++) {
		CPU_ZERO(&set);
		CPU_SET(cpu, &set);
		EXPECT_EQ(0, sched_setaffinity(0, sizeof(set), &set));
		EXPECT_EQ(cpu, sched_getcpu());
	}
	for (cpu = 0; cpu < cpus; cpu++)
		CPU_SET(cpu, &set);
	EXPECT_EQ(0, sched_setaffinity(0, sizeof(set), &set));
}

static unsigned long long hits_of(const struct uprobes_test_count *count)
{
	return count->task_hits + count->interrupt_hits + count->return_hits;
}

#define PROBE_BAD() PROBE_HOW(OF(returns_leaf), .flags = variant->handler,	\
	.act_in = variant->handler, .act = variant->act, .act_usec = 20000)

/* The handler misbehaves among consumers that are called in all contexts. */
TEST_F_TIMEOUT(module, others_go_on, TIMEOUT)
{
	unsigned int all = UPROBES_TEST_TASK | UPROBES_TEST_INTERRUPT | UPROBES_TEST_RETURN;
	int before = PROBE_HOW(OF(returns_leaf), .flags = all);
	int id = PROBE_BAD();
	int after = PROBE_HOW(OF(returns_leaf), .flags = all);
	int log = log_open();
	struct uprobes_test_count count;
	unsigned int i;

	ASSERT_LE(0, log);
	announce(variant->act);
	for (i = 0; i < CALLS; i++)
		ASSERT_EQ(i + 2, call_probed(returns_leaf, i, 2));
	count = COUNT(id);
	EXPECT_EQ(1, hits_of(&count));
	for (i = 0; i < 2; i++) {
		count = COUNT(i ? after : before);
		EXPECT_EQ(CALLS, count.task_hits);
		EXPECT_EQ(CALLS, count.task_preemptible);
		EXPECT_EQ(CALLS, count.interrupt_hits);
		EXPECT_EQ(CALLS, count.interrupt_irqs_off);
		EXPECT_EQ(CALLS, count.return_hits);
		EXPECT_EQ(CALLS, count.return_preemptible);
	}
	log_expect("nothing");
	program_goes_on(_metadata);
	EXPECT_EQ(1, log_lines(log, variant->name, variant->says));
	close(log);
	UNPROBE(id);
	EXPECT_EQ(3, call_probed(returns_leaf, 1, 2));
	EXPECT_EQ(CALLS + 1, HITS(before));
	EXPECT_EQ(CALLS + 1, HITS(after));
	UNPROBE(before);
	UNPROBE(after);
	EXPECT_TRUE(page_is_of_file(getpid(), returns_at_once));
}

static bool text_comes_back(void)
{
	uint64_t end = now_ms() + 20000;

	while (!text_is_of_file(getpid(), returns_at_once, 4096)) {
		if (now_ms() > end)
			return false;
		sleep_ms(2);
	}
	return true;
}

/* A sole consumer: its breakpoint is removed. It can be registered and disarmed again. */
TEST_F_TIMEOUT(module, alone, TIMEOUT)
{
	int id = PROBE_BAD(), log = log_open();
	unsigned int i, round;

	ASSERT_LE(0, log);
	for (round = 1; round <= 2; round++) {
		struct uprobes_test_count count;

		announce(variant->act);
		for (i = 0; i < CALLS; i++)
			ASSERT_EQ(i + 2, call_probed(returns_leaf, i, 2));
		log_expect("nothing");
		count = COUNT(id);
		EXPECT_EQ(round, hits_of(&count));
		EXPECT_EQ(0, count.counts_error);
		EXPECT_EQ(1, log_lines(log, variant->name, "disarmed"));
		EXPECT_TRUE(text_comes_back());
		EXPECT_EQ(-EBUSY, dev_again(self->dev, id));
		EXPECT_EQ(0, dev_end(self->dev, id));
		if (round == 1)
			EXPECT_EQ(0, dev_again(self->dev, id));
		/* The kernel prints one such report a second. Wait, so that it prints the next. */
		if (variant->act == UPROBES_TEST_ACT_SLEEP)
			sleep_ms(1100);
	}
	close(log);
	UNPROBE(id);
}

#define THREADS	4

static atomic_uint wrong;

static void *call_in_thread(void *arg)
{
	unsigned int i;

	for (i = 0; i < CALLS; i++)
		wrong += call_probed(returns_leaf, i, 2) != i + 2;
	return NULL;
}

/* Several threads may be in the handler when it misbehaves. The log names one of them. */
TEST_F_TIMEOUT(module, several_threads, TIMEOUT)
{
	int id = PROBE_BAD(), log = log_open();
	struct uprobes_test_count count;
	pthread_t thread[THREADS];
	unsigned int i;

	ASSERT_LE(0, log);
	for (i = 0; i < THREADS; i++)
		announce(variant->act);
	for (i = 0; i < THREADS; i++)
		ASSERT_EQ(0, pthread_create(&thread[i], NULL, call_in_thread, NULL));
	for (i = 0; i < THREADS; i++)
		ASSERT_EQ(0, pthread_join(thread[i], NULL));
	log_expect("nothing");
	EXPECT_EQ(0, wrong);
	count = COUNT(id);
	EXPECT_LE(1, hits_of(&count));
	EXPECT_GE(THREADS, hits_of(&count));
	EXPECT_EQ(1, log_lines(log, variant->name, "disarmed"));
	close(log);
	UNPROBE(id);
	EXPECT_TRUE(text_is_of_file(getpid(), returns_at_once, 4096));
}

TEST_HARNESS_MAIN

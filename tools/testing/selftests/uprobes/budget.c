// SPDX-License-Identifier: GPL-2.0
/* The time budget of handlers (uprobe_handler_budget_us). */
#include <pthread.h>
#include <stdatomic.h>

#define OWN_FIXTURE
#include "module_fixture.h"
#include "kernel_log.h"
#include "returns_text.h"

#define BUDGET	"/proc/sys/kernel/uprobe_handler_budget_us"

/* Emulated machines stall at times, so the times are long. */
#define TAKES	1000000

static int set_budget(const char *value)
{
	int fd = open(BUDGET, O_WRONLY | O_CLOEXEC);
	ssize_t put;

	if (fd < 0)
		return -errno;
	put = write(fd, value, strlen(value));
	close(fd);
	return put < 0 ? -EINVAL : 0;
}

static bool is_budget(const char *value)
{
	char now[32] = "";
	FILE *file = fopen(BUDGET, "r");
	bool same;

	if (!file)
		return false;
	same = fgets(now, sizeof(now), file) && !strncmp(now, value, strlen(value)) &&
	       now[strlen(value)] == '\n';
	fclose(file);
	return same;
}

FIXTURE(budget)
{
	int dev;
	int log;
};

FIXTURE_VARIANT(budget)
{
	unsigned int handler;
	unsigned int act;
	unsigned long size;
	const char *name;
};

FIXTURE_VARIANT_ADD(budget, task_sleeps) {
	.handler = UPROBES_TEST_TASK, .act = UPROBES_TEST_ACT_SLEEP, .name = "task_handler",
};

FIXTURE_VARIANT_ADD(budget, task_spins) {
	.handler = UPROBES_TEST_TASK, .act = UPROBES_TEST_ACT_SPIN, .name = "task_handler",
};

FIXTURE_VARIANT_ADD(budget, interrupt_spins) {
	.handler = UPROBES_TEST_INTERRUPT, .act = UPROBES_TEST_ACT_SPIN,
	.name = "interrupt_handler",
};

FIXTURE_VARIANT_ADD(budget, return_sleeps) {
	.handler = UPROBES_TEST_RETURN, .act = UPROBES_TEST_ACT_SLEEP, .name = "return_handler",
};

FIXTURE_VARIANT_ADD(budget, sized_return_spins) {
	.handler = UPROBES_TEST_RETURN, .act = UPROBES_TEST_ACT_SPIN, .size = 5,
	.name = "return_handler",
};

FIXTURE_SETUP(budget)
{
	if (geteuid())
		SKIP(return, "needs root");
	self->dev = dev_open();
	if (self->dev < 0)
		SKIP(return, "no " UPROBES_TEST_DEVICE);
	ASSERT_TRUE(dev_clean(self->dev));
	self->log = log_open();
	ASSERT_LE(0, self->log);
	ASSERT_EQ(0, set_budget("0"));
}

FIXTURE_TEARDOWN(budget)
{
	EXPECT_EQ(0, set_budget("0"));
	close(self->log);
	close(self->dev);
	self->dev = dev_open();
	EXPECT_TRUE(dev_clean(self->dev));
	close(self->dev);
}

static unsigned long long hits_of(const struct uprobes_test_count *count)
{
	return count->task_hits + count->interrupt_hits + count->return_hits;
}

static void run_on(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	sched_setaffinity(0, sizeof(set), &set);
}

static atomic_bool stop;

static void *keep_busy(void *arg)
{
	run_on(0);
	while (!stop)
		;
	return NULL;
}

/*
 * Without a better clock than the ticks of one CPU, the ticking CPU must not be the one that
 * disables interrupts. An idle CPU gives this duty up, so a busy thread keeps CPU 0 from idling.
 */
static void leave_ticks_to_another(pthread_t *thread)
{
	pthread_create(thread, NULL, keep_busy, NULL);
	run_on(1);
	sleep_ms(100);
}

#define PROBE_SLOW() PROBE_HOW(OF(returns_leaf), .flags = variant->handler, \
	.size = variant->size, .act_in = variant->handler, .act = variant->act, .act_usec = TAKES)

TEST_F_TIMEOUT(budget, overdrawn, TIMEOUT)
{
	int before = PROBE(returns_leaf), id, after;
	struct uprobes_test_count count;
	pthread_t thread;
	unsigned int i;

	leave_ticks_to_another(&thread);
	id = PROBE_SLOW();
	after = PROBE(returns_leaf);
	/* Without a budget, the handler may take any time. */
	ASSERT_EQ(3, call_probed(returns_leaf, 1, 2));
	ASSERT_EQ(3, call_probed(returns_leaf, 1, 2));
	count = COUNT(id);
	EXPECT_EQ(2, hits_of(&count));
	EXPECT_EQ(0, log_lines(self->log, "", "disarmed"));

	ASSERT_EQ(0, set_budget("300000"));
	for (i = 0; i < 20; i++)
		ASSERT_EQ(i + 2, call_probed(returns_leaf, i, 2));
	count = COUNT(id);
	EXPECT_EQ(3, hits_of(&count));
	EXPECT_EQ(1, log_lines(self->log, variant->name, "300000 us that it may"));
	EXPECT_EQ(22, HITS(before));
	EXPECT_EQ(22, HITS(after));
	UNPROBE(id);
	EXPECT_EQ(3, call_probed(returns_leaf, 1, 2));
	EXPECT_EQ(23, HITS(before));
	EXPECT_EQ(23, HITS(after));
	stop = true;
	ASSERT_EQ(0, pthread_join(thread, NULL));
}

/* Handlers within the budget, or without one, stay armed. */
TEST_F_TIMEOUT(budget, kept, TIMEOUT)
{
	struct uprobes_test_count count;
	unsigned int i;
	int id;

	ASSERT_EQ(0, set_budget("20000000"));
	id = PROBE_SLOW();
	for (i = 0; i < 3; i++)
		ASSERT_EQ(i + 2, call_probed(returns_leaf, i, 2));
	count = COUNT(id);
	EXPECT_EQ(3, hits_of(&count));
	EXPECT_EQ(0, log_lines(self->log, "", "disarmed"));
	UNPROBE(id);
}

static bool profile_says_disarmed(void)
{
	char *profile = tracefs_read("uprobe_profile");
	bool says = count_lines(profile, " disarmed\n") == 1;

	free(profile);
	return says;
}

/* uprobe_profile shows an event as disarmed when its argument takes too long to fetch. */
TEST(event_says_so)
{
	static const char enable[] = "events/selftest/slow/enable";
	uint64_t end = now_ms() + 20000;
	long long hits;
	int log;

	if (geteuid() || !tracefs_ready() || !tracefs_takes_pids())
		SKIP(return, "no uprobe_events");
	log = log_open();
	ASSERT_LE(0, log);
	ASSERT_EQ(0, set_budget("0"));
	ASSERT_EQ(0, tracefs_append("uprobe_events",
				    "p:selftest/slow %d:%p a=+0(%%si):string b=+0(%%si):ustring",
				    getpid(), returns_leaf));
	ASSERT_EQ(0, tracefs_replace(enable, "1"));
	call_probed(returns_leaf, 1, (unsigned long)BUDGET);
	EXPECT_EQ(1, profile_hits("slow"));
	EXPECT_FALSE(profile_says_disarmed());
	ASSERT_EQ(0, set_budget("1"));
	while (!profile_says_disarmed() && now_ms() < end)
		call_probed(returns_leaf, 1, (unsigned long)BUDGET);
	ASSERT_EQ(0, set_budget("0"));
	EXPECT_TRUE(profile_says_disarmed());
	hits = profile_hits("slow");
	call_probed(returns_leaf, 1, (unsigned long)BUDGET);
	EXPECT_EQ(hits, profile_hits("slow"));
	EXPECT_EQ(1, log_lines(log, "", "disarmed"));
	close(log);

	/* Enabling the event again arms it again. */
	ASSERT_EQ(0, tracefs_replace(enable, "0"));
	EXPECT_FALSE(profile_says_disarmed());
	ASSERT_EQ(0, tracefs_replace(enable, "1"));
	call_probed(returns_leaf, 1, (unsigned long)BUDGET);
	EXPECT_EQ(hits + 1, profile_hits("slow"));
	EXPECT_FALSE(profile_says_disarmed());
	ASSERT_EQ(0, tracefs_replace(enable, "0"));
	EXPECT_EQ(0, tracefs_append("uprobe_events", "-:selftest/slow"));
}

TEST(sysctl)
{
	if (geteuid() || access(BUDGET, F_OK))
		SKIP(return, "no " BUDGET);
	EXPECT_TRUE(is_budget("0"));
	EXPECT_EQ(-EINVAL, set_budget("-1"));
	EXPECT_EQ(-EINVAL, set_budget("much"));
	EXPECT_TRUE(is_budget("0"));
	EXPECT_EQ(0, set_budget("1234"));
	EXPECT_TRUE(is_budget("1234"));
	EXPECT_EQ(0, set_budget("0"));
	EXPECT_TRUE(is_budget("0"));
}

TEST_HARNESS_MAIN

// SPDX-License-Identifier: GPL-2.0
/* Trace events on probes, used like any other trace event. */
#include <errno.h>

#include "tracefs_fixture.h"

#define EVENT	"events/selftest/hit"

static int create(struct target *target, probed_fn fn, const char *args)
{
	return tracefs_append("uprobe_events", "p:selftest/hit %d:%p %s", target->pid, fn, args);
}

TEST_F_TIMEOUT(events, format, TIMEOUT)
{
	char *format;

	ASSERT_EQ(0, create(&self->target, probed_nop,
			    "wide=%di:u64 text=+0(%si):string list=+8(%si):u32[4] small=%di:s8"));
	format = tracefs_read(EVENT "/format");
	EXPECT_NE(NULL, strstr(format, "name: hit\n"));
	EXPECT_NE(NULL, strstr(format, "field:unsigned long __probe_ip;\toffset:8;\tsize:8;"));
	EXPECT_NE(NULL, strstr(format, "field:u64 wide;\toffset:16;\tsize:8;\tsigned:0;"));
	EXPECT_NE(NULL, strstr(format, "field:__data_loc char[] text;\toffset:24;\tsize:4;"));
	EXPECT_NE(NULL, strstr(format, "field:u32 list[];\toffset:28;\tsize:16;"));
	EXPECT_NE(NULL, strstr(format, "field:s8 small;\toffset:44;\tsize:1;\tsigned:1;"));
	EXPECT_NE(NULL, strstr(format, "print fmt: \"(%lx) wide="));
	free(format);
}

TEST_F_TIMEOUT(events, enable_in_every_way, TIMEOUT)
{
	struct target *target = &self->target;
	static const char * const ways[] = {
		EVENT "/enable", "events/selftest/enable", "events/enable",
	};
	unsigned int i;

	ASSERT_EQ(0, create(target, probed_nop, ""));
	for (i = 0; i < 2; i++) {
		ASSERT_EQ(0, tracefs_replace(ways[i], "1"));
		target_call(target, probed_nop, 0, 0, 10);
		ASSERT_EQ(0, tracefs_replace(ways[i], "0"));
		target_call(target, probed_nop, 0, 0, 10);
		EXPECT_EQ(10 * (i + 1), profile_hits("hit"));
	}

	ASSERT_EQ(0, tracefs_append("set_event", "selftest:hit"));
	target_call(target, probed_nop, 0, 0, 10);
	ASSERT_EQ(0, tracefs_append("set_event", "!selftest:hit"));
	target_call(target, probed_nop, 0, 0, 10);
	EXPECT_EQ(30, profile_hits("hit"));
	EXPECT_TRUE(page_is_of_file(target->pid, probed_nop));
}

TEST_F_TIMEOUT(events, filter, TIMEOUT)
{
	struct target *target = &self->target;
	unsigned int i;
	char *trace;

	ASSERT_EQ(0, create(target, probed_lea, "a=%di:u64"));
	ASSERT_EQ(0, tracefs_replace(EVENT "/filter", "a > 3 && a != 7"));
	ASSERT_EQ(0, tracefs_replace(EVENT "/enable", "1"));
	for (i = 0; i < 10; i++)
		target_call(target, probed_lea, i, 0, 2);
	ASSERT_EQ(0, tracefs_replace(EVENT "/enable", "0"));

	trace = tracefs_read("trace");
	EXPECT_EQ(10, count_lines(trace, " hit: ("));
	EXPECT_EQ(0, count_lines(trace, "a=3\n"));
	EXPECT_EQ(2, count_lines(trace, "a=4\n"));
	EXPECT_EQ(0, count_lines(trace, "a=7\n"));
	free(trace);
	EXPECT_EQ(20, profile_hits("hit"));
	EXPECT_EQ(-EINVAL, tracefs_replace(EVENT "/filter", "nosuch == 1"));
}

TEST_F_TIMEOUT(events, trigger_traceoff, TIMEOUT)
{
	struct target *target = &self->target;
	char *text;

	ASSERT_EQ(0, create(target, probed_nop, "a=%di:u64"));
	ASSERT_EQ(0, tracefs_append(EVENT "/trigger", "traceoff if a == 6"));
	target_call(target, probed_nop, 5, 0, 3);
	text = tracefs_read("tracing_on");
	EXPECT_STREQ("1\n", text);
	free(text);
	target_call(target, probed_nop, 6, 0, 1);
	text = tracefs_read("tracing_on");
	EXPECT_STREQ("0\n", text);
	free(text);
	ASSERT_EQ(0, tracefs_replace("tracing_on", "1"));
	ASSERT_EQ(0, tracefs_append(EVENT "/trigger", "!traceoff if a == 6"));
	EXPECT_TRUE(page_is_of_file(target->pid, probed_nop));
}

TEST_F_TIMEOUT(events, trigger_histogram, TIMEOUT)
{
	struct target *target = &self->target;
	unsigned int i;
	char *hist;

	if (!tracefs_exists("events/sched/sched_switch/hist"))
		SKIP(return, "no histograms");
	ASSERT_EQ(0, create(target, probed_lea, "a=%di:u64"));
	ASSERT_EQ(0, tracefs_append(EVENT "/trigger", "hist:keys=a:sort=a"));
	for (i = 1; i <= 5; i++)
		target_call(target, probed_lea, i, 0, i * 10);
	hist = tracefs_read(EVENT "/hist");
	EXPECT_NE(NULL, strstr(hist, "Hits: 150\n")) TH_LOG("%s", hist);
	EXPECT_NE(NULL, strstr(hist, "} hitcount:         50\n")) TH_LOG("%s", hist);
	free(hist);
	ASSERT_EQ(0, tracefs_append(EVENT "/trigger", "!hist:keys=a:sort=a"));
}

TEST_F_TIMEOUT(events, trigger_stacktrace, TIMEOUT)
{
	struct target *target = &self->target;
	char *trace;

	ASSERT_EQ(0, create(target, probed_nop, ""));
	ASSERT_EQ(0, tracefs_append(EVENT "/trigger", "stacktrace:2"));
	target_call(target, probed_nop, 0, 0, 5);
	trace = tracefs_read("trace");
	EXPECT_EQ(2, count_lines(trace, "<stack trace>"));
	free(trace);
	/* The trigger is removed when its count runs out. Removing it again is no error. */
	tracefs_append(EVENT "/trigger", "!stacktrace:2");
}

TEST_F_TIMEOUT(events, user_stack_trace, TIMEOUT)
{
	struct target *target = &self->target;
	char caller[64], *trace;

	ASSERT_EQ(0, create(target, probed_push, ""));
	ASSERT_EQ(0, tracefs_append("trace_options", "userstacktrace"));
	ASSERT_EQ(0, tracefs_replace(EVENT "/enable", "1"));
	target_call(target, probed_push, 0, 0, 1);
	ASSERT_EQ(0, tracefs_replace(EVENT "/enable", "0"));
	ASSERT_EQ(0, tracefs_append("trace_options", "nouserstacktrace"));

	snprintf(caller, sizeof(caller), "<%016lx>", (unsigned long)probed_push);
	trace = tracefs_read("trace");
	EXPECT_EQ(1, count_lines(trace, "<user stack trace>"));
	EXPECT_NE(NULL, strstr(trace, caller)) TH_LOG("%s", trace);
	free(trace);
}

TEST_F_TIMEOUT(events, two_instances, TIMEOUT)
{
	struct target *target = &self->target;
	char *trace;

	ASSERT_EQ(0, create(target, probed_nop, ""));
	tracefs_rmdir("instances/selftest_a");
	tracefs_rmdir("instances/selftest_b");
	ASSERT_EQ(0, tracefs_mkdir("instances/selftest_a"));
	ASSERT_EQ(0, tracefs_mkdir("instances/selftest_b"));

	ASSERT_EQ(0, tracefs_replace("instances/selftest_a/" EVENT "/enable", "1"));
	target_call(target, probed_nop, 0, 0, 10);
	ASSERT_EQ(0, tracefs_replace("instances/selftest_b/" EVENT "/enable", "1"));
	target_call(target, probed_nop, 0, 0, 10);
	ASSERT_EQ(0, tracefs_replace("instances/selftest_a/" EVENT "/enable", "0"));
	target_call(target, probed_nop, 0, 0, 10);
	ASSERT_EQ(0, tracefs_replace("instances/selftest_b/" EVENT "/enable", "0"));
	target_call(target, probed_nop, 0, 0, 10);

	trace = tracefs_read("instances/selftest_a/trace");
	EXPECT_EQ(20, count_lines(trace, " hit: ("));
	free(trace);
	trace = tracefs_read("instances/selftest_b/trace");
	EXPECT_EQ(20, count_lines(trace, " hit: ("));
	free(trace);
	trace = tracefs_read("trace");
	EXPECT_EQ(0, count_lines(trace, " hit: ("));
	free(trace);
	EXPECT_EQ(30, profile_hits("hit"));
	EXPECT_TRUE(page_is_of_file(target->pid, probed_nop));
	EXPECT_EQ(0, tracefs_rmdir("instances/selftest_a"));
	EXPECT_EQ(0, tracefs_rmdir("instances/selftest_b"));
}

/* One event can have probes at several addresses, and in several processes. */
TEST_F_TIMEOUT(events, several_probes_of_one_event, TIMEOUT)
{
	struct target *target = &self->target, second;
	char *trace;

	ASSERT_TRUE(target_start(&second));
	ASSERT_EQ(0, create(target, probed_nop, "a=%di:u64"));
	ASSERT_EQ(0, create(target, probed_lea, "a=%di:u64"));
	ASSERT_EQ(0, create(&second, probed_nop, "a=%di:u64"));
	ASSERT_EQ(0, tracefs_replace(EVENT "/enable", "1"));
	target_call(target, probed_nop, 1, 0, 10);
	target_call(target, probed_lea, 2, 0, 20);
	target_call(&second, probed_nop, 3, 0, 30);
	target_call(&second, probed_lea, 4, 0, 40);
	ASSERT_EQ(0, tracefs_replace(EVENT "/enable", "0"));

	trace = tracefs_read("trace");
	EXPECT_EQ(10, count_lines(trace, "a=1\n"));
	EXPECT_EQ(20, count_lines(trace, "a=2\n"));
	EXPECT_EQ(30, count_lines(trace, "a=3\n"));
	EXPECT_EQ(0, count_lines(trace, "a=4\n"));
	free(trace);

	EXPECT_EQ(0, target_stop(&second));
	EXPECT_EQ(0, tracefs_append("uprobe_events", "-:selftest/hit"));
	EXPECT_FALSE(tracefs_exists(EVENT));
}

/* Two events at one address. */
TEST_F_TIMEOUT(events, several_events_at_one_address, TIMEOUT)
{
	struct target *target = &self->target;

	ASSERT_EQ(0, create(target, probed_nop, ""));
	ASSERT_EQ(0, tracefs_append("uprobe_events", "p:selftest/also %d:%p", target->pid,
				    probed_nop));
	ASSERT_EQ(0, tracefs_replace(EVENT "/enable", "1"));
	target_call(target, probed_nop, 0, 0, 10);
	ASSERT_EQ(0, tracefs_replace("events/selftest/also/enable", "1"));
	target_call(target, probed_nop, 0, 0, 10);
	ASSERT_EQ(0, tracefs_replace(EVENT "/enable", "0"));
	target_call(target, probed_nop, 0, 0, 10);
	EXPECT_EQ(20, profile_hits("hit"));
	EXPECT_EQ(20, profile_hits("also"));
}

/* Entries show the thread's context in user mode, whatever context the probe is handled in. */
TEST_F_TIMEOUT(events, context_of_user_mode, TIMEOUT)
{
	static const char * const args[] = { "a=%di", "a=$stack0 b=%di:b4@0/8", "a=%di" };
	struct target *target = &self->target;
	unsigned int i;

	for (i = 0; i < 3; i++) {
		unsigned int lines = 0;
		char *trace, *rest, *line, flags[8];

		ASSERT_EQ(0, create(target, probed_nop, args[i]));
		if (i == 2)
			ASSERT_EQ(0, tracefs_replace(EVENT "/filter", "a == 5"));
		ASSERT_EQ(0, tracefs_replace(EVENT "/enable", "1"));
		target_call(target, probed_nop, 5, 0, 20);
		ASSERT_EQ(0, tracefs_replace(EVENT "/enable", "0"));
		trace = tracefs_read("trace");
		for (rest = trace; (line = strsep(&rest, "\n"));) {
			if (*line == '#' || !strstr(line, " hit: ("))
				continue;
			lines++;
			/* Interrupts are on, this is not one, and preemption is enabled. */
			ASSERT_EQ(1, sscanf(strstr(line, "] ") + 2, "%7s", flags));
			EXPECT_EQ('.', flags[0]) TH_LOG("%s", line);
			EXPECT_STREQ("...", flags + 2) TH_LOG("%s", line);
		}
		EXPECT_EQ(20, lines);
		free(trace);
		ASSERT_EQ(0, tracefs_append("uprobe_events", "-:selftest/hit"));
		ASSERT_EQ(0, tracefs_replace("trace", "%s", ""));
	}
}

TEST_F_TIMEOUT(events, trace_pipe, TIMEOUT)
{
	struct target *target = &self->target;
	char text[16384];
	unsigned int lines = 0;
	ssize_t got;
	int pipe;

	ASSERT_EQ(0, create(target, probed_nop, ""));
	pipe = tracefs_open("trace_pipe", O_RDONLY | O_NONBLOCK);
	ASSERT_LE(0, pipe);
	ASSERT_EQ(0, tracefs_replace(EVENT "/enable", "1"));
	target_call(target, probed_nop, 0, 0, 100);
	while ((got = read(pipe, text, sizeof(text) - 1)) > 0) {
		text[got] = '\0';
		lines += count_lines(text, " hit: (");
	}
	close(pipe);
	EXPECT_EQ(100, lines);
}

TEST_F_TIMEOUT(events, dynamic_events, TIMEOUT)
{
	struct target *target = &self->target;
	char line[256], *list;

	ASSERT_EQ(0, tracefs_append("dynamic_events", "p:selftest/hit %d:%p a=%%di",
				    target->pid, probed_nop));
	snprintf(line, sizeof(line), "p:selftest/hit %d:0x%016lx a=%%di\n", target->pid,
		 (unsigned long)probed_nop);
	list = tracefs_read("dynamic_events");
	EXPECT_NE(NULL, strstr(list, line)) TH_LOG("%s", list);
	free(list);
	list = tracefs_read("uprobe_events");
	EXPECT_STREQ(line, list);
	free(list);
	EXPECT_EQ(0, tracefs_append("dynamic_events", "-:selftest/hit"));
	EXPECT_FALSE(tracefs_exists(EVENT));
}

/* The event outlives the process without effect, and can be removed. */
TEST_F_TIMEOUT(events, process_ends_first, TIMEOUT)
{
	struct target target;
	char *list;

	ASSERT_TRUE(target_start(&target));
	ASSERT_EQ(0, create(&target, probed_nop, ""));
	ASSERT_EQ(0, tracefs_replace(EVENT "/enable", "1"));
	target_call(&target, probed_nop, 0, 0, 10);
	ASSERT_EQ(0, target_stop(&target));
	EXPECT_EQ(10, profile_hits("hit"));
	list = tracefs_read("uprobe_events");
	EXPECT_EQ(1, count_lines(list, "selftest/hit"));
	free(list);
	EXPECT_EQ(0, tracefs_replace(EVENT "/enable", "0"));
	EXPECT_EQ(-ESRCH, tracefs_replace(EVENT "/enable", "1"));
	EXPECT_EQ(0, tracefs_append("uprobe_events", "-:selftest/hit"));
}

TEST_HARNESS_MAIN

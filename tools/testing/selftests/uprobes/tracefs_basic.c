// SPDX-License-Identifier: GPL-2.0
/* Creating, listing, counting and removing probes through uprobe_events. */
#include "returned.h"
#include "tracefs_fixture.h"

#define HITS	1000

/* Creates p:selftest/@event on @fn of the target, and enables it. */
static int place(struct target *target, const char *event, probed_fn fn, const char *args)
{
	char enable[128];
	int ret;

	ret = tracefs_append("uprobe_events", "p:selftest/%s %d:%p %s", event,
			     target->pid, fn, args);
	if (ret)
		return ret;
	snprintf(enable, sizeof(enable), "events/selftest/%s/enable", event);
	return tracefs_replace(enable, "1");
}

static int disable(const char *event)
{
	char enable[128];

	snprintf(enable, sizeof(enable), "events/selftest/%s/enable", event);
	return tracefs_replace(enable, "0");
}

static void count_exactly(struct __test_metadata *_metadata, struct target *target, probed_fn fn)
{
	char *trace;

	ASSERT_EQ(0, place(target, "hit", fn, ""));
	EXPECT_EQ(0, profile_hits("hit"));
	EXPECT_EQ(HITS * 7UL, target_call(target, fn, 3, 4, HITS));
	EXPECT_EQ(HITS, profile_hits("hit"));
	trace = tracefs_read("trace");
	EXPECT_EQ(HITS, count_lines(trace, " hit: ("));
	free(trace);

	ASSERT_EQ(0, disable("hit"));
	EXPECT_EQ(HITS * 7UL, target_call(target, fn, 3, 4, HITS));
	EXPECT_EQ(HITS, profile_hits("hit"));
}

TEST_F_TIMEOUT(events, count_nop, TIMEOUT)
{
	count_exactly(_metadata, &self->target, probed_nop);
}

TEST_F_TIMEOUT(events, count_push, TIMEOUT)
{
	count_exactly(_metadata, &self->target, probed_push);
}

TEST_F_TIMEOUT(events, count_lea, TIMEOUT)
{
	count_exactly(_metadata, &self->target, probed_lea);
}

/* Hits an event with @args once. The trace must show @expected after the address. */
static void expect_args(struct __test_metadata *_metadata, struct target *target,
			const char *args, const char *expected)
{
	char line[512], *trace, *found;

	ASSERT_EQ(0, place(target, "hit", probed_lea, args)) {
		TH_LOG("refused: %s", args);
	}
	target_call(target, probed_lea, 0xfedcba9876543210, (unsigned long)&probed_data, 1);
	ASSERT_EQ(0, disable("hit"));

	snprintf(line, sizeof(line), " hit: (%p) %s\n", probed_lea, expected);
	trace = tracefs_read("trace");
	found = strstr(trace, line);
	EXPECT_NE(NULL, found) {
		TH_LOG("%s: expected '%s', trace has: %s", args, line,
		       strstr(trace, " hit: ") ?: "nothing");
	}
	free(trace);
	EXPECT_EQ(0, tracefs_append("uprobe_events", "-:selftest/hit"));
	EXPECT_EQ(0, tracefs_replace("trace", "%s", ""));
}

#define ARGS(args, expected) expect_args(_metadata, &self->target, args, expected)

TEST_F_TIMEOUT(events, arguments_of_registers, TIMEOUT)
{
	ARGS("all=%di:u64", "all=18364758544493064720");
	ARGS("%di", "arg1=0xfedcba9876543210");
	ARGS("a=%di:u8 b=%di:s16 c=%di:x32", "a=16 b=12816 c=0x76543210");
	ARGS("high=%di:b4@60/64 low=%di:b12@4/32", "high=15 low=801");
	ARGS("a=%di:s64", "a=-81985529216486896");
}

TEST_F_TIMEOUT(events, arguments_of_memory, TIMEOUT)
{
	char args[128];

	ARGS("text=+0(%si):string", "text=\"probed\"");
	ARGS("text=+0(%si):ustring", "text=\"probed\"");
	ARGS("letters=+0(%si):char[3]", "letters={'p','r','o'}");
	ARGS("numbers=+8(%si):u32[4]", "numbers={1,20,300,4000}");
	ARGS("wide=+24(%si):x64", "wide=0x123456789abcdef0");
	ARGS("wide=+24(%si)", "wide=0x123456789abcdef0");
	ARGS("far=+0(+32(%si)):string", "far=\"a string elsewhere\"");
	ARGS("none=+0(+0(%ax)):string", "none=(fault)");

	snprintf(args, sizeof(args), "global=@%p:u32", &probed_data.numbers[3]);
	ARGS(args, "global=4000");
}

TEST_F_TIMEOUT(events, arguments_of_the_stack, TIMEOUT)
{
	char expected[128];

	snprintf(expected, sizeof(expected), "back=%p same=%p", call_probed_return,
		 call_probed_return);
	ARGS("back=$stack0:x64 same=+0($stack):x64", expected);
	ARGS("back=$stack0 same=+0(%sp)", expected);
}

TEST_F_TIMEOUT(events, arguments_of_neither, TIMEOUT)
{
	char comm[32], expected[128];
	FILE *file;

	ARGS("number=\\42:u32 negative=\\-7:s32", "number=42 negative=-7");
	ARGS("word=\\\"hey\":string", "word=\"hey\"");

	file = fopen("/proc/self/comm", "r");
	ASSERT_NE(NULL, file);
	ASSERT_NE(NULL, fgets(comm, sizeof(comm), file));
	fclose(file);
	comm[strcspn(comm, "\n")] = '\0';
	snprintf(expected, sizeof(expected), "who=\"%s\"", comm);
	ARGS("who=$comm", expected);
}

/* Offsets refer to the file that is mapped at the probed address. */
TEST_F_TIMEOUT(events, arguments_at_file_offsets, TIMEOUT)
{
	unsigned long start, offset = 0, number = (unsigned long)&probed_number;
	char line[512], args[128], expected[128];
	FILE *maps = fopen("/proc/self/maps", "r");

	ASSERT_NE(NULL, maps);
	while (fgets(line, sizeof(line), maps)) {
		unsigned long end;

		if (sscanf(line, "%lx-%lx %*s %lx", &start, &end, &offset) == 3 &&
		    start <= number && number < end)
			break;
	}
	fclose(maps);

	ASSERT_EQ(PROBED_NUMBER, probed_number);
	snprintf(args, sizeof(args), "number=@+%lu:x32", number - start + offset);
	snprintf(expected, sizeof(expected), "number=0x%x", PROBED_NUMBER);
	ARGS(args, expected);
}

static void expect_list(struct __test_metadata *_metadata, const char *expected)
{
	char *list = tracefs_read("uprobe_events");

	EXPECT_STREQ(expected, list);
	free(list);
}

TEST_F_TIMEOUT(events, listing_and_names, TIMEOUT)
{
	unsigned long at = (unsigned long)probed_nop;
	pid_t pid = self->target.pid;
	char *list, first[256], second[256], third[256];

	snprintf(first, sizeof(first), "p:uprobes/p_%d_0x%lx %d:0x%016lx\n", pid, at, pid, at);
	snprintf(second, sizeof(second), "p:uprobes/named %d:0x%016lx arg1=%%di\n", pid, at);
	snprintf(third, sizeof(third), "p:selftest/p_%d_0x%lx %d:0x%016lx s=+0(%%si):string\n",
		 pid, at, pid, at);

	/* The address may be written in any base. */
	ASSERT_EQ(0, tracefs_append("uprobe_events", "p %d:0x%lx\n", pid, at));
	ASSERT_EQ(0, tracefs_append("uprobe_events", "p:named %d:%lu %%di\n", pid, at));
	ASSERT_EQ(0, tracefs_append("uprobe_events", "p:selftest/ %d:0%lo s=+0(%%si):string",
				    pid, at));
	list = tracefs_read("uprobe_events");
	EXPECT_NE(NULL, strstr(list, first)) TH_LOG("%s", list);
	EXPECT_NE(NULL, strstr(list, second)) TH_LOG("%s", list);
	EXPECT_NE(NULL, strstr(list, third)) TH_LOG("%s", list);
	EXPECT_EQ(3, count_lines(list, ":0x"));
	free(list);
	EXPECT_TRUE(tracefs_exists("events/uprobes/named/format"));

	/* A line that was listed can be written back. */
	EXPECT_EQ(0, tracefs_append("uprobe_events", "-:named"));
	EXPECT_FALSE(tracefs_exists("events/uprobes/named"));
	EXPECT_EQ(0, tracefs_append("uprobe_events", "%s", second));
	EXPECT_TRUE(tracefs_exists("events/uprobes/named"));

	EXPECT_EQ(0, tracefs_append("uprobe_events", "-:uprobes/named"));
	EXPECT_EQ(-ENOENT, tracefs_append("uprobe_events", "-:uprobes/named"));
	EXPECT_EQ(0, tracefs_append("uprobe_events", "-:selftest/"));
	expect_list(_metadata, first);

	/* Truncating removes all events before the line is read. */
	EXPECT_EQ(0, tracefs_replace("uprobe_events", "%s", second));
	expect_list(_metadata, second);
	EXPECT_EQ(0, tracefs_replace("uprobe_events", "%s", ""));
	expect_list(_metadata, "");
	EXPECT_FALSE(tracefs_exists("events/uprobes/named"));
}

/* The listed lines of return probes create the same events. */
TEST_F_TIMEOUT(events, listing_of_return_probes, TIMEOUT)
{
	unsigned long at = (unsigned long)returned_sum, end = (unsigned long)returned_sum_end;
	unsigned long deep = (unsigned long)returned_deep;
	char expected[1024], *list, *again;
	pid_t pid = self->target.pid;

	snprintf(expected, sizeof(expected),
		 "r:uprobes/r_%d_0x%lx %d:0x%016lx\n"
		 "r:selftest/back %d:0x%016lx-0x%016lx v=$retval:x64\n"
		 "r:selftest/back %d:0x%016lx v=+0($retval):x64\n"
		 "r:uprobes/r_%d_0x%lx %d:0x%016lx arg1=$retval\n"
		 "p:selftest/hit %d:0x%016lx\n",
		 pid, at, pid, at, pid, at, end, pid, at, pid, deep, pid, deep, pid, at);
	ASSERT_EQ(0, tracefs_append("uprobe_events", "r %d:%p", pid, returned_sum));
	ASSERT_EQ(0, tracefs_append("uprobe_events",
				    "p:selftest/back %d:%lu-%lu%%return v=$retval:x64",
				    pid, at, end));
	ASSERT_EQ(0, tracefs_append("uprobe_events",
				    "r:selftest/back %d:0%lo%%return v=+0($retval):x64",
				    pid, at));
	ASSERT_EQ(0, tracefs_append("uprobe_events", "p %d:%p%%return $retval", pid,
				    returned_deep));
	ASSERT_EQ(0, tracefs_append("uprobe_events", "p:selftest/hit %d:%p", pid, returned_sum));
	list = tracefs_read("uprobe_events");
	EXPECT_STREQ(expected, list);
	ASSERT_EQ(0, tracefs_replace("uprobe_events", "%s", list));
	again = tracefs_read("uprobe_events");
	EXPECT_STREQ(expected, again);
	free(again);

	/* The other file takes the lines, too. Addresses select the probe of an event to remove. */
	ASSERT_EQ(0, tracefs_replace("uprobe_events", "%s", ""));
	ASSERT_EQ(0, tracefs_append("dynamic_events", "%s", list));
	again = tracefs_read("uprobe_events");
	EXPECT_STREQ(expected, again);
	free(again);
	free(list);
	EXPECT_EQ(-ENOENT, tracefs_append("uprobe_events", "-:selftest/back %d:0x%lx-0x%lx", pid,
					  at, end + 1));
	EXPECT_EQ(-ENOENT, tracefs_append("uprobe_events", "-:selftest/hit %d:0x%lx%%return", pid,
					  at));
	EXPECT_EQ(0, tracefs_append("uprobe_events", "-:selftest/back %d:0x%lx-0x%lx", pid, at,
				    end));
	list = tracefs_read("uprobe_events");
	EXPECT_EQ(1, count_lines(list, "r:selftest/back "));
	EXPECT_NE(NULL, strstr(list, " v=+0($retval):x64\n"));
	free(list);
	EXPECT_EQ(0, tracefs_append("uprobe_events", "-:selftest/back %d:0x%lx", pid, at));
	EXPECT_FALSE(tracefs_exists("events/selftest/back"));
}

/* Several lines in one write; comments and blank lines are skipped. */
TEST_F_TIMEOUT(events, many_lines_at_once, TIMEOUT)
{
	pid_t pid = self->target.pid;

	ASSERT_EQ(0, tracefs_append("uprobe_events",
				    "# a comment\np:selftest/one %d:%p\n\np:selftest/two %d:%p\n-:selftest/one\n",
				    pid, probed_nop, pid, probed_lea));
	EXPECT_FALSE(tracefs_exists("events/selftest/one"));
	EXPECT_TRUE(tracefs_exists("events/selftest/two"));
}

/* An event that is in use stays, with all its probes. */
TEST_F_TIMEOUT(events, enabled_events_are_busy, TIMEOUT)
{
	ASSERT_EQ(0, place(&self->target, "hit", probed_nop, ""));
	EXPECT_EQ(-EBUSY, tracefs_append("uprobe_events", "-:selftest/hit"));
	EXPECT_EQ(-EBUSY, tracefs_replace("uprobe_events", "%s", ""));
	target_call(&self->target, probed_nop, 0, 0, 5);
	EXPECT_EQ(5, profile_hits("hit"));
	ASSERT_EQ(0, disable("hit"));
	EXPECT_EQ(0, tracefs_append("uprobe_events", "-:selftest/hit"));
}

/* Only the target's own copy of the page changes, and only while a probe is enabled. */
TEST_F_TIMEOUT(events, text_comes_back, TIMEOUT)
{
	pid_t pid = self->target.pid;
	struct target other;
	unsigned char byte = 0;

	ASSERT_TRUE(target_start(&other));
	target_call(&self->target, probed_nop, 0, 0, 1);
	ASSERT_TRUE(page_is_of_file(pid, probed_nop));
	ASSERT_TRUE(text_is_of_file(pid, probed_nop, 4096));

	ASSERT_EQ(0, place(&self->target, "hit", probed_nop, ""));
	EXPECT_FALSE(page_is_of_file(pid, probed_nop));
	/* Reads from outside show the program's text. */
	EXPECT_TRUE(text_read(pid, probed_nop, &byte, 1));
	EXPECT_EQ(0x90, byte);
	EXPECT_TRUE(text_is_of_file(pid, probed_push, 64));

	EXPECT_EQ(HITS * 3UL, target_call(&other, probed_nop, 1, 2, HITS));
	EXPECT_EQ(3, probed_nop(1, 2));
	EXPECT_EQ(0, profile_hits("hit"));
	EXPECT_TRUE(page_is_of_file(other.pid, probed_nop));
	EXPECT_TRUE(text_is_of_file(other.pid, probed_nop, 4096));
	EXPECT_TRUE(page_is_of_file(getpid(), probed_nop));
	EXPECT_EQ(0x90, byte_at(probed_nop));

	/* The last probe in a page holds the copy. */
	ASSERT_EQ(0, place(&self->target, "also", probed_lea, ""));
	ASSERT_EQ(0, disable("hit"));
	EXPECT_TRUE(text_is_of_file(pid, probed_nop, 64));
	EXPECT_FALSE(page_is_of_file(pid, probed_nop));
	ASSERT_EQ(0, disable("also"));
	EXPECT_TRUE(text_is_of_file(pid, probed_nop, 4096));
	EXPECT_TRUE(page_is_of_file(pid, probed_nop));

	EXPECT_EQ(HITS * 3UL, target_call(&self->target, probed_nop, 1, 2, HITS));
	EXPECT_EQ(0, target_stop(&other));
}

TEST_HARNESS_MAIN

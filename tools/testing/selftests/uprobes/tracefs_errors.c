// SPDX-License-Identifier: GPL-2.0
/* Lines of uprobe_events that are invalid by themselves. */
#include "refused.h"
#include "returned.h"
#include "tracefs_fixture.h"

TEST_F_TIMEOUT(events, no_such_line, TIMEOUT)
{
	REFUSED(EINVAL, "p %d:^", self->target.pid);
	REFUSED(EINVAL, "p ^%d", self->target.pid);
	REFUSED(EINVAL, "p ^:%p", probed_nop);
	REFUSED(EINVAL, "p ^:");
	REFUSED(EINVAL, "p %d:^zero", self->target.pid);
	REFUSED(EINVAL, "p %d:^0xzero", self->target.pid);
	REFUSED(EINVAL, "p %d:^%p+4", self->target.pid, probed_nop);
	REFUSED(EINVAL, "p %d:^-1", self->target.pid);
	REFUSED(EINVAL, "p ^%dx:%p", self->target.pid, probed_nop);
	REFUSED(EINVAL, "p ^self:%p", probed_nop);
	REFUSED(EINVAL, "p ^0x:%p", probed_nop);
	REFUSED(EINVAL, "p ^+:%p", probed_nop);
}

/* Numbers that are too large for their type. */
TEST_F_TIMEOUT(events, numbers_out_of_range, TIMEOUT)
{
	struct snapshot before, after;
	bool caret;
	char *log;
	int ret;

	snapshot_take(&before, &self->target);
	ret = tracefs_refused("p ^99999999999:0x400000", &caret, &log);
	EXPECT_TRUE(ret == -EINVAL || ret == -ERANGE) TH_LOG("%d", ret);
	EXPECT_TRUE(caret) TH_LOG("%s", log);
	free(log);
	ret = tracefs_refused("p 1:^0x10000000000000000", &caret, &log);
	EXPECT_TRUE(ret == -EINVAL || ret == -ERANGE) TH_LOG("%d", ret);
	EXPECT_TRUE(caret) TH_LOG("%s", log);
	free(log);
	snapshot_take(&after, &self->target);
	EXPECT_TRUE(snapshot_same(&before, &after));
	snapshot_free(&before);
	snapshot_free(&after);
}

/* Lines that are not probes are refused like any unknown command. */
TEST_F_TIMEOUT(events, garbage, TIMEOUT)
{
	static const char * const lines[] = {
		"p", "q 1:1", "nonsense", "-", ":", "pp 1:1", "p:", "r", "rr 1:1",
		"r:", "\377\376\375",
	};
	struct snapshot before, after;
	unsigned int i;
	bool caret;
	char *log;

	snapshot_take(&before, &self->target);
	for (i = 0; i < ARRAY_SIZE(lines); i++) {
		EXPECT_EQ(-EINVAL, tracefs_refused(lines[i], &caret, &log)) TH_LOG("%s", lines[i]);
		free(log);
	}
	EXPECT_EQ(-ENOENT, tracefs_append("uprobe_events", "-:selftest/never"));
	snapshot_take(&after, &self->target);
	EXPECT_TRUE(snapshot_same(&before, &after));
	snapshot_free(&before);
	snapshot_free(&after);
}

/* A removal names an event, or all events of a group. */
TEST_F_TIMEOUT(events, removal, TIMEOUT)
{
	static const char * const lines[] = { "^-:", "^-", "^-hit", "^-selftest/hit" };
	unsigned int i;
	bool caret;
	char *log;

	for (i = 0; i < ARRAY_SIZE(lines); i++) {
		EXPECT_EQ(-EINVAL, tracefs_refused(lines[i], &caret, &log)) TH_LOG("%s", lines[i]);
		EXPECT_TRUE(caret) TH_LOG("%s", log);
		EXPECT_NE(NULL, strstr(log, "-:[GRP/]EVENT or -:GRP/\n")) TH_LOG("%s", log);
		free(log);
	}
	REFUSED(ENOENT, "-:^never");
	REFUSED(ENOENT, "-:^selftest/never");
	REFUSED(ENOENT, "-:^never/");

	for (i = 0; i < 2; i++)
		ASSERT_EQ(0, tracefs_append("uprobe_events", "p:selftest/hit%u %d:%p", i,
					    self->target.pid, probed_nop));
	ASSERT_EQ(0, tracefs_append("uprobe_events", "p:hit %d:%p", self->target.pid, probed_nop));
	EXPECT_EQ(0, tracefs_append("uprobe_events", "-:selftest/"));
	EXPECT_FALSE(tracefs_exists("events/selftest"));
	EXPECT_TRUE(tracefs_exists("events/uprobes/hit"));
	EXPECT_EQ(0, tracefs_append("uprobe_events", "-:hit"));
	EXPECT_FALSE(tracefs_exists("events/uprobes/hit"));
}

/* Probes by file, as the other implementation has them. */
TEST_F_TIMEOUT(events, file_probes, TIMEOUT)
{
	REFUSED(EINVAL, "p ^true:0x1000");
}

/* Suffixes, and the end of a function. */
TEST_F_TIMEOUT(events, return_probes, TIMEOUT)
{
	pid_t pid = self->target.pid;

	REFUSED(EINVAL, "r %d:^", pid);
	REFUSED(EINVAL, "r ^zero:%p", returned_sum);
	REFUSED(EINVAL, "p %d:%p^%%", pid, returned_sum);
	REFUSED(EINVAL, "p %d:%p^%%ret", pid, returned_sum);
	REFUSED(EINVAL, "r %d:%p^%%returns", pid, returned_sum);
	REFUSED(EINVAL, "r %d:%p^%%return%%return", pid, returned_sum);
	REFUSED(EINVAL, "r %d:^%%return", pid);

	REFUSED(EINVAL, "p %d:%p^-%p", pid, returned_sum, returned_sum_end);
	REFUSED(EINVAL, "r %d:%p-^", pid, returned_sum);
	REFUSED(EINVAL, "r %d:%p-^0x", pid, returned_sum);
	REFUSED(EINVAL, "r %d:%p-^%p-%p", pid, returned_sum, returned_sum_end, returned_sum_end);
	REFUSED(EINVAL, "r %d:^-%p", pid, returned_sum);
	REFUSED(EINVAL, "r %d:%p-^%p", pid, returned_sum, returned_sum);
	REFUSED(EINVAL, "r %d:%p-^%p%%return", pid, returned_sum_end, returned_sum);
	REFUSED(EINVAL, "r %d:%p-^0x10000000000000000", pid, returned_sum);
}

/* Expects that the line is refused with @error at its '^', with @said in the log. */
static void expect_said(struct __test_metadata *_metadata, int error, const char *said,
			const char *format, ...)
{
	char *line, *log;
	va_list args;
	bool caret;
	int ret;

	va_start(args, format);
	ASSERT_LT(0, vasprintf(&line, format, args));
	va_end(args);
	ret = tracefs_refused(line, &caret, &log);
	EXPECT_EQ(-error, ret) TH_LOG("%s", line);
	EXPECT_TRUE(caret && strstr(log, said)) TH_LOG("%s\n%s", line, log);
	free(log);
	free(line);
}

#define SAID(error, said, ...) expect_said(_metadata, error, said, __VA_ARGS__)

/* The text between START and END is checked when the line is written. */
TEST_F_TIMEOUT(events, functions, TIMEOUT)
{
	unsigned long start = (unsigned long)returned_sum;
	pid_t pid = self->target.pid;

	SAID(EINVAL, "not that of a function", "r %d:^%p-%p", pid, returned_never,
	     returned_never_end);
	/* The end is in the middle of the call. */
	SAID(EINVAL, "not that of a function", "r %d:^%p-%p", pid, returned_deep,
	     returned_deep_call + 2);
	SAID(EINVAL, "not that of a function", "r %d:^%p-%p", pid, returned_sum, returned_sum_ret);
	SAID(E2BIG, "too large", "r %d:^0x%lx-0x%lx", pid, start, start + (1 << 20) + 1);
	SAID(EINVAL, "executable memory", "r %d:^%p-%p", pid, &probed_data, &probed_data + 1);
	SAID(EINVAL, "executable memory", "r %d:^0-0x10", pid);
	SAID(EINVAL, "executable memory", "r %d:^%p", pid, &probed_data);
	SAID(EINVAL, "is for return probes", "p %d:%p^-%p", pid, returned_sum, returned_sum_end);
	SAID(EINVAL, "higher than START", "r %d:%p-^%p", pid, returned_sum, returned_sum);
	SAID(EINVAL, "Invalid probed address suffix", "r %d:%p^%%back", pid, returned_sum);

	REFUSED(EINVAL, "r %d:^%p-%p", pid, returned_never, returned_never_end);
	REFUSED(ESRCH, "r ^2147483647:%p-%p", returned_sum, returned_sum_end);
}

TEST_F_TIMEOUT(events, names, TIMEOUT)
{
	pid_t pid = self->target.pid;
	char name[80];

	memset(name, 'n', sizeof(name));
	name[sizeof(name) - 1] = '\0';
	REFUSED(EINVAL, "p:^ %d:%p", pid, probed_nop);
	REFUSED(EINVAL, "p:^/hit %d:%p", pid, probed_nop);
	REFUSED(EINVAL, "p:selftest/^9hit %d:%p", pid, probed_nop);
	REFUSED(EINVAL, "p:selftest/^h+it %d:%p", pid, probed_nop);
	REFUSED(EINVAL, "p:^self+test/hit %d:%p", pid, probed_nop);
	REFUSED(EINVAL, "p:selftest/^%s %d:%p", name, pid, probed_nop);
	REFUSED(EINVAL, "p:^%s/hit %d:%p", name, pid, probed_nop);
}

TEST_F_TIMEOUT(events, arguments, TIMEOUT)
{
	pid_t pid = self->target.pid;

	REFUSED(EINVAL, "p:selftest/hit %d:%p ^%%nosuch", pid, probed_nop);
	REFUSED(EINVAL, "p:selftest/hit %d:%p ^$retval", pid, probed_nop);
	REFUSED(EINVAL, "p:selftest/hit %d:%p ^$stackless", pid, probed_nop);
	REFUSED(EINVAL, "p:selftest/hit %d:%p ^@+ab", pid, probed_nop);
	REFUSED(EINVAL, "p:selftest/hit %d:%p ^@symbol", pid, probed_nop);
	REFUSED(EINVAL, "p:selftest/hit %d:%p %%ax:^nosuch", pid, probed_nop);
	REFUSED(EINVAL, "p:selftest/hit %d:%p +0(%%si):^symstr", pid, probed_nop);
	REFUSED(EINVAL, "p:selftest/hit %d:%p ^9=%%ax", pid, probed_nop);
	REFUSED(EINVAL, "p:selftest/hit %d:%p a=^", pid, probed_nop);
	REFUSED(EINVAL, "p:selftest/hit %d:%p a=%%ax ^a=%%bx", pid, probed_nop);
	REFUSED(EINVAL, "p:selftest/hit %d:%p +0(%%si^", pid, probed_nop);

	/* A function's arguments are not known any more when it returns. */
	REFUSED(EINVAL, "r:selftest/back %d:%p ^$arg1", pid, returned_sum);
	REFUSED(EINVAL, "p:selftest/hit %d:%p ^$arg1", pid, returned_sum);
	REFUSED(EINVAL, "p:selftest/hit %d:%p +0(^$retval)", pid, returned_sum);
	REFUSED(EINVAL, "r:selftest/back %d:%p $retval:^nosuch", pid, returned_sum);
}

/* 128 arguments are accepted, one more is not. */
TEST_F_TIMEOUT(events, too_many_arguments, TIMEOUT)
{
	pid_t pid = self->target.pid;
	char args[129 * 4 + 1] = "";
	unsigned int i;

	for (i = 0; i < 129; i++)
		strcat(args, "%ax ");
	args[sizeof(args) - 2] = '\0';
	REFUSED(E2BIG, "p:selftest/hit %d:%p ^%s", pid, probed_nop, args);

	args[128 * 4 - 1] = '\0';
	EXPECT_EQ(0, tracefs_append("uprobe_events", "p:selftest/hit %d:%p %s", pid, probed_nop,
				    args));
	ASSERT_EQ(0, tracefs_replace("events/selftest/hit/enable", "1"));
	target_call(&self->target, probed_nop, 0, 0, 10);
	EXPECT_EQ(10, profile_hits("hit"));
	ASSERT_EQ(0, tracefs_replace("events/selftest/hit/enable", "0"));
}

TEST_F_TIMEOUT(events, names_in_use, TIMEOUT)
{
	pid_t pid = self->target.pid;

	ASSERT_EQ(0, tracefs_append("uprobe_events", "p:selftest/hit %d:%p a=%%di", pid,
				    probed_nop));
	/* The same probe, and one with other arguments. */
	REFUSED(EEXIST, "^p:selftest/hit %d:%p a=%%di", pid, probed_nop);
	REFUSED(EEXIST, "p:selftest/hit %d:%p ^b=%%di", pid, probed_lea);
	REFUSED(EEXIST, "p:selftest/hit %d:%p ^a=%%di:u8", pid, probed_lea);
	REFUSED(EEXIST, "^r:selftest/hit %d:%p a=%%di", pid, probed_lea);
	REFUSED(EEXIST, "^p:selftest/hit %d:%p%%return a=%%di", pid, probed_lea);

	ASSERT_EQ(0, tracefs_append("uprobe_events", "r:selftest/back %d:%p a=$retval", pid,
				    returned_sum));
	REFUSED(EEXIST, "^r:selftest/back %d:%p a=$retval", pid, returned_sum);
	REFUSED(EEXIST, "^p:selftest/back %d:%p%%return a=$retval", pid, returned_sum);
	REFUSED(EEXIST, "^p:selftest/back %d:%p a=%%ax", pid, returned_deep);
	REFUSED(EEXIST, "r:selftest/back %d:%p ^b=$retval", pid, returned_deep);
	if (tracefs_exists("events/sched/sched_switch"))
		REFUSED(EEXIST, "^p:sched/sched_switch %d:%p", pid, probed_lea);
}

/* A bad line stops a write. The lines before it take effect. */
TEST_F_TIMEOUT(events, bad_line_among_good, TIMEOUT)
{
	pid_t pid = self->target.pid;
	char *list;

	EXPECT_NE(0, tracefs_append("uprobe_events",
				    "p:selftest/one %d:%p\np:selftest/two %d:0\np:selftest/three %d:%p\n",
				    pid, probed_nop, pid, pid, probed_lea));
	list = tracefs_read("uprobe_events");
	EXPECT_EQ(1, count_lines(list, "selftest/one"));
	EXPECT_EQ(0, count_lines(list, "selftest/two"));
	EXPECT_EQ(0, count_lines(list, "selftest/three"));
	free(list);
}

TEST_HARNESS_MAIN

// SPDX-License-Identifier: GPL-2.0
/* Return probes through uprobe_events. */
#include <pthread.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "returned.h"
#include "tracefs_fixture.h"

#define EVENT	"events/selftest/back"

/* Ways to write the place of a function. */
enum form {
	BY_SITE,	/* PID:VADDR */
	BY_EXITS,	/* PID:START-END */
	FORMS,
};

static int create(struct target *target, enum form form, probed_fn fn, const char *end,
		  const char *args)
{
	if (form == BY_SITE)
		return tracefs_append("uprobe_events", "r:selftest/back %d:%p %s", target->pid, fn,
				      args);
	return tracefs_append("uprobe_events", "r:selftest/back %d:%p-%p %s", target->pid, fn, end,
			      args);
}

static int set_enabled(bool on)
{
	return tracefs_replace(EVENT "/enable", on ? "1" : "0");
}

static int start(struct target *target, enum form form, probed_fn fn, const char *end,
		 const char *args)
{
	return create(target, form, fn, end, args) ?: set_enabled(true);
}

/* Removes the event, and clears the trace. */
static void finish(struct __test_metadata *_metadata)
{
	EXPECT_EQ(0, set_enabled(false));
	EXPECT_EQ(0, tracefs_append("uprobe_events", "-:selftest/back"));
	EXPECT_EQ(0, tracefs_replace("trace", "%s", ""));
}

static void expect_trace(struct __test_metadata *_metadata, unsigned int times,
			 const char *format, ...)
{
	char *trace = tracefs_read("trace"), *text;
	va_list args;

	va_start(args, format);
	ASSERT_LT(0, vasprintf(&text, format, args));
	va_end(args);
	EXPECT_EQ(times, count_lines(trace, text)) TH_LOG("of '%s' in\n%.3000s", text, trace);
	free(text);
	free(trace);
}

#define TRACED(times, ...) expect_trace(_metadata, times, __VA_ARGS__)

TEST_F_TIMEOUT(events, return_values, TIMEOUT)
{
	static const unsigned long values[] = {
		0, 1, 0x7f, 0x80, 0xff, 0x7fffffff, 0x80000000, 0xffffffff, 1UL << 32,
		0x7fffffffffffffff, 1UL << 63, ~0UL, ~0UL - 1, 0xfedcba9876543210,
	};
	struct target *target = &self->target;
	unsigned long seed = 88172645463325252;
	unsigned int form, i;

	for (form = 0; form < FORMS; form++) {
		ASSERT_EQ(0, start(target, form, returned_sum, returned_sum_end,
				   "v=$retval:x64 s=$retval:s32"));
		for (i = 0; i < ARRAY_SIZE(values); i++) {
			EXPECT_EQ(values[i], target_call(target, returned_sum, values[i], 0, 1));
			TRACED(1, " v=0x%lx s=%d\n", values[i], (int)values[i]);
		}
		for (; i < 100; i++) {
			seed ^= seed << 13;
			seed ^= seed >> 7;
			seed ^= seed << 17;
			EXPECT_EQ(seed + i, target_call(target, returned_sum, seed, i, 1));
			TRACED(1, " v=0x%lx s=%d\n", seed + i, (int)(seed + i));
		}
		TRACED(100, " back: (");
		EXPECT_EQ(100, profile_hits("back"));
		EXPECT_EQ(0, profile_misses("back"));
		finish(_metadata);
	}
}

/* As in mainline, the trace shows the return address first, and the function second. */
TEST_F_TIMEOUT(events, addresses, TIMEOUT)
{
	struct target *target = &self->target;
	unsigned int form;

	for (form = 0; form < FORMS; form++) {
		ASSERT_EQ(0, start(target, form, returned_two_ways, returned_two_ways_end, ""));
		EXPECT_EQ(6 * 3UL, target_call(target, returned_two_ways, 4, 2, 3));
		EXPECT_EQ(5 * 4UL, target_call(target, returned_two_ways, 5, 2, 4));
		TRACED(7, " back: (%p <- %p)\n", call_probed_return, returned_two_ways);
		TRACED(7, " back: (");
		finish(_metadata);
	}
	/* The kernel does not know how this function returns. */
	ASSERT_EQ(0, start(target, BY_SITE, returned_opaque, NULL, ""));
	EXPECT_EQ(6 * 3UL, target_call(target, returned_opaque, 4, 2, 3));
	TRACED(3, " back: (%p <- %p)\n", call_probed_return, returned_opaque);
	finish(_metadata);
}

TEST_F_TIMEOUT(events, format, TIMEOUT)
{
	char *format;

	ASSERT_EQ(0, create(&self->target, BY_SITE, returned_sum, NULL,
			    "v=$retval:u64 text=+0($retval):string"));
	format = tracefs_read(EVENT "/format");
	EXPECT_NE(NULL, strstr(format, "field:unsigned long __probe_func;\toffset:8;\tsize:8;"));
	EXPECT_NE(NULL, strstr(format, "field:unsigned long __probe_ret_ip;\toffset:16;\tsize:8;"));
	EXPECT_EQ(NULL, strstr(format, "__probe_ip"));
	EXPECT_NE(NULL, strstr(format, "field:u64 v;\toffset:24;\tsize:8;\tsigned:0;"));
	EXPECT_NE(NULL, strstr(format, "field:__data_loc char[] text;\toffset:32;\tsize:4;"));
	EXPECT_NE(NULL, strstr(format, "print fmt: \"(%lx <- %lx) v="));
	EXPECT_NE(NULL, strstr(format, "\", REC->__probe_func, REC->__probe_ret_ip, REC->v, "))
		TH_LOG("%s", format);
	free(format);
}

TEST_F_TIMEOUT(events, memory_of_the_result, TIMEOUT)
{
	static const char args[] =
		"t=+0($retval):string s=+0(+32($retval)):string n=+8($retval):u32[4]";
	struct target *target = &self->target;
	unsigned int form;

	for (form = 0; form < FORMS; form++) {
		ASSERT_EQ(0, start(target, form, returned_sum, returned_sum_end, args));
		target_call(target, returned_sum, (unsigned long)&probed_data - 3, 3, 2);
		TRACED(2, " t=\"probed\" s=\"a string elsewhere\" n={1,20,300,4000}\n");
		target_call(target, returned_sum, 1, 1, 1);
		TRACED(1, " t=(fault) s=(fault)");
		finish(_metadata);
	}
}

/* The innermost call returns first. */
TEST_F_TIMEOUT(events, recursion, TIMEOUT)
{
	struct target *target = &self->target;
	unsigned int form, i;

	for (form = 0; form < FORMS; form++) {
		char *trace, *at, value[32];

		ASSERT_EQ(0, start(target, form, returned_deep, returned_deep_end,
				   "v=$retval:u64"));
		EXPECT_EQ(120, target_call(target, returned_deep, 20, 100, 1));
		EXPECT_EQ(21, profile_hits("back"));
		TRACED(21, "<- %p) v=", returned_deep);
		TRACED(20, "(%p <- ", returned_deep_site);
		TRACED(1, "(%p <- %p) v=120\n", call_probed_return, returned_deep);
		trace = tracefs_read("trace");
		for (at = trace, i = 100; at && i <= 120; i++) {
			snprintf(value, sizeof(value), " v=%u\n", i);
			at = strstr(at, value);
			EXPECT_NE(NULL, at) TH_LOG("%s is missing, or too early", value);
		}
		free(trace);
		finish(_metadata);
	}
}

/* A function that ends with a jump to another one returns when the other one does. */
TEST_F_TIMEOUT(events, tail_call, TIMEOUT)
{
	struct target *target = &self->target;
	char *profile;

	ASSERT_EQ(0, start(target, BY_SITE, returned_tail, NULL, "v=$retval:u64"));
	ASSERT_EQ(0, create(target, BY_SITE, returned_sum, NULL, "v=$retval:u64"));
	EXPECT_EQ(10 * 5UL, target_call(target, returned_tail, 2, 2, 10));
	TRACED(10, " back: (%p <- %p) v=5\n", call_probed_return, returned_tail);
	TRACED(10, " back: (%p <- %p) v=5\n", call_probed_return, returned_sum);
	EXPECT_EQ(20, profile_hits("back"));
	profile = tracefs_read("uprobe_profile");
	EXPECT_EQ(2, count_lines(profile, " instructions\n"));
	free(profile);
	finish(_metadata);

	ASSERT_EQ(0, start(target, BY_EXITS, returned_tail, returned_tail_end, "v=$retval:u64"));
	EXPECT_EQ(10 * 5UL, target_call(target, returned_tail, 2, 2, 10));
	TRACED(10, " back: (%p <- %p) v=5\n", call_probed_return, returned_tail);
}

/* One event can have probes of several functions, in both forms, and in several processes. */
TEST_F_TIMEOUT(events, several_probes_of_one_event, TIMEOUT)
{
	struct target *target = &self->target, second;

	ASSERT_TRUE(target_start(&second));
	ASSERT_EQ(0, create(target, BY_SITE, returned_sum, NULL, "v=$retval:u64"));
	ASSERT_EQ(0, create(target, BY_EXITS, returned_two_ways, returned_two_ways_end,
			    "v=$retval:u64"));
	ASSERT_EQ(0, create(&second, BY_SITE, returned_sum, NULL, "v=$retval:u64"));
	ASSERT_EQ(0, set_enabled(true));
	target_call(target, returned_sum, 1, 0, 10);
	target_call(target, returned_two_ways, 2, 0, 20);
	target_call(&second, returned_sum, 3, 0, 30);
	target_call(&second, returned_two_ways, 4, 0, 40);
	TRACED(10, "(%p <- %p) v=1\n", call_probed_return, returned_sum);
	TRACED(20, "(%p <- %p) v=2\n", call_probed_return, returned_two_ways);
	TRACED(30, "(%p <- %p) v=3\n", call_probed_return, returned_sum);
	TRACED(0, " v=4\n");

	/* Both forms of one function are two probes. */
	ASSERT_EQ(0, create(target, BY_EXITS, returned_sum, returned_sum_end, "v=$retval:u64"));
	target_call(target, returned_sum, 5, 0, 10);
	TRACED(20, " v=5\n");
	EXPECT_EQ(80, profile_hits("back"));

	EXPECT_EQ(0, target_stop(&second));
	EXPECT_EQ(0, set_enabled(false));
	EXPECT_EQ(0, tracefs_append("uprobe_events", "-:selftest/back"));
	EXPECT_FALSE(tracefs_exists(EVENT));
}

TEST_F_TIMEOUT(events, filter, TIMEOUT)
{
	struct target *target = &self->target;
	unsigned int form, i;

	for (form = 0; form < FORMS; form++) {
		ASSERT_EQ(0, create(target, form, returned_sum, returned_sum_end, "v=$retval:u64"));
		ASSERT_EQ(0, tracefs_replace(EVENT "/filter", "v > 3 && v != 7"));
		ASSERT_EQ(0, set_enabled(true));
		for (i = 0; i < 10; i++)
			target_call(target, returned_sum, i, 0, 2);
		TRACED(10, " back: (");
		TRACED(0, " v=3\n");
		TRACED(2, " v=4\n");
		TRACED(0, " v=7\n");

		ASSERT_EQ(0, tracefs_replace("trace", "%s", ""));
		ASSERT_EQ(0, tracefs_replace(EVENT "/filter", "__probe_ret_ip == %p",
					     call_probed_return));
		target_call(target, returned_sum, 1, 0, 5);
		TRACED(5, " v=1\n");
		ASSERT_EQ(0, tracefs_replace(EVENT "/filter", "__probe_func != %p", returned_sum));
		target_call(target, returned_sum, 1, 0, 5);
		TRACED(5, " v=1\n");
		EXPECT_EQ(-EINVAL, tracefs_replace(EVENT "/filter", "__probe_ip == 1"));
		finish(_metadata);
	}
}

/* A process with a thread within returned_late(). */
struct inside {
	struct target target;
	struct late *late;
	pthread_t caller;
};

static void *call_late(void *arg)
{
	struct inside *inside = arg;

	target_call(&inside->target, returned_late, (unsigned long)inside->late, 77, 1);
	return NULL;
}

static bool inside_start(struct inside *inside)
{
	inside->late = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	return inside->late != MAP_FAILED && target_start(&inside->target);
}

static bool inside_enter(struct inside *inside)
{
	memset(inside->late, 0, sizeof(*inside->late));
	if (pthread_create(&inside->caller, NULL, call_late, inside))
		return false;
	while (!__atomic_load_n(&inside->late->inside, __ATOMIC_ACQUIRE))
		sleep_ms(1);
	return true;
}

static void inside_leave(struct inside *inside)
{
	__atomic_store_n(&inside->late->go, 1, __ATOMIC_RELEASE);
	pthread_join(inside->caller, NULL);
}

TEST_F_TIMEOUT(events, enabled_and_disabled_while_inside, TIMEOUT)
{
	struct inside inside;
	unsigned int form;

	ASSERT_TRUE(inside_start(&inside));
	for (form = 0; form < FORMS; form++) {
		/* A call with an unseen entry is detected only at a return instruction. */
		unsigned int unseen = form == BY_EXITS;
		struct target *target = &inside.target;

		ASSERT_EQ(0, create(target, form, returned_late, returned_late_end,
				    "v=$retval:u64"));
		ASSERT_TRUE(inside_enter(&inside));
		ASSERT_EQ(0, set_enabled(true));
		inside_leave(&inside);
		EXPECT_EQ(unseen, profile_hits("back"));

		ASSERT_TRUE(inside_enter(&inside));
		inside_leave(&inside);
		EXPECT_EQ(unseen + 1, profile_hits("back"));

		ASSERT_TRUE(inside_enter(&inside));
		ASSERT_EQ(0, set_enabled(false));
		inside_leave(&inside);
		EXPECT_EQ(unseen + 1, profile_hits("back"));

		/* Disabling the event drops the entry of the running call. */
		ASSERT_EQ(0, set_enabled(true));
		ASSERT_TRUE(inside_enter(&inside));
		ASSERT_EQ(0, set_enabled(false));
		ASSERT_EQ(0, set_enabled(true));
		inside_leave(&inside);
		EXPECT_EQ(unseen * 2 + 1, profile_hits("back"));

		TRACED(unseen * 2 + 1, " v=77\n");
		EXPECT_EQ(0, profile_misses("back"));
		finish(_metadata);
		EXPECT_TRUE(page_is_of_file(target->pid, returned_late));
		EXPECT_TRUE(page_is_of_file(target->pid, call_probed));
	}
	EXPECT_EQ(0, target_stop(&inside.target));
}

struct running {
	struct target *target;
	bool stop;
	unsigned long wrong;
};

static void *call_deep(void *arg)
{
	struct running *running = arg;

	while (!__atomic_load_n(&running->stop, __ATOMIC_RELAXED))
		running->wrong += target_call(running->target, returned_deep, 30, 7, 20) != 37 * 20;
	return NULL;
}

/* The program continues as without the event, whenever that is enabled or disabled. */
TEST_F_TIMEOUT(events, enabled_and_disabled_while_running, TIMEOUT)
{
	struct running running = { .target = &self->target };
	unsigned int form, i, rounds = scaled(40);
	pthread_t caller;

	ASSERT_EQ(0, pthread_create(&caller, NULL, call_deep, &running));
	for (form = 0; form < FORMS; form++) {
		ASSERT_EQ(0, create(&self->target, form, returned_deep, returned_deep_end,
				    "v=$retval:u64"));
		for (i = 0; i < rounds; i++) {
			EXPECT_EQ(0, set_enabled(true));
			sleep_ms(i % 5);
			EXPECT_EQ(0, set_enabled(false));
		}
		EXPECT_LT(0, profile_hits("back"));
		EXPECT_EQ(0, profile_misses("back"));
		finish(_metadata);
	}
	__atomic_store_n(&running.stop, true, __ATOMIC_RELAXED);
	pthread_join(caller, NULL);
	EXPECT_EQ(0, running.wrong);
	EXPECT_TRUE(page_is_of_file(self->target.pid, returned_deep));
	EXPECT_TRUE(page_is_of_file(self->target.pid, call_probed));
}

TEST_F_TIMEOUT(events, both_ways_at_one_address, TIMEOUT)
{
	struct target *target = &self->target;
	pid_t pid = target->pid;

	ASSERT_EQ(0, tracefs_append("uprobe_events", "p:selftest/enter %d:%p a=%%di:u64", pid,
				    returned_sum));
	ASSERT_EQ(0, tracefs_append("uprobe_events", "p:selftest/exit %d:%p v=%%ax:u64", pid,
				    returned_sum_ret));
	ASSERT_EQ(0, tracefs_append("uprobe_events", "r:selftest/back %d:%p v=$retval:u64", pid,
				    returned_sum));
	ASSERT_EQ(0, tracefs_append("uprobe_events", "r:selftest/also %d:%p-%p v=$retval:u64", pid,
				    returned_sum, returned_sum_end));
	ASSERT_EQ(0, tracefs_append("uprobe_events", "p:selftest/site %d:%p v=%%ax:u64", pid,
				    call_probed_return));
	ASSERT_EQ(0, tracefs_replace("events/selftest/enable", "1"));
	EXPECT_EQ(10 * 50UL, target_call(target, returned_sum, 20, 30, 10));
	TRACED(10, " enter: (%p) a=20\n", returned_sum);
	TRACED(10, " exit: (%p) v=50\n", returned_sum_ret);
	TRACED(10, " site: (%p) v=50\n", call_probed_return);
	TRACED(10, " back: (%p <- %p) v=50\n", call_probed_return, returned_sum);
	TRACED(10, " also: (%p <- %p) v=50\n", call_probed_return, returned_sum);

	/* Each event continues without the others. */
	ASSERT_EQ(0, tracefs_replace("events/selftest/enter/enable", "0"));
	ASSERT_EQ(0, tracefs_replace("events/selftest/exit/enable", "0"));
	ASSERT_EQ(0, tracefs_replace("events/selftest/site/enable", "0"));
	target_call(target, returned_sum, 20, 30, 10);
	EXPECT_EQ(10, profile_hits("enter"));
	EXPECT_EQ(10, profile_hits("exit"));
	EXPECT_EQ(10, profile_hits("site"));
	EXPECT_EQ(20, profile_hits("back"));
	EXPECT_EQ(20, profile_hits("also"));

	ASSERT_EQ(0, tracefs_replace("events/selftest/enable", "1"));
	ASSERT_EQ(0, set_enabled(false));
	ASSERT_EQ(0, tracefs_replace("events/selftest/also/enable", "0"));
	target_call(target, returned_sum, 20, 30, 10);
	EXPECT_EQ(20, profile_hits("enter"));
	EXPECT_EQ(20, profile_hits("exit"));
	EXPECT_EQ(20, profile_hits("site"));
	EXPECT_EQ(20, profile_hits("back"));
	EXPECT_EQ(20, profile_hits("also"));

	ASSERT_EQ(0, tracefs_replace("events/selftest/enable", "0"));
	EXPECT_TRUE(page_is_of_file(pid, returned_sum));
	EXPECT_TRUE(page_is_of_file(pid, call_probed));
	EXPECT_TRUE(text_is_of_file(pid, returned_sum, 4096));
}

/* Returns that cannot be detected are counted as misses. */
TEST_F_TIMEOUT(events, profile, TIMEOUT)
{
	struct target *target = &self->target;
	unsigned long pids = 10UL * target->pid;

	ASSERT_EQ(0, create(target, BY_SITE, returned_opaque, NULL, ""));
	EXPECT_EQ(0, profile_hits("back"));
	EXPECT_EQ(0, profile_misses("back"));
	ASSERT_EQ(0, set_enabled(true));
	EXPECT_EQ(pids, target_call(target, returned_before_syscall, SYS_getpid, 0, 10));
	EXPECT_EQ(0, profile_hits("back"));
	EXPECT_EQ(10, profile_misses("back"));
	target_call(target, returned_opaque, 0, 0, 5);
	EXPECT_EQ(5, profile_hits("back"));
	EXPECT_EQ(10, profile_misses("back"));
	TRACED(5, " back: (");

	/* The counts stay, and more is added. */
	ASSERT_EQ(0, set_enabled(false));
	EXPECT_EQ(5, profile_hits("back"));
	EXPECT_EQ(10, profile_misses("back"));
	EXPECT_EQ(pids, target_call(target, returned_before_syscall, SYS_getpid, 0, 10));
	EXPECT_EQ(10, profile_misses("back"));
	ASSERT_EQ(0, set_enabled(true));
	EXPECT_EQ(pids, target_call(target, returned_before_syscall, SYS_getpid, 0, 10));
	EXPECT_EQ(20, profile_misses("back"));
	finish(_metadata);
}

TEST_F_TIMEOUT(events, trigger_stacktrace, TIMEOUT)
{
	struct target *target = &self->target;

	ASSERT_EQ(0, create(target, BY_SITE, returned_sum, NULL, ""));
	ASSERT_EQ(0, tracefs_append(EVENT "/trigger", "stacktrace:2"));
	target_call(target, returned_sum, 0, 0, 5);
	TRACED(2, "<stack trace>");
	/* The trigger is removed when its count runs out. Removing it again is no error. */
	tracefs_append(EVENT "/trigger", "!stacktrace:2");
}

TEST_HARNESS_MAIN

// SPDX-License-Identifier: GPL-2.0
/* Calls of the test module, and its log, for the selftests of utrace. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "utrace_selftest.h"

/* The device file, which targets must close. */
static int opened = -1;

int dev_open(void)
{
	int flags = O_RDWR | O_CLOEXEC | O_NONBLOCK;
	int dev = open(UTRACE_TEST_DEVICE, flags);

	if (dev < 0 && errno == ENOENT && !system("modprobe -q utrace_test 2>/dev/null"))
		dev = open(UTRACE_TEST_DEVICE, flags);
	opened = dev;
	return dev < 0 ? -errno : dev;
}

void dev_close_in_target(void)
{
	close(opened);
}

static int dev_ioctl(int dev, unsigned long cmd, unsigned long arg)
{
	int ret = ioctl(dev, cmd, arg);

	return ret < 0 ? -errno : ret;
}

int dev_attach_how(int dev, const struct utrace_test_attach *how)
{
	return dev_ioctl(dev, UTRACE_TEST_ATTACH, (unsigned long)how);
}

int dev_attach(int dev, pid_t tid, unsigned long events)
{
	struct utrace_test_attach how = {
		.tid = tid,
		.flags = UTRACE_ATTACH_CREATE,
		.callbacks = UTRACE_TEST_ALL_CALLBACKS,
	};
	int ret, id = dev_attach_how(dev, &how);

	if (id < 0)
		return id;
	ret = dev_set_events(dev, id, events);
	return ret ? ret : id;
}

int dev_attach_process(int dev, pid_t tid, unsigned long events)
{
	struct utrace_test_attach how = {
		.tid = tid,
		.callbacks = UTRACE_TEST_ALL_CALLBACKS,
		.events = events,
	};

	return dev_ioctl(dev, UTRACE_TEST_ATTACH_PROCESS, (unsigned long)&how);
}

int dev_call(int dev, unsigned long cmd, const struct utrace_test_call *how)
{
	return dev_ioctl(dev, cmd, (unsigned long)how);
}

int dev_set_events(int dev, int id, unsigned long events)
{
	struct utrace_test_call how = { .id = id, .events = events };

	return dev_call(dev, UTRACE_TEST_EVENTS, &how);
}

int dev_control(int dev, int id, enum utrace_resume_action action)
{
	struct utrace_test_call how = { .id = id, .action = action };

	return dev_call(dev, UTRACE_TEST_CONTROL, &how);
}

int dev_barrier(int dev, int id)
{
	struct utrace_test_call how = { .id = id };

	return dev_call(dev, UTRACE_TEST_BARRIER, &how);
}

int dev_prepare(int dev, int id)
{
	struct utrace_test_call how = { .id = id };

	return dev_call(dev, UTRACE_TEST_PREPARE, &how);
}

int dev_finish(int dev, int id)
{
	struct utrace_test_call how = { .id = id };

	return dev_call(dev, UTRACE_TEST_FINISH, &how);
}

int dev_get_regs(int dev, int id, struct user_regs_struct *regs)
{
	struct utrace_test_regs how = { .id = id };
	int ret = dev_ioctl(dev, UTRACE_TEST_GET_REGS, (unsigned long)&how);

	memset(regs, 0, sizeof(*regs));
	memcpy(regs, how.regs, sizeof(how.regs));
	return ret;
}

int dev_set_regs(int dev, int id, const struct user_regs_struct *regs)
{
	struct utrace_test_regs how = { .id = id };

	memcpy(how.regs, regs, sizeof(how.regs));
	return dev_ioctl(dev, UTRACE_TEST_SET_REGS, (unsigned long)&how);
}

int dev_answer(int dev, const struct utrace_test_answer *answer)
{
	return dev_ioctl(dev, UTRACE_TEST_ANSWER, (unsigned long)answer);
}

int dev_no_answer(int dev, int id)
{
	return dev_ioctl(dev, UTRACE_TEST_NO_ANSWER, id);
}

int dev_go(int dev, int id)
{
	return dev_ioctl(dev, UTRACE_TEST_GO, id);
}

int dev_put(int dev, int id)
{
	return dev_ioctl(dev, UTRACE_TEST_PUT, id);
}

int dev_drop(int dev, int id)
{
	return dev_ioctl(dev, UTRACE_TEST_DROP, id);
}

int dev_count(int dev, int id, struct utrace_test_count *count)
{
	memset(count, 0, sizeof(*count));
	count->id = id;
	return dev_ioctl(dev, UTRACE_TEST_COUNT, (unsigned long)count);
}

bool calls_reach(int dev, int id, unsigned int callback, unsigned long long times)
{
	uint64_t end = now_ms() + SOON_MS;
	struct utrace_test_count count;

	do {
		if (dev_count(dev, id, &count))
			return false;
		if (count.calls[callback] >= times)
			return count.calls[callback] == times;
		sleep_ms(1);
	} while (now_ms() < end);
	return false;
}

bool deaths_settle(int dev, int id, struct utrace_test_count *count)
{
	uint64_t end = now_ms() + SOON_MS;

	do {
		if (dev_count(dev, id, count))
			return false;
		if (count->calls[UTRACE_TEST_DEATH] >= count->calls[UTRACE_TEST_EXIT] &&
		    count->calls[UTRACE_TEST_REAP] == count->calls[UTRACE_TEST_DEATH])
			return true;
		sleep_ms(1);
	} while (now_ms() < end);
	return false;
}

bool released(int dev, int id, unsigned long long times)
{
	uint64_t end = now_ms() + SOON_MS;
	struct utrace_test_count count;

	do {
		if (dev_count(dev, id, &count))
			return false;
		if (count.released >= times)
			break;
		sleep_ms(1);
	} while (now_ms() < end);
	sleep_ms(50);
	return !dev_count(dev, id, &count) && count.released == times;
}

int dev_quiesce(int dev, pid_t pid)
{
	return dev_ioctl(dev, UTRACE_TEST_QUIESCE_PROCESS, pid);
}

int dev_state(int dev, struct utrace_test_state *state)
{
	return dev_ioctl(dev, UTRACE_TEST_STATE, (unsigned long)state);
}

bool dev_clean(int dev)
{
	struct utrace_test_state state = { 0 };
	uint64_t end = now_ms() + SOON_MS;

	/* A thread in a callback ends the callback before its engine is detached. */
	do {
		if (dev_state(dev, &state))
			return false;
		if (!state.attached)
			break;
		sleep_ms(5);
	} while (now_ms() < end);
	if (state.attached || state.late || state.atomic)
		printf("# left: %u engines; %llu late callbacks; %llu in atomic context, or with a lock\n",
		       state.attached, (unsigned long long)state.late,
		       (unsigned long long)state.atomic);
	return !state.attached && !state.late && !state.atomic;
}

bool next_record(int dev, int callback, struct utrace_test_record *record)
{
	while (wait_readable(dev, SOON_MS)) {
		if (read(dev, record, sizeof(*record)) != sizeof(*record))
			break;
		if (callback == ANY || record->callback == (unsigned int)callback)
			return true;
	}
	memset(record, 0xff, sizeof(*record));
	return false;
}

bool no_record(int dev)
{
	return !wait_readable(dev, A_WHILE_MS);
}

void drop_records(int dev)
{
	struct utrace_test_record record;

	while (read(dev, &record, sizeof(record)) > 0)
		;
}

const char *event_name(unsigned long events)
{
	static const char * const names[] = {
		[_UTRACE_EVENT_QUIESCE] = "quiesce",
		[_UTRACE_EVENT_REAP] = "reap",
		[_UTRACE_EVENT_CLONE] = "clone",
		[_UTRACE_EVENT_EXEC] = "exec",
		[_UTRACE_EVENT_EXIT] = "exit",
		[_UTRACE_EVENT_DEATH] = "death",
		[_UTRACE_EVENT_SYSCALL_ENTRY] = "entry",
		[_UTRACE_EVENT_SYSCALL_EXIT] = "return",
		[_UTRACE_EVENT_SIGNAL] = "signal",
		[_UTRACE_EVENT_SIGNAL_IGN] = "ign",
		[_UTRACE_EVENT_SIGNAL_STOP] = "stop",
		[_UTRACE_EVENT_SIGNAL_TERM] = "term",
		[_UTRACE_EVENT_SIGNAL_CORE] = "core",
		[_UTRACE_EVENT_JCTL] = "jctl",
		[_UTRACE_EVENT_PATH] = "path",
		[_UTRACE_EVENT_LAST_EXIT] = "last_exit",
	};
	unsigned int i;

	for (i = 0; i < _UTRACE_NEVENTS; i++) {
		if (events == BIT(i))
			return names[i];
	}
	return events ? "several" : "none";
}

static const char *callback_name(unsigned int callback)
{
	static const char * const names[] = {
		[UTRACE_TEST_QUIESCE] = "quiesce",
		[UTRACE_TEST_SIGNAL] = "signal",
		[UTRACE_TEST_CLONE] = "clone",
		[UTRACE_TEST_JCTL] = "jctl",
		[UTRACE_TEST_EXEC] = "exec",
		[UTRACE_TEST_SYSCALL_ENTRY] = "entry",
		[UTRACE_TEST_SYSCALL_EXIT] = "return",
		[UTRACE_TEST_EXIT] = "exit",
		[UTRACE_TEST_LAST_EXIT] = "last_exit",
		[UTRACE_TEST_DEATH] = "death",
		[UTRACE_TEST_REAP] = "reap",
		[UTRACE_TEST_PATH] = "path",
	};

	return callback < UTRACE_TEST_CALLBACKS ? names[callback] : "unknown";
}

const char *next_records(int dev, unsigned int records)
{
	static char text[4096];
	struct utrace_test_record record;
	size_t used = 0;

	text[0] = '\0';
	while (records-- && used < sizeof(text) - 64) {
		const char *between = used ? " " : "";

		if (!next_record(dev, ANY, &record)) {
			snprintf(text + used, sizeof(text) - used, "%snothing", between);
			break;
		}
		used += snprintf(text + used, sizeof(text) - used, "%s%c.%s", between,
				 'a' + record.id - 1, callback_name(record.callback));
		if (record.callback == UTRACE_TEST_QUIESCE)
			used += snprintf(text + used, sizeof(text) - used, ":%s",
					 event_name(record.arg[0]));
	}
	return text;
}

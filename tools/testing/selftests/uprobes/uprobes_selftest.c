// SPDX-License-Identifier: GPL-2.0
/* Shared code of the selftests of user-space probes. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "uprobes_selftest.h"

#define PAGEMAP_PRESENT	0x8000000000000000ULL
#define PAGEMAP_FILE	0x2000000000000000ULL

struct probed_data probed_data = {
	.text = "probed",
	.numbers = { 1, 20, 300, 4000 },
	.wide = 0x123456789abcdef0,
	.far = "a string elsewhere",
};

int dev_open(void)
{
	int dev = open(UPROBES_TEST_DEVICE, O_RDWR | O_CLOEXEC);

	if (dev < 0 && errno == ENOENT &&
	    !system("modprobe -q uprobes_test 2>/dev/null"))
		dev = open(UPROBES_TEST_DEVICE, O_RDWR | O_CLOEXEC);
	return dev < 0 ? -errno : dev;
}

static int dev_ioctl(int dev, unsigned long cmd, unsigned long arg)
{
	int ret = ioctl(dev, cmd, arg);

	return ret < 0 ? -errno : ret;
}

int dev_register_how(int dev, const struct uprobes_test_register *how)
{
	return dev_ioctl(dev, UPROBES_TEST_REGISTER, (unsigned long)how);
}

int dev_register(int dev, pid_t pid, const void *at, unsigned int flags)
{
	struct uprobes_test_register how = {
		.pid = pid,
		.vaddr = (unsigned long)at,
		.flags = flags,
	};

	return dev_register_how(dev, &how);
}

int dev_again(int dev, int id)
{
	return dev_ioctl(dev, UPROBES_TEST_AGAIN, id);
}

int dev_unregister(int dev, int id)
{
	return dev_ioctl(dev, UPROBES_TEST_UNREGISTER, id);
}

int dev_end(int dev, int id)
{
	return dev_ioctl(dev, UPROBES_TEST_END, id);
}

int dev_bulk(int dev, const struct uprobes_test_bulk *how)
{
	return dev_ioctl(dev, UPROBES_TEST_BULK, (unsigned long)how);
}

int dev_count(int dev, int id, struct uprobes_test_count *count)
{
	memset(count, 0, sizeof(*count));
	count->id = id;
	return dev_ioctl(dev, UPROBES_TEST_COUNT, (unsigned long)count);
}

long long dev_hits(int dev, int id)
{
	struct uprobes_test_count count;
	int ret = dev_count(dev, id, &count);

	return ret ? ret : (long long)count.task_hits;
}

bool dev_notified(int dev, int id)
{
	struct uprobes_test_count count;
	uint64_t end = now_ms() + 20000;

	do {
		if (dev_count(dev, id, &count))
			return false;
		if (count.notified)
			return count.notified == 1 && !count.active;
		sleep_ms(1);
	} while (now_ms() < end);
	return false;
}

int dev_quiesce(int dev, pid_t pid)
{
	struct uprobes_test_quiesce how = { .pid = pid };

	return dev_ioctl(dev, UPROBES_TEST_QUIESCE, (unsigned long)&how);
}

int dev_quiesce_for(int dev, pid_t pid, unsigned int usec)
{
	struct uprobes_test_quiesce how = { .pid = pid, .usec = usec };

	return dev_ioctl(dev, UPROBES_TEST_QUIESCE_FOR, (unsigned long)&how);
}

int dev_resume(int dev, int id)
{
	return dev_ioctl(dev, UPROBES_TEST_RESUME, id);
}

int dev_state(int dev, struct uprobes_test_state *state)
{
	return dev_ioctl(dev, UPROBES_TEST_STATE, (unsigned long)state);
}

bool dev_clean(int dev)
{
	struct uprobes_test_state state = { 0 };

	if (dev_state(dev, &state))
		return false;
	if (state.probes || state.guards || state.late)
		printf("# left: %u probes, %u guards; %llu late handlers\n",
		       state.probes, state.guards, (unsigned long long)state.late);
	return !state.probes && !state.guards && !state.late;
}

bool text_read(pid_t pid, const void *at, void *to, size_t len)
{
	char path[32];
	ssize_t got;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/mem", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	got = pread(fd, to, len, (off_t)(unsigned long)at);
	close(fd);
	return got == (ssize_t)len;
}

bool page_is_of_file(pid_t pid, const void *at)
{
	uint64_t entry = 0;
	char path[32], byte;
	int fd;

	/* The entry is meaningful only if the page is present. */
	if (!text_read(pid, at, &byte, 1))
		return false;
	snprintf(path, sizeof(path), "/proc/%d/pagemap", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	if (pread(fd, &entry, sizeof(entry), (unsigned long)at / 4096 * 8) != 8)
		entry = 0;
	close(fd);
	return (entry & PAGEMAP_PRESENT) && (entry & PAGEMAP_FILE);
}

bool text_is_of_file(pid_t pid, const void *at, size_t len)
{
	unsigned long start, end, offset, addr = (unsigned long)at;
	char line[4096], path[4096], *bytes;
	bool same = false;
	FILE *maps;
	int fd = -1;

	snprintf(path, sizeof(path), "/proc/%d/maps", pid);
	maps = fopen(path, "r");
	if (!maps)
		return false;
	while (fgets(line, sizeof(line), maps)) {
		if (sscanf(line, "%lx-%lx %*s %lx %*s %*s %4095s",
			   &start, &end, &offset, path) == 4 &&
		    start <= addr && addr + len <= end) {
			fd = open(path, O_RDONLY | O_CLOEXEC);
			break;
		}
	}
	fclose(maps);
	if (fd < 0)
		return false;

	bytes = malloc(2 * len);
	if (bytes && pread(fd, bytes, len, offset + addr - start) == (ssize_t)len &&
	    text_read(pid, at, bytes + len, len))
		same = !memcmp(bytes, bytes + len, len);
	free(bytes);
	close(fd);
	return same;
}

struct call {
	probed_fn fn;
	unsigned long base;
	unsigned long add;
	unsigned int times;
};

static void target_loop(int from, int to)
{
	struct call call;

	while (read(from, &call, sizeof(call)) == sizeof(call)) {
		unsigned long sum = 0;

		while (call.times--)
			sum += call_probed(call.fn, call.base, call.add);
		if (write(to, &sum, sizeof(sum)) != sizeof(sum))
			break;
	}
	_exit(0);
}

bool target_start(struct target *target)
{
	int to[2], from[2];

	if (pipe(to) || pipe(from))
		return false;
	target->pid = fork();
	if (target->pid < 0)
		return false;
	if (!target->pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(to[1]);
		close(from[0]);
		target_loop(to[0], from[1]);
	}
	close(to[0]);
	close(from[1]);
	target->to = to[1];
	target->from = from[0];
	return true;
}

unsigned long target_call(struct target *target, probed_fn fn, unsigned long base,
			  unsigned long add, unsigned int times)
{
	struct call call = { .fn = fn, .base = base, .add = add, .times = times };
	unsigned long sum = 0;

	if (write(target->to, &call, sizeof(call)) != sizeof(call) ||
	    read(target->from, &sum, sizeof(sum)) != sizeof(sum))
		return ~0UL;
	return sum;
}

int target_stop(struct target *target)
{
	int status = -1;

	close(target->to);
	close(target->from);
	waitpid(target->pid, &status, 0);
	return status;
}

// SPDX-License-Identifier: GPL-2.0
/*
 * Probes in a process that cpusets move.
 *
 * Cpusets take mmap_lock with cpu_hotplug_lock held. Registering and unregistering a probe quiesces
 * threads with mmap_lock held. lockdep checks the order of the two.
 */
#include <sys/stat.h>

#include "module_fixture.h"

#define CGROUPS	"/sys/fs/cgroup/"
#define NAME	CGROUPS "uprobes_test_"

static int put(const char *file, const char *text)
{
	int fd = open(file, O_WRONLY | O_CLOEXEC), ret;

	if (fd < 0)
		return -errno;
	ret = write(fd, text, strlen(text)) < 0 ? -errno : 0;
	close(fd);
	return ret;
}

/* Returns whether the first line of a file has one of @characters. */
static bool line_has(const char *file, const char *characters)
{
	FILE *stream = fopen(file, "re");
	char line[256] = "";

	if (!stream)
		return false;
	if (!fgets(line, sizeof(line), stream))
		line[0] = 0;
	fclose(stream);
	return strpbrk(line, characters);
}

/* lockdep is off in kernels without it, and after its first report. */
static bool lockdep_is_on(void)
{
	FILE *stream = fopen("/proc/lockdep_stats", "re");
	unsigned int on = 0;
	char line[256];

	while (stream && fgets(line, sizeof(line), stream))
		sscanf(line, " debug_locks: %u", &on);
	if (stream)
		fclose(stream);
	return on;
}

static int move(pid_t pid, unsigned int node)
{
	char file[64], text[16];

	snprintf(file, sizeof(file), NAME "%u/cgroup.procs", node);
	snprintf(text, sizeof(text), "%d", pid);
	return put(file, text);
}

/* Makes cpusets of one memory node each, so that every move rebinds the process's memory. */
static int make_cpusets(void)
{
	unsigned int node;
	int ret = put(CGROUPS "cgroup.subtree_control", "+cpuset");

	for (node = 0; node < 2 && !ret; node++) {
		char file[64], text[16];

		snprintf(file, sizeof(file), NAME "%u", node);
		if (mkdir(file, 0755) && errno != EEXIST)
			return -errno;
		snprintf(file, sizeof(file), NAME "%u/cpuset.mems", node);
		snprintf(text, sizeof(text), "%u", node);
		ret = put(file, text);
	}
	return ret;
}

static void remove_cpusets(void)
{
	rmdir(NAME "0");
	rmdir(NAME "1");
	put(CGROUPS "cgroup.subtree_control", "-cpuset");
}

/* Forks a child. fork() makes its copy of the probed text under mmap_lock. */
static int fork_probed(void)
{
	int status = -1;
	pid_t pid = fork();

	if (!pid)
		_exit(probed_lea(1, 2) == 3 ? 0 : 1);
	waitpid(pid, &status, 0);
	return status;
}

TEST_F_TIMEOUT(module, moved_while_probed, TIMEOUT)
{
	struct target target;
	unsigned int i;
	bool checked;

	/* As in "0-1": more than one node. */
	if (!line_has(CGROUPS "cpuset.mems.effective", "-,"))
		SKIP(return, "no cpusets, or one memory node");
	ASSERT_EQ(0, make_cpusets());
	checked = lockdep_is_on();
	ASSERT_TRUE(target_start(&target));
	for (i = 0; i < 20; i++) {
		int id, own;

		ASSERT_EQ(0, move(target.pid, i % 2));
		id = dev_register(self->dev, target.pid, probed_lea, UPROBES_TEST_TASK);
		ASSERT_LT(0, id);
		own = PROBE(probed_lea);
		EXPECT_EQ(0, fork_probed());
		UNPROBE(own);
		EXPECT_EQ(3, target_call(&target, probed_lea, 1, 2, 1));
		EXPECT_EQ(1, HITS(id));
		UNPROBE(id);
	}
	EXPECT_EQ(0, target_stop(&target));
	remove_cpusets();
	if (checked)
		EXPECT_TRUE(lockdep_is_on());
}

TEST_HARNESS_MAIN

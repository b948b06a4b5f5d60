// SPDX-License-Identifier: GPL-2.0
/* Probes by file through perf's PMU "uprobe", and through BPF links. */
#include "bpf_fixture.h"
#include "files.h"

static int pmu_type(void)
{
	FILE *file = fopen("/sys/bus/event_source/devices/uprobe/type", "r");
	int type = -1;

	if (file) {
		if (fscanf(file, "%d", &type) != 1)
			type = -1;
		fclose(file);
	}
	return type;
}

/* Opens an event of the PMU on a function. @how sets flags of the event. */
static int pmu_open(const void *fn, bool is_return, pid_t pid, struct perf_event_attr how)
{
	struct place_in_file place = file_at(fn);
	struct perf_event_attr attr = how;
	int fd;

	attr.type = pmu_type();
	attr.size = sizeof(attr);
	attr.config = is_return;
	attr.uprobe_path = (unsigned long)place.path;
	attr.probe_offset = place.offset;
	fd = syscall(SYS_perf_event_open, &attr, pid, pid == -1 ? 0 : -1, -1, PERF_FLAG_FD_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

#define COUNTING	((struct perf_event_attr){ .sample_period = 1 })

TEST_F_TIMEOUT(events, pmu_counts_one_process, TIMEOUT)
{
	struct target *target = &self->target, other;
	int entries, returns;

	ASSERT_TRUE(target_start(&other));
	entries = pmu_open(probed_nop, false, target->pid, COUNTING);
	ASSERT_LE(0, entries);
	returns = pmu_open(probed_nop, true, target->pid, COUNTING);
	ASSERT_LE(0, returns);
	target_call(target, probed_nop, 3, 4, CALLS);
	target_call(&other, probed_nop, 3, 4, CALLS);
	EXPECT_EQ(CALLS, perf_read(entries));
	EXPECT_EQ(CALLS, perf_read(returns));
	/* Who is filtered out has no breakpoint. */
	EXPECT_TRUE(page_is_of_file(other.pid, probed_nop));
	EXPECT_FALSE(page_is_of_file(target->pid, probed_nop));
	close(entries);
	target_call(target, probed_nop, 3, 4, CALLS);
	EXPECT_EQ(2 * CALLS, perf_read(returns));
	close(returns);
	EXPECT_TRUE(page_is_of_file(target->pid, probed_nop));
	EXPECT_EQ(0, target_stop(&other));
}

/*
 * A child has the breakpoint. Its hits, and the parent's later ones, are not counted here: perf
 * may swap the contexts of the two, on mainline's kernel as well.
 */
TEST_F_TIMEOUT(events, pmu_inherits, TIMEOUT)
{
	int fd, status = -1;
	pid_t child;

	fd = pmu_open(probed_nop, false, 0, (struct perf_event_attr){ .inherit = 1 });
	ASSERT_LE(0, fd);
	EXPECT_EQ(7, call_probed(probed_nop, 3, 4));
	EXPECT_EQ(1, perf_read(fd));
	child = fork();
	if (!child) {
		if (page_is_of_file(getpid(), probed_nop))
			_exit(1);
		_exit(call_probed(probed_nop, 3, 4) == 7 ? 0 : 2);
	}
	waitpid(child, &status, 0);
	EXPECT_EQ(0, status);
	EXPECT_EQ(7, call_probed(probed_nop, 3, 4));
	close(fd);
	EXPECT_TRUE(page_is_of_file(getpid(), probed_nop));
}

TEST_F_TIMEOUT(events, pmu_enables_on_exec, TIMEOUT)
{
	char *argv[] = { "true", NULL };
	int fd, go[2], status = -1;
	char byte = 0, path[PATH_MAX];
	struct perf_event_attr attr = {
		.size = sizeof(attr),
		.disabled = 1,
		.enable_on_exec = 1,
	};
	FILE *nm;
	pid_t child;
	unsigned long offset = 0;

	/* The entry of a program whose text begins where it is mapped. */
	nm = popen("od -A n -t u8 -j 24 -N 8 /bin/true", "r");
	ASSERT_NE(NULL, nm);
	ASSERT_EQ(1, fscanf(nm, "%lu", &offset));
	pclose(nm);
	ASSERT_NE(NULL, realpath("/bin/true", path));
	ASSERT_EQ(0, pipe(go));
	child = fork();
	if (!child) {
		close(go[1]);
		if (read(go[0], &byte, 1) < 0)
			_exit(2);
		execv(path, argv);
		_exit(3);
	}
	close(go[0]);
	attr.type = pmu_type();
	attr.uprobe_path = (unsigned long)path;
	attr.probe_offset = offset;
	fd = syscall(SYS_perf_event_open, &attr, child, -1, -1, PERF_FLAG_FD_CLOEXEC);
	ASSERT_LE(0, fd);
	close(go[1]);
	waitpid(child, &status, 0);
	EXPECT_EQ(0, status);
	EXPECT_EQ(1, perf_read(fd));
	close(fd);
}

/* As in the kernel's linux/bpf.h, which may be newer than the system's. */
#define TRACE_UPROBE_MULTI	((enum bpf_attach_type)48)
#define TRACE_UPROBE_SESSION	((enum bpf_attach_type)57)
#define UPROBE_MULTI_RETURN	1

struct create_multi {
	uint32_t prog_fd;
	uint32_t target_fd;
	uint32_t attach_type;
	uint32_t link_flags;
	uint64_t path;
	uint64_t offsets;
	uint64_t ref_ctr_offsets;
	uint64_t cookies;
	uint32_t cnt;
	uint32_t flags;
	uint32_t pid;
	uint32_t path_fd;
};

/* Counts the calls of the program, and returns a number. */
static int load_counter(int map, int result, enum bpf_attach_type attach)
{
	const struct bpf_insn body[] = {
		MOV_IMM(1, 1),
		INSN(BPF_STX | BPF_ATOMIC | BPF_DW, 7, 1, offsetof(struct seen, hits), BPF_ADD),
		LOAD(1, 6, IP), SEE(ip, 1),
		MOV(1, 6),
		CALL(BPF_FUNC_get_func_ip),
		SEE(function, 0),
		MOV_IMM(0, result),
		EXIT(),
	};

	return load_with_value(map, body, sizeof(body) / sizeof(*body), 0, attach);
}

/* Links a program to several functions. */
static int link_multi(int program, enum bpf_attach_type attach, unsigned int flags, pid_t pid,
		      const probed_fn *functions, unsigned int n)
{
	struct place_in_file place = {};
	uint64_t offsets[8];
	struct create_multi multi = {
		.prog_fd = program,
		.attach_type = attach,
		.path = (unsigned long)place.path,
		.offsets = (unsigned long)offsets,
		.cnt = n,
		.flags = flags,
		.pid = pid,
	};
	unsigned int i;

	for (i = 0; i < n; i++) {
		place = file_at(functions[i]);
		offsets[i] = place.offset;
	}
	return bpf(BPF_LINK_CREATE, (union bpf_attr *)&multi, sizeof(multi));
}

TEST_F_TIMEOUT(events, bpf_links, TIMEOUT)
{
	const probed_fn functions[] = { probed_nop, probed_push, probed_lea };
	struct target *target = &self->target;
	unsigned int i;
	int map = map_create(), program, entries, returns;

	ASSERT_LE(0, map);
	program = load_counter(map, 0, TRACE_UPROBE_MULTI);
	ASSERT_LE(0, program);
	entries = link_multi(program, TRACE_UPROBE_MULTI, 0, 0, functions, 3);
	ASSERT_LE(0, entries);
	for (i = 0; i < 3; i++) {
		target_call(target, functions[i], 3, 4, CALLS);
		EXPECT_EQ((i + 1) * CALLS, map_read(map).hits);
		EXPECT_EQ((unsigned long)functions[i], map_read(map).function);
	}
	returns = link_multi(program, TRACE_UPROBE_MULTI, UPROBE_MULTI_RETURN, target->pid,
			     functions, 3);
	ASSERT_LE(0, returns);
	for (i = 0; i < 3; i++) {
		target_call(target, functions[i], 3, 4, CALLS);
		EXPECT_EQ((3 + 2 * (i + 1)) * CALLS, map_read(map).hits);
		EXPECT_EQ((unsigned long)functions[i], map_read(map).function);
	}
	/* The second link is for another process. */
	EXPECT_EQ(7, call_probed(probed_nop, 3, 4));
	EXPECT_EQ(9 * CALLS + 1, map_read(map).hits);
	close(entries);
	close(returns);
	target_call(target, probed_nop, 3, 4, CALLS);
	EXPECT_EQ(9 * CALLS + 1, map_read(map).hits);
	EXPECT_TRUE(page_is_of_file(target->pid, probed_nop));
	close(program);
	close(map);
}

/* A session's program is called at the return only if it has returned 0 at the entry. */
TEST_F_TIMEOUT(events, bpf_sessions, TIMEOUT)
{
	const probed_fn function[] = { probed_nop };
	struct target *target = &self->target;
	int maps[2], programs[2], links[2], i;

	for (i = 0; i < 2; i++) {
		maps[i] = map_create();
		ASSERT_LE(0, maps[i]);
		programs[i] = load_counter(maps[i], i, TRACE_UPROBE_SESSION);
		ASSERT_LE(0, programs[i]);
		links[i] = link_multi(programs[i], TRACE_UPROBE_SESSION, 0, 0, function, 1);
		ASSERT_LE(0, links[i]);
	}
	target_call(target, probed_nop, 3, 4, CALLS);
	EXPECT_EQ(2 * CALLS, map_read(maps[0]).hits);
	EXPECT_EQ(CALLS, map_read(maps[1]).hits);
	close(links[0]);
	target_call(target, probed_nop, 3, 4, CALLS);
	EXPECT_EQ(2 * CALLS, map_read(maps[0]).hits);
	EXPECT_EQ(2 * CALLS, map_read(maps[1]).hits);
	close(links[1]);
	EXPECT_TRUE(page_is_of_file(target->pid, probed_nop));
	for (i = 0; i < 2; i++) {
		close(programs[i]);
		close(maps[i]);
	}
}

/* Consumers that do not want the returns do not keep those from the others that do. */
TEST_F_TIMEOUT(events, bpf_sessions_ignore, TIMEOUT)
{
	const probed_fn function[] = { probed_nop };
	struct target *target = &self->target;
	int maps[4], programs[4], links[4], i;

	for (i = 0; i < 4; i++) {
		maps[i] = map_create();
		ASSERT_LE(0, maps[i]);
		programs[i] = load_counter(maps[i], i > 0, TRACE_UPROBE_SESSION);
		ASSERT_LE(0, programs[i]);
		links[i] = link_multi(programs[i], TRACE_UPROBE_SESSION, 0, 0, function, 1);
		ASSERT_LE(0, links[i]);
	}
	ASSERT_EQ(0, place_file("r", "ret", probed_nop, ""));
	target_call(target, probed_nop, 3, 4, 3000);
	EXPECT_EQ(6000, map_read(maps[0]).hits);
	for (i = 1; i < 4; i++)
		EXPECT_EQ(3000, map_read(maps[i]).hits);
	EXPECT_EQ(3000, file_hits("ret"));
	for (i = 0; i < 4; i++) {
		close(links[i]);
		close(programs[i]);
		close(maps[i]);
	}
}

TEST_HARNESS_MAIN

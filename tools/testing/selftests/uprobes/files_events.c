// SPDX-License-Identifier: GPL-2.0
/* Probes by file: processes that are there, that come, and that change their mappings. */
#include "files_calls.h"

TEST_F_TIMEOUT(events, running_and_new_processes, TIMEOUT)
{
	ASSERT_EQ(0, place_file("p", "hit", probed_nop, ""));
	EXPECT_EQ(CALLS * 7UL, target_call(&self->target, probed_nop, 3, 4, CALLS));
	EXPECT_EQ(CALLS, file_hits("hit"));
	EXPECT_EQ(CALLS * 7UL, call(probed_nop, CALLS));
	EXPECT_EQ(2 * CALLS, file_hits("hit"));
	EXPECT_EQ(0, execute(CALLS));
	EXPECT_EQ(3 * CALLS, file_hits("hit"));

	ASSERT_EQ(0, enable("hit", false));
	EXPECT_EQ(CALLS * 7UL, target_call(&self->target, probed_nop, 3, 4, CALLS));
	EXPECT_EQ(0, execute(CALLS));
	EXPECT_EQ(3 * CALLS, file_hits("hit"));
	EXPECT_TRUE(page_is_of_file(self->target.pid, probed_nop));
	EXPECT_TRUE(page_is_of_file(getpid(), probed_nop));
}

TEST_F_TIMEOUT(events, each_kind_of_instruction, TIMEOUT)
{
	probed_fn functions[] = { probed_nop, probed_push, probed_lea, probed_mixed };
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(functions); i++) {
		ASSERT_EQ(0, place_file("p", "hit", functions[i], " di=%di"));
		EXPECT_EQ(CALLS * 7UL, target_call(&self->target, functions[i], 3, 4, CALLS));
		EXPECT_EQ(CALLS, file_hits("hit"));
		ASSERT_EQ(0, enable("hit", false));
		ASSERT_EQ(0, tracefs_append("uprobe_events", "-:selftest/hit"));
	}
}

TEST_F_TIMEOUT(events, fork_and_vfork, TIMEOUT)
{
	int status = -1;
	pid_t child;

	ASSERT_EQ(0, place_file("p", "hit", probed_nop, ""));
	child = fork();
	if (!child)
		_exit(call(probed_nop, CALLS) == CALLS * 7UL ? 0 : 1);
	waitpid(child, &status, 0);
	EXPECT_EQ(0, status);
	EXPECT_EQ(CALLS, file_hits("hit"));

	child = vfork();
	if (!child)
		_exit(call_probed(probed_nop, 3, 4) == 7 ? 0 : 1);
	waitpid(child, &status, 0);
	EXPECT_EQ(0, status);
	EXPECT_EQ(CALLS + 1, file_hits("hit"));

	/* A child that was there before the probe goes is no exception. */
	child = fork();
	if (!child) {
		while (!page_is_of_file(getpid(), probed_nop))
			sleep_ms(10);
		_exit(call(probed_nop, CALLS) == CALLS * 7UL ? 0 : 1);
	}
	ASSERT_EQ(0, enable("hit", false));
	waitpid(child, &status, 0);
	EXPECT_EQ(0, status);
	EXPECT_EQ(CALLS + 1, file_hits("hit"));
}

TEST_F_TIMEOUT(events, forks_against_registration, TIMEOUT)
{
	unsigned int round, i, rounds = scaled(40);

	for (round = 0; round < rounds; round++) {
		pid_t children[4];
		int go[2], status;
		char byte = 0;

		ASSERT_EQ(0, pipe(go));
		for (i = 0; i < ARRAY_SIZE(children); i++) {
			children[i] = fork();
			if (children[i])
				continue;
			/* Forks at about the time of the registration. */
			pid_t grandchild = fork();

			close(go[1]);
			if (read(go[0], &byte, 1) < 0)
				_exit(2);
			call(probed_nop, 3);
			if (grandchild)
				waitpid(grandchild, NULL, 0);
			_exit(0);
		}
		close(go[0]);
		ASSERT_EQ(0, place_file("p", "hit", probed_nop, ""));
		close(go[1]);
		for (i = 0; i < ARRAY_SIZE(children); i++) {
			status = -1;
			waitpid(children[i], &status, 0);
			EXPECT_EQ(0, status);
		}
		/* All processes call after the registration. */
		EXPECT_EQ(3 * 2 * ARRAY_SIZE(children), file_hits("hit"));
		ASSERT_EQ(0, enable("hit", false));
		ASSERT_EQ(0, tracefs_append("uprobe_events", "-:selftest/hit"));
	}
}

TEST_F_TIMEOUT(events, mappings_that_come_and_go, TIMEOUT)
{
	size_t page = sysconf(_SC_PAGESIZE);
	unsigned long long expected = 0;
	void *map, *to;
	int i;

	ASSERT_EQ(0, place_file("p", "hit", probed_nop, ""));
	for (i = 0; i < 20; i++) {
		map = map_again(probed_nop, NULL);
		ASSERT_NE(NULL, map);
		EXPECT_EQ(7, ((probed_fn)map)(3, 4));
		EXPECT_EQ(++expected, file_hits("hit"));

		/* Over itself, and at another address. */
		map = map_again(probed_nop, (void *)((unsigned long)map & -page));
		ASSERT_NE(NULL, map);
		EXPECT_EQ(7, ((probed_fn)map)(3, 4));
		EXPECT_EQ(++expected, file_hits("hit"));

		to = mmap(NULL, page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		to = mremap((void *)((unsigned long)map & -page), page, page,
			    MREMAP_MAYMOVE | MREMAP_FIXED, to);
		ASSERT_NE(MAP_FAILED, to);
		map = to + (unsigned long)map % page;
		EXPECT_EQ(7, ((probed_fn)map)(3, 4));
		EXPECT_EQ(++expected, file_hits("hit"));
		munmap(to, page);
	}
	EXPECT_EQ(7, call(probed_nop, 1));
	EXPECT_EQ(++expected, file_hits("hit"));

	map = map_again(probed_nop, NULL);
	ASSERT_EQ(0, enable("hit", false));
	EXPECT_EQ(7, ((probed_fn)map)(3, 4));
	EXPECT_EQ(expected, file_hits("hit"));
}

TEST_F_TIMEOUT(events, returns, TIMEOUT)
{
	char more[64], *trace;

	ASSERT_EQ(0, place_file("r", "ret", probed_nop, " v=$retval"));
	EXPECT_EQ(CALLS * 7UL, target_call(&self->target, probed_nop, 3, 4, CALLS));
	EXPECT_EQ(CALLS, file_hits("ret"));
	EXPECT_EQ(0, execute(CALLS));
	EXPECT_EQ(2 * CALLS, file_hits("ret"));

	trace = tracefs_read("trace");
	snprintf(more, sizeof(more), "<- %p) v=0x7", probed_nop);
	EXPECT_EQ(CALLS, count_lines(trace, more));
	free(trace);

	/* With entries, and by the other spelling. */
	ASSERT_EQ(0, place_file("p", "hit", probed_nop, ""));
	ASSERT_EQ(0, place_file("p", "ret2", probed_nop, "%return"));
	EXPECT_EQ(CALLS * 7UL, target_call(&self->target, probed_nop, 3, 4, CALLS));
	EXPECT_EQ(3 * CALLS, file_hits("ret"));
	EXPECT_EQ(CALLS, file_hits("ret2"));
	EXPECT_EQ(CALLS, file_hits("hit"));
}

static unsigned long recurse(unsigned long depth);

TEST_F_TIMEOUT(events, returns_of_recursion_and_children, TIMEOUT)
{
	int status = -1;
	pid_t child;

	ASSERT_EQ(0, place_file("r", "ret", recurse, ""));
	EXPECT_EQ(100, recurse(100));
	EXPECT_EQ(101, file_hits("ret"));

	child = fork();
	if (!child)
		_exit(recurse(100) == 100 ? 0 : 1);
	waitpid(child, &status, 0);
	EXPECT_EQ(0, status);
	EXPECT_EQ(202, file_hits("ret"));

	child = vfork();
	if (!child)
		_exit(recurse(9) == 9 ? 0 : 1);
	waitpid(child, &status, 0);
	EXPECT_EQ(0, status);
	EXPECT_EQ(212, file_hits("ret"));
	EXPECT_EQ(100, recurse(100));
	EXPECT_EQ(313, file_hits("ret"));
}

[[gnu::noinline]] static unsigned long recurse(unsigned long depth)
{
	unsigned long below = 0;

	if (depth)
		below = recurse(depth - 1) + 1;
	asm volatile("" : "+r"(below));
	return below;
}

/* Both kinds of probes at one address share the breakpoint, in any order of coming and going. */
TEST_F_TIMEOUT(events, with_probes_of_a_process, TIMEOUT)
{
	bool file_first, file_goes_first;
	int order;

	for (order = 0; order < 4; order++) {
		unsigned int again = 0;

		file_first = order & 1;
		file_goes_first = order & 2;
		if (file_first)
			ASSERT_EQ(0, place_file("p", "file", probed_nop, ""));
		ASSERT_EQ(0, tracefs_append("uprobe_events", "p:selftest/process %d:%p",
					    self->target.pid, probed_nop));
		ASSERT_EQ(0, tracefs_append("uprobe_events", "r:selftest/back %d:%p",
					    self->target.pid, probed_nop));
		ASSERT_EQ(0, enable("process", true));
		ASSERT_EQ(0, enable("back", true));
		if (!file_first)
			ASSERT_EQ(0, place_file("p", "file", probed_nop, ""));
		ASSERT_EQ(0, place_file("r", "file_back", probed_nop, ""));

		EXPECT_EQ(CALLS * 7UL, target_call(&self->target, probed_nop, 3, 4, CALLS));
		EXPECT_EQ(CALLS, file_hits("file"));
		EXPECT_EQ(CALLS, file_hits("file_back"));
		EXPECT_EQ(CALLS, profile_hits("process"));
		EXPECT_EQ(CALLS, profile_hits("back"));
		EXPECT_EQ(7, call(probed_nop, 1));
		EXPECT_EQ(CALLS + 1, file_hits("file"));
		EXPECT_EQ(CALLS + 1, file_hits("file_back"));
		EXPECT_EQ(CALLS, profile_hits("process"));

		if (file_goes_first) {
			ASSERT_EQ(0, enable("file", false));
			ASSERT_EQ(0, enable("file_back", false));
			again = CALLS;
		} else {
			ASSERT_EQ(0, enable("process", false));
			ASSERT_EQ(0, enable("back", false));
		}
		EXPECT_EQ(CALLS * 7UL, target_call(&self->target, probed_nop, 3, 4, CALLS));
		EXPECT_EQ(CALLS + again, profile_hits("process"));
		EXPECT_EQ(CALLS + again, profile_hits("back"));
		EXPECT_EQ(2 * CALLS + 1 - again, file_hits("file"));
		EXPECT_EQ(2 * CALLS + 1 - again, file_hits("file_back"));

		tracefs_replace("events/selftest/enable", "0");
		EXPECT_TRUE(page_is_of_file(self->target.pid, probed_nop));
		ASSERT_EQ(0, tracefs_replace("uprobe_events", "%s", ""));
	}
}

TEST_F_TIMEOUT(events, one_control_file, TIMEOUT)
{
	struct place_in_file place = file_at(probed_nop);
	char *listed, line[PATH_MAX + 64];

	ASSERT_EQ(0, file_event("p", "file", probed_nop, " a=%di"));
	ASSERT_EQ(0, tracefs_append("uprobe_events", "p:selftest/process %d:%p", self->target.pid,
				    probed_nop));
	listed = tracefs_read("uprobe_events");
	snprintf(line, sizeof(line), "p:selftest/file %s:0x%016lx a=%%di\n", place.path,
		 place.offset);
	EXPECT_NE(NULL, strstr(listed, line));
	snprintf(line, sizeof(line), "p:selftest/process %d:0x", self->target.pid);
	EXPECT_NE(NULL, strstr(listed, line)) {
		TH_LOG("%s", listed);
	}
	free(listed);

	/* A line that removes a group removes both kinds; the same through dynamic_events. */
	EXPECT_EQ(0, tracefs_append("uprobe_events", "-:selftest/"));
	listed = tracefs_read("uprobe_events");
	EXPECT_STREQ("", listed);
	free(listed);
	EXPECT_EQ(-ENOENT, tracefs_append("uprobe_events", "-:selftest/"));

	ASSERT_EQ(0, tracefs_append("dynamic_events", "p:selftest/file %s:0x%lx", place.path,
				    place.offset));
	ASSERT_EQ(0, tracefs_append("dynamic_events", "p:selftest/process %d:%p",
				    self->target.pid, probed_nop));
	EXPECT_EQ(0, tracefs_append("dynamic_events", "-:selftest/file"));
	EXPECT_EQ(0, tracefs_append("uprobe_events", "-:selftest/process"));
}

/* A 16-bit counter as static probes have. */
[[gnu::section(".probes")]] static volatile unsigned short counter;

TEST_F_TIMEOUT(events, reference_counter, TIMEOUT)
{
	struct place_in_file place = file_at((void *)&counter);
	unsigned short *again;
	char more[64];
	size_t page = sysconf(_SC_PAGESIZE);
	int status = -1, fd;
	pid_t child;

	snprintf(more, sizeof(more), "(0x%lx)", place.offset);
	ASSERT_EQ(0, counter);
	ASSERT_EQ(0, file_event("p", "hit", probed_nop, more));
	EXPECT_EQ(0, counter);
	ASSERT_EQ(0, enable("hit", true));
	EXPECT_EQ(1, counter);

	/* A second consumer of the same probe. */
	ASSERT_EQ(0, place_file("p", "hit2", probed_nop, more));
	EXPECT_EQ(1, counter);
	ASSERT_EQ(0, enable("hit2", false));
	EXPECT_EQ(1, counter);
	/* Another place of the counter is a contradiction. */
	EXPECT_EQ(-EINVAL, file_event("p", "hit3", probed_nop, "(0x2)"));

	child = fork();
	if (!child) {
		if (counter != 1)
			_exit(1);
		call(probed_nop, 1);
		sleep_ms(100);
		while (counter)
			sleep_ms(10);
		_exit(0);
	}
	EXPECT_EQ(7, call(probed_nop, 1));
	sleep_ms(50);
	ASSERT_EQ(0, enable("hit", false));
	EXPECT_EQ(0, counter);
	waitpid(child, &status, 0);
	EXPECT_EQ(0, status);
	EXPECT_EQ(2, file_hits("hit"));

	/* In a child that maps the counter after the text. */
	ASSERT_EQ(0, enable("hit", true));
	child = fork();
	if (!child) {
		fd = open(place.path, O_RDONLY);
		again = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd,
			     place.offset & -page);
		if (again == MAP_FAILED)
			_exit(2);
		/* It is counted where it is mapped first. */
		_exit(again[place.offset % page / 2] == 0 && counter == 1 ? 0 : 1);
	}
	waitpid(child, &status, 0);
	EXPECT_EQ(0, status);
	ASSERT_EQ(0, enable("hit", false));
	EXPECT_EQ(0, counter);
}

/* Whatever the program does with its mappings, the counter goes back to zero. */
TEST_F_TIMEOUT(events, reference_counter_of_moved_text, TIMEOUT)
{
	struct place_in_file place = file_at((void *)&counter);
	size_t page = sysconf(_SC_PAGESIZE);
	char more[64];
	void *map, *to;
	int i;

	snprintf(more, sizeof(more), "(0x%lx)", place.offset);
	ASSERT_EQ(0, place_file("p", "hit", probed_nop, more));
	EXPECT_EQ(1, counter);
	map = map_again(probed_nop, NULL);
	ASSERT_NE(NULL, map);
	EXPECT_EQ(2, counter);
	for (i = 0; i < 10; i++) {
		to = mmap(NULL, page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		to = mremap((void *)((unsigned long)map & -page), page, page,
			    MREMAP_MAYMOVE | MREMAP_FIXED, to);
		ASSERT_NE(MAP_FAILED, to);
		map = to + (unsigned long)map % page;
		EXPECT_EQ(7, ((probed_fn)map)(3, 4));
	}
	EXPECT_EQ(10, file_hits("hit"));
	EXPECT_EQ(2, counter);
	ASSERT_EQ(0, enable("hit", false));
	EXPECT_EQ(0, counter);
	munmap((void *)((unsigned long)map & -page), page);
}

TEST_F_TIMEOUT(events, text_that_becomes_executable, TIMEOUT)
{
	size_t page = sysconf(_SC_PAGESIZE), in_page = (unsigned long)probed_nop % page;
	struct place_in_file place = file_at(probed_nop);
	int fd = open(place.path, O_RDONLY | O_CLOEXEC);
	char *map = mmap(NULL, page, PROT_READ, MAP_PRIVATE, fd, place.offset - in_page);

	close(fd);
	ASSERT_NE(MAP_FAILED, map);
	ASSERT_EQ(0, place_file("p", "hit", probed_nop, ""));
	ASSERT_EQ(0, mprotect(map, page, PROT_READ | PROT_EXEC));
	EXPECT_EQ(7, ((probed_fn)(map + in_page))(3, 4));
	EXPECT_EQ(1, file_hits("hit"));
	munmap(map, page);
}

TEST_F_TIMEOUT(events, writable_and_shared_text_is_left_alone, TIMEOUT)
{
	size_t page = sysconf(_SC_PAGESIZE), in_page = (unsigned long)probed_nop % page;
	struct place_in_file place = file_at(probed_nop);
	int fd = open(place.path, O_RDONLY | O_CLOEXEC);
	unsigned char first = byte_at(probed_nop);
	unsigned char *writable, *shared;

	writable = mmap(NULL, page, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE, fd,
			place.offset - in_page);
	shared = mmap(NULL, page, PROT_READ | PROT_EXEC, MAP_SHARED, fd, place.offset - in_page);
	close(fd);
	ASSERT_NE(MAP_FAILED, writable);
	ASSERT_NE(MAP_FAILED, shared);
	ASSERT_EQ(0, place_file("p", "hit", probed_nop, ""));
	EXPECT_EQ(first, writable[in_page]);
	EXPECT_EQ(first, shared[in_page]);
	EXPECT_EQ(7, ((probed_fn)(writable + in_page))(3, 4));
	EXPECT_EQ(7, ((probed_fn)(shared + in_page))(3, 4));
	EXPECT_EQ(0, file_hits("hit"));
}

TEST_F_TIMEOUT(events, refused_instructions, TIMEOUT)
{
	[[gnu::section(".text.files")]] static const char int3[] = { 0xcc, 0xc3 };

	ASSERT_EQ(0, file_event("p", "hit", int3, ""));
	EXPECT_NE(0, enable("hit", true));
	EXPECT_EQ(CALLS * 7UL, call(probed_nop, CALLS));
}

TEST_HARNESS_MAIN

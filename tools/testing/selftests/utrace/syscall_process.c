// SPDX-License-Identifier: GPL-2.0
/* System-call events of all threads of a process and no others; racing file names. */
#include <libgen.h>
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/mman.h>

#include "syscall_trace.h"

/* Memory shared with the processes under test, for their results. */
static struct shared {
	atomic_int count;
	pid_t tids[32];
	/* A round of the race: the opened file, and whether its name changed afterwards. */
	struct round {
		unsigned char opened;
		unsigned char changed;
	} rounds[12000];
	unsigned int variants[4];
	unsigned int changed;
} *shared;

static bool share(void)
{
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
		      -1, 0);
	return shared != MAP_FAILED;
}

static void *mark(void *from)
{
	if (from)
		child_wait((long)from);
	shared->tids[shared->count++] = syscall(SYS_gettid);
	syscall(MARK);
	return NULL;
}

/* Creates threads before and after the listing, and children of each kind. */
static void run_threads(int to, int from, void *arg)
{
	pthread_t threads[8];
	int i, wake[2];

	if (pipe(wake))
		_exit(1);
	for (i = 0; i < 3; i++)
		pthread_create(&threads[i], NULL, mark, (void *)(long)wake[0]);
	if (write(from, "", 1) != 1)
		_exit(1);
	child_wait(to);
	for (; i < 8; i++)
		pthread_create(&threads[i], NULL, mark, NULL);
	if (write(wake[1], "123", 3) != 3)
		_exit(1);
	for (i = 0; i < 8; i++)
		pthread_join(threads[i], NULL);
	if (!fork()) {
		syscall(MARK);
		_exit(0);
	}
	wait(NULL);
	if (!vfork()) {
		execl("/proc/self/exe", "-", "mark", NULL);
		_exit(1);
	}
	wait(NULL);
}

TEST_F_TIMEOUT(tracing, threads_and_not_children, TIMEOUT)
{
	struct child child;
	struct trace trace;
	size_t i, marks = 0;

	ASSERT_TRUE(share());
	ASSERT_TRUE(child_start(&child, run_threads, NULL));
	ASSERT_TRUE(child_said(&child));
	ASSERT_EQ(0, pid_add(child.pid));
	/* The test itself is not listed. */
	syscall(MARK);
	child_go(&child);
	ASSERT_EQ(0, child_end(&child));
	syscall(MARK);

	trace = trace_read();
	ASSERT_FALSE(trace.lost);
	EXPECT_EQ(0, trace.odd);
	ASSERT_EQ(8, shared->count);
	for (i = 0; i < 8; i++) {
		EXPECT_EQ(1, trace_count(&trace, ENTER, shared->tids[i], MARK));
		EXPECT_EQ(1, trace_count(&trace, EXIT, shared->tids[i], MARK));
	}
	for (i = 0; i < trace.count; i++)
		marks += trace.events[i].nr == MARK;
	EXPECT_EQ(16, marks);
	EXPECT_EQ(1, trace_count(&trace, ENTER, child.pid, SYS_vfork));
	trace_free(&trace);
}

#define TARGET32_TEXT	0x08048000UL

/* Returns the path of the 32-bit program, which is beside this one. */
static const char *target32(void)
{
	static char path[PATH_MAX];
	ssize_t len = readlink("/proc/self/exe", path, sizeof(path) - 32);

	path[len < 0 ? 0 : len] = '\0';
	return strcat(dirname(path), "/syscall_target32");
}

static void *exec_target(void *path)
{
	execl(path, path, NULL);
	_exit(1);
}

static void run_exec(int to, int from, void *arg)
{
	child_wait(to);
	exec_target(arg);
}

static void run_exec_in_thread(int to, int from, void *arg)
{
	pthread_t thread;

	child_wait(to);
	pthread_create(&thread, NULL, exec_target, arg);
	pthread_join(thread, NULL);
}

#define IS(_kind, _nr)	({					\
	ASSERT_LT(at, trace.count);				\
	event = &trace.events[at++];				\
	ASSERT_EQ(_kind, event->kind);				\
	EXPECT_EQ(_nr, event->nr);				\
	EXPECT_EQ(1, event->compat);				\
	EXPECT_EQ(child->pid, event->tid);			\
	if (event->kind != PATH) {				\
		EXPECT_LE(TARGET32_TEXT, event->ip);		\
		EXPECT_GT(TARGET32_TEXT + 4096, event->ip);	\
	}							\
	event;							\
})

/* Checks the events of a child that has executed the 32-bit program. */
static void expect_target32(struct __test_metadata *_metadata, struct child *child)
{
	struct trace trace = trace_read();
	const struct event *event;
	size_t at = 0;
	int fd;

	EXPECT_EQ(0, trace.odd);
	while (at < trace.count &&
	       (trace.events[at].nr != SYS_execve || trace.events[at].kind != ENTER))
		at++;
	ASSERT_LT(at + 1, trace.count);
	EXPECT_EQ(0, trace.events[at].compat);
	event = &trace.events[++at];
	ASSERT_EQ(PATH, event->kind);
	EXPECT_STREQ(target32(), event->name);
	EXPECT_EQ(0, event->arg);
	/* The calls of threads that execve() kills end before the execve(). */
	while (at < trace.count && (trace.events[at].kind != EXIT || trace.events[at].nr != 11))
		at++;
	event = IS(EXIT, 11 /* execve */);
	EXPECT_EQ(TARGET32_TEXT, event->ip);
	EXPECT_EQ(0, event->result);
	IS(ENTER, 5 /* open */);
	EXPECT_STREQ("/etc/hostname", IS(PATH, 5)->name);
	EXPECT_EQ(0, event->arg);
	fd = IS(EXIT, 5)->result;
	EXPECT_LE(0, fd);
	EXPECT_EQ(fd, IS(ENTER, 6 /* close */)->args[0]);
	EXPECT_EQ(0, IS(EXIT, 6)->result);
	IS(ENTER, 20 /* getpid */);
	EXPECT_EQ(child->pid, IS(EXIT, 20)->result);
	IS(ENTER, 45 /* brk */);
	IS(EXIT, 45);
	IS(ENTER, 33 /* access */);
	EXPECT_STREQ("/nowhere", IS(PATH, 33)->name);
	EXPECT_EQ(-ENOENT, IS(EXIT, 33)->result);
	EXPECT_EQ(7, IS(ENTER, 1 /* exit */)->args[0]);
	EXPECT_EQ(at, trace.count);
	trace_free(&trace);
}

static void expect_exec(struct __test_metadata *_metadata, void (*run)(int, int, void *))
{
	struct child child;

	if (access(target32(), X_OK))
		SKIP(return, "no syscall_target32");
	ASSERT_TRUE(child_start(&child, run, (void *)target32()));
	ASSERT_EQ(0, pid_add(child.pid));
	child_go(&child);
	EXPECT_EQ(7 << 8, child_end(&child));
	EXPECT_EQ(0, pid_listed(child.pid));
	expect_target32(_metadata, &child);
}

/* A process stays listed across execve(), also of a program of the other bitness. */
TEST_F_TIMEOUT(tracing, exec, TIMEOUT)
{
	expect_exec(_metadata, run_exec);
}

TEST_F_TIMEOUT(tracing, exec_in_thread, TIMEOUT)
{
	expect_exec(_metadata, run_exec_in_thread);
}

/*
 * One thread opens a file while another one keeps changing two characters of its
 * name. A file of each of the four names exists, so the file that the kernel opens
 * shows the name that it copied.
 */
#define RACE_DIR	"/tmp/utrace_race.d"
#define RACE_LEAST	3000

static char race_name[PATH_MAX];
static volatile char *race_first, *race_second;
static atomic_bool race_over;

static void *change_names(void *arg)
{
	while (!race_over) {
		*race_first ^= 'a' ^ 'b';
		*race_second ^= 'a' ^ 'b';
		*race_first ^= 'a' ^ 'b';
		*race_second ^= 'a' ^ 'b';
		*race_second ^= 'a' ^ 'b';
	}
	return NULL;
}

static int race_variant(const char *first, const char *second)
{
	return (*first == 'b') * 2 + (*second == 'b');
}

static bool race_files(ino_t files[4])
{
	struct stat st;
	char path[64];
	int i, fd;

	mkdir(RACE_DIR, 0700);
	for (i = 0; i < 4; i++) {
		snprintf(path, sizeof(path), RACE_DIR "/%c", "ab"[i / 2]);
		mkdir(path, 0700);
		snprintf(path, sizeof(path), RACE_DIR "/%c/%c", "ab"[i / 2], "ab"[i % 2]);
		fd = open(path, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
		if (fd < 0 || fstat(fd, &st))
			return false;
		files[i] = st.st_ino;
		close(fd);
	}
	return true;
}

static void race_clean(void)
{
	char path[64];
	int i;

	for (i = 3; i >= 0; i--) {
		snprintf(path, sizeof(path), RACE_DIR "/%c/%c", "ab"[i / 2], "ab"[i % 2]);
		unlink(path);
		snprintf(path, sizeof(path), RACE_DIR "/%c", "ab"[i / 2]);
		rmdir(path);
	}
	rmdir(RACE_DIR);
}

static bool race_enough(unsigned int round)
{
	unsigned int i, seen = 0;

	for (i = 0; i < 4; i++)
		seen += shared->variants[i] > 10;
	return round >= RACE_LEAST && seen == 4 && shared->changed > 100;
}

static void run_race(int to, int from, void *arg)
{
	ino_t *files = arg;
	unsigned int i, k, most = ARRAY_SIZE(shared->rounds);
	pthread_t thread;
	struct stat st;

	/* Many characters between the two make the copy from one to the other take longer. */
	strcpy(race_name, RACE_DIR);
	for (i = 0; i < 40; i++)
		strcat(race_name, "/.");
	strcat(race_name, "/a");
	race_first = race_name + strlen(race_name) - 1;
	for (i = 0; i < 20; i++)
		strcat(race_name, "/.");
	strcat(race_name, "/a");
	race_second = race_name + strlen(race_name) - 1;

	child_wait(to);
	pthread_create(&thread, NULL, change_names, NULL);
	for (i = 0; i < most && !race_enough(i); i++) {
		struct round *round = &shared->rounds[i];
		int fd = open(race_name, O_RDONLY);

		k = race_variant((char *)race_first, (char *)race_second);
		if (fd < 0 || fstat(fd, &st))
			_exit(1);
		for (round->opened = 0; files[round->opened] != st.st_ino; round->opened++)
			if (round->opened == 3)
				_exit(2);
		round->changed = k != round->opened;
		shared->changed += round->changed;
		shared->variants[round->opened]++;
		close(fd);
	}
	shared->count = i;
	race_over = true;
	pthread_join(thread, NULL);
}

TEST_F_TIMEOUT(tracing, names_are_those_that_were_used, TIMEOUT)
{
	unsigned int i, opens = 0, wrong = 0;
	struct child child;
	struct trace trace;
	ino_t files[4];

	ASSERT_TRUE(share());
	ASSERT_TRUE(race_files(files));
	ASSERT_EQ(0, setting(INSTANCE "events/utrace/utrace_sys_enter/enable", "0"));
	ASSERT_EQ(0, setting(INSTANCE "events/utrace/utrace_sys_exit/enable", "0"));
	ASSERT_TRUE(child_start(&child, run_race, files));
	ASSERT_EQ(0, pid_add(child.pid));
	child_go(&child);
	EXPECT_EQ(0, child_end(&child));
	race_clean();

	trace = trace_read();
	ASSERT_FALSE(trace.lost);
	for (i = 0; i < trace.count; i++) {
		const struct event *event = &trace.events[i];
		size_t len;

		if (event->nr != SYS_openat || strncmp(event->name, RACE_DIR, strlen(RACE_DIR)))
			continue;
		len = strlen(event->name);
		if (opens < (unsigned int)shared->count)
			wrong += race_variant(event->name + len - 43, event->name + len - 1) !=
				 shared->rounds[opens].opened;
		opens++;
	}
	EXPECT_EQ(shared->count, opens);
	EXPECT_EQ(0, wrong);
	/* A tracer that reads the name after the call would have got a wrong name. */
	EXPECT_LT(100, shared->changed);
	for (i = 0; i < 4; i++)
		EXPECT_LT(10, shared->variants[i]) TH_LOG("name %u", i);
	TH_LOG("%u opens, of which %u had another name after the call", opens, shared->changed);
	trace_free(&trace);
}

int main(int argc, char **argv)
{
	if (argc == 2 && !strcmp(argv[1], "mark")) {
		syscall(MARK);
		return 0;
	}
	return test_harness_run(argc, argv);
}

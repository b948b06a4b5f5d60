// SPDX-License-Identifier: GPL-2.0
/* System-call events, compared with the calls that a program makes. */
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <limits.h>
#include <stddef.h>
#include <sys/mman.h>

#include "syscall_calls.h"
#include "syscall_trace.h"

#define MAX_STEPS	32
/* Size of the memory for a program's strings. */
#define ROOM		(64 << 10)

/* A file name that the kernel copies for a call. */
struct name {
	int arg;
	const char *shown;
	/* Length of the name, if it differs from the length of @shown. */
	unsigned int len;
};

struct step {
	long nr;
	unsigned long args[6];
	struct name names[2];
	/* Result of the call, recorded by the program. */
	long result;
};

/* A sequence of system calls, with their results. */
struct program {
	long (*call)(long nr, const unsigned long args[6]);
	const char *after;
	int compat;
	unsigned int count;
	struct step steps[MAX_STEPS];
};

static struct program *program_new(bool compat)
{
	/* Mapped below 4 GiB, for calls of the 32-bit table. */
	struct program *program = mmap(NULL, sizeof(*program) + ROOM,
				       PROT_READ | PROT_WRITE,
				       MAP_SHARED | MAP_ANONYMOUS | MAP_32BIT, -1, 0);

	if (program == MAP_FAILED)
		return NULL;
	program->call = compat ? call_int80 : call_syscall;
	program->after = compat ? after_int80 : after_syscall;
	program->compat = compat;
	return program;
}

/* Allocates memory that each of the calls can address. */
static unsigned long program_room(struct program *program, size_t size)
{
	static size_t used;
	char *room = (char *)(program + 1) + used;

	used += (size + 15) & ~15UL;
	if (used > ROOM)
		abort();
	return (unsigned long)room;
}

static unsigned long program_string(struct program *program, const char *string)
{
	return (unsigned long)strcpy((char *)program_room(program, strlen(string) + 1), string);
}

#define STEP(program, number, ...)					\
	((program)->steps[(program)->count++] = (struct step){ .nr = (number), __VA_ARGS__ })
#define ARGS(...)	.args = { __VA_ARGS__ }
#define NAMES(...)	.names = { __VA_ARGS__ }

static void program_run(int to, int from, void *arg)
{
	static const unsigned long none[6];
	struct program *program = arg;
	unsigned int i;

	child_wait(to);
	program->call(MARK, none);
	for (i = 0; i < program->count; i++)
		program->steps[i].result = program->call(program->steps[i].nr,
							 program->steps[i].args);
	program->call(MARK, none);
}

static const struct event *expect_event(struct __test_metadata *_metadata,
					struct trace *trace, size_t *at, enum kind kind,
					const struct program *program, long nr)
{
	const struct event *event = &trace->events[*at];

	ASSERT_LT(*at, trace->count);
	++*at;
	ASSERT_EQ(kind, event->kind) TH_LOG("call %ld", nr);
	ASSERT_EQ(nr, event->nr);
	EXPECT_EQ(program->compat, event->compat) TH_LOG("call %ld", nr);
	if (kind != PATH)
		EXPECT_EQ((unsigned long)program->after, event->ip) TH_LOG("call %ld", nr);
	return event;
}

static void expect_step(struct __test_metadata *_metadata, struct trace *trace, size_t *at,
			const struct program *program, const struct step *step)
{
	const struct event *event;
	unsigned int i;

	event = expect_event(_metadata, trace, at, ENTER, program, step->nr);
	for (i = 0; i < 6; i++) {
		unsigned long arg = step->args[i];

		EXPECT_EQ(program->compat ? (uint32_t)arg : arg, event->args[i])
			TH_LOG("call %ld, argument %u", step->nr, i);
	}
	for (i = 0; i < 2 && step->names[i].shown; i++) {
		const struct name *name = &step->names[i];

		event = expect_event(_metadata, trace, at, PATH, program, step->nr);
		EXPECT_STREQ(name->shown, event->name);
		EXPECT_EQ(name->len ? name->len : strlen(name->shown), event->len);
		EXPECT_EQ(name->arg, event->arg) TH_LOG("call %ld", step->nr);
		if (name->arg >= 0) {
			unsigned long arg = step->args[name->arg];

			EXPECT_EQ(program->compat ? (uint32_t)arg : arg, event->ptr);
		}
	}
	event = expect_event(_metadata, trace, at, EXIT, program, step->nr);
	EXPECT_EQ(step->result, event->result) TH_LOG("call %ld", step->nr);
}

/* Runs the program in a child, and checks its events in order. */
static void expect_program(struct __test_metadata *_metadata, struct program *program)
{
	struct trace trace;
	struct child child;
	size_t at = 0;
	unsigned int i;

	ASSERT_TRUE(child_start(&child, program_run, program));
	child_asleep(&child);
	ASSERT_EQ(0, pid_add(child.pid));
	child_go(&child);
	ASSERT_EQ(0, child_end(&child));

	trace = trace_read();
	ASSERT_FALSE(trace.lost);
	EXPECT_EQ(0, trace.odd);
	EXPECT_EQ(0, trace_of_others(&trace, child.pid));
	/* The child was listed while asleep in read(), so the trace begins with a lone exit. */
	ASSERT_LT(0, trace.count);
	EXPECT_EQ(EXIT, trace.events[0].kind);
	EXPECT_EQ(SYS_read, trace.events[0].nr);

	while (at < trace.count && trace.events[at].nr != MARK)
		at++;
	expect_event(_metadata, &trace, &at, ENTER, program, MARK);
	EXPECT_EQ(-ENOSYS, expect_event(_metadata, &trace, &at, EXIT, program, MARK)->result);
	for (i = 0; i < program->count; i++)
		expect_step(_metadata, &trace, &at, program, &program->steps[i]);
	expect_event(_metadata, &trace, &at, ENTER, program, MARK);
	trace_free(&trace);
}

TEST_F_TIMEOUT(tracing, numbers_arguments_results, TIMEOUT)
{
	struct program *p = program_new(false);
	const char *dir = "/tmp/utrace_selftest.d";
	unsigned long at;

	ASSERT_NE(NULL, p);
	at = program_string(p, dir);
	rmdir(dir);
	STEP(p, SYS_getpid, ARGS(1, 2, 3, 4, 5, 6));
	STEP(p, SYS_getppid, ARGS(-1UL, -2UL, 0x8000000000000000UL));
	STEP(p, SYS_mkdir, ARGS(at, 0700), NAMES({ 0, dir }));
	STEP(p, SYS_mkdir, ARGS(at, 0700), NAMES({ 0, dir }));
	STEP(p, SYS_rmdir, ARGS(at), NAMES({ 0, dir }));
	STEP(p, SYS_close, ARGS(12345));
	STEP(p, SYS_mmap, ARGS(0, 8192, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1UL, 0));
	STEP(p, SYS_write, ARGS(12345, at, 7));
	/* No call has these numbers. */
	STEP(p, 100000, ARGS(at));
	STEP(p, -1, ARGS(at));
	expect_program(_metadata, p);
	EXPECT_LT(0, p->steps[0].result);
	EXPECT_EQ(getpid(), p->steps[1].result);
	EXPECT_EQ(0, p->steps[2].result);
	EXPECT_EQ(-EEXIST, p->steps[3].result);
	EXPECT_EQ(0, p->steps[4].result);
	EXPECT_EQ(-EBADF, p->steps[5].result);
	EXPECT_LT(0, p->steps[6].result);
	EXPECT_EQ(-EBADF, p->steps[7].result);
	EXPECT_EQ(-ENOSYS, p->steps[8].result);
	EXPECT_EQ(-ENOSYS, p->steps[9].result);
}

/* Each file name of a call is reported, with the index of its argument. */
TEST_F_TIMEOUT(tracing, names, TIMEOUT)
{
	struct program *p = program_new(false);
	unsigned long a, b, slash, odd, how, attr;

	ASSERT_NE(NULL, p);
	a = program_string(p, "/nowhere/a");
	b = program_string(p, "/nowhere/b");
	slash = program_string(p, "/");
	odd = program_string(p, "/\001\n\"\\ \303\251");
	how = program_room(p, 24);
	attr = program_room(p, 16);
	*(unsigned long *)attr = b;
	STEP(p, SYS_renameat2, ARGS(AT_FDCWD, a, AT_FDCWD, b, 0),
	     NAMES({ 1, "/nowhere/a" }, { 3, "/nowhere/b" }));
	STEP(p, SYS_symlink, ARGS(a, b), NAMES({ 0, "/nowhere/a" }, { 1, "/nowhere/b" }));
	/* The same pointer twice: both names get the index of the first argument. */
	STEP(p, SYS_link, ARGS(a, a), NAMES({ 0, "/nowhere/a" }, { 0, "/nowhere/a" }));
	STEP(p, SYS_openat, ARGS(AT_FDCWD, slash, O_PATH), NAMES({ 1, "/" }));
	STEP(p, SYS_openat2, ARGS(AT_FDCWD, b, how, 24), NAMES({ 1, "/nowhere/b" }));
	STEP(p, SYS_chroot, ARGS(a), NAMES({ 0, "/nowhere/a" }));
	STEP(p, SYS_truncate, ARGS(b, 0), NAMES({ 0, "/nowhere/b" }));
	STEP(p, SYS_utimensat, ARGS(AT_FDCWD, a, 0, 0), NAMES({ 1, "/nowhere/a" }));
	STEP(p, SYS_getxattr, ARGS(a, b, 0, 0), NAMES({ 0, "/nowhere/a" }));
	STEP(p, SYS_access, ARGS(odd, 0),
	     NAMES({ 0, "/\\001\\012\\042\\134 \\303\\251", strlen((char *)odd) }));
	/* A pointer that is not an argument, but in the attributes of bpf(BPF_OBJ_GET). */
	STEP(p, SYS_bpf, ARGS(7, attr, 16), NAMES({ -1, "/nowhere/b" }));
	expect_program(_metadata, p);
	EXPECT_EQ(-ENOENT, p->steps[0].result);
	EXPECT_LT(0, p->steps[3].result);
	EXPECT_EQ(-ENOENT, p->steps[9].result);
	EXPECT_EQ(-ENOENT, p->steps[10].result);
}

/* Only file names are reported, and the event does not read user memory. */
TEST_F_TIMEOUT(tracing, no_names, TIMEOUT)
{
	struct program *p = program_new(false);
	unsigned long empty, a, too_long, buffer;
	char *hole = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char name[PATH_MAX + 1];

	ASSERT_NE(NULL, p);
	ASSERT_NE(MAP_FAILED, hole);
	/* A name that continues in an unmapped page. */
	memset(hole, 'x', 4096);
	ASSERT_EQ(0, munmap(hole + 4096, 4096));
	memset(name, '/', PATH_MAX);
	name[PATH_MAX] = '\0';
	too_long = program_string(p, name);
	empty = program_string(p, "");
	a = program_string(p, "/nowhere/a");
	buffer = program_room(p, sizeof(struct stat));

	STEP(p, SYS_openat, ARGS(AT_FDCWD, 0, 0));
	STEP(p, SYS_openat, ARGS(AT_FDCWD, -4096UL, 0));
	STEP(p, SYS_openat, ARGS(AT_FDCWD, (unsigned long)hole + 4096, 0));
	STEP(p, SYS_openat, ARGS(AT_FDCWD, (unsigned long)hole + 4000, 0));
	STEP(p, SYS_openat, ARGS(AT_FDCWD, too_long, 0));
	STEP(p, SYS_openat, ARGS(AT_FDCWD, empty, 0));
	/* An empty name counts as a name where it is allowed. */
	STEP(p, SYS_newfstatat, ARGS(0, empty, buffer, AT_EMPTY_PATH), NAMES({ 1, "" }));
	STEP(p, SYS_newfstatat, ARGS(0, 0, buffer, AT_EMPTY_PATH));
	STEP(p, SYS_newfstatat, ARGS(AT_FDCWD, a, buffer, AT_EMPTY_PATH),
	     NAMES({ 1, "/nowhere/a" }));
	STEP(p, SYS_fchownat, ARGS(0, empty, -1UL, -1UL, AT_EMPTY_PATH), NAMES({ 1, "" }));
	/* These strings are not file names. */
	STEP(p, SYS_memfd_create, ARGS(a, 0));
	STEP(p, SYS_write, ARGS(12345, a, 5));
	expect_program(_metadata, p);
	EXPECT_EQ(-EFAULT, p->steps[0].result);
	EXPECT_EQ(-EFAULT, p->steps[1].result);
	EXPECT_EQ(-EFAULT, p->steps[2].result);
	EXPECT_EQ(-EFAULT, p->steps[3].result);
	EXPECT_EQ(-ENAMETOOLONG, p->steps[4].result);
	EXPECT_EQ(-ENOENT, p->steps[5].result);
	EXPECT_EQ(0, p->steps[6].result);
	EXPECT_EQ(0, p->steps[7].result);
	EXPECT_EQ(-ENOENT, p->steps[8].result);
	munmap(hole, 4096);
}

/* The longest names, which the record truncates to its size. */
TEST_F_TIMEOUT(tracing, long_names, TIMEOUT)
{
	static char whole[3840 + 1], longest[PATH_MAX], cut[3840 + 1];
	struct program *p = program_new(false);

	ASSERT_NE(NULL, p);
	memset(whole, '/', sizeof(whole) - 1);
	memset(longest, '/', sizeof(longest) - 1);
	memset(cut, '/', sizeof(cut) - 1);
	STEP(p, SYS_access, ARGS(program_string(p, whole), 0), NAMES({ 0, whole }));
	STEP(p, SYS_access, ARGS(program_string(p, longest), 0),
	     NAMES({ 0, cut, PATH_MAX - 1 }));
	expect_program(_metadata, p);
	EXPECT_EQ(0, p->steps[0].result);
	EXPECT_EQ(0, p->steps[1].result);
}

/* A name of bytes that are each shown as four characters does not fit in a line. */
TEST_F_TIMEOUT(tracing, shown_cut, TIMEOUT)
{
	struct program *p = program_new(false);
	const struct event *event = NULL;
	char name[3001] = { 0 };
	struct child child;
	struct trace trace;
	size_t i, len;

	ASSERT_NE(NULL, p);
	memset(name, '\n', sizeof(name) - 1);
	STEP(p, SYS_access, ARGS(program_string(p, name), 0));
	ASSERT_TRUE(child_start(&child, program_run, p));
	ASSERT_EQ(0, pid_add(child.pid));
	child_go(&child);
	ASSERT_EQ(0, child_end(&child));
	EXPECT_EQ(-ENAMETOOLONG, p->steps[0].result);

	trace = trace_read();
	EXPECT_EQ(0, trace.odd);
	for (i = 0; i < trace.count; i++)
		if (trace.events[i].kind == PATH)
			event = &trace.events[i];
	ASSERT_NE(NULL, event);
	EXPECT_EQ(SYS_access, event->nr);
	EXPECT_EQ(3000, event->len);
	len = strlen(event->name);
	EXPECT_LT(6000, len);
	EXPECT_STREQ("...", event->name + len - 3);
	for (i = 0; i + 4 < len; i += 4)
		ASSERT_EQ(0, strncmp("\\012", event->name + i, 4));
	trace_free(&trace);
}

/* Calls of the 32-bit table by a 64-bit program. */
TEST_F_TIMEOUT(tracing, int80, TIMEOUT)
{
	const unsigned long high = 0xdead000000000000UL;
	struct program *p = program_new(true);
	unsigned long a, hostname;

	ASSERT_NE(NULL, p);
	a = program_string(p, "/nowhere/a");
	hostname = program_string(p, "/etc/hostname");
	ASSERT_EQ(0, hostname >> 32);
	STEP(p, 20 /* getpid */, ARGS(1, 2, 3, 4, 5, 6));
	STEP(p, 5 /* open */, ARGS(hostname), NAMES({ 0, "/etc/hostname" }));
	/* The upper 32 bits are not part of the argument. */
	STEP(p, 33 /* access */, ARGS(high + a, high), NAMES({ 0, "/nowhere/a" }));
	STEP(p, 38 /* rename */, ARGS(a, hostname),
	     NAMES({ 0, "/nowhere/a" }, { 1, "/etc/hostname" }));
	STEP(p, 6 /* close */, ARGS(12345));
	expect_program(_metadata, p);
	EXPECT_LT(0, p->steps[0].result);
	EXPECT_LT(0, p->steps[1].result);
	EXPECT_EQ(-ENOENT, p->steps[2].result);
	EXPECT_EQ(-ENOENT, p->steps[3].result);
	EXPECT_EQ(-EBADF, p->steps[4].result);
}

static void run_filtered(int to, int from, void *arg)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getppid, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EXDEV),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog filter = { .len = 4, .filter = code };

	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter))
		_exit(1);
	program_run(to, from, arg);
}

/* A call that seccomp refuses is reported, with the result that seccomp gave it. */
TEST_F_TIMEOUT(tracing, seccomp, TIMEOUT)
{
	struct program *p = program_new(false);
	struct trace trace;
	struct child child;
	size_t i;

	ASSERT_NE(NULL, p);
	STEP(p, SYS_getppid, ARGS(0));
	ASSERT_TRUE(child_start(&child, run_filtered, p));
	ASSERT_EQ(0, pid_add(child.pid));
	child_go(&child);
	ASSERT_EQ(0, child_end(&child));
	EXPECT_EQ(-EXDEV, p->steps[0].result);

	trace = trace_read();
	EXPECT_EQ(1, trace_count(&trace, ENTER, child.pid, SYS_getppid));
	ASSERT_EQ(1, trace_count(&trace, EXIT, child.pid, SYS_getppid));
	for (i = 0; trace.events[i].kind != EXIT || trace.events[i].nr != SYS_getppid; i++)
		;
	EXPECT_EQ(-EXDEV, trace.events[i].result);
	trace_free(&trace);
}

TEST_HARNESS_MAIN

// SPDX-License-Identifier: GPL-2.0
/* Text with page faults that a userfaultfd serves, or that are not served. */
#include <linux/userfaultfd.h>
#include <poll.h>
#include <pthread.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/time.h>

#include "text_fixture.h"

#ifndef UFFD_USER_MODE_ONLY
#define UFFD_USER_MODE_ONLY	1
#endif

#ifndef UFFDIO_MOVE
struct uffdio_move {
	__u64 dst;
	__u64 src;
	__u64 len;
	__u64 mode;
	__s64 move;
};

#define UFFDIO_MOVE	_IOWR(UFFDIO, 0x05, struct uffdio_move)
#endif

static int uffd;
static unsigned char *text;
static unsigned char *source;
static atomic_uint served_missing;
static atomic_uint served_protected;

/* Maps text that is missing. @source holds its contents, add_code. */
static bool set_up(unsigned int flags, unsigned long mode)
{
	struct uffdio_api api = { .api = UFFD_API, .features = UFFD_FEATURE_PAGEFAULT_FLAG_WP };
	struct uffdio_register range = { .range.len = PAGE, .mode = mode };

	uffd = syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | flags);
	if (uffd < 0 || ioctl(uffd, UFFDIO_API, &api))
		return false;
	source = anonymous_text(PROT_READ | PROT_WRITE);
	text = mmap(NULL, PAGE, RX, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	range.range.start = (unsigned long)text;
	return source != MAP_FAILED && text != MAP_FAILED &&
	       !ioctl(uffd, UFFDIO_REGISTER, &range);
}

static bool protect(bool on)
{
	struct uffdio_writeprotect how = {
		.range = { (unsigned long)text, PAGE },
		.mode = on ? UFFDIO_WRITEPROTECT_MODE_WP : 0,
	};

	return !ioctl(uffd, UFFDIO_WRITEPROTECT, &how);
}

static bool provide(void)
{
	struct uffdio_copy copy = {
		.dst = (unsigned long)text,
		.src = (unsigned long)source,
		.len = PAGE,
	};

	return !ioctl(uffd, UFFDIO_COPY, &copy);
}

/* Serves faults until none arrives for one and a half seconds. */
static void *serve(void *arg)
{
	struct pollfd ready = { .fd = uffd, .events = POLLIN };
	struct uffd_msg message;

	while (poll(&ready, 1, 1500) == 1) {
		if (read(uffd, &message, sizeof(message)) != sizeof(message) ||
		    message.event != UFFD_EVENT_PAGEFAULT)
			return "no page fault";
		if (message.arg.pagefault.flags & UFFD_PAGEFAULT_FLAG_WP) {
			served_protected++;
			if (!protect(false))
				return "the protection cannot be taken away";
		} else {
			served_missing++;
			if (!provide())
				return "the page cannot be provided";
		}
	}
	return NULL;
}

/* The served page is the one that is probed. */
TEST_F_TIMEOUT(module, missing_page_is_served, TIMEOUT)
{
	pthread_t server;
	void *failed;
	int id;

	if (!set_up(0, UFFDIO_REGISTER_MODE_MISSING))
		SKIP(return, "no userfaultfd");
	ASSERT_EQ(0, pthread_create(&server, NULL, serve, NULL));
	id = PROBE(text);
	EXPECT_LE(1, served_missing);
	EXPECT_EQ(3, call(text, 1, 2));
	EXPECT_EQ(1, HITS(id));
	UNPROBE(id);
	EXPECT_EQ(0, memcmp(text, source, PAGE));

	/* After the page is discarded under a probe, the next access is served again. */
	id = PROBE(text);
	served_missing = 0;
	ASSERT_EQ(0, madvise(text, PAGE, MADV_DONTNEED));
	EXPECT_EQ(3, call(text, 1, 2));
	EXPECT_EQ(1, served_missing);
	EXPECT_EQ(0, HITS(id));
	UNPROBE(id);
	EXPECT_EQ(0, memcmp(text, source, PAGE));
	ASSERT_EQ(0, pthread_join(server, &failed));
	EXPECT_EQ(NULL, failed);
	close(uffd);
}

static void on_alarm(int signal)
{
}

/* Without a server, a waiting registration can be interrupted and killed. Others do not wait. */
TEST_F_TIMEOUT(module, nobody_serves, TIMEOUT)
{
	struct sigaction action = { .sa_handler = on_alarm };
	struct itimerval soon = { .it_value.tv_usec = 300000 };
	int status, id;
	pid_t pid;

	if (!set_up(0, UFFDIO_REGISTER_MODE_MISSING))
		SKIP(return, "no userfaultfd");
	ASSERT_EQ(0, sigaction(SIGALRM, &action, NULL));
	ASSERT_EQ(0, setitimer(ITIMER_REAL, &soon, NULL));
	EXPECT_EQ(-EINTR, dev_register(self->dev, getpid(), text, UPROBES_TEST_TASK));

	pid = fork();
	if (!pid) {
		dev_register(self->dev, getppid(), text, UPROBES_TEST_TASK);
		_exit(1);
	}
	sleep_ms(300);
	EXPECT_EQ(0, waitpid(pid, &status, WNOHANG));
	/* Other probes of the process are registered and unregistered during the wait. */
	id = PROBE(probed_lea);
	EXPECT_EQ(3, probed_lea(1, 2));
	UNPROBE(id);
	ASSERT_EQ(0, kill(pid, SIGKILL));
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(SIGKILL, status);

	/* The text can be probed as soon as it is there. */
	ASSERT_TRUE(provide());
	use(_metadata, self->dev, text);
	close(uffd);
}

/* A process with unserved text can exit while another process waits to probe it. */
TEST_F_TIMEOUT(module, exit_while_nobody_serves, TIMEOUT)
{
	int status, ready[2];
	pid_t target, prober;

	ASSERT_EQ(0, pipe(ready));
	target = fork();
	if (!target) {
		bool good = set_up(0, UFFDIO_REGISTER_MODE_MISSING);

		if (write(ready[1], good ? &text : NULL, sizeof(text)) != sizeof(text))
			_exit(1);
		pause();
	}
	close(ready[1]);
	if (read(ready[0], &text, sizeof(text)) != sizeof(text)) {
		waitpid(target, NULL, 0);
		SKIP(return, "no userfaultfd");
	}
	prober = fork();
	if (!prober)
		_exit(-dev_register(self->dev, target, text, UPROBES_TEST_TASK));
	sleep_ms(300);
	ASSERT_EQ(0, kill(target, SIGKILL));
	ASSERT_EQ(target, waitpid(target, &status, 0));
	EXPECT_EQ(SIGKILL, status);
	ASSERT_EQ(prober, waitpid(prober, &status, 0));
	EXPECT_TRUE(WIFEXITED(status));
	TH_LOG("the waiting process got %s", strerror(WEXITSTATUS(status)));
	EXPECT_NE(0, WEXITSTATUS(status));
}

/* Waits for a fault that is to be served, and returns whether there is one. */
static bool fault_waits(void)
{
	struct pollfd ready = { .fd = uffd, .events = POLLIN };

	return poll(&ready, 1, 20000) == 1;
}

/* Starts a process that probes this one, and exits with 0 if it could. */
static pid_t start_prober(int dev, const void *at, unsigned int flags)
{
	pid_t pid = fork();

	if (!pid)
		_exit(dev_register(dev, getppid(), at, flags) <= 0);
	return pid;
}

/* Returns the wait status of a process that exits soon, or -1. */
static int ends_soon(pid_t pid)
{
	uint64_t end = now_ms() + 10000;
	int status;

	while (now_ms() < end) {
		if (waitpid(pid, &status, WNOHANG) == pid)
			return status;
		sleep_ms(5);
	}
	return -1;
}

/*
 * A return probe waits for the text of a return instruction, which is not served. Other return
 * probes of the process do not wait for it, and the breakpoints that it has set are removed while
 * it waits.
 */
TEST_F_TIMEOUT(module, return_probe_waits_alone, TIMEOUT)
{
	unsigned char *entry;
	pid_t waits, other;
	int32_t distance;
	int status, id;

	if (!set_up(0, UFFDIO_REGISTER_MODE_MISSING | UFFDIO_REGISTER_MODE_WP))
		SKIP(return, "no userfaultfd");
	ASSERT_TRUE(provide());
	/* lea, then a jump to the return instruction in @text, which is readable. */
	entry = anonymous_text(RWX);
	ASSERT_NE(MAP_FAILED, entry);
	distance = text + 4 - (entry + 9);
	entry[4] = 0xe9;
	memcpy(entry + 5, &distance, sizeof(distance));
	ASSERT_EQ(3, call(entry, 1, 2));
	ASSERT_TRUE(protect(true));

	waits = start_prober(self->dev, entry, UPROBES_TEST_RETURN);
	EXPECT_TRUE(fault_waits());
	EXPECT_EQ(0x48, byte_at(entry));
	other = start_prober(self->dev, probed_lea, UPROBES_TEST_RETURN);
	status = ends_soon(other);
	EXPECT_EQ(0, status);
	EXPECT_EQ(3, call_probed(probed_lea, 1, 2));

	/* The return probe continues as soon as it can. */
	ASSERT_TRUE(protect(false));
	EXPECT_EQ(0, ends_soon(waits));
	if (status < 0)
		EXPECT_EQ(0, ends_soon(other));
	id = PROBE_HOW(OF(entry), .flags = UPROBES_TEST_RETURN);
	EXPECT_EQ(3, call(entry, 1, 2));
	EXPECT_EQ(1, RETURNS(id));
	UNPROBE(id);
	close(uffd);
}

static int exit_at_once(void *arg)
{
	return 0;
}

/* Creates a process that shares the memory. */
static void *create_sharer(void *arg)
{
	static alignas(16) char stack[65536];
	pid_t pid = clone(exit_at_once, stack + sizeof(stack), CLONE_VM | SIGCHLD, NULL);
	int status = -1;

	if (pid > 0)
		waitpid(pid, &status, 0);
	return (void *)(long)status;
}

struct unregistration {
	int dev;
	int id;
};

static void *unregister(void *arg)
{
	struct unregistration *what = arg;

	return (void *)(long)dev_unregister(what->dev, what->id);
}

static bool join_soon(pthread_t thread, void **result)
{
	struct timespec end;

	clock_gettime(CLOCK_REALTIME, &end);
	end.tv_sec += 10;
	return !pthread_timedjoin_np(thread, result, &end);
}

/*
 * The probe follows into a created process with text that is not served. clone() waits, but
 * unregistering the probe does not.
 */
TEST_F_TIMEOUT(module, unregister_while_child_waits, TIMEOUT)
{
	struct unregistration what = { .dev = self->dev };
	pthread_t creator, unregisterer;
	bool soon;
	void *result;

	if (!set_up(0, UFFDIO_REGISTER_MODE_MISSING))
		SKIP(return, "no userfaultfd");
	ASSERT_TRUE(provide());
	what.id = PROBE_HOW(OF(text), .flags = UPROBES_TEST_TASK | UPROBES_TEST_FOLLOW);
	EXPECT_EQ(3, call(text, 1, 2));
	/* The breakpoint is discarded with the page. The probe stays. */
	ASSERT_EQ(0, madvise(text, PAGE, MADV_DONTNEED));
	ASSERT_EQ(0, pthread_create(&creator, NULL, create_sharer, NULL));
	EXPECT_TRUE(fault_waits());

	ASSERT_EQ(0, pthread_create(&unregisterer, NULL, unregister, &what));
	soon = join_soon(unregisterer, &result);
	EXPECT_TRUE(soon);
	ASSERT_TRUE(provide());
	if (!soon)
		ASSERT_TRUE(join_soon(unregisterer, &result));
	EXPECT_EQ(NULL, result);
	ASSERT_TRUE(join_soon(creator, &result));
	EXPECT_EQ(NULL, result);
	EXPECT_NE(INT3, byte_at(text));
	EXPECT_EQ(0, memcmp(text, source, PAGE));
	close(uffd);
}

/* Faults of the kernel are not served. */
TEST_F_TIMEOUT(module, user_mode_only, TIMEOUT)
{
	if (!set_up(UFFD_USER_MODE_ONLY, UFFDIO_REGISTER_MODE_MISSING))
		SKIP(return, "no userfaultfd");
	EXPECT_EQ(-EFAULT, dev_register(self->dev, getpid(), text, UPROBES_TEST_TASK));
	ASSERT_TRUE(provide());
	use(_metadata, self->dev, text);
	close(uffd);
}

/*
 * The text is write-protected. The server is notified of the write that inserts a breakpoint. The
 * removal restores the program's contents under the protection, and does not change it.
 */
TEST_F_TIMEOUT(module, write_protected, TIMEOUT)
{
	pthread_t server;
	void *failed;
	int id;

	if (!set_up(0, UFFDIO_REGISTER_MODE_MISSING | UFFDIO_REGISTER_MODE_WP))
		SKIP(return, "no userfaultfd");
	ASSERT_TRUE(provide());
	ASSERT_TRUE(protect(true));
	ASSERT_TRUE(pagemap_entry(getpid(), text) & PM_UFFD_WP);
	ASSERT_EQ(0, pthread_create(&server, NULL, serve, NULL));
	id = PROBE(text);
	EXPECT_EQ(1, served_protected);
	EXPECT_EQ(3, call(text, 1, 2));
	EXPECT_EQ(1, HITS(id));

	ASSERT_TRUE(protect(true));
	UNPROBE(id);
	EXPECT_EQ(0, memcmp(text, source, PAGE));
	EXPECT_TRUE(pagemap_entry(getpid(), text) & PM_UFFD_WP);
	EXPECT_EQ(1, served_protected);
	ASSERT_EQ(0, pthread_join(server, &failed));
	EXPECT_EQ(NULL, failed);
	close(uffd);
}

/*
 * The text is write-protected, shared with a child, and not served. The removal needs a copy, which
 * has the contents that the program wrote, and the same protection.
 */
TEST_F_TIMEOUT(module, protected_and_shared, TIMEOUT)
{
	int id, status;
	pid_t pid;

	if (!set_up(0, UFFDIO_REGISTER_MODE_MISSING | UFFDIO_REGISTER_MODE_WP))
		SKIP(return, "no userfaultfd");
	ASSERT_TRUE(provide());
	id = PROBE(text);
	pid = fork();
	if (!pid) {
		pause();
		_exit(0);
	}
	ASSERT_TRUE(protect(true));
	UNPROBE(id);
	EXPECT_EQ(0, memcmp(text, source, PAGE));
	EXPECT_EQ(3, call(text, 1, 2));
	EXPECT_TRUE(pagemap_entry(getpid(), text) & PM_UFFD_WP);
	ASSERT_TRUE(protect(false));
	use(_metadata, self->dev, text);
	kill(pid, SIGKILL);
	waitpid(pid, &status, 0);
	close(uffd);
}

/* Pages that hold breakpoints are not moved to other addresses. */
TEST_F_TIMEOUT(module, move, TIMEOUT)
{
	struct uffdio_move move = { .len = PAGE };
	unsigned char *from;
	int id;

	if (!set_up(0, UFFDIO_REGISTER_MODE_MISSING))
		SKIP(return, "no userfaultfd");
	ASSERT_EQ(0, mprotect(text, PAGE, RWX));
	from = anonymous_text(RWX);
	ASSERT_NE(MAP_FAILED, from);
	move.src = (unsigned long)from;
	move.dst = (unsigned long)text;
	id = PROBE(from);
	EXPECT_EQ(-1, ioctl(uffd, UFFDIO_MOVE, &move));
	EXPECT_EQ(EBUSY, errno);
	EXPECT_EQ(3, call(from, 1, 2));
	EXPECT_EQ(1, HITS(id));
	UNPROBE(id);
	move.move = 0;
	EXPECT_EQ(0, ioctl(uffd, UFFDIO_MOVE, &move));
	EXPECT_EQ(3, call(text, 1, 2));
	close(uffd);
}

TEST_HARNESS_MAIN

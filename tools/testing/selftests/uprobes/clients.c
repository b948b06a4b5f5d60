// SPDX-License-Identifier: GPL-2.0
/* Consumers of the kernel API: order, context and effect of their handlers. */
#include <pthread.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "module_fixture.h"

#define BOTH	(UPROBES_TEST_TASK | UPROBES_TEST_INTERRUPT)

static int register_at(int dev, const void *at, unsigned int flags)
{
	return dev_register(dev, getpid(), at, flags);
}

TEST_F_TIMEOUT(module, hits_are_counted, TIMEOUT)
{
	static const probed_fn functions[] = { probed_nop, probed_push, probed_lea };
	unsigned int i, j;

	for (i = 0; i < 3; i++) {
		int id = PROBE(functions[i]);

		for (j = 0; j < 1000; j++)
			ASSERT_EQ(j + 5, functions[i](j, 5));
		EXPECT_EQ(1000, HITS(id));
		UNPROBE(id);
		EXPECT_EQ(-ENOENT, HITS(id));
		EXPECT_EQ(10, functions[i](6, 4));
	}
}

TEST_F_TIMEOUT(module, what_handlers_see, TIMEOUT)
{
	int id = register_at(self->dev, probed_lea, BOTH);
	struct uprobes_test_count count;
	unsigned int i;

	ASSERT_LT(0, id);
	for (i = 0; i < 100; i++)
		EXPECT_EQ(7, probed_lea(3, 4));
	ASSERT_EQ(0, dev_count(self->dev, id, &count));
	EXPECT_EQ(100, count.task_hits);
	EXPECT_EQ(100, count.task_preemptible);
	EXPECT_EQ(100, count.interrupt_hits);
	EXPECT_EQ(100, count.interrupt_irqs_off);
	EXPECT_LT(count.interrupt_sequence, count.task_sequence);
	EXPECT_EQ((unsigned long)probed_lea, count.last_ip);
	EXPECT_EQ(4, count.last_si);
	EXPECT_EQ(getpid(), count.last_tid);
	EXPECT_EQ(getpid(), count.last_tgid);
	EXPECT_EQ(0, count.active);
	UNPROBE(id);
}

TEST_F_TIMEOUT(module, only_the_handlers_there_are, TIMEOUT)
{
	struct uprobes_test_count count;
	int id;

	id = register_at(self->dev, probed_nop, UPROBES_TEST_INTERRUPT);
	ASSERT_LT(0, id);
	probed_nop(0, 0);
	ASSERT_EQ(0, dev_count(self->dev, id, &count));
	EXPECT_EQ(0, count.task_hits);
	EXPECT_EQ(1, count.interrupt_hits);
	UNPROBE(id);

	id = register_at(self->dev, probed_nop, UPROBES_TEST_TASK);
	ASSERT_LT(0, id);
	probed_nop(0, 0);
	ASSERT_EQ(0, dev_count(self->dev, id, &count));
	EXPECT_EQ(1, count.task_hits);
	EXPECT_EQ(0, count.interrupt_hits);
	UNPROBE(id);
}

/* Consumers are called in the order of registration. Removing one keeps the others' order. */
TEST_F_TIMEOUT(module, order_of_clients, TIMEOUT)
{
	enum { CLIENTS = 10 };
	struct uprobes_test_count count;
	unsigned long long last_task, last_interrupt;
	int id[CLIENTS];
	unsigned int i, round;

	for (i = 0; i < CLIENTS; i++) {
		id[i] = register_at(self->dev, probed_push, BOTH);
		ASSERT_LT(0, id[i]);
	}
	for (round = 1; round <= 3; round++) {
		EXPECT_EQ(2, probed_push(1, 1));
		last_task = 0;
		last_interrupt = 0;
		for (i = 0; i < CLIENTS; i++) {
			ASSERT_EQ(0, dev_count(self->dev, id[i], &count));
			EXPECT_LT(last_task, count.task_sequence);
			EXPECT_LT(last_interrupt, count.interrupt_sequence);
			last_task = count.task_sequence;
			last_interrupt = count.interrupt_sequence;
		}
		/* All interrupt handlers run before any task handler. */
		ASSERT_EQ(0, dev_count(self->dev, id[0], &count));
		EXPECT_LT(last_interrupt, count.task_sequence);

		/* The consumer in the middle moves to the end. */
		UNPROBE(id[CLIENTS / 2]);
		for (i = CLIENTS / 2; i < CLIENTS - 1; i++)
			id[i] = id[i + 1];
		id[CLIENTS - 1] = register_at(self->dev, probed_push, BOTH);
		ASSERT_LT(0, id[CLIENTS - 1]);
	}
	for (i = 0; i < CLIENTS; i++)
		UNPROBE(id[i]);
	EXPECT_TRUE(page_is_of_file(getpid(), probed_push));
}

/* A consumer is registered and unregistered while another one stays. */
TEST_F_TIMEOUT(module, one_stays, TIMEOUT)
{
	int stays = PROBE(probed_lea);
	unsigned int i;

	for (i = 0; i < 100; i++) {
		int id = PROBE(probed_lea);

		probed_lea(0, 0);
		EXPECT_EQ(1, HITS(id));
		UNPROBE(id);
		probed_lea(0, 0);
	}
	EXPECT_EQ(200, HITS(stays));
	UNPROBE(stays);
}

TEST_F_TIMEOUT(module, neighbouring_probes, TIMEOUT)
{
	static const unsigned int offsets[] = { 0, 1, 4, 8, 9 };	/* of probed_push */
	int id[5];
	unsigned int i;

	for (i = 0; i < 5; i++)
		id[i] = PROBE((char *)probed_push + offsets[i]);
	for (i = 0; i < 100; i++)
		ASSERT_EQ(i + 2, probed_push(i, 2));
	for (i = 0; i < 5; i++) {
		EXPECT_EQ(100 + i, HITS(id[i]));
		UNPROBE(id[i]);
		/* The remaining probes are hit once more. */
		EXPECT_EQ(3, probed_push(1, 2));
	}
}

TEST_F_TIMEOUT(module, handler_sleeps, TIMEOUT)
{
	struct uprobes_test_register how = {
		.pid = getpid(),
		.vaddr = (unsigned long)probed_lea,
		.flags = UPROBES_TEST_TASK,
		.sleep_usec = 50000,
	};
	int id = dev_register_how(self->dev, &how);
	uint64_t start = now_ms();

	ASSERT_LT(0, id);
	EXPECT_EQ(3, probed_lea(1, 2));
	EXPECT_EQ(3, probed_lea(1, 2));
	EXPECT_LE(90, now_ms() - start);
	EXPECT_EQ(2, HITS(id));
	UNPROBE(id);
}

/* The program continues with the register values that a handler has written. */
static void change_registers(struct __test_metadata *_metadata, int dev, unsigned int flags,
			     probed_fn function)
{
	struct uprobes_test_register how = {
		.pid = getpid(),
		.vaddr = (unsigned long)function,
		.flags = flags,
		.add_si = -30,
	};
	int id = dev_register_how(dev, &how);
	int twice;

	ASSERT_LT(0, id);
	EXPECT_EQ(1012, function(1000, 42));
	twice = dev_register_how(dev, &how);
	ASSERT_LT(0, twice);
	EXPECT_EQ(1012, function(1000, 72));
	ASSERT_EQ(0, dev_unregister(dev, id));
	ASSERT_EQ(0, dev_unregister(dev, twice));
	EXPECT_EQ(1042, function(1000, 42));
}

TEST_F_TIMEOUT(module, registers_change, TIMEOUT)
{
	change_registers(_metadata, self->dev, UPROBES_TEST_TASK, probed_nop);
	change_registers(_metadata, self->dev, UPROBES_TEST_TASK, probed_lea);
	change_registers(_metadata, self->dev, UPROBES_TEST_INTERRUPT | UPROBES_TEST_EARLY,
			 probed_nop);
	change_registers(_metadata, self->dev, UPROBES_TEST_INTERRUPT | UPROBES_TEST_EARLY,
			 probed_lea);
	change_registers(_metadata, self->dev, BOTH | UPROBES_TEST_EARLY, probed_push);
}

/* A handler that moves the instruction pointer replaces the instruction. */
TEST_F_TIMEOUT(module, instruction_is_skipped, TIMEOUT)
{
	static const unsigned int flags[] = {
		UPROBES_TEST_TASK, UPROBES_TEST_INTERRUPT | UPROBES_TEST_EARLY,
	};
	unsigned int i;

	for (i = 0; i < 2; i++) {
		struct uprobes_test_register how = {
			.pid = getpid(),
			.vaddr = (unsigned long)probed_lea,
			.flags = flags[i],
			.add_ip = 4,	/* The whole lea: AX keeps the value from call_probed. */
		};
		int id = dev_register_how(self->dev, &how);

		ASSERT_LT(0, id);
		EXPECT_EQ((unsigned long)probed_lea, call_probed(probed_lea, 3, 4));
		UNPROBE(id);
		EXPECT_EQ(7, call_probed(probed_lea, 3, 4));
	}
}

TEST_F_TIMEOUT(module, errors, TIMEOUT)
{
	unsigned char *text = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC,
				   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	pid_t ended;
	int id;

	ASSERT_NE(MAP_FAILED, text);
	/* No handler. */
	EXPECT_EQ(-EINVAL, register_at(self->dev, probed_nop, 0));
	/* No such process, invalid pids, and a kernel thread. */
	ended = fork();
	if (!ended)
		_exit(0);
	ASSERT_EQ(ended, waitpid(ended, NULL, 0));
	EXPECT_EQ(-ESRCH, dev_register(self->dev, ended, probed_nop, UPROBES_TEST_TASK));
	EXPECT_EQ(-EINVAL, dev_register(self->dev, 0, probed_nop, UPROBES_TEST_TASK));
	EXPECT_EQ(-EINVAL, dev_register(self->dev, -1, probed_nop, UPROBES_TEST_TASK));
	EXPECT_EQ(-EINVAL, dev_register(self->dev, 2, probed_nop, UPROBES_TEST_TASK));
	/* Addresses without code. */
	EXPECT_EQ(-EINVAL, register_at(self->dev, NULL, UPROBES_TEST_TASK));
	EXPECT_EQ(-EINVAL, register_at(self->dev, &id, UPROBES_TEST_TASK));
	EXPECT_EQ(-EINVAL, register_at(self->dev, (void *)~0UL, UPROBES_TEST_TASK));
	EXPECT_EQ(-EINVAL, register_at(self->dev, (void *)0xffffffff81000000, UPROBES_TEST_TASK));
	/* An instruction that cannot be probed, and a foreign breakpoint. */
	text[0] = 0xf4;
	text[1] = 0xcc;
	EXPECT_EQ(-EPERM, register_at(self->dev, text, UPROBES_TEST_TASK));
	EXPECT_EQ(-EEXIST, register_at(self->dev, text + 1, UPROBES_TEST_TASK));
	EXPECT_EQ(0xf4, text[0]);
	EXPECT_EQ(0xcc, text[1]);

	/* Registering a registered probe fails and leaves it as it was. */
	id = PROBE(probed_nop);
	EXPECT_EQ(-EBUSY, dev_again(self->dev, id));
	probed_nop(0, 0);
	EXPECT_EQ(1, HITS(id));
	UNPROBE(id);
	probed_nop(0, 0);
	EXPECT_EQ(0, ioctl(self->dev, UPROBES_TEST_NOOP, getpid()));
	EXPECT_EQ(0, munmap(text, 4096));
}

/* Only the named process hits the probe. */
TEST_F_TIMEOUT(module, another_process, TIMEOUT)
{
	struct target target;
	struct uprobes_test_count count;
	int id;

	ASSERT_TRUE(target_start(&target));
	id = dev_register(self->dev, target.pid, probed_lea, BOTH);
	ASSERT_LT(0, id);
	EXPECT_EQ(300, target_call(&target, probed_lea, 1, 2, 100));
	EXPECT_EQ(3, probed_lea(1, 2));
	ASSERT_EQ(0, dev_count(self->dev, id, &count));
	EXPECT_EQ(100, count.task_hits);
	EXPECT_EQ(100, count.interrupt_hits);
	EXPECT_EQ(target.pid, count.last_tgid);
	UNPROBE(id);
	EXPECT_EQ(300, target_call(&target, probed_lea, 1, 2, 100));
	EXPECT_EQ(0, target_stop(&target));
}

static void *wait_in_thread(void *arg)
{
	*(pid_t *)arg = gettid();
	for (;;)
		pause();
	return NULL;
}

/* The pid of any thread names the process. */
TEST_F_TIMEOUT(module, through_a_thread, TIMEOUT)
{
	pthread_t thread;
	pid_t tid = 0;
	int id;

	ASSERT_EQ(0, pthread_create(&thread, NULL, wait_in_thread, &tid));
	while (!__atomic_load_n(&tid, __ATOMIC_RELAXED))
		sched_yield();
	id = dev_register(self->dev, tid, probed_nop, UPROBES_TEST_TASK);
	ASSERT_LT(0, id);
	EXPECT_EQ(3, probed_nop(1, 2));
	EXPECT_EQ(1, HITS(id));
	UNPROBE(id);
}

/* Pids are relative to the caller's namespace. */
TEST_F_TIMEOUT(module, pid_namespace, TIMEOUT)
{
	int status = -1, id;
	pid_t pid;

	if (unshare(CLONE_NEWPID))
		SKIP(return, "no pid namespaces");
	pid = fork();
	if (!pid) {
		struct uprobes_test_count count;

		if (getpid() != 1)
			_exit(1);
		id = dev_register(self->dev, 1, probed_nop, UPROBES_TEST_TASK);
		if (id <= 0 || probed_nop(1, 2) != 3 || dev_count(self->dev, id, &count) ||
		    count.task_hits != 1 || count.last_tgid != 1)
			_exit(2);
		/* A pid outside the namespace. */
		if (dev_register(self->dev, 999999, probed_nop, UPROBES_TEST_TASK) != -ESRCH)
			_exit(3);
		_exit(dev_unregister(self->dev, id) ? 4 : 0);
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
}

/* More probes than a page of slots holds. */
TEST_F_TIMEOUT(module, many_probes, TIMEOUT)
{
	enum { PROBES = 500 };
	unsigned char *text = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC,
				   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	static int id[PROBES];
	unsigned int i, j;

	ASSERT_NE(MAP_FAILED, text);
	/* lea 1(%rdi),%rdi, many times; mov %rdi,%rax; ret */
	for (i = 0; i < PROBES; i++)
		memcpy(text + 4 * i, "\x48\x8d\x7f\x01", 4);
	memcpy(text + 4 * i, "\x48\x89\xf8\xc3", 4);
	for (i = 0; i < PROBES; i++)
		id[i] = PROBE(text + 4 * i);
	for (i = 1; i <= 10; i++)
		EXPECT_EQ(7 + PROBES, ((probed_fn)text)(7, 0));
	for (i = 0; i < PROBES; i++)
		EXPECT_EQ(10, HITS(id[i]));

	/* Half of the probes are unregistered and registered again. */
	for (j = 0; j < 2; j++) {
		for (i = j; i < PROBES; i += 2)
			UNPROBE(id[i]);
		EXPECT_EQ(7 + PROBES, ((probed_fn)text)(7, 0));
		for (i = j; i < PROBES; i += 2)
			id[i] = PROBE(text + 4 * i);
	}
	EXPECT_EQ(7 + PROBES, ((probed_fn)text)(7, 0));
	for (i = 0; i < PROBES; i++) {
		EXPECT_EQ(i % 2 ? 1 : 2, HITS(id[i]));
		UNPROBE(id[i]);
	}
	EXPECT_EQ(7 + PROBES, ((probed_fn)text)(7, 0));
}

TEST_HARNESS_MAIN

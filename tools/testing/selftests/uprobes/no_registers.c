// SPDX-License-Identifier: GPL-2.0
/*
 * Threads of a probed process for which resume_user_mode_work() has no
 * registers, because they are not on their way to user mode.
 */
#include <pthread.h>

#include "kvm_guest.h"
#include "module_fixture.h"
#include "raw_ring.h"

/* An io_uring worker with a file to release after each request. */
TEST_F_TIMEOUT(module, io_uring_worker, TIMEOUT)
{
	unsigned int i, rounds = scaled(200);
	struct ring ring;
	int id;

	if (!has_io_uring())
		SKIP(return, "no io_uring");
	id = PROBE(probed_lea);
	ASSERT_EQ(0, ring_open(&ring, 0));
	for (i = 0; i < rounds; i++) {
		int fd = ring_open_file(&ring, "/dev/null", IOSQE_ASYNC);
		int other = PROBE(probed_nop);

		ASSERT_LE(0, fd);
		ASSERT_EQ(0, ring_close_file(&ring, fd, IOSQE_ASYNC));
		UNPROBE(other);
	}
	ring_close(&ring);
	EXPECT_EQ(3, probed_lea(1, 2));
	EXPECT_EQ(1, HITS(id));
	UNPROBE(id);
}

struct vcpu {
	struct guest guest;
	int created;
	int left;
	long sum;
};

static void *execute(void *arg)
{
	struct vcpu *vcpu = arg;

	vcpu->created = guest_create(&vcpu->guest);
	if (!vcpu->created)
		vcpu->left = guest_run(&vcpu->guest);
	vcpu->sum = probed_lea(1, 2);
	return NULL;
}

/*
 * A thread in a guest while probes are registered and unregistered, which
 * quiesces threads.
 */
TEST_F_TIMEOUT(module, guest, TIMEOUT)
{
	unsigned int i, rounds = scaled(50);
	const char *why = no_kvm();
	struct vcpu vcpu = {};
	pthread_t thread;
	int id;

	if (why)
		SKIP(return, "%s", why);
	ASSERT_TRUE(guest_map());
	id = PROBE(probed_lea);
	ASSERT_EQ(0, pthread_create(&thread, NULL, execute, &vcpu));
	for (i = 0; i < rounds; i++) {
		int other;

		ASSERT_TRUE(guest_counts()) TH_LOG("%d", vcpu.created);
		other = PROBE(probed_nop);
		ASSERT_TRUE(guest_counts());
		UNPROBE(other);
	}
	guest_data()->end = 1;
	ASSERT_EQ(0, pthread_join(thread, NULL));
	EXPECT_EQ(KVM_EXIT_IO, vcpu.left);
	EXPECT_EQ(3, vcpu.sum);
	EXPECT_EQ(1, HITS(id));
	UNPROBE(id);
}

TEST_HARNESS_MAIN

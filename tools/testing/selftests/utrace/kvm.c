// SPDX-License-Identifier: GPL-2.0
/* Engines on a thread that executes a guest, which holds the lock of a virtual CPU. */
#include "device_fixture.h"
#include "kvm_guest.h"

#define PID	(self->target.pid)

/* Maps the guest before the fixture starts the target, because the target shares it. */
__attribute__((constructor)) static void map(void)
{
	if (!guest_map())
		abort();
}

static long do_guest(long arg)
{
	struct guest guest;

	return guest_create(&guest) ?: guest_run(&guest);
}

#define BEGIN_GUEST() do {				\
	guest_data()->end = 0;				\
	BEGIN(do_guest, 0);				\
	ASSERT_TRUE(guest_counts());			\
} while (0)

/* A report comes once the thread leaves the guest. It does not make the thread leave. */
DEVICE_TEST(report)
{
	int id = ATTACH(EVENT(QUIESCE));

	if (no_kvm())
		SKIP(return, "%s", no_kvm());
	BEGIN_GUEST();
	ASSERT_EQ(0, dev_control(self->dev, id, UTRACE_REPORT));
	EXPECT_TRUE(no_record(self->dev));
	EXPECT_TRUE(guest_counts());
	guest_data()->end = 1;
	EXPECT_EQ(UTRACE_TEST_QUIESCE, NEXT(ANY).callback);
	EXPECT_EQ(KVM_EXIT_IO, END());
}

DEVICE_TEST(stop)
{
	int id = ATTACH(EVENT(QUIESCE));

	if (no_kvm())
		SKIP(return, "%s", no_kvm());
	BEGIN_GUEST();
	EXPECT_EQ(-EINPROGRESS, dev_control(self->dev, id, UTRACE_STOP));
	EXPECT_TRUE(guest_counts());
	EXPECT_TRUE(guest_counts());
	guest_data()->end = 1;
	EXPECT_TRUE(wait_state(PID, PID, "t"));
	ASSERT_EQ(0, dev_control(self->dev, id, UTRACE_RESUME));
	EXPECT_EQ(KVM_EXIT_IO, END());
}

/* INTERRUPT makes the thread leave the guest. */
DEVICE_TEST(interrupt)
{
	int id = ATTACH(EVENT(QUIESCE));

	if (no_kvm())
		SKIP(return, "%s", no_kvm());
	BEGIN_GUEST();
	ASSERT_EQ(0, dev_control(self->dev, id, UTRACE_INTERRUPT));
	EXPECT_EQ(-EINTR, END());
}

/* The guest keeps running while its process is quiesced. */
DEVICE_TEST(quiesced)
{
	int guard;

	if (no_kvm())
		SKIP(return, "%s", no_kvm());
	BEGIN_GUEST();
	guard = dev_quiesce(self->dev, PID);
	ASSERT_LT(0, guard);
	EXPECT_TRUE(guest_counts());
	EXPECT_TRUE(guest_counts());
	guest_data()->end = 1;
	EXPECT_TRUE(wait_state(PID, PID, "D"));
	EXPECT_TRUE(target_busy(&self->target));
	EXPECT_EQ(0, dev_drop(self->dev, guard));
	EXPECT_EQ(KVM_EXIT_IO, END());
}

TEST_HARNESS_MAIN

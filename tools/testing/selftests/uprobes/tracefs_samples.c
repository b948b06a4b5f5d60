// SPDX-License-Identifier: GPL-2.0
/* Contents of perf's samples of the events of uprobe_events. */
#include <sys/mman.h>

#include "perf_fixture.h"
#include "returned.h"

/* Fields of a sample that open_samples() asks for. */
struct sample {
	struct perf_event_header header;
	uint64_t ip;
	uint32_t pid, tid;
	uint64_t callers;
	uint64_t rest[];
};

struct raw {
	uint32_t size;
	/* Fields that all entries begin with. */
	uint16_t type;
	uint8_t flags, preempt_count;
	int32_t pid;
	unsigned char data[];
};

#define REG_DI	5	/* As in asm/perf_regs.h; AX is the first. */
#define REG_IP	8

struct ring {
	int fd;
	struct perf_event_mmap_page *page;
};

#define RING_SIZE	(17 * 4096)

static bool open_samples(struct ring *ring, int id, pid_t pid)
{
	struct perf_event_attr attr = {
		.config = id,
		.sample_period = 1,
		.sample_type = PERF_SAMPLE_IP | PERF_SAMPLE_TID | PERF_SAMPLE_CALLCHAIN |
			       PERF_SAMPLE_RAW | PERF_SAMPLE_REGS_USER,
		.exclude_callchain_kernel = 1,
		.sample_regs_user = 1ULL << REG_DI | 1ULL << REG_IP,
	};

	ring->fd = perf_open(&attr, pid, -1);
	if (ring->fd < 0)
		return false;
	ring->page = mmap(NULL, RING_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, ring->fd, 0);
	return ring->page != MAP_FAILED;
}

static void close_samples(struct ring *ring)
{
	munmap(ring->page, RING_SIZE);
	close(ring->fd);
}

/* Returns the next sample, or NULL. Samples do not reach the end of the ring here. */
static const struct sample *next_sample(struct ring *ring, uint64_t *tail)
{
	uint64_t head = __atomic_load_n(&ring->page->data_head, __ATOMIC_ACQUIRE);

	while (*tail < head) {
		const struct sample *sample = (void *)((char *)ring->page + 4096 + *tail);

		*tail += sample->header.size;
		if (sample->header.type == PERF_RECORD_SAMPLE)
			return sample;
	}
	return NULL;
}

static const struct raw *raw_of(const struct sample *sample)
{
	return (const struct raw *)&sample->rest[sample->callers];
}

/* The registers follow the entry and a word for their ABI. */
static uint64_t register_of(const struct sample *sample, unsigned int nth)
{
	const struct raw *raw = raw_of(sample);
	uint64_t value;

	memcpy(&value, (char *)raw + sizeof(raw->size) + raw->size + (nth + 1) * sizeof(value),
	       sizeof(value));
	return value;
}

static bool is_caller(const struct sample *sample, const void *at)
{
	uint64_t i;

	for (i = 0; i < sample->callers; i++)
		if (sample->rest[i] == (unsigned long)at)
			return true;
	return false;
}

TEST_F_TIMEOUT(events, samples, TIMEOUT)
{
	struct target *target = &self->target;
	struct ring ring;
	uint64_t tail = 0, at, a;
	unsigned int i;

	ASSERT_EQ(0, create(target->pid, probed_lea, "a=%di:u64 b=%si:u8"));
	ASSERT_TRUE(open_samples(&ring, event_id("hit"), target->pid));
	for (i = 0; i < 5; i++)
		target_call(target, probed_lea, 1000 + i, 0x1234, 1);
	for (i = 0; i < 5; i++) {
		const struct sample *sample = next_sample(&ring, &tail);
		const struct raw *raw;

		ASSERT_NE(NULL, sample);
		raw = raw_of(sample);
		EXPECT_EQ((unsigned long)probed_lea, sample->ip);
		EXPECT_EQ(target->pid, sample->pid);
		EXPECT_EQ(PERF_RECORD_MISC_USER,
			  sample->header.misc & PERF_RECORD_MISC_CPUMODE_MASK);
		EXPECT_TRUE(is_caller(sample, probed_lea));
		/* The entry is as long as its fields, and is padded with zeros. */
		EXPECT_EQ(28, raw->size);
		EXPECT_EQ(event_id("hit"), raw->type);
		EXPECT_EQ(target->pid, raw->pid);
		memcpy(&at, raw->data, sizeof(at));
		memcpy(&a, raw->data + 8, sizeof(a));
		EXPECT_EQ((unsigned long)probed_lea, at);
		EXPECT_EQ(1000 + i, a);
		EXPECT_EQ(0x34, raw->data[16]);
		EXPECT_EQ(0, raw->data[17] | raw->data[18] | raw->data[19]);
		EXPECT_EQ(1000 + i, register_of(sample, 0));
		EXPECT_EQ((unsigned long)probed_lea, register_of(sample, 1));
	}
	EXPECT_EQ(NULL, next_sample(&ring, &tail));
	close_samples(&ring);
	EXPECT_TRUE(page_is_of_file(target->pid, probed_lea));
}

/* Memory is read before room for the entry is reserved. */
TEST_F_TIMEOUT(events, samples_of_strings, TIMEOUT)
{
	struct target *target = &self->target;
	const struct sample *sample;
	const struct raw *raw;
	struct ring ring;
	uint64_t tail = 0;
	uint32_t where;

	ASSERT_EQ(0, create(target->pid, probed_nop, "text=+0(%si):string"));
	ASSERT_TRUE(open_samples(&ring, event_id("hit"), target->pid));
	target_call(target, probed_nop, 0, (unsigned long)probed_data.far, 1);
	sample = next_sample(&ring, &tail);
	ASSERT_NE(NULL, sample);
	raw = raw_of(sample);
	memcpy(&where, raw->data + 8, sizeof(where));
	EXPECT_EQ(strlen(probed_data.far) + 1, where >> 16);
	EXPECT_STREQ(probed_data.far, (char *)&raw->type + (where & 0xffff));
	close_samples(&ring);
}

/* Expects the samples of returns from @fn that are detected at @ip. */
static void expect_returns(struct __test_metadata *_metadata, struct target *target,
			   const char *place, probed_fn fn, const void *ip)
{
	uint64_t addresses[2], value, tail = 0;
	const struct sample *sample;
	struct ring ring;

	ASSERT_EQ(0, tracefs_append("uprobe_events", "r:selftest/hit %d:%s v=$retval:u64",
				    target->pid, place));
	ASSERT_TRUE(open_samples(&ring, event_id("hit"), target->pid));
	target_call(target, fn, 30, 4, 3);
	while ((sample = next_sample(&ring, &tail))) {
		memcpy(addresses, raw_of(sample)->data, sizeof(addresses));
		memcpy(&value, raw_of(sample)->data + sizeof(addresses), sizeof(value));
		EXPECT_EQ((unsigned long)fn, addresses[0]);
		EXPECT_EQ((unsigned long)call_probed_return, addresses[1]);
		EXPECT_EQ(34, value);
		EXPECT_EQ((unsigned long)ip, sample->ip);
	}
	EXPECT_EQ(3, perf_read(ring.fd));
	EXPECT_EQ(3, profile_hits("hit"));
	close_samples(&ring);
	ASSERT_EQ(0, tracefs_append("uprobe_events", "-:selftest/hit"));
}

TEST_F_TIMEOUT(events, samples_of_returns, TIMEOUT)
{
	char place[64];

	snprintf(place, sizeof(place), "%p-%p", returned_sum, returned_sum_end);
	expect_returns(_metadata, &self->target, place, returned_sum, call_probed_return);
	/* A return of this function is detected at the return address. */
	snprintf(place, sizeof(place), "%p", returned_opaque);
	expect_returns(_metadata, &self->target, place, returned_opaque, call_probed_return);
}

TEST_HARNESS_MAIN

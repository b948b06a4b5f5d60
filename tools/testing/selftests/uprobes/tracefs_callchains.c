// SPDX-License-Identifier: GPL-2.0
/*
 * Callers that perf finds by frame pointers where a function has no frame: at its first instruction
 * and at its return.
 */
#include <sys/mman.h>

#include "callchain.h"
#include "perf_fixture.h"

#define BUFFER		4096
#define CHAIN_MAX	32

/* User-mode addresses of a sample, innermost first. */
struct chain {
	unsigned int nr;
	uint64_t ips[CHAIN_MAX];
};

struct callchain_record {
	struct perf_event_header header;
	uint64_t nr;
	uint64_t ips[];
};

/* A perf event that samples the callers of each hit of selftest/hit, with its buffer. */
struct sampler {
	int fd;
	struct perf_event_mmap_page *control;
};

static bool sampler_open(struct sampler *sampler, pid_t pid)
{
	struct perf_event_attr attr = {
		.config = event_id("hit"),
		.sample_period = 1,
		.sample_type = PERF_SAMPLE_CALLCHAIN,
		.exclude_callchain_kernel = 1,
	};
	void *map;

	sampler->fd = perf_open(&attr, pid, -1);
	if (sampler->fd < 0)
		return false;
	map = mmap(NULL, 2 * BUFFER, PROT_READ | PROT_WRITE, MAP_SHARED, sampler->fd, 0);
	sampler->control = map;
	return map != MAP_FAILED;
}

static void sampler_close(struct sampler *sampler)
{
	munmap(sampler->control, 2 * BUFFER);
	close(sampler->fd);
}

/* Returns the next sample, without addresses if there is none. The buffer does not wrap here. */
static struct chain sampler_next(struct sampler *sampler)
{
	struct perf_event_mmap_page *control = sampler->control;
	uint64_t head = __atomic_load_n(&control->data_head, __ATOMIC_ACQUIRE);
	struct chain chain = {};

	while (control->data_tail < head && head < BUFFER && !chain.nr) {
		const struct callchain_record *record =
			(void *)((char *)control + control->data_offset + control->data_tail);
		unsigned int i;

		if (record->header.type == PERF_RECORD_SAMPLE) {
			for (i = 0; i < record->nr && chain.nr < CHAIN_MAX; i++) {
				if (record->ips[i] < (uint64_t)PERF_CONTEXT_MAX)
					chain.ips[chain.nr++] = record->ips[i];
			}
		}
		__atomic_store_n(&control->data_tail, control->data_tail + record->header.size,
				 __ATOMIC_RELEASE);
	}
	return chain;
}

/*
 * Returns whether the callers follow each other in a chain, after @first or, in the chain of a
 * return, from the first or second address on.
 */
static bool chain_is(const struct chain *chain, uint64_t first, const uint64_t *callers)
{
	bool is = chain->nr > 3 && (!first || chain->ips[0] == first);
	unsigned int skip = first || chain->ips[0] != callers[0], i;

	for (i = 0; is && i < 3; i++)
		is = skip + i < chain->nr && chain->ips[skip + i] == callers[i];
	for (i = 0; !is && i < chain->nr; i++)
		ksft_print_msg("%u: %lx\n", i, (unsigned long)chain->ips[i]);
	return is;
}

static const uint64_t *own_callers(void)
{
	static uint64_t callers[3];

	callers[0] = (unsigned long)chain_inner_site;
	callers[1] = (unsigned long)chain_outer_site;
	callers[2] = (unsigned long)call_chain_site;
	return callers;
}

static void sample_at(struct __test_metadata *_metadata, const char *kind, const void *at,
		      void (*function)(void))
{
	struct sampler sampler;
	struct chain chain;

	ASSERT_EQ(0, tracefs_append("uprobe_events", "%s:selftest/hit %d:%p", kind, getpid(), at));
	ASSERT_TRUE(sampler_open(&sampler, 0));
	call_chain(function);
	chain = sampler_next(&sampler);
	EXPECT_TRUE(chain_is(&chain, *kind == 'r' ? 0 : (unsigned long)at, own_callers()));
	EXPECT_EQ(0, sampler_next(&sampler).nr);
	sampler_close(&sampler);
	ASSERT_EQ(0, tracefs_append("uprobe_events", "-:selftest/hit"));
}

TEST_F_TIMEOUT(events, entry, TIMEOUT)
{
	sample_at(_metadata, "p", chain_push, chain_push);
	sample_at(_metadata, "p", chain_endbr, chain_endbr);
}

/* With a frame, the top of the stack is not a caller. */
TEST_F_TIMEOUT(events, inside, TIMEOUT)
{
	sample_at(_metadata, "p", chain_push_inside, chain_push);
}

TEST_F_TIMEOUT(events, return_of_function, TIMEOUT)
{
	sample_at(_metadata, "r", chain_push, chain_push);
	sample_at(_metadata, "r", chain_endbr, chain_endbr);
}

/* Starts callchain32, and reads the addresses that it writes. */
static pid_t start_32(uint32_t *addresses, size_t size)
{
	int from;
	pid_t pid = start_stopped("callchain32", &from);

	if (pid < 0)
		return -1;
	if (read(from, addresses, size) != (ssize_t)size)
		pid = -1;
	close(from);
	return pid;
}

TEST_F_TIMEOUT(events, entry_and_return_32, TIMEOUT)
{
	static const char kinds[] = { 'p', 'r' };
	unsigned int i, j;

	for (i = 0; i < 2; i++) {
		uint32_t addresses[5];
		struct sampler sampler;
		uint64_t callers[3];
		int status;
		pid_t pid;

		pid = start_32(addresses, sizeof(addresses));
		if (pid < 0)
			SKIP(return, "no 32-bit programs here");
		for (j = 0; j < 3; j++)
			callers[j] = addresses[2 + j];
		for (j = 0; j < 2; j++)
			ASSERT_EQ(0, tracefs_append("uprobe_events", "%c:selftest/hit %d:0x%x",
						    kinds[i], pid, addresses[j]));
		ASSERT_TRUE(sampler_open(&sampler, pid));
		kill(pid, SIGCONT);
		ASSERT_EQ(pid, waitpid(pid, &status, 0));
		EXPECT_EQ(0, status);
		for (j = 0; j < 2; j++) {
			struct chain chain = sampler_next(&sampler);

			EXPECT_TRUE(chain_is(&chain, i ? 0 : addresses[j], callers));
		}
		EXPECT_EQ(0, sampler_next(&sampler).nr);
		sampler_close(&sampler);
		ASSERT_EQ(0, tracefs_append("uprobe_events", "-:selftest/hit"));
	}
}

TEST_HARNESS_MAIN

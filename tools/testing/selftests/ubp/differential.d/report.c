// SPDX-License-Identifier: GPL-2.0
/* Summary of the workers' results: see report.h. */
#include <stdio.h>
#include <string.h>

#include "report.h"

static void add_reason(struct reason_stats *to, const struct reason_stats *from)
{
	unsigned int i, map;

	for (i = 0; i < REASONS - 1; i++)
		if (!to[i].reason[0] || !strcmp(to[i].reason, from->reason))
			break;
	memcpy(to[i].reason, from->reason, sizeof(to[i].reason));
	for (map = 0; map < MAPS; map++)
		to[i].count[map] += from->count[map];
}

static void add(struct shared *to, const struct shared *from)
{
	unsigned int i, plan;

	for (i = 0; i < MAPS; i++) {
		struct map_stats *sum = &to->map[i];
		const struct map_stats *part = &from->map[i];

		sum->encodings += part->encodings;
		for (plan = 0; plan < PLANS; plan++)
			sum->plans[plan] += part->plans[plan];
		sum->left_out += part->left_out;
		sum->cases += part->cases;
		sum->completed += part->completed;
		sum->mismatches += part->mismatches;
	}
	for (i = 0; i < REASONS; i++) {
		if (from->refused[i].reason[0])
			add_reason(to->refused, &from->refused[i]);
		if (from->left_out[i].reason[0])
			add_reason(to->left_out, &from->left_out[i]);
	}
	to->aborts += from->aborts;
	to->unstable += from->unstable;
	to->stepping += from->stepping;
	to->run.seen += from->run.seen;
	to->run.seen_at_ip += from->run.seen_at_ip;
	to->run.seen_elsewhere += from->run.seen_elsewhere;
	if (from->run.elsewhere)
		to->run.elsewhere = from->run.elsewhere;
}

static void print_row(const char *name, const struct map_stats *row)
{
	printf("# %-9s %9llu %9llu %9llu %9llu %9llu %9llu %9llu %9llu %6llu\n",
	       name,
	       (unsigned long long)row->encodings,
	       (unsigned long long)row->plans[UBP_TEST_EMULATE],
	       (unsigned long long)row->plans[UBP_TEST_BOOST],
	       (unsigned long long)row->plans[UBP_TEST_STEP],
	       (unsigned long long)row->plans[UBP_TEST_REFUSED],
	       (unsigned long long)row->left_out, (unsigned long long)row->cases,
	       (unsigned long long)row->completed, (unsigned long long)row->mismatches);
}

static void print_reasons(const char *what, const struct reason_stats *stats)
{
	unsigned int i, map;

	for (i = 0; i < REASONS && stats[i].reason[0]; i++) {
		printf("# %s: %s:", what, stats[i].reason);
		for (map = 0; map < MAPS; map++)
			if (stats[i].count[map])
				printf(" %s %llu", map_names[map],
				       (unsigned long long)stats[i].count[map]);
		printf("\n");
	}
}

const struct shared *report(const struct options *options, const struct mode *mode,
			    const struct shared *const *workers)
{
	static struct shared sum;
	unsigned int i;

	memset(&sum, 0, sizeof(sum));
	for (i = 0; i < options->jobs; i++)
		add(&sum, workers[i]);
	printf("# %s, seed %llu, %d bits\n", mode->name, (unsigned long long)options->seed,
	       IS_64BIT ? 64 : 32);
	printf("# %-9s %9s %9s %9s %9s %9s %9s %9s %9s %6s\n", "map", "encodings", "emulated",
	       "boosted", "stepped", "refused", "left out", "cases", "no fault", "differ");
	for (i = 0; i < MAPS; i++)
		if (sum.map[i].encodings)
			print_row(map_names[i], &sum.map[i]);
	print_reasons("refused", sum.refused);
	print_reasons("left out", sum.left_out);
	printf("# seen %llu times, %llu at the instruction; %llu sequences were aborted\n",
	       (unsigned long long)sum.run.seen, (unsigned long long)sum.run.seen_at_ip,
	       (unsigned long long)sum.aborts);
	if (sum.unstable)
		printf("# %llu cases differed between two runs without a breakpoint\n",
		       (unsigned long long)sum.unstable);
	if (sum.stepping)
		printf("# %llu cases differ in the same way when the CPU steps\n",
		       (unsigned long long)sum.stepping);
	if (sum.run.seen_elsewhere)
		printf("# %llu times at an invalid address, last at %#lx\n",
		       (unsigned long long)sum.run.seen_elsewhere,
		       (unsigned long)sum.run.elsewhere);
	fflush(stdout);
	return &sum;
}

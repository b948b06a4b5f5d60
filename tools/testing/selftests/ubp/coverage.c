// SPDX-License-Identifier: GPL-2.0
/*
 * Share of the instructions of real programs that can be probed, and the plans
 * for them.
 *
 * Every function of a file is decoded from its first to its last instruction,
 * and UBP analyzes each instruction. This is a linear walk: if a function
 * contains data, the walk may lose the instruction boundaries, and the
 * instructions behind the data are counted as UBP decodes them.
 *
 *   coverage                a test: bash, python3 and the C library
 *   coverage FILE...        the figures of these files, in reStructuredText
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kselftest.h"
#include "elf_functions.h"
#include "ubp_selftest.h"

#define PLANS	(UBP_TEST_STEP + 1)
#define REASONS	32
#define BATCH	1024

/* A reason for which instructions are refused, and their number. */
struct reason {
	char text[UBP_TEST_REASON_SIZE];
	unsigned long count;
};

struct coverage {
	unsigned long functions;
	unsigned long plans[PLANS];
	/* Bytes that follow an instruction of unknown length. */
	unsigned long undecoded;
	struct reason reasons[REASONS];
};

static unsigned long all(const struct coverage *coverage)
{
	unsigned long sum = 0;
	unsigned int i;

	for (i = 0; i < PLANS; i++)
		sum += coverage->plans[i];
	return sum;
}

static unsigned long with_one_trap(const struct coverage *coverage)
{
	return coverage->plans[UBP_TEST_EMULATE] + coverage->plans[UBP_TEST_BOOST];
}

static double percent(unsigned long part, unsigned long whole)
{
	return whole ? 100.0 * part / whole : 0;
}

static double probeable(const struct coverage *coverage)
{
	return percent(all(coverage) - coverage->plans[UBP_TEST_REFUSED], all(coverage));
}

static void count_reason(struct coverage *coverage, const char *text, unsigned long count)
{
	struct reason *reason;

	for (reason = coverage->reasons; reason < &coverage->reasons[REASONS]; reason++) {
		if (!reason->count)
			strcpy(reason->text, text);
		if (!strcmp(reason->text, text)) {
			reason->count += count;
			return;
		}
	}
}

/* A function that the walk has reached. */
struct walk {
	const struct function *function;
	uint64_t at;
};

static void ask(const struct walk *walk, struct ubp_test_insn *insn)
{
	const struct function *function = walk->function;
	uint64_t left = function->end - walk->at;

	insn->vaddr = walk->at;
	insn->avail = left < UBP_TEST_INSN_SIZE ? left : UBP_TEST_INSN_SIZE;
	insn->is_32bit = 0;
	memcpy(insn->bytes, function->code + (walk->at - function->start), insn->avail);
}

/* Evaluates an instruction, and advances to the next one. */
static void learn(struct coverage *coverage, struct walk *walk, const struct ubp_test_insn *insn)
{
	if (insn->plan >= PLANS)
		ksft_exit_fail_msg("unknown plan %u\n", insn->plan);
	coverage->plans[insn->plan]++;
	if (insn->plan == UBP_TEST_REFUSED)
		count_reason(coverage, insn->reason, 1);
	walk->at += insn->len;
	if (!insn->len) {
		coverage->undecoded += walk->function->end - walk->at;
		walk->at = walk->function->end;
	}
}

/*
 * Walks through many functions in parallel. Each call analyzes one instruction
 * of each.
 */
static int walk_all(int dev, const struct elf_functions *functions, struct coverage *coverage)
{
	static struct ubp_test_insn insns[BATCH];
	static struct walk walks[BATCH];
	size_t next = 0, walking = 0, i;
	int ret;

	coverage->functions += functions->count;
	for (;;) {
		while (walking < BATCH && next < functions->count) {
			const struct function *function = &functions->list[next++];

			walks[walking++] = (struct walk) { function, function->start };
		}
		if (!walking)
			return 0;
		for (i = 0; i < walking; i++)
			ask(&walks[i], &insns[i]);
		ret = ubp_analyze(dev, insns, walking);
		if (ret)
			return ret;
		for (i = 0; i < walking; i++)
			learn(coverage, &walks[i], &insns[i]);
		/*
		 * Backwards: the walk that replaces a finished one has already
		 * been checked.
		 */
		while (i--)
			if (walks[i].at >= walks[i].function->end)
				walks[i] = walks[--walking];
	}
}

/* Adds the figures of a file. */
static int cover(int dev, const char *path, struct coverage *coverage)
{
	struct elf_functions functions;
	int ret = elf_functions_open(&functions, path);

	if (ret)
		return ret;
	ret = walk_all(dev, &functions, coverage);
	elf_functions_close(&functions);
	return ret;
}

static void add_up(struct coverage *sum, const struct coverage *part)
{
	const struct reason *reason;
	unsigned int i;

	sum->functions += part->functions;
	sum->undecoded += part->undecoded;
	for (i = 0; i < PLANS; i++)
		sum->plans[i] += part->plans[i];
	for (reason = part->reasons; reason < &part->reasons[REASONS] && reason->count; reason++)
		count_reason(sum, reason->text, reason->count);
}

static const char *base_name(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

/* The table of plans. */
#define RULE	"==================== ========= ============ ============ ============ " \
		"============ ======== =========== =========="

static void print_row(const char *name, const struct coverage *coverage)
{
	printf("%-20s %9lu %12lu %12lu %12lu %12lu %8lu %11.4f %10.4f\n", name,
	       coverage->functions, all(coverage), coverage->plans[UBP_TEST_EMULATE],
	       coverage->plans[UBP_TEST_BOOST], coverage->plans[UBP_TEST_STEP],
	       coverage->plans[UBP_TEST_REFUSED], probeable(coverage),
	       percent(with_one_trap(coverage), all(coverage)));
}

static int compare_reasons(const void *left, const void *right)
{
	const struct reason *a = left, *b = right;

	return a->count > b->count ? -1 : a->count < b->count;
}

/* The table of reasons, with the most frequent first. */
#define REASON_RULE	"================================================== ========"

static void print_reasons(struct coverage *coverage)
{
	const struct reason *reason = coverage->reasons, *end = reason + REASONS;

	qsort(coverage->reasons, REASONS, sizeof(*coverage->reasons), compare_reasons);
	printf("\n%s\n%-50s %8s\n%s\n", REASON_RULE, "refused because", "number", REASON_RULE);
	for (; reason < end && reason->count; reason++)
		printf("%-50s %8lu\n", reason->text, reason->count);
	printf("%s\n", REASON_RULE);
	if (coverage->undecoded)
		printf("\n%lu bytes of functions come after an instruction of unknown length.\n",
		       coverage->undecoded);
}

static int print_tables(int dev, int count, char **paths)
{
	struct coverage sum = { 0 };
	int i, ret;

	printf("%s\n%-20s %9s %12s %12s %12s %12s %8s %11s %10s\n%s\n", RULE, "file",
	       "functions", "instructions", "emulated", "boosted", "stepped", "refused",
	       "probeable %", "one trap %", RULE);
	for (i = 0; i < count; i++) {
		struct coverage coverage = { 0 };

		ret = cover(dev, paths[i], &coverage);
		if (ret) {
			fprintf(stderr, "%s: %s\n", paths[i], strerror(-ret));
			return 1;
		}
		print_row(base_name(paths[i]), &coverage);
		fflush(stdout);
		add_up(&sum, &coverage);
	}
	print_row("all", &sum);
	printf("%s\n", RULE);
	print_reasons(&sum);
	return 0;
}

/* Returns the path of the C library that this program uses. */
static const char *libc_path(void)
{
	static char path[4096];
	FILE *maps = fopen("/proc/self/maps", "r");
	char line[4352];
	bool found = false;

	while (maps && !found && fgets(line, sizeof(line), maps))
		found = sscanf(line, "%*s %*s %*s %*s %*s %4095s", path) == 1 &&
			strstr(path, "/libc.so");
	if (maps)
		fclose(maps);
	return found ? path : NULL;
}

static void test(int dev)
{
	/*
	 * The C library alone has more than one system call per thousand
	 * instructions.
	 */
	const char *paths[] = { "/bin/bash", libc_path(), "/usr/bin/python3" };
	struct coverage coverage = { 0 };
	unsigned int i;
	int ret;

	for (i = 0; i < ARRAY_SIZE(paths); i++) {
		ret = paths[i] ? cover(dev, paths[i], &coverage) : -ENOENT;
		if (ret == -ENOENT)
			ksft_exit_skip("there is no bash, no python3, or no C library as a file\n");
		if (ret)
			ksft_exit_fail_msg("%s: %s\n", paths[i], strerror(-ret));
	}
	ksft_print_msg("%lu instructions: %.3f %% can be probed, %.3f %% with one trap\n",
		       all(&coverage), probeable(&coverage),
		       percent(with_one_trap(&coverage), all(&coverage)));
	/* A lower count means that the walk has failed. */
	ksft_test_result(all(&coverage) > 100000, "functions are decoded\n");
	ksft_test_result(probeable(&coverage) >= 99.9, "99.9 %% of instructions can be probed\n");
	ksft_test_result(percent(with_one_trap(&coverage), all(&coverage)) >= 99,
			 "99 %% of instructions take one trap\n");
}

int main(int argc, char **argv)
{
	int dev = geteuid() ? -EACCES : ubp_open();

	if (argc > 1) {
		if (dev < 0) {
			fprintf(stderr, "%s: %s\n", UBP_TEST_DEVICE, strerror(-dev));
			return 1;
		}
		return print_tables(dev, argc - 1, argv + 1);
	}
	ksft_print_header();
	if (dev < 0)
		ksft_exit_skip("needs root, and %s\n", UBP_TEST_DEVICE);
	ksft_set_plan(3);
	test(dev);
	ksft_finished();
}

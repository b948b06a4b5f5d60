// SPDX-License-Identifier: GPL-2.0
/* Worker process that executes cases: see worker.h. */
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "compare.h"
#include "device.h"
#include "disturb.h"
#include "worker.h"

#ifdef __x86_64__
#define PROGRAM	"./differential"
#else
#define PROGRAM	"./differential_32"
#endif

#define BATCH		64
#define STATES_MAX	64
/*
 * Maximum number of repetitions of an aborted run, which is no failure. An
 * instruction that raises the same exception as the stopper looks like an abort
 * every time.
 */
#define TRIES		4

#define TEXT_SIZE	1024
/* Maximum number of differences that are examined per instruction. */
#define DIFFERENCES	4

/* A case that ends differently with a breakpoint. */
struct difference {
	unsigned int which;
	struct outcome probed;
	char text[TEXT_SIZE];
};

static const struct options *options;
static const struct mode *mode;
static struct shared *shared;
static int device = NATIVE;
static struct start starts[STATES_MAX];
static struct outcome natives[STATES_MAX];
static unsigned int prologue;

static void describe(char *to, size_t size, const struct encoding *e, int which)
{
	char hex[2 * INSN_SIZE + 1];
	unsigned int i;

	for (i = 0; i < e->len; i++)
		sprintf(hex + 2 * i, "%02x", e->bytes[i]);
	snprintf(to, size, PROGRAM "%s --mode %s --seed %llu --only %s --case %d",
		 options->native ? " --native" : "", mode->name,
		 (unsigned long long)options->seed, hex, which);
}

/* Writes each line at once, because several processes print. */
static void print_case(const char *kind, const struct encoding *e, int which, const char *what)
{
	char how[256], line[1600];
	int len;

	if (shared->printed++ >= options->limit)
		return;
	describe(how, sizeof(how), e, which);
	len = snprintf(line, sizeof(line), "# %s: %s #%s\n", kind, how, what);
	if (write(STDOUT_FILENO, line, len) != len)
		_exit(5);
}

static void mismatch(const struct encoding *e, int which, const char *what)
{
	shared->map[e->map].mismatches++;
	print_case("mismatch", e, which, what);
}

static void count_reason(struct reason_stats *stats, const char *reason, enum map map)
{
	unsigned int i;

	for (i = 0; i < REASONS - 1; i++)
		if (!stats[i].reason[0] || !strcmp(stats[i].reason, reason))
			break;
	snprintf(stats[i].reason, sizeof(stats[i].reason), "%s", reason);
	stats[i].count[map]++;
}

/* Prints an outcome if only one instruction is tested. */
static void show(const char *how, unsigned int which, const struct outcome *outcome)
{
	if (!options->only)
		return;
	printf("# case %u, %s: signal %d, exception %lld, ip %#llx, sp %#llx, flags %#llx\n",
	       which, how, outcome->signal, (long long)outcome->gregs[REG_TRAPNO],
	       (long long)outcome->gregs[REG_IP], (long long)outcome->gregs[greg_of[4]],
	       (long long)outcome->gregs[REG_EFL]);
}

/*
 * Returns whether a signal handler has run between this instruction and the
 * next one, which loses NT and ID, because sigreturn() does not restore them.
 * If signals are rare, such as the watchdog's, the run is repeated.
 */
static bool flags_are_lost(uint64_t seen_before)
{
	return !(mode->disturb & DISTURB_SIGNALS) && shared->run.seen != seen_before;
}

/*
 * Runs a case until it is neither aborted nor disturbed by the watchdog.
 * Returns the number of repetitions, some of which may only have looked like
 * aborts.
 */
static unsigned int run_whole(const struct encoding *e, const struct start *start,
			      struct outcome *outcome)
{
	unsigned int aborts = 0, again = 0;
	uint64_t seen;

	for (;;) {
		seen = shared->run.seen;
		run(start, prologue, outcome);
		if (flags_are_lost(seen) && again < TRIES)
			again++;
		else if (mode->disturb & DISTURB_RSEQ && outcome_is_abort(outcome, start) &&
			 aborts < TRIES)
			aborts++;
		else
			break;
	}
	/*
	 * A fault in the sequence also ends it, but is not an abort before the
	 * instruction.
	 */
	if (mode->disturb & DISTURB_RSEQ && outcome->gregs[REG_IP] == ABORT_IP)
		outcome->gregs[REG_IP] = start->ip;
	outcome_normalize(outcome, e, start);
	if (mode->disturb & DISTURB_SIGNALS)
		outcome->gregs[REG_EFL] &= ~(greg_t)(FLAG_NT | FLAG_ID);
	shared->aborts += aborts;
	return aborts + again;
}

static void check_hits(const struct encoding *e, int id, unsigned int flags, uint64_t runs,
		       uint64_t aborts)
{
	struct ubp_test_count count;
	char text[160];
	uint64_t hits;

	if (device == NATIVE)
		return;
	if (!device_count(device, id, &count)) {
		mismatch(e, -1, " hits cannot be read");
		return;
	}
	for (; flags; flags &= flags - 1) {
		hits = flags & UBP_TEST_TASK ? count.task_hits : count.interrupt_hits;
		/*
		 * It is unknown whether the abort was before or after the hit.
		 */
		if (hits <= runs && hits >= runs - aborts)
			continue;
		snprintf(text, sizeof(text), " %s hits: %llu, executed %llu times",
			 flags & UBP_TEST_TASK ? "task" : "interrupt",
			 (unsigned long long)hits, (unsigned long long)runs);
		mismatch(e, -1, text);
	}
}

/*
 * Returns whether the CPU has the same outcome as in the slot when it
 * single-steps the instruction without a breakpoint. In this case the CPU is
 * not exact: QEMU loses flags when it steps an exchange across a page.
 */
static bool is_of_stepping(const struct encoding *e, unsigned int k, const struct outcome *probed)
{
	static struct outcome stepped;
	static struct start start;
	unsigned int before = prologue;
	char text[16];

	start = starts[k];
	start.flags |= FLAG_TF;
	/* Step the instruction itself. */
	prologue = 0;
	run_whole(e, &start, &stepped);
	prologue = before;
	if (stepped.signal != SIGTRAP)
		return false;
	/*
	 * The trap comes before the next instruction, instead of that
	 * instruction's exception.
	 */
	stepped.signal = probed->signal;
	stepped.code = probed->code;
	stepped.address = probed->address;
	stepped.cr2 = probed->cr2;
	stepped.gregs[REG_TRAPNO] = probed->gregs[REG_TRAPNO];
	stepped.gregs[REG_ERR] = probed->gregs[REG_ERR];
	stepped.gregs[REG_EFL] &= ~FLAG_TF;
	return !outcomes_differ(&stepped, probed, text, sizeof(text));
}

/* Classifies a difference: it may also occur without a breakpoint. */
static void judge(const struct encoding *e, const struct difference *difference)
{
	unsigned int k = difference->which;
	static struct outcome again;
	char text[TEXT_SIZE];

	run_whole(e, &starts[k], &again);
	if (outcomes_differ(&natives[k], &again, text, sizeof(text))) {
		shared->unstable++;
		print_case("differs between two runs without a breakpoint", e, k, text);
	} else if (!(mode->disturb & DISTURB_TRAP) &&
		   is_of_stepping(e, k, &difference->probed)) {
		shared->stepping++;
		print_case("the CPU differs in the same way when it steps", e, k, difference->text);
	} else {
		mismatch(e, k, difference->text);
	}
}

static void try_probed(const struct encoding *e, unsigned int first, unsigned int end,
		       unsigned int flags)
{
	static struct outcome probed;
	static struct difference differences[DIFFERENCES];
	unsigned int found = 0;
	uintptr_t at = shared->run.ip;
	unsigned int k, aborts = 0, plan;
	int id = device_insert(device, at, flags, &plan);
	char text[TEXT_SIZE];

	if (id <= 0) {
		snprintf(text, sizeof(text), " cannot be inserted: %s", strerror(-id));
		mismatch(e, first, text);
		return;
	}
	for (k = first; k < end; k++) {
		shared->run.next_ip = natives[k].gregs[REG_IP];
		aborts += run_whole(e, &starts[k], &probed);
		show("probed", k, &probed);
		shared->map[e->map].cases++;
		shared->map[e->map].completed += probed.gregs[REG_IP] != (greg_t)at;
		if (found == DIFFERENCES ||
		    !outcomes_differ(&natives[k], &probed, text, sizeof(text)))
			continue;
		differences[found].which = k;
		differences[found].probed = probed;
		memcpy(differences[found++].text, text, sizeof(text));
	}
	check_hits(e, id, flags, end - first + aborts, aborts);
	if (device_remove(device, id))
		mismatch(e, -1, " cannot be removed");
	if (memcmp((void *)at, e->bytes, e->len))
		mismatch(e, -1, " the text has changed");
	shared->run.next_ip = NEXT_UNKNOWN;
	for (k = 0; k < found; k++)
		judge(e, &differences[k]);
}

static void try(const struct encoding *e)
{
	/* Both kinds of handlers, one of them, or none. */
	struct rng rng = rng_of(options->seed, e->bytes, e->len);
	unsigned int flags = rng_below(&rng, 4);
	unsigned int k, first = 0, end = options->states;
	uintptr_t at = encoding_address(e, options->seed);

	if (options->only_case >= 0) {
		first = options->only_case;
		end = first + 1;
	}
	code_place(at, e->bytes, e->len);
	prologue = disturb_prologue(at, e->len);
	shared->run.ip = at;
	shared->run.start_ip = at - prologue;
	for (k = first; k < end; k++) {
		describe(shared->current, sizeof(shared->current), e, k);
		state_make(&starts[k], e, at, options->seed, k, mode->disturb & DISTURB_TRAP);
		shared->run.next_ip = NEXT_UNKNOWN;
		run_whole(e, &starts[k], &natives[k]);
		show("native", k, &natives[k]);
	}
	try_probed(e, first, end, flags);
	code_clear(at - prologue, prologue + e->len);
}

/* Returns whether the test executes the instruction. */
static bool count_plan(const struct encoding *e, const struct ubp_test_insn *insn)
{
	struct map_stats *stats = &shared->map[e->map];
	const char *reason;

	stats->encodings++;
	stats->plans[insn->plan % PLANS]++;
	if (insn->plan == UBP_TEST_REFUSED) {
		count_reason(shared->refused, insn->reason, e->map);
		return false;
	}
	if (insn->len != e->len)
		mismatch(e, -1, " the decoder and UBP disagree on its length");
	reason = left_out(e, mode->disturb);
	if (!reason)
		return true;
	stats->left_out++;
	count_reason(shared->left_out, reason, e->map);
	return false;
}

static void try_batch(const struct encoding *encodings, unsigned int count)
{
	static struct ubp_test_insn insns[BATCH];
	unsigned int i;

	memset(insns, 0, sizeof(insns));
	for (i = 0; i < count; i++) {
		insns[i].vaddr = encoding_address(&encodings[i], options->seed);
		insns[i].is_32bit = !IS_64BIT;
		insns[i].avail = INSN_SIZE;
		/* Pad the bytes as in the text. */
		memset(insns[i].bytes, STOPPER, sizeof(insns[i].bytes));
		memcpy(insns[i].bytes, encodings[i].bytes, encodings[i].len);
	}
	if (!device_analyze(device, insns, encodings, count)) {
		perror("# cannot analyze instructions");
		exit(1);
	}
	for (i = 0; i < count; i++)
		if (count_plan(&encodings[i], &insns[i]))
			try(&encodings[i]);
}

static uint64_t cases_done(void)
{
	uint64_t sum = 0;
	unsigned int i;

	for (i = 0; i < MAPS; i++)
		sum += shared->map[i].cases;
	return sum;
}

static void try_all(unsigned int worker)
{
	static struct encoding encodings[BATCH];
	uint64_t wanted = options->cases * mode->percent / 100 / options->jobs;
	/* Use different instructions in each mode. */
	uint64_t number = ((uint64_t)mode->disturb << 32) + worker;
	unsigned int count;

	while (cases_done() < wanted) {
		for (count = 0; count < BATCH; number += options->jobs)
			count += encoding_make(&encodings[count], options->seed, number) &&
				 (options->maps & 1 << encodings[count].map);
		try_batch(encodings, count);
	}
}

static bool try_only(void)
{
	struct encoding e;
	uint8_t bytes[INSN_SIZE];
	unsigned int i;

	memset(bytes, STOPPER, sizeof(bytes));
	for (i = 0; i < INSN_SIZE && options->only[2 * i]; i++)
		if (sscanf(options->only + 2 * i, "%2hhx", &bytes[i]) != 1)
			return false;
	if (!encoding_decode(&e, bytes, sizeof(bytes)) || e.len != i)
		return false;
	try_batch(&e, 1);
	return true;
}

/* Makes the kernel map slots now, and not during a run. */
static bool warm_up(void)
{
	static const struct encoding cpuid = { .bytes = { 0x0f, 0xa2 }, .len = 2 };
	unsigned int plan;
	int id;

	code_place(CODE, cpuid.bytes, cpuid.len);
	shared->run.ip = CODE;
	shared->run.next_ip = NEXT_UNKNOWN;
	id = device_insert(device, CODE, 0, &plan);
	state_make(&starts[0], &cpuid, CODE, 0, 0, false);
	run(&starts[0], 0, &natives[0]);
	return id > 0 && !device_remove(device, id);
}

void worker_run(const struct options *opts, const struct mode *disturbance, unsigned int number,
		struct shared *shared_with)
{
	struct rng rng = { .state = opts->seed + number };
	cpu_set_t cpu;

	options = opts;
	mode = disturbance;
	shared = shared_with;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	/* RDPID and similar instructions must always have the same result. */
	CPU_ZERO(&cpu);
	CPU_SET(number % sysconf(_SC_NPROCESSORS_ONLN), &cpu);
	sched_setaffinity(0, sizeof(cpu), &cpu);
	while (!__atomic_load_n(&shared->run.go, __ATOMIC_ACQUIRE))
		usleep(1000);
	if (!options->native)
		device = device_open();
	if (!options->native && device < 0)
		_exit(6);
	if (!run_setup(&shared->run, &rng, mode->disturb) || !warm_up())
		_exit(7);
	if (options->only && !try_only())
		_exit(8);
	if (!options->only)
		try_all(number);
	fflush(stdout);
	_exit(0);
}

/* SPDX-License-Identifier: GPL-2.0 */
/* BPF programs without a library, for the tests of events and of probes by file. */
#ifndef _BPF_FIXTURE_H
#define _BPF_FIXTURE_H

#include <linux/bpf.h>
#include <stddef.h>

#include "perf_fixture.h"

#define DI	offsetof(struct registers, di)
#define IP	offsetof(struct registers, ip)

#define STACK_MAX	8

/* Context of the programs: struct pt_regs, as of x86-64. */
struct registers {
	uint64_t r15, r14, r13, r12, bp, bx, r11, r10, r9, r8, ax, cx, dx, si, di, orig_ax, ip;
};

/* Data that a program leaves in its map. */
struct seen {
	uint64_t hits;
	uint64_t di;
	uint64_t ip;
	uint64_t read;
	uint64_t function;
	uint64_t stack_size;
	uint64_t stack[STACK_MAX];
};

static inline long bpf(int cmd, union bpf_attr *attr, unsigned int size)
{
	long ret = syscall(SYS_bpf, cmd, attr, size);

	return ret < 0 ? -errno : ret;
}

static inline int map_create(void)
{
	union bpf_attr attr = {
		.map_type = BPF_MAP_TYPE_ARRAY,
		.key_size = sizeof(uint32_t),
		.value_size = sizeof(struct seen),
		.max_entries = 1,
	};

	return bpf(BPF_MAP_CREATE, &attr, sizeof(attr));
}

static inline struct seen map_read(int map)
{
	struct seen seen = {};
	uint32_t key = 0;
	union bpf_attr attr = {
		.map_fd = map,
		.key = (unsigned long)&key,
		.value = (unsigned long)&seen,
	};

	bpf(BPF_MAP_LOOKUP_ELEM, &attr, sizeof(attr));
	return seen;
}

static inline int load(enum bpf_prog_type type, const struct bpf_insn *insns, unsigned int n,
		       unsigned int flags, enum bpf_attach_type attach)
{
	static char log[1 << 16];
	union bpf_attr attr = {
		.prog_type = type,
		.insns = (unsigned long)insns,
		.insn_cnt = n,
		.license = (unsigned long)"GPL",
		.log_buf = (unsigned long)log,
		.log_size = sizeof(log),
		.log_level = 1,
		.prog_flags = flags,
		.expected_attach_type = attach,
	};
	int fd = bpf(BPF_PROG_LOAD, &attr, sizeof(attr));

	if (fd < 0)
		ksft_print_msg("BPF: %s\n%s\n", strerror(-fd), log);
	return fd;
}

#define INSN(CODE, DST, SRC, OFF, IMM) \
	((struct bpf_insn){ .code = CODE, .dst_reg = DST, .src_reg = SRC, .off = OFF, .imm = IMM })
#define MOV(dst, src)		INSN(BPF_ALU64 | BPF_MOV | BPF_X, dst, src, 0, 0)
#define MOV_IMM(dst, imm)	INSN(BPF_ALU64 | BPF_MOV | BPF_K, dst, 0, 0, imm)
#define ADD_IMM(dst, imm)	INSN(BPF_ALU64 | BPF_ADD | BPF_K, dst, 0, 0, imm)
#define LOAD(dst, src, off)	INSN(BPF_LDX | BPF_MEM | BPF_DW, dst, src, off, 0)
#define STORE(dst, off, src)	INSN(BPF_STX | BPF_MEM | BPF_DW, dst, src, off, 0)
#define CALL(function)		INSN(BPF_JMP | BPF_CALL, 0, 0, 0, function)
#define EXIT()			INSN(BPF_JMP | BPF_EXIT, 0, 0, 0, 0)

#define SEE(field, reg)	STORE(7, offsetof(struct seen, field), reg)

/* Loads @body behind code that puts the registers in R6, and the value in the map in R7. */
static inline int load_with_value(int map, const struct bpf_insn *body, unsigned int n,
				  unsigned int flags, enum bpf_attach_type attach)
{
	const struct bpf_insn start[] = {
		MOV(6, 1),
		INSN(BPF_ST | BPF_MEM | BPF_W, 10, 0, -4, 0),
		MOV(2, 10), ADD_IMM(2, -4),
		INSN(BPF_LD | BPF_IMM | BPF_DW, 1, BPF_PSEUDO_MAP_FD, 0, map),
		INSN(0, 0, 0, 0, 0),
		CALL(BPF_FUNC_map_lookup_elem),
		INSN(BPF_JMP | BPF_JNE | BPF_K, 0, 0, 2, 0),
		MOV_IMM(0, 1), EXIT(),
		MOV(7, 0),
	};
	struct bpf_insn insns[64];

	memcpy(insns, start, sizeof(start));
	memcpy((char *)insns + sizeof(start), body, n * sizeof(*body));
	return load(BPF_PROG_TYPE_KPROBE, insns, sizeof(start) / sizeof(*start) + n, flags,
		    attach);
}

#endif /* _BPF_FIXTURE_H */

/* SPDX-License-Identifier: GPL-2.0 */
/* Functions that the tests probe. */

.macro label name
	.globl	\name
\name:
.endm

	.text
/* slots.c: instructions that are emulated, with or without a slot. */
label branch_first
	nop
label branch_jump
	jmp	1f
1:
	lea	2f(%rip), %rax
label branch_call
	call	*%rax
	ret
2:	ret

/* slots.c: instructions that are boosted. */
	.balign	4096
label load_first
	push	%rdi
	xor	%eax, %eax
label load_value
	lock xadd %rax, (%rdi)
label load_swap
	bswap	%rcx
	pop	%rdi
label load_ret
	ret

/*
 * slots.c: a direct call if esi is not 0, else an indirect one, with the stack
 * pointer from rdi, which is restored afterwards.
 */
label call_first
	lea	call_fault(%rip), %rcx
	mov	%rsp, %rax
	mov	%rdi, %rsp
	test	%esi, %esi
	jnz	call_direct
label call_indirect
	call	*%rcx
label call_direct
	call	call_fault
label call_fault
	mov	%rax, %rsp
	ret

/* hidden.c: a function that spends nearly all its time in one instruction. */
	.balign	64
label fill
	mov	%rsi, %rcx
	xor	%eax, %eax
label fill_rep
	rep stosb
label fill_next
	nop
	ret

/*
 * hidden.c: fill as a restartable sequence, which returns whether it was
 * aborted.
 */
	.balign	64
label fill_section
	lea	section(%rip), %rax
	mov	%rax, (%rdx)
	mov	%rsi, %rcx
	xor	%eax, %eax
label fill_section_rep
	rep stosb
1:	xor	%eax, %eax
	ret
	.long	0x53053053
2:	mov	$1, %eax
	ret

	.data
	.balign	32
section:
	.long	0, 0
	.quad	fill_section_rep, 1b - fill_section_rep, 2b
	.text

/*
 * debugger.c: emulated, boosted and stepped instructions. The repeated
 * instruction has only one iteration, because a step over a probed one covers
 * all iterations, as Documentation/trace/ubp.rst says.
 */
	.balign	64
label walk
0:	push	%rbx
1:	mov	$1, %ecx
2:	lea	watched(%rip), %rdi
	mov	$1, %ebx
3:	lock xadd %rbx, (%rdi)
label walk_executed
	bswap	%rbx
	call	walk_leaf
6:	rep stosb
7:	pushf
8:	popf
9:	jrcxz	10f
	ud2
10:	pop	%rbx
11:	ret
walk_leaf:
	crc32	%ecx, %eax
12:	ret
label walk_end

	.data
	.balign	8
label watched
	.quad	0, 0, 0
label walk_probed
	.quad	0b, 1b, 2b, 3b, walk_executed, walk_executed + 3, 6b, 7b, 8b, 9b, 10b, 11b
	.quad	walk_leaf, 12b

/*
 * storm.c: emulated and boosted instructions, which are stepped when signals
 * arrive; a repeated instruction, calls, and accesses to memory.
 */
	.text
	.balign	64
label storm
1:	push	%rbx
2:	mov	%rdi, %rbx
3:	bswap	%rbx
	movq	$0x55, -64(%rsp)
4:	lock xadd %rbx, -64(%rsp)
5:	crc32q	storm_data(%rip), %rbx
6:	lea	-128(%rsp), %rdi
	mov	$5, %ecx
	mov	%rbx, %rax
7:	rep stosb
8:	rorq	$3, -128(%rsp)
9:	call	storm_leaf
10:	movq	%rax, %xmm0
11:	paddq	%xmm0, %xmm0
12:	movq	%xmm0, %rax
13:	pop	%rbx
14:	ret
storm_leaf:
	cmp	$1, %rbx
	adc	$17, %rax
15:	imul	$3, %rax, %rax
16:	ret

	.section .rodata
storm_data:
	.quad	0x123456789abcdef

	.data
	.balign	8
label storm_staying
	.quad	1b, 3b, 5b, 7b, 9b, 11b, 13b, 15b
label storm_passing
	.quad	2b, 4b, 6b, 8b, 10b, 12b, 14b, 16b

	.section .note.GNU-stack, "", @progbits

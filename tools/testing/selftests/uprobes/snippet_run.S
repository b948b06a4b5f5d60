/* SPDX-License-Identifier: GPL-2.0 */
/*
 * cpu_run: loads all registers from "cpu", jumps to the address in "cpu_entry",
 * and stores the registers when the code there reaches cpu_done.
 *
 * Nothing after POPF and before PUSHF changes the flags.
 */

.macro each_register access
	\access	0, %rax
	\access	1, %rcx
	\access	2, %rdx
	\access	3, %rbx
	\access	5, %rbp
	\access	6, %rsi
	\access	7, %rdi
	\access	8, %r8
	\access	9, %r9
	\access	10, %r10
	\access	11, %r11
	\access	12, %r12
	\access	13, %r13
	\access	14, %r14
	\access	15, %r15
.endm

.macro load number, register
	mov	cpu + 8 * \number(%rip), \register
.endm

.macro save number, register
	mov	\register, cpu + 8 * \number(%rip)
.endm

	.text
	.globl	cpu_run
	.type	cpu_run, @function
cpu_run:
	push	%rbx
	push	%rbp
	push	%r12
	push	%r13
	push	%r14
	push	%r15
	mov	%rsp, cpu_host_sp(%rip)
	movups	cpu + 136(%rip), %xmm0
	movups	cpu + 152(%rip), %xmm1
	movups	cpu + 168(%rip), %xmm2
	movups	cpu + 184(%rip), %xmm3
	each_register load
	pushq	cpu + 128(%rip)
	popfq
	load	4, %rsp
	jmp	*cpu_entry(%rip)

	.globl	cpu_done
cpu_done:
	each_register save
	save	4, %rsp
	mov	cpu_host_sp(%rip), %rsp
	pushfq
	popq	cpu + 128(%rip)
	movups	%xmm0, cpu + 136(%rip)
	movups	%xmm1, cpu + 152(%rip)
	movups	%xmm2, cpu + 168(%rip)
	movups	%xmm3, cpu + 184(%rip)
	/* DF and TF are clear. */
	pushq	$0x202
	popfq
	pop	%r15
	pop	%r14
	pop	%r13
	pop	%r12
	pop	%rbp
	pop	%rbx
	ret

	.section .note.GNU-stack, "", @progbits

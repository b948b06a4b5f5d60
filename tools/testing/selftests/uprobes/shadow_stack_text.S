/* SPDX-License-Identifier: GPL-2.0 */
/* Functions that use the shadow stack, alone in their pages: see shadow_stack.h. */

#include "function.S"

.macro at name
	.globl	\name\()_at
\name\()_at:
.endm

	.section .text.probed, "ax", @progbits
	.balign	4096
function entry
	at	entry
	endbr64
	lea	(%rdi,%rsi), %rax
	ret

function call_near
	at	call_near
	call	1f
	ret
1:	lea	(%rdi,%rsi), %rax
	ret

function call_register
	lea	1f(%rip), %rax
	at	call_register
	call	*%rax
	ret
1:	lea	(%rdi,%rsi), %rax
	ret

function call_memory
	at	call_memory
	call	*1f(%rip)
	ret
	/* The address is relocated, so it must not be in the text. */
	.pushsection .data.rel.ro, "aw", @progbits
	.balign	8
1:	.quad	2f
	.popsection
2:	lea	(%rdi,%rsi), %rax
	ret

/* The target is on the stack, below which the call pushes. */
function call_stack
	lea	1f(%rip), %rax
	push	%rax
	at	call_stack
	call	*(%rsp)
	pop	%rcx
	ret
1:	lea	(%rdi,%rsi), %rax
	ret

/* A call to the next instruction pushes nothing to the shadow stack. */
function call_next
	at	call_next
	call	1f
1:	pop	%rcx
	lea	(%rdi,%rsi), %rax
	ret

/* An indirect call to the next instruction pushes. */
function call_next_register
	lea	1f(%rip), %rax
	at	call_next_register
	call	*%rax
1:	pop	%rcx
	mov	$1, %ecx
	incsspq	%rcx
	lea	(%rdi,%rsi), %rax
	ret

function ret_near
	lea	(%rdi,%rsi), %rax
	at	ret_near
	ret

function ret_repeated
	lea	(%rdi,%rsi), %rax
	at	ret_repeated
	.byte	0xf3
	ret

function ret_popping
	push	%rdi
	call	1f
	ret
1:	lea	(%rdi,%rsi), %rax
	at	ret_popping
	ret	$8

function jump_tail
	at	jump_tail
	jmp	ret_near

function read_ssp
	lea	(%rdi,%rsi), %rax
	xor	%ecx, %ecx
	rdsspq	%rcx
	at	read_ssp
	rdsspq	%rdx
	sub	%rcx, %rdx
	add	%rdx, %rax
	ret

/* Drops a frame of both stacks. */
function increase_ssp
	call	1f
	ud2
1:	add	$8, %rsp
	mov	$1, %ecx
	at	increase_ssp
	incsspq	%rcx
	lea	(%rdi,%rsi), %rax
	ret

/* Reads memory at address 0. The signal handler skips the instruction. */
function faulting
	at	faulting
	mov	0, %al
	lea	(%rdi,%rsi), %rax
	ret

/* Switches to the shadow stack with its token at @token, and back. */
function switch_shadow_stack
	rdsspq	%rdx
	.globl	switch_restore_at
switch_restore_at:
	rstorssp (%rdi)
	.globl	switch_save_at
switch_save_at:
	saveprevssp
	call	1f
	rstorssp -8(%rdx)
	saveprevssp
	ret
1:	lea	(%rdi,%rsi), %rax
	ret

function return_elsewhere
	lea	1f(%rip), %rax
	mov	%rax, (%rsp)
	at	return_elsewhere
	ret
1:	ud2

	.balign	4096
	.text

	/* The instruction after the call has 4 bytes. */
function call_and_add
	sub	$8, %rsp
	call	probed_nop
	add	$100, %rax
	add	$8, %rsp
	ret

function jump_set
	mov	%rbx, (%rdi)
	mov	%rbp, 8(%rdi)
	mov	%r12, 16(%rdi)
	mov	%r13, 24(%rdi)
	mov	%r14, 32(%rdi)
	mov	%r15, 40(%rdi)
	lea	8(%rsp), %rax
	mov	%rax, 48(%rdi)
	mov	(%rsp), %rax
	mov	%rax, 56(%rdi)
	rdsspq	%rax
	add	$8, %rax
	mov	%rax, 64(%rdi)
	xor	%eax, %eax
	ret

function jump
	rdsspq	%rax
	mov	64(%rdi), %rcx
	sub	%rax, %rcx
	shr	$3, %rcx
	mov	$1, %eax
1:	test	%rcx, %rcx
	jz	2f
	incsspq	%rax
	dec	%rcx
	jmp	1b
2:	mov	(%rdi), %rbx
	mov	8(%rdi), %rbp
	mov	16(%rdi), %r12
	mov	24(%rdi), %r13
	mov	32(%rdi), %r14
	mov	40(%rdi), %r15
	mov	48(%rdi), %rsp
	jmp	*56(%rdi)

	.section .note.GNU-stack, "", @progbits

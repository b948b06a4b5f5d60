/* SPDX-License-Identifier: GPL-2.0 */
/* Functions to probe, alone in their page, and their caller. */

#include "function.S"

	.section .text.probed, "ax", @progbits
	.balign	4096
function probed_nop
	nop
	lea	(%rdi,%rsi), %rax
	ret

function probed_push
	push	%rbp
	mov	%rsp, %rbp
	lea	(%rdi,%rsi), %rax
	pop	%rbp
	ret

function probed_lea
	lea	(%rdi,%rsi), %rax
	ret

/* instructions_signals.c knows the offsets of the instructions. */
function probed_mixed
	push	%rbp
	lea	(%rdi,%rsi), %rax
	call	1f
	pop	%rbp
	ret
1:	cmp	%rax, %rax
	jne	2f
	je	2f
2:	ret

	.balign	64
	.globl	probed_number
probed_number:
	.long	0x5eed1234

	.balign	4096
function call_probed
	sub	$8, %rsp
	mov	%rdi, %rax
	mov	%rsi, %rdi
	mov	%rdx, %rsi
	call	*%rax
	.globl	call_probed_return
call_probed_return:
	add	$8, %rsp
	ret

	.section .note.GNU-stack, "", @progbits

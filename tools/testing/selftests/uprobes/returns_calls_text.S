/* SPDX-License-Identifier: GPL-2.0 */
/* Functions that use a call, or their return address, other than to have it come back. */

#include "function.S"

	.text

	/* Reads the instruction pointer, as position-independent 32-bit code does. */
function calls_next_pop
	call	1f
1:	pop	%rax
	ret

function calls_next_add
	call	1f
1:	add	$8, %rsp
	ret

function calls_next_saved
	push	%rbx
	call	1f
1:	pop	%rbx
	lea	(%rbx), %rax
	pop	%rbx
	ret

	/* As gcc's -mfunction-return=thunk has it. */
function thunk_return
	call	1f
2:	pause
	lfence
	jmp	2b
1:	lea	8(%rsp), %rsp
	ret

function calls_return_thunk
	mov	$1, %eax
	jmp	thunk_return

	/* As -mindirect-branch=thunk has it. */
function thunk_rax
	call	1f
2:	pause
	lfence
	jmp	2b
1:	mov	%rax, (%rsp)
	ret

function calls_leaf
	lea	(%rdi,%rsi), %rax
	ret

function calls_by_thunk
	push	%rbx
	lea	calls_leaf(%rip), %rax
	call	thunk_rax
	pop	%rbx
	ret

function calls_by_thunk_last
	lea	calls_leaf(%rip), %rax
	jmp	thunk_rax

	/* As -mindirect-branch=thunk-inline has it. */
function calls_by_inline_thunk
	push	%rbx
	lea	calls_leaf(%rip), %rax
	jmp	4f
3:	call	1f
2:	pause
	lfence
	jmp	2b
1:	mov	%rax, (%rsp)
	ret
4:	call	3b
	pop	%rbx
	ret
	.globl	calls_by_inline_thunk_end
calls_by_inline_thunk_end:

function calls_one_way
	test	$1, %dil
	jnz	3f
	lea	calls_leaf(%rip), %rax
	call	1f
2:	pause
	jmp	2b
1:	mov	%rax, (%rsp)
	ret
3:	ret

	/* The callee goes on behind data that follows the call. */
function callee_skips
	pop	%rcx
	mov	(%rcx), %eax
	add	$4, %rcx
	jmp	*%rcx

function calls_data
	call	callee_skips
	.long	0x1234
	ret

function callee_skips_in_memory
	addq	$4, (%rsp)
	ret

function calls_data_in_memory
	call	callee_skips_in_memory
	.long	0x1234
	ret

	/* The callee returns for its caller. */
function callee_returns_for_caller
	add	$8, %rsp
	ret

function calls_last
	call	callee_returns_for_caller
	ud2

	/* Helpers save registers for a function, and restore them. */
function callee_saves
	pop	%rax
	push	%rbx
	push	%rbp
	jmp	*%rax

function callee_restores
	pop	%rbp
	pop	%rbx
	ret

function calls_helpers
	call	callee_saves
	mov	$1, %eax
	jmp	callee_restores

	/* The callee takes its arguments off the stack. */
function callee_pops
	mov	8(%rsp), %rax
	add	16(%rsp), %rax
	ret	$16

function calls_popping
	push	%rdi
	push	%rsi
	call	callee_pops
	ret

	/* It does so, and the caller makes up for it. */
function calls_popping_again
	push	%rdi
	push	%rsi
	call	callee_pops
	sub	$16, %rsp
	add	$16, %rsp
	ret

	/* Go on to each other by tail calls, @base times. */
.macro circle name, other
function \name
	test	%rdi, %rdi
	je	1f
	dec	%rdi
	lea	\other(%rip), %r11
	jmp	*%r11
1:	lea	(%rdi,%rsi), %rax
	ret
.endm

	circle calls_circle, calls_circle_other
	circle calls_circle_other, calls_circle

	.section .note.GNU-stack, "", @progbits

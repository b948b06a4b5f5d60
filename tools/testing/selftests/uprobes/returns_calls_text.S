/* SPDX-License-Identifier: GPL-2.0 */
/* Functions that use calls or return addresses other than for returns. */

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

	/* As by gcc's -mfunction-return=thunk. */
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

	/* As by -mindirect-branch=thunk. */
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

	/* As by -mindirect-branch=thunk-inline. */
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

	/* A switch, with something on the stack. */
function calls_by_table
	push	%rbx
	mov	%rdi, %rbx
	and	$3, %ebx
	lea	9f(%rip), %rax
	movslq	(%rax,%rbx,4), %rcx
	add	%rcx, %rax
	jmp	*%rax
1:	mov	$1, %eax
	pop	%rbx
	ret
2:	mov	$11, %eax
	jmp	5f
3:	mov	$21, %eax
	pop	%rbx
	repz ret
4:	mov	$31, %eax
5:	pop	%rbx
	ret
	.globl	calls_by_table_end
calls_by_table_end:
	.balign	4
9:	.long	1b - 9b, 2b - 9b, 3b - 9b, 4b - 9b

	/* A table leads to a part elsewhere, which has a tail call. */
function calls_split
	push	%rbx
	mov	%rdi, %rbx
	test	%rsi, %rsi
	je	calls_split_cold_too
	and	$1, %ebx
	lea	9f(%rip), %rax
	movslq	(%rax,%rbx,4), %rcx
	add	%rcx, %rax
	jmp	*%rax
1:	mov	$1, %eax
2:	pop	%rbx
	ret
	.globl	calls_split_end
calls_split_end:
	.balign	4
9:	.long	1b - 9b, calls_split_cold - 9b
calls_split_cold:
	mov	%rbx, %rdi
	pop	%rbx
	jmp	calls_leaf
calls_split_cold_too:
	mov	$3, %eax
	jmp	2b

	/* Some bytes of the function are data. */
function calls_around_data
	mov	1f(%rip), %eax
	ret
1:	.byte	0xc3, 0x90, 0x90, 0x90
	.globl	calls_around_data_end
calls_around_data_end:

	/* A recursive call, whose return address is the return instruction. */
function calls_before_return
	test	%rdi, %rdi
	je	1f
	dec	%rdi
	call	calls_before_return
1:	ret
	.globl	calls_before_return_end
calls_before_return_end:

function calls_tail_by_register
	lea	calls_sum(%rip), %rax
	inc	%rsi
	jmp	*%rax
	.globl	calls_tail_by_register_end
calls_tail_by_register_end:

function calls_sum
	lea	1(%rdi,%rsi), %rax
	ret

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

	/* The callee continues behind data that follows the call. */
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

	/* The callee pops its arguments off the stack. */
function callee_pops
	mov	8(%rsp), %rax
	add	16(%rsp), %rax
	ret	$16

function calls_popping
	push	%rdi
	push	%rsi
	call	callee_pops
	ret

	/* The callee pops its arguments, and the caller makes up for that. */
function calls_popping_again
	push	%rdi
	push	%rsi
	call	callee_pops
	sub	$16, %rsp
	add	$16, %rsp
	ret

	/* Make tail calls to each other, @base times. */
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

	/* The same by direct jumps. */
.macro direct_circle name, other
function \name
	test	%rdi, %rdi
	je	1f
	dec	%rdi
	jmp	\other
1:	lea	(%rdi,%rsi), %rax
	ret
.endm

	direct_circle calls_direct_circle, calls_direct_circle_other
	direct_circle calls_direct_circle_other, calls_direct_circle

	.section .note.GNU-stack, "", @progbits

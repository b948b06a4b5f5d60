/* SPDX-License-Identifier: GPL-2.0 */
/* Functions that return in various ways, with their ends (returns_text.h). */

#include "function.S"

.macro end name
	.globl	\name\()_end
\name\()_end:
.endm

	.section .text.returns, "ax", @progbits
	.balign	4096

function returns_at_once
	ret
end returns_at_once

function returns_deep
	xor	%eax, %eax
	test	%rdi, %rdi
	je	1f
	sub	$120, %rsp
	dec	%rdi
	call	returns_deep
	add	$120, %rsp
	inc	%rax
1:	ret
end returns_deep

function returns_leaf
	lea	(%rdi,%rsi), %rax
	ret
end returns_leaf

function returns_by_tail
	inc	%rsi
	jmp	returns_leaf
end returns_by_tail

function returns_twice
	test	%rdi, %rdi
	jne	1f
	mov	$1, %eax
	ret
1:	mov	$2, %eax
	repz ret
end returns_twice

	/* Returns to its argument. */
function returns_elsewhere
	mov	%rdi, (%rsp)
	ret
end returns_elsewhere

function returns_never
	nop
	nop
end returns_never
	ret

function returns_into_middle
	jmp	1f
	.byte	0x0f
1:	.byte	0xc8
	ret
end returns_into_middle

function returns_own_address
	mov	(%rsp), %rax
	ret
end returns_own_address

function returns_and_pops
	mov	8(%rsp), %rax
	add	16(%rsp), %rax
	ret	$16
end returns_and_pops

function call_and_pop
	push	%rdi
	push	%rsi
	call	returns_and_pops
	.globl	call_and_pop_return
call_and_pop_return:
	ret

	/* Continues by a jump that does not show its target. */
.macro opaque
	lea	9f(%rip), %r11
	jmp	*%r11
9:
.endm

function opaque_leaf
	opaque
	lea	(%rdi,%rsi), %rax
	ret
end opaque_leaf

function opaque_deep
	opaque
	xor	%eax, %eax
	test	%rdi, %rdi
	je	1f
	sub	$24, %rsp
	dec	%rdi
	call	opaque_deep
	add	$24, %rsp
	inc	%rax
1:	ret

function opaque_and_pops
	opaque
	mov	8(%rsp), %rax
	add	16(%rsp), %rax
	ret	$16

function call_and_pop_opaque
	push	%rdi
	push	%rsi
	call	opaque_and_pops
	.globl	call_and_pop_opaque_return
call_and_pop_opaque_return:
	ret

function opaque_call
	opaque
	sub	$8, %rsp
	call	*opaque_callee(%rip)
	add	$8, %rsp
	ret

	/*
	 * The callee returns to the address to which the function jumps if
	 * there is no callee.
	 */
function call_or_jump
	sub	$8, %rsp
	mov	%rdi, %rcx
	mov	%rsi, %rax
	mov	%rsi, %rdi
	mov	%rdx, %rsi
	test	%rcx, %rcx
	je	1f
	call	*%rcx
1:	add	$8, %rsp
	ret

	/*
	 * A handler that adds four to the instruction pointer at the return
	 * skips the addition.
	 */
function call_and_add
	sub	$8, %rsp
	mov	%rdi, %rax
	mov	%rsi, %rdi
	mov	%rdx, %rsi
	call	*%rax
	add	$100, %rax
	add	$8, %rsp
	ret

function call_on_stack
	push	%rbx
	mov	%rsp, %rbx
	mov	%rcx, %rsp
	mov	%rdi, %rax
	mov	%rsi, %rdi
	mov	%rdx, %rsi
	call	*%rax
	mov	%rbx, %rsp
	pop	%rbx
	ret

	/* There is no stack at the probed instruction. */
function without_stack
	mov	%rsp, %rdx
	xor	%esp, %esp
	.globl	without_stack_here
without_stack_here:
	lea	(%rdi,%rsi), %rax
	mov	%rdx, %rsp
	ret

	/* May be copied. Calls RDI(RSI, RDX), as call_probed() does. */
function call_from_copy
	sub	$8, %rsp
	mov	%rdi, %rax
	mov	%rsi, %rdi
	mov	%rdx, %rsi
	call	*%rax
	add	$8, %rsp
	ret
end call_from_copy

	.bss
	.balign	8
	.globl	opaque_callee
opaque_callee:
	.quad	0

	.section .note.GNU-stack, "", @progbits

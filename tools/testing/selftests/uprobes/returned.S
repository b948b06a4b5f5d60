/* SPDX-License-Identifier: GPL-2.0 */
/* Functions with probed returns, alone in their pages. See returned.h. */

#include "function.S"

.macro function_end name
	.globl	\name\()_end
\name\()_end:
	.size	\name, . - \name
.endm

.macro label name
	.globl	\name
\name:
.endm

	.section .text.returned, "ax", @progbits
	.balign	4096
function returned_sum
	lea	(%rdi,%rsi), %rax
label returned_sum_ret
	ret
function_end returned_sum

function returned_two_ways
	test	$1, %dil
	jnz	1f
	lea	(%rdi,%rsi), %rax
	ret
1:
	mov	%rdi, %rax
	ret
function_end returned_two_ways

function returned_deep
	test	%rdi, %rdi
	jnz	1f
	mov	%rsi, %rax
	ret
1:
	dec	%rdi
label returned_deep_call
	call	returned_deep
label returned_deep_site
	inc	%rax
	ret
function_end returned_deep

function returned_tail
	inc	%rsi
	jmp	returned_sum
function_end returned_tail

function returned_never
	jmp	returned_never
function_end returned_never

function returned_late
	lock incl (%rdi)
1:
	pause
	cmpl	$0, 4(%rdi)
	je	1b
	mov	%rsi, %rax
	ret
function_end returned_late

	/* The jump does not show its target. */
function returned_opaque
	lea	1f(%rip), %rax
	jmp	*%rax
1:
	lea	(%rdi,%rsi), %rax
	ret
function_end returned_opaque

function returned_before_syscall
	call	returned_opaque
	syscall
	ret
function_end returned_before_syscall
	.balign	4096

	.section .note.GNU-stack, "", @progbits

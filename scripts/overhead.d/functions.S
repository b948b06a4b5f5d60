/* SPDX-License-Identifier: GPL-2.0 */
/* What is probed: functions by their first instructions. */
	.macro function name:req, first:vararg
	.balign	64
	.globl	\name
	.type	\name, @function
\name:
	\first
	ret
	.size	\name, . - \name
	.endm

	.text
	function first_nop, nop
	function first_mov, mov %rsp, %rax
	function first_lea, lea 8(%rdi), %rax
	function first_movaps, movaps %xmm1, %xmm0
	.section .note.GNU-stack, "", @progbits

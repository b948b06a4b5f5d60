/* SPDX-License-Identifier: GPL-2.0 */
/* What is probed: functions by their first instructions, and very many functions. */
	.macro function name:req, rest:vararg
	.balign	64
	.globl	\name, \name\()_end
	.type	\name, @function
\name:
	\rest
\name\()_end:
	.size	\name, . - \name
	.endm

	.text
	function first_nop, nop; ret
	function first_endbr64, endbr64; ret
	function first_push, push %rax; pop %rax; ret
	function first_mov, mov %rsp, %rax; ret
	function first_sub, sub $8, %rdi; ret
	function first_lea, lea 8(%rdi), %rax; ret
	function first_rip, mov word(%rip), %rax; ret
	function first_call, call 1f; ret; 1: ret
	function first_jcc, jz 1f; 1: ret
	function first_ret, ret
	function first_lock, lock incl -8(%rsp); ret
	function first_sse, movaps %xmm1, %xmm0; ret
	function first_avx, vmovaps %ymm1, %ymm0; ret

	.balign 4096
	.globl	many
many:
	.rept	100000
	nop
	ret
	.endr

	.data
word:	.quad	5
	.section .note.GNU-stack, "", @progbits

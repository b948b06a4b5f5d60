/* SPDX-License-Identifier: GPL-2.0 */
/* What is probed: functions by their first instructions, and very many functions. */
	.macro begin name:req
	.balign	64
	.globl	first_\name, first_\name\()_end
	.type	first_\name, @function
first_\name:
	.endm

	.macro end name:req
	ret
first_\name\()_end:
	.size	first_\name, . - first_\name
	.endm

	.text
leaf:	ret
	begin nop; nop; end nop
	begin endbr64; endbr64; end endbr64
	begin push; push %rax; pop %rax; end push
	begin mov; mov %rsp, %rax; end mov
	begin sub; sub $8, %rdi; end sub
	begin lea; lea 8(%rdi), %rax; end lea
	begin rip; mov word(%rip), %rax; end rip
	begin call; call leaf; end call
	begin jcc; jz 1f; 1:; end jcc
	begin ret; end ret
	begin lock; lock incl -8(%rsp); end lock
	begin sse; movaps %xmm1, %xmm0; end sse
	begin avx; vmovaps %ymm1, %ymm0; end avx

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

/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Functions with frame pointers that call each other, with the innermost one to probe:
 * call_chain() -> chain_outer() -> chain_inner() -> the function in the argument.
 * With __i386__, they are a program without a library: see callchain32 in Makefile.
 */

#ifdef __i386__
#define BP	%ebp
#define SP	%esp
#define FN	%edi
#define ENDBR	endbr32
#else
#define BP	%rbp
#define SP	%rsp
#define FN	%rdi
#define ENDBR	endbr64
#endif

#include "function.S"

/* A function with a frame, and the return address of its callee. */
.macro calls name callee:vararg
function \name
	push	BP
	mov	SP, BP
	call	\callee
	.globl	\name\()_site
\name\()_site:
	pop	BP
	ret
.endm

	.section .text.callchain, "ax", @progbits
	.balign	4096
calls chain_inner *FN
calls chain_outer chain_inner
calls call_chain chain_outer

function chain_push
	push	BP
	mov	SP, BP
	.globl	chain_push_inside
chain_push_inside:
	nop
	pop	BP
	ret

function chain_endbr
	ENDBR
	push	BP
	mov	SP, BP
	pop	BP
	ret

#ifdef __i386__
	.section .data, "aw"
	/* Output of the program at its start. */
addresses:
	.long	chain_push, chain_endbr, chain_inner_site, chain_outer_site, call_chain_site
	.set	addresses_len, . - addresses
	.balign	4096
	.fill	4096, 1, 0
stack_end:

	.text
	.globl	_start
_start:
	mov	$stack_end, %esp
	xor	%ebp, %ebp
	/* write(1, addresses) */
	mov	$4, %eax
	mov	$1, %ebx
	mov	$addresses, %ecx
	mov	$addresses_len, %edx
	int	$0x80
	/* kill(getpid(), SIGSTOP) */
	mov	$20, %eax
	int	$0x80
	mov	%eax, %ebx
	mov	$19, %ecx
	mov	$37, %eax
	int	$0x80

	mov	$chain_push, %edi
	call	call_chain
	mov	$chain_endbr, %edi
	call	call_chain
	/* exit(0) */
	mov	$1, %eax
	xor	%ebx, %ebx
	int	$0x80
#endif

	.section .note.GNU-stack, "", @progbits

/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A 32-bit program without a library. It stops, runs each instruction below
 * once, stores all registers after each, and writes the stored registers,
 * followed by the addresses of the instructions, to its standard output.
 */

/* An instruction to probe, with an address in the table. */
.macro here insn:vararg
90001:	\insn
	.pushsection .data.addresses, "aw"
	.long	90001b
	.popsection
.endm

/* An instruction to probe, and a store of the registers after it. */
.macro try insn:vararg
	here	\insn
	call	store
.endm

	.text
	.globl	_start
_start:
	mov	$stack_end, %esp
	/* kill(getpid(), SIGSTOP) */
	mov	$20, %eax
	int	$0x80
	mov	%eax, %ebx
	mov	$19, %ecx
	mov	$37, %eax
	int	$0x80

	mov	$1, %eax
	mov	$2, %ecx
	mov	$3, %edx
	mov	$data, %ebx
	mov	$4, %ebp
	mov	$data + 16, %esi
	mov	$data + 32, %edi
	cmp	%eax, %ecx

	try	nop
	try	push %ebp
	try	mov %esp, %ebp
	try	sub $16, %esp
	/* REX prefixes in 64-bit code. */
	try	inc %eax
	try	dec %ecx
	/* Relative to the instruction pointer in 64-bit code. */
	try	mov data, %eax
	try	addl $5, data + 4
	try	mov %edx, data + 8
	try	incl (%ebx)
	try	lea 8(%ebx,%ecx,4), %eax
	try	leave
	try	push $-3
	try	pop %eax
	try	push (%ebx)
	try	pop 12(%ebx)
	try	pushf
	try	popf
	try	pusha
	try	popa
	try	push %ds
	try	pop %ds
	/* Only in 32-bit code. */
	try	daa
	try	aam
	try	bound %eax, bounds
	try	imul $7, %edx, %eax
	try	movsb
	try	rep stosl
	try	movzwl (%ebx), %eax
	try	xchg %eax, (%ebx)
	try	lock xaddl %edx, (%ebx)
	try	cmovz %ebx, %eax
	try	setc %al
	try	cltd
	try	cwtl
	try	movsbl %ah, %edx
	try	xchg %ecx, %eax
	try	or $1, %ah
	try	sbb %dx, %ax
	try	negl %edx
	try	test $1, %al
	try	incw %cx
	try	lea 8(%bp,%si), %eax
	try	stc
	/* SALC, which has no mnemonic. */
	try	.byte 0xd6
	try	fldz
	try	fstpl 40(%ebx)

	/* Control flow. */
	here	call 1f
	jmp	2f
1:	call	store
	here	ret
2:	here	jmp 3f
	inc	%eax
3:	call	store
	xor	%eax, %eax
	here	jz 4f
	inc	%eax
4:	here	jnz 5f
	inc	%eax
5:	call	store
	mov	$6f, %edx
	here	jmp *%edx
	inc	%eax
6:	movl	$7f, (%ebx)
	here	call *(%ebx)
	jmp	8f
7:	here	ret $0
8:	mov	$1, %ecx
	here	loop 9f
9:	call	store
	here	jecxz 10f
	inc	%eax
10:	call	store

	/* write(1, ...), exit(0) */
	mov	$4, %eax
	mov	$1, %ebx
	mov	$buffer, %ecx
	mov	$addresses_end, %edx
	sub	%ecx, %edx
	int	$0x80
	mov	$1, %eax
	xor	%ebx, %ebx
	int	$0x80

/* Appends the registers and the flags to the buffer. */
store:
	pushfl
	pushal
	mov	next, %edi
	mov	%esp, %esi
	mov	$9, %ecx
	cld
	rep	movsl
	mov	%edi, next
	popal
	popfl
	ret

	.data
	.balign	64
data:
	.fill	16, 4, 0x12345678
bounds:
	.long	-0x7fffffff, 0x7fffffff
next:
	.long	buffer
	.balign	4096
stack:
	.fill	4096, 1, 0
stack_end:
buffer:
	.fill	4096, 1, 0

	.section .data.addresses, "aw"
	.long	0
	.section .data.addresses_end, "aw"
addresses_end:

	.section .note.GNU-stack, "", @progbits

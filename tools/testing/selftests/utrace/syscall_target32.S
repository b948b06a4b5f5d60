/* SPDX-License-Identifier: GPL-2.0 */
/* A 32-bit program with known system calls. It begins at _start. */
	.text
	.globl _start
_start:
	mov	$5, %eax		/* open */
	mov	$hostname, %ebx
	xor	%ecx, %ecx
	xor	%edx, %edx
	int	$0x80
	mov	%eax, %ebx
	mov	$6, %eax		/* close */
	int	$0x80
	mov	$20, %eax		/* getpid */
	int	$0x80
	mov	$45, %eax		/* brk */
	xor	%ebx, %ebx
	int	$0x80
	mov	$33, %eax		/* access */
	mov	$nowhere, %ebx
	xor	%ecx, %ecx
	int	$0x80
	mov	$1, %eax		/* exit */
	mov	$7, %ebx
	int	$0x80
hostname:
	.asciz	"/etc/hostname"
nowhere:
	.asciz	"/nowhere"
	.section .note.GNU-stack, "", @progbits

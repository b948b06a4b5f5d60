/* SPDX-License-Identifier: GPL-2.0 */
	.text
	.globl call_syscall, after_syscall, call_int80, after_int80
call_syscall:
	mov	%rdi, %rax
	mov	%rsi, %rcx
	mov	0(%rcx), %rdi
	mov	8(%rcx), %rsi
	mov	16(%rcx), %rdx
	mov	24(%rcx), %r10
	mov	32(%rcx), %r8
	mov	40(%rcx), %r9
	syscall
after_syscall:
	ret

call_int80:
	push	%rbx
	push	%rbp
	mov	%rdi, %rax
	mov	%rsi, %r11
	mov	0(%r11), %rbx
	mov	8(%r11), %rcx
	mov	16(%r11), %rdx
	mov	24(%r11), %rsi
	mov	32(%r11), %rdi
	mov	40(%r11), %rbp
	int	$0x80
after_int80:
	pop	%rbp
	pop	%rbx
	ret
	.section .note.GNU-stack, "", @progbits

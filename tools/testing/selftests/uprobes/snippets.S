/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The table of snippets. snippet_run() sets the registers: SI, DI and BX point
 * to data, R8 is zero, R9 is no address, CX is 5, R15 is 64.
 */

/* Displacement from the end of an instruction to the data page. */
#define DATA	0x1000(%rip)

/*
 * begin NAME, HITS, STEPS ... probed: the instruction to probe ... end
 *
 * Without STEPS, a program that single-steps itself gets other traps with the
 * probe: a repeated instruction is then one step, however often it repeats, and
 * emulators make no step after PAUSE.
 */
.macro begin name, hits=1, steps=1
	.pushsection .rodata.str1.1, "aMS", @progbits, 1
90001:	.asciz	"\name"
	.popsection
	.set	snippet_hits, \hits
	.set	snippet_steps, \steps
90002:
.endm

.macro probed
90003:
.endm

.macro end
90004:
	.pushsection snippets, "aw"
	.balign	8
	.quad	90001b, 90002b, 90004b, 90003b, snippet_hits, snippet_steps
	.popsection
.endm

/* A snippet of one instruction. */
.macro one insn:vararg
	begin	"\insn"
	probed
	\insn
	end
.endm

/* A snippet of one instruction that makes other traps. */
.macro one_not_stepped insn:vararg
	begin	"\insn", 1, 0
	probed
	\insn
	end
.endm

/* A conditional jump over an instruction. */
.macro jump insn
	begin	"\insn"
	probed
	\insn	1f
	inc	%rax
1:	inc	%rbx
	end
.endm

	.section .rodata

/* Instructions without effect. */
one nop
one_not_stepped pause
one endbr64
one nopw 0x200(%rax,%rax,1)
one nopl 8(%rax)
one .byte 0x66, 0x2e, 0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0
one .byte 0x66, 0x90
one mfence
one prefetcht0 (%r8)

/* The stack. */
one push %rbp
one push %rsp
one push %r12
one push $-5
one push $0x12345678
one pushw $0x1234
one push 8(%rsp)
one push 16(%rbx)
one pushq DATA
one push %fs
one pop %rbp
one pop %r13
one pop %rsp
one popw %ax
one pop (%rbx)
one pop 8(%rsp)
one popq DATA
one leave
one enter $32, $0
one pushf
one pushfw

begin "popf"
	push	$0x8d7
probed
	popf
end

begin "popf that sets TF"
	push	$0x302
probed
	popf
	nop
end

/* AC, NT and ID, and flags that user mode cannot change: IOPL, IF, VIF, VIP. */
begin "popf of all flags"
	mov	$0x3f7cd5,%eax
	push	%rax
probed
	popf
	pushf
	pop	%rax
	push	$0x202
	popf
end

/* Moves. */
one mov %rsp,%rbp
one mov %esp,%ebp
one mov %r12,%rdi
one mov %cx,%ax
one mov %ch,%al
one mov $-1,%eax
one mov $-1,%rax
one mov $7,%ah
one movw $-2,%cx
one movabs $0x123456789abcdef0,%r11
one mov (%rbx),%rax
one mov %rax,8(%rbx)
one movb $7,(%rbx,%r15,2)
one movq $-7,-8(%rsp)
one movw $-7,-2(%rsp)
one mov %ah,DATA
one mov DATA,%rax
one mov DATA,%rbx
one mov %rcx,DATA
one mov %r8b,DATA
one movl $0x12345678,DATA
one movzbl 3(%rbx),%eax
one movzbl %ah,%ecx
one movswq %cx,%rax
one movslq %ecx,%rax
one movsbw 7(%rbx),%ax
one movslq (%rbx),%rax
one movbe (%rbx),%rax
one xchg %rax,(%rbx)
one xchg %rax,%r8
one xchg %eax,%ecx
one xchg %al,%ah
one bswap %rax
one lea 8(%rbx,%rcx,4),%rax
one lea DATA,%rax
one lea 5(%ebx),%rax
one lea (%rbx,%rcx,8),%ax
one mov %ss,%eax
one cmovz %rbx,%rax
one cmovnz DATA,%rax
one setc %al
one setg %ch
one seto DATA
one xlat
one lahf
one sahf
one cqo
one cltd
one cbtw
one cltq

begin "cpuid"
	xor	%eax,%eax
probed
	cpuid
end

/* Arithmetic, and the flags it sets. */
one add $16,%rsp
one sub $0x88,%rsp
one and $-16,%rsp
one add %rbx,%rax
one adc %ecx,%eax
one adc (%rbx),%cx
one sbb DATA,%rax
one add %rax,DATA
one cmpl $5,DATA
one cmp %rax,(%rbx)
one test %rax,%rax
one testb $1,DATA
one xor %eax,%eax
one or $0x40,%al
one cmp %ah,7(%rbx)
one test %cl,DATA
one or DATA,%ecx
one not %ecx
one negb %ah
one dec %cx
one inc %rax
one decl (%rbx)
one neg %rax
one notq DATA
one imul %rcx,%rax
one imul $100,DATA,%rdx
one mulq DATA
one div %rcx
one divl DATA
one shl %cl,%rax
one shlq %cl,DATA
one sar $3,%rax
one shld $4,%rbx,%rax
one bt $3,%rax
one bts %rcx,(%rbx)
one bsr %rbx,%rax
one popcnt %rbx,%rax
one xadd %rax,(%rbx)
one cmpxchg %rcx,(%rbx)
one cmpxchg %rcx,DATA
one cmpxchg16b (%rbx)
one stc
one clc
one cmc

begin "std"
probed
	std
	cld
end

/* Prefixes. */
one lock incl (%rbx)
one lock xadd %rax,(%rbx)
one lock addl $1,DATA
one lock cmpxchg %rcx,(%rbx)
one lock orq $0,(%rsp)
one mov %fs:0,%rax
one mov %fs:0x28,%rcx
one add %fs:16,%rax

/*
 * Deliberate faults, I/O ports without access to them, and instructions that a
 * CPU may lack.
 */
one ud2
one ud1 %eax,%eax
one in %dx,%al
one outl %eax,$0x80
one vmfunc

begin "REX2 mov"
probed
	.byte	0xd5, 0x10, 0x89, 0xc0
end

begin "EVEX add"
probed
	.byte	0x62, 0xf4, 0x7c, 0x18, 0x01, 0xc0
end

/* Strings: one hit, however often they repeat. */
one movsb
one stosq
one lodsl
one scasb
one_not_stepped rep movsb
one_not_stepped rep stosq
one_not_stepped rep movsw
one_not_stepped repne scasb
one_not_stepped repe cmpsb

begin "rep movsb of nothing"
	xor	%ecx,%ecx
probed
	rep	movsb
end

begin "rep movsb backwards", 1, 0
	std
probed
	rep	movsb
	cld
end

/* Jumps. */
begin "jmp forwards"
probed
	jmp	1f
	inc	%rax
1:	inc	%rbx
end

begin "jmp with four bytes"
probed
	jmp.d32	1f
	inc	%rax
1:	inc	%rbx
end

begin "jmp *reg"
	lea	1f(%rip),%rax
probed
	jmp	*%rax
	inc	%rax
1:	inc	%rbx
end

begin "notrack jmp *reg"
	lea	1f(%rip),%rax
probed
	notrack	jmp *%rax
	inc	%rax
1:	inc	%rbx
end

begin "jmp *mem"
	lea	1f(%rip),%rax
	mov	%rax,(%rbx)
probed
	jmp	*(%rbx)
	inc	%rax
1:
end

begin "jmp *rip-relative"
	lea	1f(%rip),%rax
	mov	%rax,2f(%rip)
probed
	jmp	*2f(%rip)
2:	.quad	0
1:
end

begin "loop", 5
probed
1:	loop	1b
end

begin "loopne"
probed
	loopne	1f
	inc	%rax
1:
end

begin "loope"
probed
	loope	1f
	inc	%rax
1:
end

begin "jrcxz not"
probed
	jrcxz	1f
	inc	%rax
1:
end

begin "jrcxz"
	xor	%ecx,%ecx
probed
	jrcxz	1f
	inc	%rax
1:
end

begin "jump backwards", 3
	mov	$3,%ecx
1:	nop
probed
	dec	%ecx
	jnz	1b
end

jump jo
jump jo.d32
jump jno
jump jno.d32
jump jb
jump jb.d32
jump jae
jump jae.d32
jump je
jump je.d32
jump jne
jump jne.d32
jump jbe
jump jbe.d32
jump ja
jump ja.d32
jump js
jump js.d32
jump jns
jump jns.d32
jump jp
jump jp.d32
jump jnp
jump jnp.d32
jump jl
jump jl.d32
jump jge
jump jge.d32
jump jle
jump jle.d32
jump jg
jump jg.d32

/* Calls and returns: the pushed address must be that of the program. */
begin "call"
probed
	call	1f
	jmp	2f
1:	pop	%rax
	push	%rax
	ret
2:
end

begin "call of the next"
probed
	call	1f
1:
end

begin "call *reg"
	lea	1f(%rip),%rax
probed
	call	*%rax
	jmp	2f
1:	ret
2:
end

begin "call *mem"
	lea	1f(%rip),%rax
	mov	%rax,(%rbx)
probed
	call	*(%rbx)
	jmp	2f
1:	ret
2:
end

begin "call *8(rsp)"
	lea	1f(%rip),%rax
	mov	%rax,8(%rsp)
probed
	call	*8(%rsp)
	jmp	2f
1:	ret
2:
end

begin "call *rip-relative"
	lea	1f(%rip),%rax
	mov	%rax,3f(%rip)
probed
	call	*3f(%rip)
	jmp	2f
1:	ret
3:	.quad	0
2:
end

begin "ret"
	lea	1f(%rip),%rax
	push	%rax
probed
	ret
	inc	%rbx
1:
end

begin "rep ret"
	lea	1f(%rip),%rax
	push	%rax
probed
	rep	ret
	inc	%rbx
1:
end

begin "ret 24"
	lea	1f(%rip),%rax
	push	%rax
probed
	ret	$24
	inc	%rbx
1:
end

/* Vectors and floats. */
one movaps %xmm0,(%rbx)
one movups DATA,%xmm1
one addps %xmm1,%xmm0
one mulsd DATA,%xmm2
one pxor %xmm3,%xmm3
one cvtsi2sd %rcx,%xmm0
one ucomisd %xmm1,%xmm0
one pshufb DATA,%xmm0
one vaddps %ymm0,%ymm1,%ymm2
one vmovups DATA,%ymm0
one vpxor DATA,%xmm1,%xmm2
one andn %rbx,%rax,%rcx

begin "fld1"
probed
	fld1
	fstpl	(%rbx)
end

begin "fildq"
probed
	fildq	DATA
	fistpq	(%rbx)
end

one stmxcsr (%rbx)

/* Faults of the program, at its own address. */
one div %r8
one mov (%r8),%rax
one mov %rax,(%r8)
one addl $1,0x10(%r8)
one mov (%r9),%rax
one push (%r8)
one call *%r8
one call *(%r8)
one call *%r9
one jmp *%r8
one jmp *%r9
one jmp *(%r9)

begin "ret to no address"
	push	%r9
probed
	ret
end

begin "push below everything"
	mov	%r8,%rsp
probed
	push	%rax
end

begin "call below everything"
	mov	%r8,%rsp
probed
	call	1f
1:
end

begin "pop from nothing"
	mov	%r8,%rsp
probed
	pop	%rax
end

begin "ret from nothing"
	mov	%r8,%rsp
probed
	ret
end

begin "leave from nothing"
	mov	%r8,%rbp
probed
	leave
end

begin "movaps of odd address"
probed
	movaps	%xmm0,1(%rbx)
end

begin "rep movsb into nothing"
	mov	%r8,%rdi
probed
	rep	movsb
end

begin "fault after a probe"
probed
	nop
	mov	(%r8),%rax
end

	.section .note.GNU-stack, "", @progbits

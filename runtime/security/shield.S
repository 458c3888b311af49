/*
 * What stands between the runtime and a container's program: see shield.py, which has the bytes.
 *
 *     shield REPORT PATH ARGV...
 *
 * Marks the descriptor REPORT close-on-exec, then executes PATH with ARGV and the environment. If
 * that fails, it sends 'X' and the error number, four bytes, through REPORT, and exits with 127.
 *
 * cc -c -o shield.o shield.S && objcopy -O binary -j .text shield.o shield.bin
 */
#if defined(__x86_64__)
	.intel_syntax noprefix
	mov rsi, [rsp+8]		/* argv[0]: the number, in decimal */
	xor edi, edi
1:	movzx eax, byte ptr [rsi]
	test eax, eax
	jz 2f
	imul edi, edi, 10
	lea edi, [rdi+rax-48]
	inc rsi
	jmp 1b
2:	mov ebx, edi
	mov esi, 2
	mov edx, 1
	mov eax, 72			/* fcntl(number, F_SETFD, FD_CLOEXEC) */
	syscall
	mov rcx, [rsp]
	mov rdi, [rsp+16]
	lea rsi, [rsp+24]
	lea rdx, [rsp+rcx*8+16]
	mov eax, 59			/* execve(argv[1], argv + 2, envp) */
	syscall
	neg eax
	shl rax, 8
	mov al, 88
	push rax			/* 'X', then the error number */
	mov edi, ebx
	mov rsi, rsp
	mov edx, 5
	mov eax, 1			/* write */
	syscall
	mov edi, 127
	mov eax, 231			/* exit_group */
	syscall
#elif defined(__aarch64__)
	ldr x1, [sp, #8]		/* argv[0]: the number, in decimal */
	mov w19, #0
	mov w3, #10
1:	ldrb w2, [x1], #1
	cbz w2, 2f
	sub w2, w2, #48
	madd w19, w19, w3, w2
	b 1b
2:	mov w0, w19
	mov x1, #2
	mov x2, #1
	mov x8, #25			/* fcntl(number, F_SETFD, FD_CLOEXEC) */
	svc #0
	ldr x3, [sp]
	ldr x0, [sp, #16]
	add x1, sp, #24
	add x2, sp, x3, lsl #3
	add x2, x2, #16
	mov x8, #221			/* execve(argv[1], argv + 2, envp) */
	svc #0
	neg w0, w0
	lsl x0, x0, #8
	add x0, x0, #88
	str x0, [sp, #-16]!		/* 'X', then the error number */
	mov w0, w19
	mov x1, sp
	mov x2, #5
	mov x8, #64			/* write */
	svc #0
	mov x0, #127
	mov x8, #94			/* exit_group */
	svc #0
#endif

# task: varsort4
# void varsort4(int32_t *buffer): 42 instructions
.text
.globl varsort4
varsort4:
    mov 4(%rdi), %eax
    mov 8(%rdi), %ecx
    cmpl $1, (%rdi)
    je .Lvarsort4_0
    mov %ecx, %edx
    cmp %edx, %eax
    cmovg %eax, %ecx
    cmovg %edx, %eax
    mov 12(%rdi), %edx
    cmpl $2, (%rdi)
    je .Lvarsort4_0
    cmp %edx, %eax
    mov %edx, %r8d
    cmovg %eax, %edx
    cmovg %r8d, %eax
    cmp %edx, %ecx
    cmovl %ecx, %edx
    cmovl %r8d, %ecx
    mov 16(%rdi), %r8d
    cmpl $3, (%rdi)
    jle .Lvarsort4_1
    mov %r8d, %r9d
    cmp %r8d, %eax
    cmovg %eax, %r8d
    cmovg %r9d, %eax
    mov %eax, 4(%rdi)
    cmp %r9d, %edx
    cmovg %edx, %r9d
    cmovg %r8d, %edx
    mov %edx, 8(%rdi)
    cmp %r8d, %ecx
    cmovg %ecx, %r8d
    cmovg %r9d, %ecx
    mov %ecx, 12(%rdi)
    mov %r8d, 16(%rdi)
    jmp .Lvarsort4_2
.Lvarsort4_1:
    mov %edx, 8(%rdi)
    mov %ecx, 12(%rdi)
.Lvarsort4_0:
    mov %eax, 4(%rdi)
    cmpl $3, (%rdi)
    je .Lvarsort4_2
    mov %ecx, 8(%rdi)
.Lvarsort4_2:
    ret

# task: varsort4
# void varsort4(int32_t *buffer): 37 instructions
.text
.globl varsort4
varsort4:
    mov 4(%rdi), %eax
    mov 8(%rdi), %ecx
    mov 12(%rdi), %edx
    cmpl $3, (%rdi)
    jl .Lvarsort4_0
    cmp %edx, %ecx
    mov %edx, %r8d
    cmovg %ecx, %edx
    cmovg %r8d, %ecx
    cmp %ecx, %eax
    cmovg %eax, %r8d
    cmovg %ecx, %eax
    cmovg %r8d, %ecx
    cmp %edx, %ecx
    cmovl %edx, %r8d
    cmovg %edx, %ecx
    cmpl $4, (%rdi)
    cmovge %ecx, %edx
    mov 16(%rdi), %r9d
    cmovl %r8d, %r9d
    cmp %r9d, %ecx
    cmovg %r9d, %ecx
    cmovl %r9d, %edx
    cmp %r9d, %r8d
    cmovl %r8d, %edx
    mov %edx, 12(%rdi)
    jle .Lvarsort4_0
    mov %r8d, 16(%rdi)
.Lvarsort4_0:
    cmpl $1, (%rdi)
    mov %eax, %r8d
    mov %r8d, %edx
    cmovg %ecx, %edx
    cmp %r8d, %edx
    cmovl %edx, %r8d
    mov %r8d, 4(%rdi)
    cmovl %eax, %ecx
    mov %ecx, 8(%rdi)
    ret

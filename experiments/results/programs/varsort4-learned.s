# task: varsort4
# void varsort4(int32_t *buffer): 45 instructions
.text
.globl varsort4
varsort4:
    cmpl $1, (%rdi)
    mov 4(%rdi), %eax
    mov 8(%rdi), %ecx
    cmovle %eax, %ecx
    mov %eax, %edx
    cmp %ecx, %eax
    cmovl %ecx, %eax
    cmovg %ecx, %edx
    mov 12(%rdi), %ecx
    cmpl $3, (%rdi)
    cmovl %eax, %ecx
    cmp %edx, %ecx
    mov %edx, %r8d
    cmovg %ecx, %r8d
    cmovg %edx, %ecx
    cmovg %eax, %edx
    cmp %r8d, %edx
    cmovg %r8d, %edx
    cmovl %r8d, %eax
    mov 16(%rdi), %r8d
    cmpl $3, (%rdi)
    cmovle %edx, %r8d
    cmovle %eax, %edx
    mov %r8d, %r9d
    cmp %r9d, %edx
    cmovl %edx, %r9d
    cmp %r9d, %ecx
    cmovg %ecx, %r9d
    cmovg %r8d, %ecx
    mov %ecx, 4(%rdi)
    je .Lvarsort4_0
.Lvarsort4_0:
    cmp %r8d, %edx
    cmovl %r8d, %edx
    cmp %ecx, %eax
    jle .Lvarsort4_1
    mov %r9d, 8(%rdi)
    cmp %edx, %eax
    jl .Lvarsort4_1
    cmpl $3, (%rdi)
    jl .Lvarsort4_2
    mov %edx, 12(%rdi)
    je .Lvarsort4_1
    mov %eax, 16(%rdi)
.Lvarsort4_1:
    jge .Lvarsort4_2
    mov %eax, 12(%rdi)
.Lvarsort4_2:
    ret

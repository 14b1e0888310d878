# task: sort5
# void sort5(int32_t *buffer): 42 instructions
.text
.globl sort5
sort5:
    mov (%rdi), %eax
    mov 4(%rdi), %ecx
    cmp %ecx, %eax
    mov %ecx, %edx
    cmovl %eax, %edx
    cmovg %eax, %ecx
    mov 8(%rdi), %eax
    cmp %ecx, %eax
    mov %ecx, %r8d
    cmovg %eax, %ecx
    cmovl %eax, %r8d
    cmp %edx, %eax
    cmovg %edx, %eax
    cmovl %edx, %r8d
    mov 12(%rdi), %edx
    mov 16(%rdi), %r9d
    cmp %r9d, %edx
    mov %edx, %r10d
    cmovl %r9d, %r10d
    cmovg %r9d, %edx
    mov %r10d, %r9d
    cmp %r10d, %ecx
    cmovg %ecx, %r10d
    cmovg %r9d, %ecx
    cmp %r9d, %r8d
    cmovl %r8d, %r9d
    cmovg %r8d, %ecx
    cmp %edx, %eax
    mov %edx, %r8d
    cmovl %eax, %edx
    cmovl %r8d, %eax
    cmp %r8d, %ecx
    cmovg %ecx, %r8d
    cmovg %eax, %ecx
    cmp %r9d, %eax
    cmovg %r9d, %eax
    mov %eax, 4(%rdi)
    cmovl %r9d, %ecx
    mov %r10d, 16(%rdi)
    mov %r8d, 12(%rdi)
    mov %edx, (%rdi)
    mov %ecx, 8(%rdi)
    ret

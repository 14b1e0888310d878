# task: sort5
# void sort5(int32_t *buffer): 42 instructions
.text
.globl sort5
sort5:
    mov (%rdi), %eax
    mov 4(%rdi), %ecx
    mov 8(%rdi), %edx
    mov 12(%rdi), %r8d
    cmp %r8d, %eax
    mov %eax, %r9d
    cmovg %r8d, %eax
    cmovg %r9d, %r8d
    cmp %edx, %ecx
    mov %ecx, %r9d
    cmovl %edx, %ecx
    cmovl %r9d, %edx
    mov 16(%rdi), %r10d
    cmp %r10d, %ecx
    mov %r10d, %r9d
    cmovg %ecx, %r10d
    cmovg %r9d, %ecx
    cmp %r9d, %edx
    cmovl %edx, %r9d
    cmovl %ecx, %edx
    mov %eax, %ecx
    cmp %edx, %eax
    cmovg %edx, %ecx
    cmovg %eax, %edx
    cmp %r9d, %eax
    cmovg %r9d, %eax
    mov %eax, (%rdi)
    cmovl %r9d, %ecx
    cmp %r10d, %r8d
    cmovg %r10d, %r9d
    cmovg %r8d, %r10d
    mov %r10d, 16(%rdi)
    cmovg %r9d, %r8d
    cmp %r9d, %r8d
    cmovl %r8d, %ecx
    mov %ecx, 4(%rdi)
    cmovg %r8d, %r9d
    cmp %r8d, %edx
    cmovg %edx, %r8d
    mov %r8d, 12(%rdi)
    cmovg %r9d, %edx
    mov %edx, 8(%rdi)
    ret

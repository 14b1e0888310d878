# task: sort5
# void sort5(int32_t *buffer): 44 instructions
.text
.globl sort5
sort5:
    mov (%rdi), %eax
    mov %eax, %ecx
    mov 4(%rdi), %edx
    cmp %edx, %eax
    cmovg %edx, %eax
    cmovg %ecx, %edx
    mov 8(%rdi), %ecx
    cmp %edx, %ecx
    mov %ecx, %r8d
    cmovg %edx, %ecx
    cmovg %r8d, %edx
    cmp %r8d, %eax
    cmovl %eax, %r8d
    cmovg %eax, %ecx
    mov 12(%rdi), %eax
    cmp %ecx, %eax
    mov %eax, %r9d
    cmovg %ecx, %r9d
    cmovg %eax, %ecx
    cmp %r8d, %eax
    cmovl %r8d, %r9d
    cmovl %eax, %r8d
    cmp %edx, %eax
    cmovg %edx, %ecx
    cmovg %eax, %edx
    mov 16(%rdi), %eax
    mov %eax, %r10d
    cmp %r10d, %r9d
    cmovg %r9d, %r10d
    cmovg %eax, %r9d
    cmp %r9d, %r8d
    cmovg %r8d, %r9d
    cmovg %eax, %r8d
    cmp %ecx, %eax
    cmovg %ecx, %r10d
    cmovg %eax, %ecx
    cmp %edx, %ecx
    cmovg %edx, %ecx
    mov %r9d, 4(%rdi)
    mov %ecx, 12(%rdi)
    mov %r8d, (%rdi)
    mov %r10d, 8(%rdi)
    cmovg %eax, %edx
    mov %edx, 16(%rdi)
    ret

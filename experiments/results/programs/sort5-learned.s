# task: sort5
# void sort5(int32_t *buffer): 46 instructions
.text
.globl sort5
sort5:
    mov (%rdi), %eax
    mov 4(%rdi), %ecx
    mov %ecx, %edx
    cmp %ecx, %eax
    cmovg %eax, %edx
    cmovl %eax, %ecx
    mov 8(%rdi), %eax
    cmp %edx, %eax
    mov %edx, %r8d
    cmovle %ecx, %edx
    cmovg %eax, %r8d
    cmovg %ecx, %eax
    cmp %ecx, %eax
    cmovl %eax, %ecx
    cmovg %eax, %edx
    mov 12(%rdi), %eax
    cmp %ecx, %eax
    mov %eax, %r9d
    cmovg %ecx, %eax
    cmovg %edx, %ecx
    cmovg %r9d, %edx
    cmp %edx, %ecx
    cmovg %ecx, %edx
    cmovg %r9d, %ecx
    cmp %r8d, %edx
    cmovg %r8d, %edx
    cmovg %r9d, %r8d
    mov 16(%rdi), %r9d
    cmp %r9d, %edx
    mov %edx, %r10d
    cmovl %r9d, %r10d
    cmovg %r9d, %edx
    cmp %r9d, %r8d
    cmovl %r8d, %r10d
    cmovl %r9d, %r8d
    cmp %r9d, %ecx
    cmovg %ecx, %edx
    cmovg %r9d, %ecx
    cmp %r9d, %eax
    cmovg %eax, %ecx
    cmovg %r9d, %eax
    mov %r8d, 16(%rdi)
    mov %eax, (%rdi)
    mov %ecx, 4(%rdi)
    mov %r10d, 12(%rdi)
    mov %edx, 8(%rdi)
    ret

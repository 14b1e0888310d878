# task: sort5
# void sort5(int32_t *buffer): 42 instructions
.text
.globl sort5
sort5:
    mov (%rdi), %eax
    mov %eax, %ecx
    mov 4(%rdi), %edx
    cmp %edx, %eax
    cmovge %edx, %ecx
    cmovg %eax, %edx
    mov 8(%rdi), %r8d
    mov %r8d, %eax
    mov 12(%rdi), %r9d
    cmp %r9d, %r8d
    cmovge %r9d, %eax
    cmovg %r8d, %r9d
    mov %ecx, %r8d
    cmp %eax, %ecx
    cmovge %eax, %r8d
    cmovg %ecx, %eax
    mov %edx, %ecx
    cmp %r9d, %edx
    cmovge %r9d, %ecx
    cmovg %edx, %r9d
    mov 16(%rdi), %r10d
    mov %r10d, %edx
    cmp %r10d, %eax
    cmovle %eax, %edx
    cmovl %r10d, %eax
    cmp %edx, %r8d
    cmovle %r8d, %r10d
    mov %r10d, (%rdi)
    cmovl %edx, %r8d
    cmp %r8d, %ecx
    cmovge %ecx, %edx
    cmovl %ecx, %r8d
    mov %r8d, 4(%rdi)
    cmp %eax, %edx
    cmovle %eax, %ecx
    cmovg %eax, %edx
    mov %edx, 8(%rdi)
    cmp %ecx, %r9d
    cmovl %r9d, %ecx
    mov %ecx, 12(%rdi)
    cmovl %eax, %r9d
    mov %r9d, 16(%rdi)
    ret

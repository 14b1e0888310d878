# task: sort5
# void sort5(int32_t *buffer): 42 instructions
.text
.globl sort5
sort5:
    mov 12(%rdi), %eax
    mov 16(%rdi), %ecx
    cmp %ecx, %eax
    cmovge %eax, %edx
    mov 8(%rdi), %r8d
    cmovge %ecx, %eax
    mov (%rdi), %r9d
    cmovge %edx, %ecx
    cmp %r9d, %r8d
    mov %eax, %r10d
    cmovge %r9d, %r8d
    mov 8(%rdi), %edx
    cmovg %edx, %r9d
    cmp %r8d, %eax
    cmovge %r8d, %eax
    cmovg %r10d, %r8d
    mov 4(%rdi), %r10d
    mov 4(%rdi), %edx
    cmp %r9d, %r10d
    cmovge %r9d, %edx
    cmovge %r10d, %r9d
    cmp %eax, %r10d
    cmovg %eax, %r10d
    cmovge %edx, %eax
    cmp %ecx, %edx
    cmovl %ecx, %edx
    mov %r10d, (%rdi)
    cmovg %ecx, %eax
    mov %eax, %r10d
    cmp %eax, %r8d
    cmovle %r8d, %eax
    cmovge %r8d, %r10d
    cmp %r9d, %ecx
    cmovg %r9d, %edx
    cmovg %ecx, %r9d
    cmp %edx, %r8d
    cmovg %edx, %r10d
    mov %r10d, 8(%rdi)
    mov %eax, 4(%rdi)
    cmovge %r8d, %edx
    mov %r9d, 16(%rdi)
    mov %edx, 12(%rdi)
    ret

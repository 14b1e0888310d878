# task: sort4
# void sort4(int32_t *buffer): 28 instructions
.text
.globl sort4
sort4:
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
    mov %edx, %r8d
    cmp %r9d, %edx
    cmovge %r9d, %r8d
    cmovg %edx, %r9d
    mov %r9d, 12(%rdi)
    mov %ecx, %edx
    cmp %eax, %ecx
    cmovge %eax, %edx
    mov %edx, (%rdi)
    cmovg %ecx, %eax
    mov %r8d, %ecx
    cmp %eax, %r8d
    cmovge %eax, %ecx
    mov %ecx, 4(%rdi)
    cmovg %r8d, %eax
    mov %eax, 8(%rdi)
    ret

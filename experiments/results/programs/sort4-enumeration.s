# task: sort4
# void sort4(int32_t *buffer): 28 instructions
.text
.globl sort4
sort4:
    mov (%rdi), %eax
    mov 4(%rdi), %ecx
    mov %ecx, %edx
    mov 8(%rdi), %r8d
    cmp %r8d, %ecx
    cmovg %r8d, %ecx
    cmovg %edx, %r8d
    mov %eax, %edx
    mov 12(%rdi), %r9d
    cmp %edx, %r9d
    cmovl %r9d, %eax
    cmovl %edx, %r9d
    mov %eax, %edx
    cmp %edx, %ecx
    cmovl %ecx, %eax
    mov %eax, (%rdi)
    cmovl %edx, %ecx
    cmp %r9d, %r8d
    cmovge %r9d, %edx
    cmovg %r8d, %r9d
    mov %r9d, 12(%rdi)
    cmovg %ecx, %r8d
    cmovg %edx, %ecx
    cmp %edx, %r8d
    cmovl %r8d, %ecx
    mov %ecx, 4(%rdi)
    cmovl %edx, %r8d
    mov %r8d, 8(%rdi)
    ret

# task: sort4
# void sort4(int32_t *buffer): 28 instructions
.text
.globl sort4
sort4:
    mov (%rdi), %eax
    mov %eax, %ecx
    mov 4(%rdi), %edx
    cmp %edx, %ecx
    cmovg %edx, %eax
    cmovg %ecx, %edx
    mov 8(%rdi), %ecx
    mov 12(%rdi), %r8d
    cmp %r8d, %ecx
    mov %ecx, %r9d
    cmovl %r8d, %r9d
    cmovl %ecx, %r8d
    cmp %r8d, %eax
    mov %r8d, %ecx
    cmovl %eax, %r8d
    cmovl %ecx, %eax
    mov %r8d, (%rdi)
    cmp %r9d, %edx
    mov %edx, %r8d
    cmovl %r9d, %edx
    cmovl %r8d, %r9d
    mov %r9d, %ecx
    cmp %r9d, %eax
    cmovg %eax, %r9d
    mov %r9d, 8(%rdi)
    mov %edx, 12(%rdi)
    cmovg %ecx, %eax
    mov %eax, 4(%rdi)
    ret

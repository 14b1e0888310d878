# task: sort4
# void sort4(int32_t *buffer): 31 instructions
.text
.globl sort4
sort4:
    mov (%rdi), %eax
    mov %eax, %ecx
    mov 4(%rdi), %eax
    mov %ecx, %edx
    cmp %edx, %eax
    cmovg %eax, %edx
    cmovl %eax, %ecx
    mov 8(%rdi), %eax
    cmp %ecx, %eax
    mov %ecx, %r8d
    cmovl %eax, %r8d
    cmovl %ecx, %eax
    cmovg %edx, %ecx
    cmp %ecx, %eax
    cmovl %eax, %ecx
    cmovg %eax, %edx
    mov 12(%rdi), %r9d
    cmovg %ecx, %eax
    cmp %r9d, %ecx
    cmovg %r9d, %ecx
    cmovl %r9d, %eax
    cmp %r9d, %r8d
    cmovg %r8d, %ecx
    cmovg %r9d, %r8d
    mov %ecx, 4(%rdi)
    mov %r8d, (%rdi)
    cmp %r9d, %edx
    cmovl %edx, %eax
    cmovl %r9d, %edx
    mov %edx, 12(%rdi)
    mov %eax, 8(%rdi)
    ret

# task: sort4
# void sort4(int32_t *buffer): 28 instructions
.text
.globl sort4
sort4:
    mov 8(%rdi), %eax
    mov 12(%rdi), %ecx
    mov (%rdi), %edx
    mov %edx, %r8d
    cmp %eax, %r8d
    cmovl %eax, %r8d
    cmovge %eax, %edx
    mov 4(%rdi), %r9d
    mov %ecx, %eax
    cmp %r9d, %ecx
    cmovl %r9d, %ecx
    cmovl %eax, %r9d
    cmovle %ecx, %eax
    cmp %r8d, %eax
    cmovle %r8d, %ecx
    cmovl %eax, %r8d
    mov %edx, %eax
    cmp %r9d, %edx
    cmovle %r9d, %edx
    cmovl %eax, %r9d
    mov %r9d, (%rdi)
    mov %ecx, 12(%rdi)
    cmp %r8d, %edx
    cmovge %r8d, %ecx
    cmovle %edx, %ecx
    cmovg %edx, %r8d
    mov %r8d, 8(%rdi)
    mov %ecx, 4(%rdi)
    ret

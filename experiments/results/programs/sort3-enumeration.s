# task: sort3
# void sort3(int32_t *buffer): 17 instructions
.text
.globl sort3
sort3:
    mov (%rdi), %eax
    mov 4(%rdi), %ecx
    mov 8(%rdi), %edx
    cmp %ecx, %eax
    mov %eax, %r8d
    cmovl %ecx, %r8d
    cmovl %eax, %ecx
    cmp %edx, %ecx
    mov %ecx, %eax
    cmovl %edx, %ecx
    cmovg %edx, %eax
    cmp %r8d, %edx
    cmovl %r8d, %edx
    cmovg %r8d, %ecx
    mov %eax, (%rdi)
    mov %ecx, 4(%rdi)
    mov %edx, 8(%rdi)
    ret

# task: sort3
# void sort3(int32_t *buffer): 17 instructions
.text
.globl sort3
sort3:
    mov (%rdi), %eax
    mov %eax, %ecx
    mov 4(%rdi), %edx
    cmp %edx, %eax
    cmovl %edx, %ecx
    cmovg %edx, %eax
    mov 8(%rdi), %edx
    cmp %edx, %eax
    mov %eax, %r8d
    cmovl %edx, %eax
    cmovg %edx, %r8d
    cmp %edx, %ecx
    cmovl %ecx, %eax
    cmovl %edx, %ecx
    mov %ecx, 8(%rdi)
    mov %eax, 4(%rdi)
    mov %r8d, (%rdi)
    ret

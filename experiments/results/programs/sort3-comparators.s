# task: sort3
# void sort3(int32_t *buffer): 17 instructions
.text
.globl sort3
sort3:
    mov (%rdi), %eax
    mov %eax, %ecx
    mov 4(%rdi), %edx
    cmp %edx, %eax
    cmovge %edx, %ecx
    cmovg %eax, %edx
    mov 8(%rdi), %r8d
    mov %r8d, %eax
    cmp %r8d, %ecx
    cmovle %ecx, %eax
    mov %eax, (%rdi)
    cmovl %r8d, %ecx
    cmp %ecx, %edx
    cmovl %edx, %ecx
    mov %ecx, 4(%rdi)
    cmovl %r8d, %edx
    mov %edx, 8(%rdi)
    ret

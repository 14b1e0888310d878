# task: sort3
# void sort3(int32_t *buffer): 17 instructions
.text
.globl sort3
sort3:
    mov 8(%rdi), %eax
    mov (%rdi), %ecx
    mov %eax, %edx
    mov 4(%rdi), %r8d
    cmp %edx, %r8d
    cmovg %r8d, %edx
    cmovg %eax, %r8d
    cmovge %edx, %eax
    cmp %eax, %ecx
    cmovg %ecx, %edx
    cmovl %ecx, %eax
    mov %edx, 8(%rdi)
    cmp %r8d, %eax
    cmovge %r8d, %ecx
    mov %ecx, (%rdi)
    cmovge %eax, %r8d
    mov %r8d, 4(%rdi)
    ret

# task: varsort3
# void varsort3(int32_t *buffer): 21 instructions
.text
.globl varsort3
varsort3:
    mov 4(%rdi), %eax
    mov 8(%rdi), %ecx
    cmp %ecx, %eax
    mov %ecx, %edx
    cmovg %eax, %ecx
    cmovg %edx, %eax
    mov 12(%rdi), %edx
    cmpl $2, (%rdi)
    cmovle %ecx, %edx
    jl .Lvarsort3_0
    cmp %edx, %ecx
    jle .Lvarsort3_1
    mov %ecx, 12(%rdi)
.Lvarsort3_0:
.Lvarsort3_1:
    cmovg %edx, %ecx
    cmpl $1, (%rdi)
    jle .Lvarsort3_2
    cmp %ecx, %eax
    cmovg %eax, %ecx
    mov %ecx, 8(%rdi)
    cmovg %edx, %eax
    mov %eax, 4(%rdi)
.Lvarsort3_2:
    ret

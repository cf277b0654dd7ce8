#!/usr/bin/env bash
# loader.sh FOLDER NAME SONAME CUDARC_MODULE: makes FOLDER/libNAME.a, whose functions find those of the shared library
# SONAME when they are first called. A program linked to it starts on machines without the library. x86-64 only.
set -euo pipefail
folder=$1 name=$2 soname=$3 bindings=$4
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

cat > "$scratch/resolve.c" <<C
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
__attribute__((visibility("hidden"))) void *neuroql_resolve_$name(const char *function) {
    void *library = dlopen("$soname", RTLD_NOW | RTLD_GLOBAL);
    void *found = library ? dlsym(library, function) : 0;
    if (!found) {
        /* neuroql looks for the library before its first call: this is a library of another version. */
        fprintf(stderr, "$soname has no %s\n", function);
        abort();
    }
    return found;
}
C
{
    cat <<ASM
    .text
    .hidden neuroql_resolve_$name
# Slot in %r10, name in %r11; the arguments of the call stay as they are.
neuroql_first_$name:
    endbr64
    push %rbp
    mov %rsp, %rbp
    push %rax; push %rdi; push %rsi; push %rdx; push %rcx; push %r8; push %r9; push %r10
    sub \$128, %rsp
    movups %xmm0, (%rsp); movups %xmm1, 16(%rsp); movups %xmm2, 32(%rsp); movups %xmm3, 48(%rsp)
    movups %xmm4, 64(%rsp); movups %xmm5, 80(%rsp); movups %xmm6, 96(%rsp); movups %xmm7, 112(%rsp)
    mov %r11, %rdi
    call neuroql_resolve_$name@PLT
    mov %rax, %r11
    movups (%rsp), %xmm0; movups 16(%rsp), %xmm1; movups 32(%rsp), %xmm2; movups 48(%rsp), %xmm3
    movups 64(%rsp), %xmm4; movups 80(%rsp), %xmm5; movups 96(%rsp), %xmm6; movups 112(%rsp), %xmm7
    add \$128, %rsp
    pop %r10; pop %r9; pop %r8; pop %rcx; pop %rdx; pop %rsi; pop %rdi; pop %rax
    pop %rbp
    mov %r11, (%r10)
    jmp *%r11
    .section .note.GNU-stack,"",@progbits
    .text
ASM
    grep -oE "fn (cu|nvrtc)[A-Za-z0-9_]+" "$bindings" | awk '$2 != "culib" {print $2}' | sort -u | awk -v lib="$name" '{
        print "    .globl " $1 "\n    .type " $1 ", @function\n" $1 ":\n    jmp *.Lslot_" $1 "(%rip)"
        print ".Lfirst_" $1 ":\n    lea .Lslot_" $1 "(%rip), %r10\n    lea .Lname_" $1 "(%rip), %r11\n    jmp neuroql_first_" lib
        print "    .section .rodata\n.Lname_" $1 ":\n    .asciz \"" $1 "\""
        print "    .data\n    .balign 8\n.Lslot_" $1 ":\n    .quad .Lfirst_" $1 "\n    .text"
    }'
} > "$scratch/functions.s"
gcc -O2 -fPIC -c "$scratch/resolve.c" -o "$scratch/resolve_$name.o"
gcc -c "$scratch/functions.s" -o "$scratch/functions_$name.o"
rm -f "$folder/lib$name.a"
ar rcs "$folder/lib$name.a" "$scratch/functions_$name.o" "$scratch/resolve_$name.o"

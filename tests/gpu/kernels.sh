#!/usr/bin/env bash
# Makes src/model/src/{ops,reduce}/kernels.ptx of kernels.cu, after running these on the processor (no GPU needed).
# Needs nvcc (NVCC, or on PATH) and g++ 12. With --check it only runs them, and needs no nvcc.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
source=$here/../../src/model/src
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
for room in ops reduce; do
    g++ -O2 -std=c++17 -fopenmp -I "$source" "$here/$room.cpp" -o "$scratch/$room"
    "$scratch/$room"
done
[ "${1:-}" != --check ] || exit 0

nvcc=${NVCC:-nvcc}
ptxas=$(dirname "$(command -v "$nvcc")")/ptxas
for room in ops reduce; do
    # For every GPU from Turing on: the driver compiles PTX for the one it finds.
    "$nvcc" -ptx -arch=compute_75 -O3 "$source/$room/kernels.cu" -o "$scratch/$room.ptx"
    # What is used here is in PTX 6.3; older drivers than the compiler's read the file too.
    sed -i -E 's/^\.version .*/.version 6.3/; /^\/\/ (Compiler Build|Cuda compilation|Based on)/d' "$scratch/$room.ptx"
    if [ -x "$ptxas" ]; then
        for GPU in sm_75 sm_80 sm_90; do "$ptxas" -arch=$GPU "$scratch/$room.ptx" -o /dev/null; done
    fi
    cp "$scratch/$room.ptx" "$source/$room/kernels.ptx"
    echo "wrote $source/$room/kernels.ptx"
done

#!/usr/bin/env bash
# Makes src/model/src/reduce/kernels.ptx of kernels.cu, after running that on the processor (no card needed).
# Needs nvcc (NVCC, or on PATH) and g++.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
source=$here/../../src/model/src/reduce
nvcc=${NVCC:-nvcc}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
g++ -O2 -std=c++17 -fopenmp -I "$source" "$here/kernels.cpp" -o "$scratch/kernels"
"$scratch/kernels"
# For every card from Turing on: the driver compiles PTX for the one it finds.
"$nvcc" -ptx -arch=compute_75 -O3 "$source/kernels.cu" -o "$scratch/kernels.ptx"
# What is used here is in PTX 6.3; older drivers than the compiler's read the file too.
sed -i -E 's/^\.version .*/.version 6.3/; /^\/\/ (Compiler Build|Cuda compilation|Based on)/d' "$scratch/kernels.ptx"
ptxas=$(dirname "$(command -v "$nvcc")")/ptxas
if [ -x "$ptxas" ]; then
    for card in sm_75 sm_80 sm_90; do "$ptxas" -arch=$card "$scratch/kernels.ptx" -o /dev/null; done
fi
cp "$scratch/kernels.ptx" "$source/kernels.ptx"
echo "wrote $source/kernels.ptx"

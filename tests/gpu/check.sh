#!/usr/bin/env bash
# Checks that the feature `cuda` compiles, on any machine: a pretended nvcc gives empty kernels, so what is checked is
# all that is Rust and nothing that is run. Some minutes, most of them candle. Arguments go to cargo check.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
target=${CARGO_TARGET_DIR:-$here/../../target}
toolkit=$target/pretended-cuda
mkdir -p "$toolkit/bin" "$toolkit/include" "$toolkit/lib64"
touch "$toolkit/include/cuda.h"
cat > "$toolkit/bin/nvcc" <<'NVCC'
#!/usr/bin/env bash
# Writes empty files where nvcc would write code.
folder=
while [ $# -gt 0 ]; do
    case $1 in
        --version) printf 'nvcc: NVIDIA (R) Cuda compiler driver\n(pretended)\n\nCuda compilation tools, release 13.0, V13.0.0\n'; exit ;;
        -o) shift; : > "$1" ;;
        --output-directory) shift; folder=$1 ;;
        *.cu) [ -z "$folder" ] || : > "$folder/$(basename "$1" .cu).ptx" ;;
    esac
    shift
done
NVCC
chmod +x "$toolkit/bin/nvcc"
export PATH=$toolkit/bin:$PATH CUDA_HOME=$toolkit CUDA_PATH=$toolkit CUDA_ROOT=$toolkit NVCC=$toolkit/bin/nvcc
export CUDA_COMPUTE_CAP=80 CUDARC_CUDA_VERSION=13000
# Apart from real builds, which would take the empty kernels for theirs.
CARGO_TARGET_DIR=$target/pretended cargo check --manifest-path "$here/../../Cargo.toml" -p neuroql-model --features cuda "$@"

#!/usr/bin/env bash
# Builds neuroql for NVIDIA GPUs: tests/gpu/build.sh [arguments of cargo build], by default `--release --bin neuroql`.
#
# Takes the CUDA toolkit that is here (nvcc on PATH, CUDA_HOME or /usr/local/cuda; 12.0 or later), or else installs the
# compiler from NVIDIA's Python packages into the user's cache. Needs no GPU and no driver. The program looks for the
# driver and the libraries of CUDA when a device is first used, and starts without them (on x86-64).
# CUDA_COMPUTE_CAP (default 80) is the oldest GPU it runs on: 75 Turing, 80 Ampere, 89 Ada, 90 Hopper.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/neuroql/cuda
export CUDA_COMPUTE_CAP=${CUDA_COMPUTE_CAP:-80}

if [ -z "${CUDA_HOME:-}" ]; then
    if command -v nvcc > /dev/null; then
        CUDA_HOME=$(dirname "$(dirname "$(readlink -f "$(command -v nvcc)")")")
    elif [ -x /usr/local/cuda/bin/nvcc ]; then
        CUDA_HOME=/usr/local/cuda
    else
        [ -x "$cache/python/bin/pip" ] || python3 -m venv "$cache/python"
        # What 13.0 compiles is understood by drivers from 580 on.
        "$cache/python/bin/pip" install -q --no-deps nvidia-cuda-nvcc==13.0.88 nvidia-nvvm==13.0.88 \
            nvidia-cuda-crt==13.0.88 nvidia-cuda-runtime==13.0.96 nvidia-cuda-cccl==13.0.85
        CUDA_HOME=$(echo "$cache"/python/lib/python3*/site-packages/nvidia/cu13)
    fi
fi
# A toolkit's lib64 is lib in the Python packages.
libraries=$CUDA_HOME/lib64
[ -d "$libraries" ] || libraries=$CUDA_HOME/lib
version=$("$CUDA_HOME/bin/nvcc" --version | sed -n 's/.*release \([0-9]*\)\.\([0-9]*\).*/\1 \2/p')
read -r major minor <<< "$version"
echo "CUDA $major.$minor at $CUDA_HOME, for GPUs of compute capability $CUDA_COMPUTE_CAP and later" >&2

# A toolkit of links, in which the libraries are found at run time.
root=$cache/home-$major.$minor
rm -rf "$root"
mkdir -p "$root/lib64"
for folder in bin include nvvm; do
    [ ! -e "$CUDA_HOME/$folder" ] || ln -s "$CUDA_HOME/$folder" "$root/$folder"
done
if [ "$(uname -m)" = x86_64 ]; then
    cargo fetch --locked --manifest-path "$here/../../Cargo.toml" > /dev/null 2>&1
    locked=$(grep -A1 '^name = "cudarc"' "$here/../../Cargo.lock" | sed -n 's/version = "\(.*\)"/\1/p')
    bindings=$(echo "${CARGO_HOME:-$HOME/.cargo}"/registry/src/*/cudarc-"$locked"/src)
    loader() { "$here/loader.sh" "$root/lib64" "$1" "$2" "$bindings/$3/sys/mod.rs"; }
    loader cuda libcuda.so.1 driver
    loader cublas "libcublas.so.$major" cublas
    loader cublasLt "libcublasLt.so.$major" cublaslt
    loader curand libcurand.so.10 curand
    loader nvrtc "libnvrtc.so.$major" nvrtc
    # The runtime is linked in; it looks for the driver itself.
    echo "INPUT($libraries/libcudart_static.a -ldl -lrt -lpthread)" > "$root/lib64/libcudart.so"
else
    for file in "$libraries"/lib*; do ln -s "$file" "$root/lib64/"; done
    [ ! -d "$libraries/stubs" ] || ln -s "$libraries/stubs" "$root/lib64/stubs"
    [ -e "$root/lib64/libcudart.so" ] || ln -s "$libraries/libcudart.so.$major" "$root/lib64/libcudart.so"
fi

export PATH=$root/bin:$PATH CUDA_HOME=$root CUDA_PATH=$root CUDA_ROOT=$root CUDA_TOOLKIT_ROOT_DIR=$root
export NVCC=$root/bin/nvcc CUDARC_CUDA_VERSION=${major}0${minor}0
[ $# -gt 0 ] || set -- --release --bin neuroql
exec cargo build --manifest-path "$here/../../Cargo.toml" --features cuda "$@"

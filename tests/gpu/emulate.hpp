// What a file of CUDA kernels needs to run on a processor, a block at a time with a thread for each of its threads. It says
// nothing of speed. Included before the kernels.
#pragma once
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <omp.h>
#include <vector>

struct Dim {
    unsigned x = 1, y = 1, z = 1;
};
static Dim blockDim, gridDim, blockIdx;
static thread_local Dim threadIdx;

#define __global__
#define __device__
#define __shared__ static
#define __syncthreads() _Pragma("omp barrier")
static float __int_as_float(unsigned bits) {
    float value;
    std::memcpy(&value, &bits, 4);
    return value;
}
static int __float_as_int(float value) {
    int bits;
    std::memcpy(&bits, &value, 4);
    return bits;
}
static unsigned atomicAdd(unsigned *target, unsigned count) { return __atomic_fetch_add(target, count, __ATOMIC_RELAXED); }
static float __shfl_xor_sync(unsigned, float value, unsigned apart) {
    static float of_block[1024];
    const unsigned thread = threadIdx.y * blockDim.x + threadIdx.x;
    of_block[thread] = value;
#pragma omp barrier
    const float other = of_block[thread ^ apart];
#pragma omp barrier
    return other;
}
static float half_to_float(unsigned short x) {
    _Float16 half;
    std::memcpy(&half, &x, 2);
    return half;
}
static unsigned short float_to_half(float x) {
    const _Float16 half = x;
    unsigned short bits;
    std::memcpy(&bits, &half, 2);
    return bits;
}

template <typename F> static void launch(Dim grid, Dim block, F kernel) {
    gridDim = grid;
    blockDim = block;
    for (unsigned y = 0; y < grid.y; ++y) {
        for (unsigned x = 0; x < grid.x; ++x) {
            blockIdx.x = x;
            blockIdx.y = y;
#pragma omp parallel num_threads(block.x * block.y)
            {
                threadIdx.x = omp_get_thread_num() % block.x;
                threadIdx.y = omp_get_thread_num() / block.x;
                kernel();
            }
        }
    }
}

#define CHECK(what, ...)                                                                                               \
    if (!(what)) {                                                                                                     \
        std::printf("%s does not hold: ", #what);                                                                      \
        std::printf(__VA_ARGS__);                                                                                      \
        std::puts("");                                                                                                 \
        std::exit(1);                                                                                                  \
    }

// Reductions of activations [rows, width] of f32, rows lying together; see reduce.rs.
//
// kernels.ptx is made of this file by tests/gpu/kernels.sh and kept beside it, so that no build needs nvcc for it and no
// run needs NVRTC. tests/gpu/reduce.cpp runs this file on a processor.

// One thread a neuron and example: what analysis's BatchSummary keeps of it. NaN is greater than all numbers.
extern "C" __global__ void summarise(const float *values, const unsigned *offsets, unsigned width, float *peaks,
                                     float *troughs, unsigned *positive, double *powers) {
    const unsigned neuron = blockIdx.x * blockDim.x + threadIdx.x;
    if (neuron >= width) return;
    const unsigned example = blockIdx.y;
    float peak = __int_as_float(0xff800000), trough = __int_as_float(0x7fc00000);
    unsigned count = 0;
    double first = 0.0, second = 0.0, third = 0.0, fourth = 0.0;
    for (unsigned row = offsets[example]; row < offsets[example + 1]; ++row) {
        const float value = values[(unsigned long long)row * width + neuron];
        peak = value > peak || value != value ? value : peak;
        trough = value < trough || trough != trough ? value : trough;
        count += value > 0.0f;
        const double x = value, square = x * x;
        first += x;
        second += square;
        third += square * x;
        fourth += square * square;
    }
    const unsigned long long place = (unsigned long long)example * width + neuron;
    peaks[place] = peak;
    troughs[place] = trough;
    positive[place] = count;
    powers[4 * place] = first;
    powers[4 * place + 1] = second;
    powers[4 * place + 2] = third;
    powers[4 * place + 3] = fourth;
}

// One thread a neuron: sums over examples, in their order.
extern "C" __global__ void total(const unsigned *positive, const double *powers, unsigned examples, unsigned width,
                                 unsigned *positive_of_all, double *powers_of_all) {
    const unsigned neuron = blockIdx.x * blockDim.x + threadIdx.x;
    if (neuron >= width) return;
    unsigned count = 0;
    double sums[4] = {0.0, 0.0, 0.0, 0.0};
    for (unsigned example = 0; example < examples; ++example) {
        const unsigned long long place = (unsigned long long)example * width + neuron;
        count += positive[place];
        for (int i = 0; i < 4; ++i) sums[i] += powers[4 * place + i];
    }
    positive_of_all[neuron] = count;
    for (int i = 0; i < 4; ++i) powers_of_all[4 * neuron + i] = sums[i];
}

// Blocks of 32 neurons by 8 rows at a time, gridDim.y of them to a block of neurons; at most 64 bins. Bins of one sign
// are told apart by magnitudes, ascending; NaN is beyond all of them.
extern "C" __global__ void histogram(const float *values, unsigned rows, unsigned width, const float *magnitudes,
                                     unsigned edges, unsigned *counts) {
    __shared__ unsigned bins[64][32];
    const unsigned neuron = blockIdx.x * 32 + threadIdx.x;
    for (unsigned bin = threadIdx.y; bin < 64; bin += 8) bins[bin][threadIdx.x] = 0;
    __syncthreads();
    if (neuron < width) {
        for (unsigned row = blockIdx.y * 8 + threadIdx.y; row < rows; row += gridDim.y * 8) {
            const float value = values[(unsigned long long)row * width + neuron];
            const float magnitude = fabsf(value);
            unsigned low = 0, high = edges;
            while (low < high) {
                const unsigned middle = (low + high) / 2;
                if (magnitude < magnitudes[middle]) high = middle;
                else low = middle + 1;
            }
            const bool negative = __float_as_int(value) < 0;
            atomicAdd(&bins[negative ? edges - low : edges + 1 + low][threadIdx.x], 1u);
        }
    }
    __syncthreads();
    if (neuron < width) {
        const unsigned all = 2 * (edges + 1);
        for (unsigned bin = threadIdx.y; bin < all; bin += 8) {
            const unsigned count = bins[bin][threadIdx.x];
            if (count != 0) atomicAdd(&counts[(unsigned long long)neuron * all + bin], count);
        }
    }
}

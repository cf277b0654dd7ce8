// Operations of a forward pass that candle would make of several, each reading and writing everything; see cuda.rs.
// Numbers are f32, bf16 or f16 in memory and f32 in between.
//
// kernels.ptx is made of this file by tests/gpu/kernels.sh and kept beside it, so that no build needs nvcc for it and no
// run needs NVRTC. tests/gpu/ops.cpp runs this file on a processor.

#ifdef __CUDACC__
static __device__ float half_to_float(unsigned short x) {
    float y;
    asm("cvt.f32.f16 %0, %1;" : "=f"(y) : "h"(x));
    return y;
}
static __device__ unsigned short float_to_half(float x) {
    unsigned short y;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(y) : "f"(x));
    return y;
}
#endif

struct F32 {
    typedef float Stored;
    static __device__ float load(Stored x) { return x; }
    static __device__ Stored store(float x) { return x; }
};

struct Bf16 {
    typedef unsigned short Stored;
    static __device__ float load(Stored x) { return __int_as_float((unsigned)x << 16); }
    // To the nearest, and of two to the even one.
    static __device__ Stored store(float x) {
        const unsigned bits = __float_as_int(x);
        return x != x ? 0x7fff : (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
    }
};

struct F16 {
    typedef unsigned short Stored;
    static __device__ float load(Stored x) { return half_to_float(x); }
    static __device__ Stored store(float x) { return float_to_half(x); }
};

// L numbers that are read or written at once, at an address that is a multiple of their size.
template <class N, unsigned L> struct alignas(L * sizeof(typename N::Stored)) Lanes {
    typename N::Stored at[L];
};

template <class N, unsigned L> static __device__ void load(const typename N::Stored *from, float *to) {
    const Lanes<N, L> lanes = *(const Lanes<N, L> *)from;
    for (unsigned i = 0; i < L; ++i) to[i] = N::load(lanes.at[i]);
}

template <class N, unsigned L> static __device__ void store(const float *from, typename N::Stored *to) {
    Lanes<N, L> lanes;
    for (unsigned i = 0; i < L; ++i) lanes.at[i] = N::store(from[i]);
    *(Lanes<N, L> *)to = lanes;
}

static __device__ float activated(float x, unsigned activation) {
    switch (activation) {
    case 0: return 0.5f * x * (1.0f + erff(x * 0.70710678f));
    case 1: return 0.5f * x * (1.0f + tanhf(0.79788456f * (x + 0.044715f * x * x * x)));
    // NaN stays NaN.
    case 2: return x < 0.0f ? 0.0f : x;
    default: return x / (1.0f + expf(-x));
    }
}

// A block a row: act(x + bias) of [rows, width], or act(gate)·up of [rows, 2·width].
template <class N, unsigned L>
static __device__ void activate(const typename N::Stored *x, const typename N::Stored *bias, unsigned width, bool gated,
                                unsigned activation, typename N::Stored *out) {
    const unsigned long long row = blockIdx.x, stride = gated ? 2ull * width : width;
#pragma unroll 1
    for (unsigned i = threadIdx.x * L; i < width; i += blockDim.x * L) {
        float a[L], b[L];
        load<N, L>(x + row * stride + i, a);
        if (bias) {
            load<N, L>(bias + i, b);
            for (unsigned l = 0; l < L; ++l) a[l] += b[l];
        }
        for (unsigned l = 0; l < L; ++l) a[l] = activated(a[l], activation);
        if (gated) {
            float up[L];
            load<N, L>(x + row * stride + width + i, up);
            if (bias) {
                load<N, L>(bias + width + i, b);
                for (unsigned l = 0; l < L; ++l) up[l] += b[l];
            }
            for (unsigned l = 0; l < L; ++l) a[l] *= up[l];
        }
        store<N, L>(a, out + row * width + i);
    }
}

// A block a row: x + y + bias of [rows, width].
template <class N, unsigned L>
static __device__ void add(const typename N::Stored *x, const typename N::Stored *y, const typename N::Stored *bias,
                           unsigned width, typename N::Stored *out) {
    const unsigned long long row = blockIdx.x;
#pragma unroll 1
    for (unsigned i = threadIdx.x * L; i < width; i += blockDim.x * L) {
        float a[L], b[L];
        load<N, L>(x + row * width + i, a);
        load<N, L>(y + row * width + i, b);
        for (unsigned l = 0; l < L; ++l) a[l] += b[l];
        if (bias) {
            load<N, L>(bias + i, b);
            for (unsigned l = 0; l < L; ++l) a[l] += b[l];
        }
        store<N, L>(a, out + row * width + i);
    }
}

// Some heads of packed queries, keys and values, and what is done to them.
struct Heads {
    // Numbers of a row, and the first and the number of the heads that are taken.
    unsigned stride, first, heads, d_head;
    // Dimensions that are rotated, the first of a head; pairs of them are neighbours or half of them apart.
    unsigned rotated, adjacent;
    float scale;
};

// A block a token of a piece: (x + bias + shift), rotated by its position and scaled, to [pieces, heads, tokens, d_head].
// rows, of pieces · tokens, may be null for those from first_row on; so may bias, shift ([positions, shift_stride]), and
// cos and sin ([positions, rotated / 2]) where nothing is rotated.
template <class N>
static __device__ void place(const typename N::Stored *x, const unsigned *rows, unsigned first_row, unsigned tokens,
                             const typename N::Stored *bias, const typename N::Stored *shift, unsigned shift_stride,
                             const unsigned *positions, const float *cos, const float *sin, Heads of,
                             typename N::Stored *out) {
    const unsigned long long row = rows ? rows[blockIdx.x] : first_row + blockIdx.x;
    const unsigned piece = blockIdx.x / tokens, token = blockIdx.x % tokens, half = of.rotated / 2;
    const unsigned position = positions[row];
    const auto at = [&](unsigned head, unsigned d) {
        const unsigned column = (of.first + head) * of.d_head + d;
        float value = N::load(x[row * of.stride + column]);
        if (bias) value += N::load(bias[column]);
        if (shift) value += N::load(shift[(unsigned long long)position * shift_stride + column]);
        return value;
    };
#pragma unroll 1
    for (unsigned i = threadIdx.x; i < of.heads * of.d_head; i += blockDim.x) {
        const unsigned head = i / of.d_head, d = i % of.d_head;
        float value = at(head, d);
        if (d < of.rotated) {
            const bool second = of.adjacent ? d % 2 == 1 : d >= half;
            const unsigned pair = of.adjacent ? d / 2 : second ? d - half : d;
            const unsigned partner = of.adjacent ? d ^ 1 : second ? d - half : d + half;
            const unsigned long long turn = (unsigned long long)position * half + pair;
            const float other = at(head, partner);
            value = value * cos[turn] + (second ? other : -other) * sin[turn];
        }
        const unsigned long long to = ((unsigned long long)piece * of.heads + head) * tokens + token;
        out[to * of.d_head + d] = N::store(value * of.scale);
    }
}

// 32 threads a row of scores [pieces, heads, queries, keys], in place: softmax over the keys that a query sees, which
// are those before its piece (before, of each piece) and those up to itself; 0 for the others.
template <class N, unsigned L>
static __device__ void soften(typename N::Stored *scores, const unsigned *before, unsigned heads, unsigned queries,
                              unsigned keys, unsigned long long rows) {
    const unsigned long long row = (unsigned long long)blockIdx.x * blockDim.y + threadIdx.y;
    // All threads of a block take part in the exchanges.
    const bool is_row = row < rows;
    const unsigned query = row % queries, piece = is_row ? row / queries / heads : 0;
    const unsigned sees = before[piece] + query + 1, seen = !is_row ? 0 : sees < keys ? sees : keys;
    typename N::Stored *const of_row = scores + row * keys;
    const float lowest = __int_as_float(0xff800000);
    float top = lowest, sum = 0.0f;
#pragma unroll 1
    for (unsigned key = threadIdx.x * L; key < seen; key += 32 * L) {
        float x[L], most = top;
        load<N, L>(of_row + key, x);
        for (unsigned l = 0; l < L; ++l) {
            if (key + l >= seen) x[l] = lowest;
            most = x[l] > most || x[l] != x[l] ? x[l] : most;
        }
        // Until there is a number above −∞ there is nothing to scale.
        sum = most == lowest ? 0.0f : sum * expf(top - most);
        for (unsigned l = 0; l < L; ++l) sum += most == lowest ? 0.0f : expf(x[l] - most);
        top = most;
    }
    for (unsigned apart = 16; apart > 0; apart /= 2) {
        const float other_top = __shfl_xor_sync(0xffffffffu, top, apart);
        const float other_sum = __shfl_xor_sync(0xffffffffu, sum, apart);
        const float most = other_top > top || other_top != other_top ? other_top : top;
        if (most != lowest) sum = (top == lowest ? 0.0f : sum * expf(top - most)) +
                                  (other_top == lowest ? 0.0f : other_sum * expf(other_top - most));
        top = most;
    }
    if (!is_row) return;
#pragma unroll 1
    for (unsigned key = threadIdx.x * L; key < keys; key += 32 * L) {
        float x[L];
        if (key < seen) load<N, L>(of_row + key, x);
        for (unsigned l = 0; l < L; ++l) x[l] = key + l < seen ? expf(x[l] - top) / sum : 0.0f;
        store<N, L>(x, of_row + key);
    }
}

// A block a query of a piece: [pieces, heads, queries, d_head] to the rows of [all rows, heads · d_head]. rows as in place;
// padding, which is at the end of a piece and repeats its last row, is dropped.
template <class N>
static __device__ void gather(const typename N::Stored *x, const unsigned *rows, unsigned first_row, unsigned heads,
                              unsigned queries, unsigned d_head, typename N::Stored *out) {
    const unsigned piece = blockIdx.x / queries, query = blockIdx.x % queries;
    if (rows && query > 0 && rows[blockIdx.x] == rows[blockIdx.x - 1]) return;
    const unsigned long long row = rows ? rows[blockIdx.x] : first_row + blockIdx.x;
    const unsigned width = heads * d_head;
#pragma unroll 1
    for (unsigned i = threadIdx.x; i < width; i += blockDim.x) {
        const unsigned head = i / d_head, d = i % d_head;
        const unsigned long long from = ((unsigned long long)piece * heads + head) * queries + query;
        out[row * width + i] = x[from * d_head + d];
    }
}

// Four numbers at once where rows begin at multiples of four; the caller's addresses are those of whole tensors or rows.
#define KERNELS(N, suffix)                                                                                             \
    extern "C" __global__ void activate_##suffix(const N::Stored *x, const N::Stored *bias, unsigned width,            \
                                                 unsigned gated, unsigned activation, N::Stored *out) {                \
        if (width % 4 == 0) activate<N, 4>(x, bias, width, gated, activation, out);                                    \
        else activate<N, 1>(x, bias, width, gated, activation, out);                                                   \
    }                                                                                                                  \
    extern "C" __global__ void add_##suffix(const N::Stored *x, const N::Stored *y, const N::Stored *bias,             \
                                            unsigned width, N::Stored *out) {                                          \
        if (width % 4 == 0) add<N, 4>(x, y, bias, width, out);                                                         \
        else add<N, 1>(x, y, bias, width, out);                                                                        \
    }                                                                                                                  \
    extern "C" __global__ void place_##suffix(const N::Stored *x, const unsigned *rows, unsigned first_row,            \
                                              unsigned tokens, const N::Stored *bias, const N::Stored *shift,          \
                                              unsigned shift_stride, const unsigned *positions, const float *cos,      \
                                              const float *sin, unsigned stride, unsigned first, unsigned heads,       \
                                              unsigned d_head, unsigned rotated, unsigned adjacent, float scale,       \
                                              N::Stored *out) {                                                        \
        const Heads of = {stride, first, heads, d_head, rotated, adjacent, scale};                                     \
        place<N>(x, rows, first_row, tokens, bias, shift, shift_stride, positions, cos, sin, of, out);                 \
    }                                                                                                                  \
    extern "C" __global__ void soften_##suffix(N::Stored *scores, const unsigned *before, unsigned heads,              \
                                               unsigned queries, unsigned keys, unsigned long long rows) {             \
        if (keys % 4 == 0) soften<N, 4>(scores, before, heads, queries, keys, rows);                                   \
        else soften<N, 1>(scores, before, heads, queries, keys, rows);                                                 \
    }                                                                                                                  \
    extern "C" __global__ void gather_##suffix(const N::Stored *x, const unsigned *rows, unsigned first_row,           \
                                               unsigned heads, unsigned queries, unsigned d_head, N::Stored *out) {    \
        gather<N>(x, rows, first_row, heads, queries, d_head, out);                                                    \
    }

KERNELS(F32, f32)
KERNELS(Bf16, bf16)
KERNELS(F16, f16)

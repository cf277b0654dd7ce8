// Checks the kernels of src/model/src/ops/kernels.cu against loops in f64, on a processor.
#include "emulate.hpp"

#include "ops/kernels.cu"

typedef std::vector<double> Values;

// As many numbers as asked, of a size, as they are kept in N.
template <class N> static std::vector<typename N::Stored> numbers(size_t count, float size) {
    std::vector<typename N::Stored> values(count);
    for (auto &value : values) value = N::store((float(std::rand()) / RAND_MAX * 2.0f - 1.0f) * size);
    return values;
}

template <class N> static void compare(const char *what, const std::vector<typename N::Stored> &got, const Values &wanted,
                                       double tolerance) {
    CHECK(got.size() == wanted.size(), "%s", what);
    for (size_t i = 0; i < got.size(); ++i) {
        const double value = N::load(got[i]);
        const bool close = std::fabs(value - wanted[i]) <= tolerance * (1.0 + std::fabs(wanted[i]));
        CHECK(close || (std::isnan(value) && std::isnan(wanted[i])), "%s: %g is not %g at %zu", what, value, wanted[i], i);
    }
}

static double reference(double x, unsigned activation) {
    switch (activation) {
    case 0: return 0.5 * x * std::erfc(-x / std::sqrt(2.0));
    case 1: return 0.5 * x * (1.0 + std::tanh(std::sqrt(2.0 / std::acos(-1.0)) * (x + 0.044715 * x * x * x)));
    case 2: return x < 0.0 ? 0.0 : x;
    default: return x / (1.0 + std::exp(-x));
    }
}

template <class N> static void pointwise(double tolerance) {
    for (unsigned width : {1u, 7u, 40u, 300u}) {
        const unsigned rows = 5;
        for (unsigned which = 0; which < 16; ++which) {
            const unsigned activation = which % 4, gated = which / 4 % 2, stride = gated ? 2 * width : width;
            const auto x = numbers<N>(rows * stride, 6.0f), bias = numbers<N>(stride, 1.0f);
            const bool biased = which / 8;
            std::vector<typename N::Stored> out(rows * width);
            launch({rows}, {32}, [&] {
                const auto *const b = biased ? bias.data() : nullptr;
                if (width % 4 == 0) activate<N, 4>(x.data(), b, width, gated, activation, out.data());
                else activate<N, 1>(x.data(), b, width, gated, activation, out.data());
            });
            Values wanted(rows * width);
            const auto at = [&](unsigned row, unsigned i) {
                return N::load(x[row * stride + i]) + (biased ? N::load(bias[i]) : 0.0);
            };
            for (unsigned row = 0; row < rows; ++row)
                for (unsigned i = 0; i < width; ++i)
                    wanted[row * width + i] = reference(at(row, i), activation) * (gated ? at(row, width + i) : 1.0);
            compare<N>("activate", out, wanted, tolerance);
        }
        const auto x = numbers<N>(rows * width, 6.0f), y = numbers<N>(rows * width, 6.0f), bias = numbers<N>(width, 1.0f);
        for (bool biased : {false, true}) {
            std::vector<typename N::Stored> out(rows * width);
            launch({rows}, {32}, [&] {
                const auto *const b = biased ? bias.data() : nullptr;
                if (width % 4 == 0) add<N, 4>(x.data(), y.data(), b, width, out.data());
                else add<N, 1>(x.data(), y.data(), b, width, out.data());
            });
            Values wanted(rows * width);
            for (unsigned i = 0; i < rows * width; ++i)
                wanted[i] = N::load(x[i]) + N::load(y[i]) + (biased ? N::load(bias[i % width]) : 0.0);
            compare<N>("add", out, wanted, tolerance);
        }
    }
}

// Two pieces of five tokens, the second with two of padding, in rows that do not follow each other.
template <class N> static void attention(double tolerance) {
    const std::vector<unsigned> rows = {4, 5, 6, 7, 8, 1, 2, 3, 3, 3};
    const unsigned tokens = 5, pieces = 2, all_rows = 9, longest = 12;
    const std::vector<unsigned> positions = {0, 3, 4, 5, 0, 1, 2, 10, 11};
    for (unsigned which = 0; which < 32; ++which) {
        const unsigned d_head = 2 + 2 * (which % 4), rotated = which / 4 % 2 ? d_head : d_head - 2, adjacent = which / 8 % 2;
        const bool full = which / 16, indexed = which % 3;
        const unsigned heads = 3, kv_heads = 1, stride = (heads + 2 * kv_heads) * d_head, shifted = (heads + kv_heads) * d_head;
        const auto x = numbers<N>(all_rows * stride, 2.0f), bias = numbers<N>(stride, 1.0f);
        const auto shift = numbers<N>(longest * shifted, 1.0f);
        std::vector<float> cos, sin;
        for (unsigned i = 0; i < longest * rotated / 2; ++i) {
            cos.push_back(std::cos(0.37f * i));
            sin.push_back(std::sin(0.37f * i));
        }
        const auto row_of = [&](unsigned i) { return indexed ? rows[i] : i % all_rows; };
        const unsigned laid = indexed ? pieces * tokens : tokens;
        for (unsigned first : {0u, heads}) {
            const unsigned count = first == 0 ? heads : kv_heads;
            std::vector<typename N::Stored> out(laid * count * d_head);
            const Heads of = {stride, first, count, d_head, rotated, adjacent, 0.25f};
            launch({laid}, {32}, [&] {
                place<N>(x.data(), indexed ? rows.data() : nullptr, 0, tokens, full ? bias.data() : nullptr,
                         full ? shift.data() : nullptr, shifted, positions.data(), cos.data(), sin.data(), of, out.data());
            });
            Values wanted(out.size());
            for (unsigned i = 0; i < laid; ++i)
                for (unsigned head = 0; head < count; ++head) {
                    Values before(d_head), after;
                    const unsigned row = row_of(i), position = positions[row];
                    for (unsigned d = 0; d < d_head; ++d) {
                        const unsigned column = (first + head) * d_head + d;
                        before[d] = N::load(x[row * stride + column]);
                        if (full) before[d] += N::load(bias[column]) + N::load(shift[position * shifted + column]);
                    }
                    after = before;
                    for (unsigned pair = 0; pair < rotated / 2; ++pair) {
                        const unsigned a = adjacent ? 2 * pair : pair, b = adjacent ? a + 1 : pair + rotated / 2;
                        const double c = cos[position * rotated / 2 + pair], s = sin[position * rotated / 2 + pair];
                        after[a] = before[a] * c - before[b] * s;
                        after[b] = before[b] * c + before[a] * s;
                    }
                    for (unsigned d = 0; d < d_head; ++d)
                        wanted[((i / tokens * count + head) * tokens + i % tokens) * d_head + d] = after[d] * 0.25;
                }
            compare<N>("place", out, wanted, tolerance);
            if (first != 0) continue;
            const auto mixed = numbers<N>(out.size(), 1.0f);
            std::vector<typename N::Stored> gathered(all_rows * heads * d_head);
            launch({laid}, {32}, [&] {
                gather<N>(mixed.data(), indexed ? rows.data() : nullptr, 0, heads, tokens, d_head, gathered.data());
            });
            Values back(gathered.size());
            // From the last on, so that what is no padding comes after it.
            for (unsigned i = laid; i-- > 0;)
                for (unsigned c = 0; c < heads * d_head; ++c)
                    back[row_of(i) * heads * d_head + c] =
                        N::load(mixed[((i / tokens * heads + c / d_head) * tokens + i % tokens) * d_head + c % d_head]);
            compare<N>("gather", gathered, back, 0.0);
        }
    }
    for (unsigned keys : {1u, 6u, 8u, 71u, 200u, 300u})
        for (unsigned which = 0; which < 3; ++which) {
            const unsigned heads = 2, queries = keys < 5 ? 1 : 5;
            // The last query of the first piece sees every key.
            const std::vector<unsigned> before = {keys - queries, which == 0 ? 0 : (keys - queries) / 2};
            const unsigned long long count = before.size() * heads * queries;
            auto scores = numbers<N>(count * keys, which == 1 ? 60.0f : 3.0f);
            if (which == 2) {
                for (auto &score : scores)
                    if (std::rand() % 8 == 0) score = N::store(-std::numeric_limits<float>::infinity());
                scores[0] = N::store(std::numeric_limits<float>::quiet_NaN());
            }
            Values wanted(scores.size());
            for (unsigned long long row = 0; row < count; ++row) {
                const unsigned seen = std::min(keys, before[row / queries / heads] + unsigned(row % queries) + 1);
                double sum = 0.0, top = -1e300;
                bool is_number = true;
                for (unsigned key = 0; key < seen; ++key) {
                    top = std::max(top, double(N::load(scores[row * keys + key])));
                    is_number &= !std::isnan(N::load(scores[row * keys + key]));
                }
                // A query that sees only −∞ has no pattern.
                is_number &= top > -1e300;
                for (unsigned key = 0; key < seen; ++key) sum += std::exp(N::load(scores[row * keys + key]) - top);
                for (unsigned key = 0; key < seen; ++key)
                    wanted[row * keys + key] = is_number ? std::exp(N::load(scores[row * keys + key]) - top) / sum : std::nan("");
            }
            launch({unsigned((count + 3) / 4)}, {32, 4}, [&] {
                if (keys % 4 == 0) soften<N, 4>(scores.data(), before.data(), heads, queries, keys, count);
                else soften<N, 1>(scores.data(), before.data(), heads, queries, keys, count);
            });
            compare<N>("soften", scores, wanted, tolerance);
        }
}

// Bit patterns there and back, and what lies between two of them.
template <class N> static void rounding() {
    for (unsigned bits = 0; bits < 0x10000; ++bits) {
        const float value = N::load(bits);
        if (value != value) continue;
        CHECK(N::store(value) == bits, "%x", bits);
        const float next = N::load(bits + 1);
        if (bits % 0x8000 == 0x7fff || next != next || std::isinf(next)) continue;
        const float middle = value / 2 + next / 2;
        CHECK(N::store(middle) == bits + bits % 2, "%x", bits);
        CHECK(N::store(std::nextafter(middle, next)) == bits + 1, "%x", bits);
    }
}

int main() {
    omp_set_dynamic(0);
    rounding<Bf16>();
    rounding<F16>();
    pointwise<F32>(3e-6);
    pointwise<Bf16>(4.1e-3);
    pointwise<F16>(5.2e-4);
    attention<F32>(3e-6);
    attention<Bf16>(4.1e-3);
    attention<F16>(5.2e-4);
    std::puts("operations agree with loops");
}

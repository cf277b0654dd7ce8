// Checks the kernels of src/model/src/reduce/kernels.cu against loops, on a processor.
#include "emulate.hpp"

#include "reduce/kernels.cu"

static bool same(float a, float b) { return a == b || (std::isnan(a) && std::isnan(b)); }

int main() {
    omp_set_dynamic(0);
    const float infinity = std::numeric_limits<float>::infinity();
    const std::vector<unsigned> offsets = {0, 5, 6, 6, 40};
    const unsigned rows = offsets.back(), examples = offsets.size() - 1;
    std::vector<float> magnitudes;
    for (int k = -6; k < 7; ++k) {
        magnitudes.push_back(std::ldexp(1.0f, k));
        magnitudes.push_back(std::ldexp(1.5f, k));
    }
    magnitudes.push_back(128.0f);
    const unsigned edges = magnitudes.size(), all = 2 * (edges + 1);
    for (unsigned width : {1u, 31u, 33u, 70u}) {
        std::vector<float> values(rows * width);
        for (float &value : values) {
            value = std::ldexp(float(std::rand()) / RAND_MAX - 0.5f, std::rand() % 18 - 8);
            switch (std::rand() % 40) {
            case 0: value = std::numeric_limits<float>::quiet_NaN(); break;
            case 1: value = -0.0f; break;
            case 2: value = infinity; break;
            case 3: value = magnitudes[std::rand() % edges] * (std::rand() % 2 ? 1.0f : -1.0f); break;
            }
        }
        std::vector<float> peaks(examples * width), troughs(examples * width);
        std::vector<unsigned> positive(examples * width), positive_of_all(width), counts(width * all);
        std::vector<double> powers(4 * examples * width), powers_of_all(4 * width);
        launch({(width + 31) / 32, examples}, {32}, [&] {
            summarise(values.data(), offsets.data(), width, peaks.data(), troughs.data(), positive.data(), powers.data());
        });
        launch({(width + 31) / 32}, {32}, [&] {
            total(positive.data(), powers.data(), examples, width, positive_of_all.data(), powers_of_all.data());
        });
        launch({(width + 31) / 32, 3}, {32, 8}, [&] {
            histogram(values.data(), rows, width, magnitudes.data(), edges, counts.data());
        });
        for (unsigned n = 0; n < width; ++n) {
            unsigned above = 0;
            double sums[4] = {0, 0, 0, 0};
            std::vector<unsigned> bins(all);
            for (unsigned e = 0; e < examples; ++e) {
                float peak = -infinity, trough = std::nanf("");
                double of_example[4] = {0, 0, 0, 0};
                for (unsigned r = offsets[e]; r < offsets[e + 1]; ++r) {
                    const float v = values[r * width + n];
                    if (v > peak || std::isnan(v)) peak = v;
                    if (v < trough || std::isnan(trough)) trough = v;
                    above += v > 0;
                    double power = 1;
                    for (int i = 0; i < 4; ++i) of_example[i] += power *= v;
                    unsigned beyond = 0;
                    for (float m : magnitudes) beyond += !(std::fabs(v) < m);
                    ++bins[std::signbit(v) ? edges - beyond : edges + 1 + beyond];
                }
                CHECK(same(peaks[e * width + n], peak), "width %u", width);
                CHECK(same(troughs[e * width + n], trough), "width %u", width);
                for (int i = 0; i < 4; ++i) sums[i] += of_example[i];
            }
            CHECK(positive_of_all[n] == above, "width %u", width);
            for (int i = 0; i < 4; ++i) {
                const double got = powers_of_all[4 * n + i];
                CHECK(got == sums[i] || !std::isfinite(sums[i]) || std::fabs(got - sums[i]) <= 1e-12 * std::fabs(sums[i]) + 1e-9, "width %u", width);
            }
            for (unsigned b = 0; b < all; ++b) CHECK(counts[n * all + b] == bins[b], "width %u", width);
        }
    }
    std::puts("reductions agree with loops");
}

// Our own attention: close to the exact result, and the same bits alone, in tiles,
// in batches, wherever cells lie and however many threads compute it.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <numeric>
#include <random>
#include <vector>

#include "llama/kernels/cache_cells.h"
#include "llama/testing/graph.h"

namespace hearth::llama {
namespace {

using namespace testing;

constexpr float kHidden = -std::numeric_limits<float>::infinity();

struct Shape {
    char const* name;
    int key_size;
    int value_size;
    int heads;
    int groups;
    int positions;
    int window = 0;  // positions that a row sees; 0: all
    float softcap = 0;
    float bias_max = 0;
    bool sinks = false;
};

// One row of a batch.
struct Row {
    int sequence;
    int position;
};

struct Layout {
    std::vector<Row> rows;
    std::uint32_t shuffle = 0;  // 0: cells in order of positions
    int idle = 0;               // cells of nobody
    int threads = 1;
};

void positions_of(void const* cells, int const* indices, int count, int* out) {
    auto const& all = *static_cast<std::vector<int> const*>(cells);
    for (int i = 0; i < count; ++i) out[i] = all[static_cast<std::size_t>(indices[i])];
}

// Two sequences with keys and values of their own, and a query for each position.
class Attention : public ::testing::TestWithParam<Shape> {
protected:
    static constexpr int kSequences = 2;
    Shape const& shape() const { return GetParam(); }

    static std::vector<float> vector(int size, int sequence, int position, int kind, int head) {
        auto const seed = static_cast<std::uint32_t>(((sequence * 4096 + position) * 4 + kind) * 64 + head);
        auto values = random_floats(size, seed + 1);
        if (kind != 0)  // as the cache keeps them
            for (float& value : values) value = ggml_fp16_to_fp32(ggml_fp32_to_fp16(value));
        return values;
    }
    [[nodiscard]] bool sees(Row const& row, int sequence, int position) const {
        return sequence == row.sequence && position <= row.position &&
               (shape().window == 0 || position > row.position - shape().window);
    }
    // What the mask adds, before the head's slope.
    [[nodiscard]] float mask(Row const& row, int position) const {
        return shape().bias_max > 0 ? -static_cast<float>(row.position - position) : 0;
    }
    [[nodiscard]] float scale() const { return 1 / std::sqrt(static_cast<float>(shape().key_size)); }

    std::vector<float> compute(Layout const& layout) const;
    [[nodiscard]] std::vector<double> exact(std::vector<Row> const& rows) const;
};

std::vector<float> Attention::compute(Layout const& layout) const {
    Shape const& s = shape();
    int const cells = (kSequences * s.positions + layout.idle + 255) / 256 * 256;
    // Cell of each position of each sequence.
    std::vector<int> place(static_cast<std::size_t>(cells));
    std::iota(place.begin(), place.end(), 0);
    std::mt19937 random(layout.shuffle);
    if (layout.shuffle != 0) std::shuffle(place.begin(), place.end(), random);
    std::vector<int> positions(static_cast<std::size_t>(cells), -1);

    Graph graph(layout.threads);
    auto* const c = graph.context();
    auto const rows = static_cast<std::int64_t>(layout.rows.size());
    auto* const q = ggml_new_tensor_3d(c, GGML_TYPE_F32, s.key_size, rows, s.heads);
    auto* const keys = ggml_new_tensor_2d(c, GGML_TYPE_F16, s.key_size * s.groups, cells);
    auto* const values = ggml_new_tensor_2d(c, GGML_TYPE_F16, s.value_size * s.groups, cells);

    auto* const shown = ggml_new_tensor_4d(c, GGML_TYPE_F16, cells, rows, 1, 1);
    auto* const sinks = ggml_new_tensor_1d(c, GGML_TYPE_F32, s.heads);
    auto const view = [&](ggml_tensor* all, int size) {
        return ggml_view_3d(c, all, size, cells, s.groups, all->nb[1], ggml_row_size(GGML_TYPE_F16, size), 0);
    };
    auto* const op = ggml_flash_attn_ext(c, q, view(keys, s.key_size), view(values, s.value_size), shown, scale(),
                                         s.bias_max, s.softcap);
    if (s.sinks) ggml_flash_attn_ext_add_sinks(op, sinks);
    graph.allocate();

    auto const half = [](float value) { return ggml_fp32_to_fp16(value); };
    std::vector<ggml_fp16_t> k(static_cast<std::size_t>(ggml_nelements(keys))), v(k.size());
    v.resize(static_cast<std::size_t>(ggml_nelements(values)));
    std::vector<ggml_fp16_t> m(static_cast<std::size_t>(rows * cells), half(kHidden));
    for (int sequence = 0; sequence < kSequences; ++sequence)
        for (int p = 0; p < s.positions; ++p) {
            int const cell = place[static_cast<std::size_t>(sequence * s.positions + p)];
            positions[static_cast<std::size_t>(cell)] = p;
            for (int g = 0; g < s.groups; ++g) {
                auto const key = vector(s.key_size, sequence, p, 1, g), value = vector(s.value_size, sequence, p, 2, g);
                std::transform(key.begin(), key.end(), k.begin() + (cell * s.groups + g) * s.key_size, half);
                std::transform(value.begin(), value.end(), v.begin() + (cell * s.groups + g) * s.value_size, half);
            }
            for (std::size_t r = 0; r < layout.rows.size(); ++r)
                if (sees(layout.rows[r], sequence, p))
                    m[r * static_cast<std::size_t>(cells) + static_cast<std::size_t>(cell)] =
                        half(mask(layout.rows[r], p));
        }
    std::vector<float> queries;
    for (int h = 0; h < s.heads; ++h)
        for (Row const& row : layout.rows) {
            auto const query = vector(s.key_size, row.sequence, row.position, 0, h);
            queries.insert(queries.end(), query.begin(), query.end());
        }
    ggml_backend_tensor_set(q, queries.data(), 0, ggml_nbytes(q));
    ggml_backend_tensor_set(keys, k.data(), 0, ggml_nbytes(keys));
    ggml_backend_tensor_set(values, v.data(), 0, ggml_nbytes(values));
    ggml_backend_tensor_set(shown, m.data(), 0, ggml_nbytes(shown));
    auto const sink = random_floats(s.heads, 99);
    ggml_backend_tensor_set(sinks, sink.data(), 0, ggml_nbytes(sinks));
    CacheCells cache;
    cache.cells = &positions;
    cache.positions = positions_of;
    keys->extra = &cache;
    return graph.compute(op);
}

// In 64 bits: rows x heads x value_size.
std::vector<double> Attention::exact(std::vector<Row> const& rows) const {
    Shape const& s = shape();
    auto const sink = random_floats(s.heads, 99);
    std::vector<double> all;
    for (Row const& row : rows)
        for (int h = 0; h < s.heads; ++h) {
            int const group = h / (s.heads / s.groups);
            auto const q = vector(s.key_size, row.sequence, row.position, 0, h);
            double const slope =
                s.bias_max > 0 ? std::pow(2.0, -static_cast<double>(s.bias_max) * (h + 1) / s.heads) : 1;
            double total = s.sinks ? std::exp(static_cast<double>(sink[static_cast<std::size_t>(h)])) : 0;
            std::vector<double> sums(static_cast<std::size_t>(s.value_size), 0);
            for (int p = 0; p <= row.position; ++p) {
                if (!sees(row, row.sequence, p)) continue;
                auto const k = vector(s.key_size, row.sequence, p, 1, group);
                double score = static_cast<double>(scale()) * std::inner_product(q.begin(), q.end(), k.begin(), 0.0);
                if (s.softcap > 0)
                    score = static_cast<double>(s.softcap) * std::tanh(score / static_cast<double>(s.softcap));
                double const weight = std::exp(score + slope * static_cast<double>(mask(row, p)));
                total += weight;
                auto const v = vector(s.value_size, row.sequence, p, 2, group);
                for (std::size_t d = 0; d < sums.size(); ++d) sums[d] += weight * static_cast<double>(v[d]);
            }
            for (double const sum : sums) all.push_back(sum / total);
        }
    return all;
}

std::vector<Row> prompt(int sequence, int begin, int end) {
    std::vector<Row> rows;
    for (int p = begin; p < end; ++p) rows.push_back({sequence, p});
    return rows;
}

TEST_P(Attention, IsCloseToTheExactResult) {
    auto const rows = prompt(0, shape().positions - 9, shape().positions);
    EXPECT_LT(error(compute({.rows = rows}), exact(rows)), 1e-10);
}

TEST_P(Attention, ARowHasTheSameBitsWhateverIsComputedWithIt) {
    int const n = shape().positions;
    auto const width = static_cast<std::ptrdiff_t>(shape().heads * shape().value_size);
    std::vector<Layout> layouts;
    layouts.push_back({.rows = prompt(0, 0, n)});
    layouts.push_back({.rows = prompt(0, 0, n), .shuffle = 3, .idle = 1000, .threads = 3});
    layouts.push_back({.rows = prompt(0, n - 20, n), .shuffle = 4});
    layouts.push_back({.rows = {{1, 3}, {0, n - 1}, {1, n - 1}}, .shuffle = 5, .idle = 300, .threads = 2});
    layouts.push_back({.rows = {{0, n - 1}}, .shuffle = 6, .idle = 2000});
    layouts.push_back({.rows = {{0, n - 1}}, .threads = 2});
    auto mixed = prompt(1, 0, n / 2);
    mixed.push_back({0, n - 1});
    layouts.push_back({.rows = mixed, .shuffle = 7, .threads = 2});
    auto const alone = bits(compute({.rows = {{0, n - 1}}}));
    for (std::size_t i = 0; i < layouts.size(); ++i) {
        auto const& rows = layouts[i].rows;
        auto const at = std::find_if(rows.begin(), rows.end(),
                                     [&](Row const& row) { return row.sequence == 0 && row.position == n - 1; }) -
                        rows.begin();
        auto const all = bits(compute(layouts[i]));
        EXPECT_TRUE(std::equal(alone.begin(), alone.end(), all.begin() + at * width)) << i;
    }
}

INSTANTIATE_TEST_SUITE_P(
    Shapes, Attention,
    ::testing::Values(
        Shape{.name = "smollm2", .key_size = 64, .value_size = 64, .heads = 9, .groups = 3, .positions = 600},
        Shape{.name = "tiny", .key_size = 8, .value_size = 8, .heads = 8, .groups = 4, .positions = 70},
        Shape{.name = "one_group", .key_size = 256, .value_size = 256, .heads = 4, .groups = 1, .positions = 300},
        Shape{.name = "window",
              .key_size = 32,
              .value_size = 32,
              .heads = 4,
              .groups = 2,
              .positions = 530,
              .window = 70},
        Shape{.name = "unequal", .key_size = 80, .value_size = 48, .heads = 2, .groups = 2, .positions = 260},
        Shape{.name = "capped",
              .key_size = 64,
              .value_size = 64,
              .heads = 2,
              .groups = 1,
              .positions = 100,
              .softcap = 20},
        Shape{.name = "sinks",
              .key_size = 64,
              .value_size = 64,
              .heads = 8,
              .groups = 1,
              .positions = 130,
              .window = 128,
              .sinks = true},
        Shape{.name = "alibi",
              .key_size = 64,
              .value_size = 64,
              .heads = 4,
              .groups = 4,
              .positions = 100,
              .bias_max = 8}),
    [](auto const& tested) { return std::string(tested.param.name); });

}  // namespace
}  // namespace hearth::llama

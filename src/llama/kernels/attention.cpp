// Flash attention over a cache that sequences share, in place of upstream's for
// batches of several rows.
//
// Upstream compares each row of each head with every cell of the cache, or, from
// 64 rows on, computes tiles of rows against all cells that any row of the tile
// sees; with many sequences in one cache nearly all of that is for nothing. Here
// the cells a row sees are listed first. Rows of one prompt (neighbours whose
// cells begin at the same place) are computed in tiles as upstream does, other
// rows one by one as upstream does for few rows: the same operations in the same
// order, so that a prompt or token computed alone has the same bits as upstream's.
//
// Source: ggml_compute_forward_flash_attn_ext_f16_one_chunk and _tiled of
// ggml-cpu/ops.cpp; online softmax: https://arxiv.org/abs/2112.05682.
//
// Threads: compute threads, all at once on one operation; each has its own part
// of the operation's work memory and takes units of work from the pool's counter.
#include "llama/kernels/kernels.h"

#include <common.h>
#include <ggml-backend-impl.h>
#include <ggml-cpu-impl.h>
#include <ggml-cpu.h>
#include <ggml-impl.h>
#include <simd-gemm.h>
#include <vec.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <span>

namespace hearth::llama {
namespace {

constexpr int kTile = GGML_FA_TILE_Q;   // rows, and cells, of a tile
constexpr std::size_t kCacheLine = 64;  // bytes
constexpr std::uint16_t kHidden = 0xFC00;  // -infinity as a 16-bit float: the row does not see the cell
constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();

struct Op {
    ggml_tensor const& q;
    ggml_tensor const& k;
    ggml_tensor const& v;
    ggml_tensor const& mask;
    ggml_tensor& out;
    int rows;       // tokens of the batch
    int heads;      // of queries
    int groups;     // of heads that share keys and values
    int cells;      // of the cache that are looked at
    int key_size;   // elements of a head's key
    int value_size;
    float scale;
    float softcap;

    explicit Op(ggml_tensor& op)
        : q(*op.src[0]),
          k(*op.src[1]),
          v(*op.src[2]),
          mask(*op.src[3]),
          out(op),
          rows(static_cast<int>(q.ne[1])),
          heads(static_cast<int>(q.ne[2])),
          groups(static_cast<int>(k.ne[2])),
          cells(static_cast<int>(k.ne[1])),
          key_size(static_cast<int>(k.ne[0])),
          value_size(static_cast<int>(v.ne[0])),
          scale(ggml_get_op_params_f32(&op, 0)),
          softcap(ggml_get_op_params_f32(&op, 2)) {
        if (softcap != 0) scale /= softcap;
    }

    template <typename T>
    static T const* at(ggml_tensor const& tensor, int i1, int i2) {
        return reinterpret_cast<T const*>(static_cast<char const*>(tensor.data) +
                                          static_cast<std::size_t>(i1) * tensor.nb[1] +
                                          static_cast<std::size_t>(i2) * tensor.nb[2]);
    }
    [[nodiscard]] ggml_fp16_t const* mask_row(int row) const { return at<ggml_fp16_t>(mask, row, 0); }
    [[nodiscard]] float* result(int row, int head) const {
        return reinterpret_cast<float*>(static_cast<char*>(out.data) +
                                        static_cast<std::size_t>(head + row * heads) * out.nb[1]);
    }
};

// What is left to upstream: one row, and kinds of attention that few models have.
bool is_ours(ggml_tensor const& op) {
    if (op.op != GGML_OP_FLASH_ATTN_EXT || op.src[3] == nullptr || op.src[4] != nullptr) return false;
    ggml_tensor const& q = *op.src[0];
    ggml_tensor const& k = *op.src[1];
    ggml_tensor const& v = *op.src[2];
    ggml_tensor const& mask = *op.src[3];
    bool const types =
        q.type == GGML_TYPE_F32 && k.type == GGML_TYPE_F16 && v.type == GGML_TYPE_F16 && mask.type == GGML_TYPE_F16;
    bool const shapes = q.ne[1] >= 2 && q.ne[3] == 1 && k.ne[3] == 1 && v.ne[3] == 1 && mask.ne[2] == 1 &&
                        mask.ne[3] == 1 && v.ne[2] == k.ne[2] && q.ne[2] % k.ne[2] == 0;
    bool const plain = ggml_get_op_params_f32(&op, 1) == 0;  // no bias by distance
    return types && shapes && plain;
}

// One thread's part of the operation's work memory.
struct Scratch {
    int* cells;        // the list; op.cells of it
    int* starts;       // first rows of the units, and one past the last; op.rows + 1
    float* queries;    // kTile x key_size
    float* keys;       // key_size x kTile
    float* scores;     // kTile x kTile
    float* masks;      // kTile x kTile
    float* values;     // kTile x value_size
    float* sums;       // kTile x value_size
    std::uint16_t* seen;  // op.cells: kHidden where no row of a tile sees the cell

    static std::size_t bytes(Op const& op) {
        std::size_t const k = static_cast<std::size_t>(op.key_size);
        std::size_t const v = static_cast<std::size_t>(op.value_size);
        std::size_t const floats = std::size_t{kTile} * (2 * (k + v) + 2 * std::size_t{kTile});
        std::size_t const list = static_cast<std::size_t>(op.cells) * 2 + static_cast<std::size_t>(op.rows) + 1;
        return (floats + list) * 4 / kCacheLine * kCacheLine + 2 * kCacheLine;
    }

    Scratch(Op const& op, void* memory) {
        auto* at = static_cast<float*>(memory);
        auto const take = [&at](int count) {
            float* const begin = at;
            at += count;
            return begin;
        };
        queries = take(kTile * op.key_size);
        keys = take(kTile * op.key_size);
        scores = take(kTile * kTile);
        masks = take(kTile * kTile);
        values = take(kTile * op.value_size);
        sums = take(kTile * op.value_size);
        cells = reinterpret_cast<int*>(take(op.cells));
        starts = reinterpret_cast<int*>(take(op.rows + 1));
        seen = reinterpret_cast<std::uint16_t*>(take(op.cells));
    }
};

float* row_of(float* matrix, int row, int columns) { return matrix + static_cast<std::ptrdiff_t>(row) * columns; }
std::size_t bytes_of(int rows, int columns) {
    return sizeof(float) * static_cast<std::size_t>(rows) * static_cast<std::size_t>(columns);
}

// Whether any of `count` cells is seen; a loop that compilers vectorise.
bool any_seen(std::uint16_t const* mask, int count) {
    std::uint16_t any = 0;
    for (int i = 0; i < count; ++i) any = static_cast<std::uint16_t>(any | (mask[i] ^ kHidden));
    return any != 0;
}

int first_seen(std::uint16_t const* mask, int cells) {
    for (int begin = 0; begin < cells; begin += kTile) {
        int const end = std::min(begin + kTile, cells);
        if (!any_seen(mask + begin, end - begin)) continue;
        for (int i = begin; i < end; ++i)
            if (mask[i] != kHidden) return i;
    }
    return cells;
}

// Decoding sequences leave cells of each all over the cache: few blocks are
// empty, but most words of four cells are.
std::span<int const> list_seen(std::uint16_t const* mask, int cells, int* out) {
    constexpr std::uint64_t kHiddenWord = 0x0001'0001'0001'0001 * std::uint64_t{kHidden};
    constexpr int kWord = 4;
    int count = 0;
    auto const push = [&](int i) {
        out[count] = i;
        count += mask[i] != kHidden ? 1 : 0;
    };
    int i = 0;
    for (; i + kWord <= cells; i += kWord) {
        std::uint64_t word = 0;
        std::memcpy(&word, mask + i, sizeof(word));
        if (word == kHiddenWord) continue;
        for (int j = i; j < i + kWord; ++j) push(j);
    }
    for (; i < cells; ++i) push(i);
    return {out, static_cast<std::size_t>(count)};
}

// Cuts the rows into units: tiles of neighbours that see the same cells but for
// the latest ones, as rows of one prompt do (a sliding window also moves the
// first one along), and single rows. A run too short for a tile is single rows.
// Returns how many; all threads find the same.
int cut_units(Op const& op, int* starts) {
    int units = 0;
    int row = 0;
    while (row < op.rows) {
        int end = row + 1;
        for (int last = first_seen(op.mask_row(row), op.cells); end < op.rows; ++end) {
            int const next = first_seen(op.mask_row(end), op.cells);
            if (next != last && next != last + 1) break;
            last = next;
        }
        int const step = end - row >= kTile ? kTile : 1;
        for (; row < end; row = std::min(row + step, end)) starts[units++] = row;
    }
    starts[units] = op.rows;
    return units;
}

// One row of one head, cell by cell.
void compute_row(Op const& op, int row, int head, std::span<int const> seen, Scratch const& scratch) {
    int const group = head / (op.heads / op.groups);
    auto const* const traits = ggml_get_type_traits_cpu(GGML_TYPE_F16);
    auto* const query = reinterpret_cast<ggml_fp16_t*>(scratch.queries);
    auto* const sum16 = reinterpret_cast<ggml_fp16_t*>(scratch.values);
    std::memset(sum16, 0, static_cast<std::size_t>(op.value_size) * sizeof(ggml_fp16_t));
    traits->from_float(Op::at<float>(op.q, row, head), query, op.key_size);
    ggml_fp16_t const* const mask = op.mask_row(row);

    float total = 0;
    float most = kMinusInfinity;
    for (int const cell : seen) {
        float score = 0;
        traits->vec_dot(op.key_size, &score, 0, Op::at<void>(op.k, cell, group), 0, query, 0, 1);
        score *= op.scale;
        if (op.softcap != 0) score = op.softcap * std::tanh(score);
        score += GGML_CPU_FP16_TO_FP32(mask[cell]);
        float rescale = 1;
        float weight = 1;
        if (score > most) {
            rescale = std::exp(most - score);
            most = score;
            ggml_vec_scale_f16(op.value_size, sum16, rescale);
        } else {
            weight = std::exp(score - most);
        }
        ggml_vec_mad_f16(op.value_size, sum16, Op::at<ggml_fp16_t>(op.v, cell, group), weight);
        total = total * rescale + weight;
    }
    float* const result = op.result(row, head);
    for (int d = 0; d < op.value_size; ++d) result[d] = GGML_CPU_FP16_TO_FP32(sum16[d]);
    ggml_vec_scale_f32(op.value_size, result, total == 0 ? 0 : 1 / total);
}

// Keys, values and masks of up to kTile listed cells, as 32-bit floats; what is
// left of the tile is zero, or hidden.
void pack_cells(Op const& op, int row, int rows, int group, std::span<int const> cells, Scratch const& scratch) {
    int const count = static_cast<int>(cells.size());
    if (count < kTile) {
        std::memset(scratch.keys, 0, bytes_of(kTile, op.key_size));
        std::memset(scratch.values, 0, bytes_of(kTile, op.value_size));
    }
    for (int i = 0; i < count; ++i) {
        int const cell = cells[static_cast<std::size_t>(i)];
        auto const* const key = Op::at<ggml_fp16_t>(op.k, cell, group);
        for (int d = 0; d < op.key_size; ++d) row_of(scratch.keys, d, kTile)[i] = GGML_CPU_FP16_TO_FP32(key[d]);
        ggml_cpu_fp16_to_fp32(Op::at<ggml_fp16_t>(op.v, cell, group), row_of(scratch.values, i, op.value_size),
                              op.value_size);
    }
    for (int r = 0; r < rows; ++r) {
        ggml_fp16_t const* const mask = op.mask_row(row + r);
        float* const to = row_of(scratch.masks, r, kTile);
        for (int i = 0; i < count; ++i) to[i] = GGML_CPU_FP16_TO_FP32(mask[cells[static_cast<std::size_t>(i)]]);
        std::fill(to + count, to + kTile, kMinusInfinity);
    }
}

// Up to kTile rows of one head against the cells that any of them sees.
void compute_tile(Op const& op, int row, int rows, int head, std::span<int const> seen, Scratch const& scratch) {
    int const group = head / (op.heads / op.groups);
    float total[kTile] = {};
    float most[kTile];
    std::fill(most, most + kTile, kMinusInfinity);
    std::memset(scratch.sums, 0, bytes_of(kTile, op.value_size));
    std::memset(scratch.queries, 0, bytes_of(kTile, op.key_size));
    for (int r = 0; r < rows; ++r)
        std::memcpy(row_of(scratch.queries, r, op.key_size), Op::at<float>(op.q, row + r, head),
                    bytes_of(1, op.key_size));

    for (std::size_t begin = 0; begin < seen.size(); begin += kTile) {
        auto const cells = seen.subspan(begin, std::min<std::size_t>(kTile, seen.size() - begin));
        pack_cells(op, row, rows, group, cells, scratch);
        std::memset(scratch.scores, 0, bytes_of(kTile, kTile));
        simd_gemm(scratch.scores, scratch.queries, scratch.keys, kTile, op.key_size, kTile);
        ggml_vec_scale_f32(kTile * kTile, scratch.scores, op.scale);
        if (op.softcap != 0) {
            ggml_vec_tanh_f32(kTile * kTile, scratch.scores, scratch.scores);
            ggml_vec_scale_f32(kTile * kTile, scratch.scores, op.softcap);
        }
        ggml_vec_add_f32(rows * kTile, scratch.scores, scratch.scores, scratch.masks);
        std::memset(row_of(scratch.scores, rows, kTile), 0, bytes_of(kTile - rows, kTile));
        for (int r = 0; r < rows; ++r) {
            float* const scores = row_of(scratch.scores, r, kTile);
            float largest = kMinusInfinity;
            ggml_vec_max_f32(kTile, &largest, scores);
            if (largest == kMinusInfinity) {
                std::memset(scores, 0, sizeof(float) * kTile);
                continue;
            }
            if (largest > most[r]) {
                float const rescale = std::exp(most[r] - largest);
                ggml_vec_scale_f32(op.value_size, row_of(scratch.sums, r, op.value_size), rescale);
                total[r] *= rescale;
                most[r] = largest;
            }
            total[r] = static_cast<float>(total[r] + ggml_vec_soft_max_f32(kTile, scores, scores, most[r]));
        }
        simd_gemm(scratch.sums, scratch.scores, scratch.values, kTile, kTile, op.value_size);
    }
    for (int r = 0; r < rows; ++r) {
        float* const sum = row_of(scratch.sums, r, op.value_size);
        ggml_vec_scale_f32(op.value_size, sum, total[r] == 0 ? 0 : 1 / total[r]);
        std::memcpy(op.result(row + r, head), sum, bytes_of(1, op.value_size));
    }
}

// Rows [row, row + rows) of the heads [begin, end).
void compute_unit(Op const& op, int row, int rows, int begin, int end, Scratch const& scratch) {
    std::uint16_t const* mask = op.mask_row(row);
    if (rows > 1) {
        std::copy(mask, mask + op.cells, scratch.seen);
        for (int r = 1; r < rows; ++r) {
            std::uint16_t const* const next = op.mask_row(row + r);
            for (int i = 0; i < op.cells; ++i) scratch.seen[i] = scratch.seen[i] == kHidden ? next[i] : scratch.seen[i];
        }
        mask = scratch.seen;
    }
    auto const seen = list_seen(mask, op.cells, scratch.cells);
    for (int head = begin; head < end; ++head) {
        if (rows > 1) {
            compute_tile(op, row, rows, head, seen, scratch);
        } else {
            compute_row(op, row, head, seen, scratch);
        }
    }
}

struct Attention final : ggml::cpu::tensor_traits {
    bool work_size(int threads, ggml_tensor const* op, std::size_t& size) override {
        size = Scratch::bytes(Op(*const_cast<ggml_tensor*>(op))) * static_cast<std::size_t>(threads);
        return true;
    }

    bool compute_forward(ggml_compute_params* params, ggml_tensor* tensor) override {
        Op const op(*tensor);
        Scratch const scratch(
            op, static_cast<char*>(params->wdata) + Scratch::bytes(op) * static_cast<std::size_t>(params->ith));
        int const units = cut_units(op, scratch.starts);
        if (params->ith == 0) ggml_threadpool_chunk_set(params->threadpool, params->nth);
        ggml_barrier(params->threadpool);
        // Listing the cells costs as much as a few heads: cut by heads only where rows alone leave threads idle.
        int const parts = units >= 4 * params->nth ? 1 : op.groups;
        int const share = op.heads / parts;
        for (int next = params->ith; next < units * parts; next = ggml_threadpool_chunk_add(params->threadpool, 1)) {
            int const unit = next / parts;
            int const row = scratch.starts[unit];
            int const head = next % parts * share;
            compute_unit(op, row, scratch.starts[unit + 1] - row, head, head + share, scratch);
        }
        return true;
    }
};

}  // namespace

ggml::cpu::tensor_traits* attention(ggml_tensor const& op) {
    static Attention traits;
    return is_ours(op) ? &traits : nullptr;
}

}  // namespace hearth::llama

// Flash attention over a cache that sequences share, in place of upstream's.
//
// What a row of a head gets depends on its query and on keys and values of the
// positions it sees, on nothing else: not on the rows computed with it, not on the
// cells its sequence was given, not on who else has cells, not on threads. For
// that, positions are taken in blocks of 256 whose borders are multiples of 256:
//
//   scores   q . k, each in 16 partial sums that are added up in one order
//   weights  e^(score - the block's greatest), 0 for what the row does not see
//   sums     of weights, and of weights x values, by position
//   blocks   are then put together in order: https://arxiv.org/abs/2112.05682
//
// A unit of work is a tile of rows of one prompt, or one row, with all heads that
// share keys and values; where one is a large part of the whole, a block of it. Cells that no
// row of a unit sees cost nothing (attention_plan.h lists the others once per
// graph). 16-bit keys and values are widened a strip at a time; all sums are 32 bits wide.
//
// Threads: compute threads, all at once on one operation; each has its own part
// of the operation's work memory and takes units of work from the pool's counter.
#include <ggml-backend-impl.h>
#include <ggml-cpu-impl.h>
#include <ggml-cpu.h>
#include <ggml-impl.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

#include "llama/kernels/attention_op.h"
#include "llama/kernels/attention_plan.h"
#include "llama/kernels/kernels.h"
#include "llama/kernels/simd.h"

namespace hearth::llama {
namespace {

using Op = AttentionOp;

constexpr int kBlock = kAttentionBlock;
constexpr std::ptrdiff_t kScores = kBlock;  // from one query's scores to the next one's
constexpr std::ptrdiff_t kVector = kLanes;  // and from one register's floats to the next one's
constexpr int kStrip = 64;              // positions whose keys and values are widened together
constexpr std::size_t kSplitFloats = 2U << 20;  // sums of blocks that may be shared out among threads take at most
constexpr int kUnitsPerThread = 4;      // enough to keep all threads busy to the end
constexpr std::size_t kCacheLine = 64;  // bytes
constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();

#if defined(__AVX512F__)
constexpr int kDotRows = 4, kDotKeys = 4;  // products at once
constexpr int kSumRows = 4, kSumParts = 4;
#else
constexpr int kDotRows = 2, kDotKeys = 2;
constexpr int kSumRows = 2, kSumParts = 2;
#endif

CacheCells* cache_of(ggml_tensor const& keys) {
    ggml_tensor const* const storage = keys.view_src;
    if (storage == nullptr || storage->extra == nullptr) return nullptr;
    auto* const cache = static_cast<CacheCells*>(storage->extra);
    return cache->magic == CacheCells::kMagic ? cache : nullptr;
}

// The plan of the graph being computed. A layer that was served before begins another graph.
AttentionPlan const& plan_of(Op const& op) {
    thread_local AttentionPlan own;
    CacheCells* const cache = cache_of(op.k);
    AttentionPlan& plan = cache == nullptr ? own : cache->plan;
    auto& served = plan.served;
    bool const same = cache != nullptr && plan.mask == op.mask.data && plan.mask_rows == op.rows &&
                      plan.mask_cells == op.cells && std::find(served.begin(), served.end(), op.k.data) == served.end();
    if (!same) {
        served.clear();
        make_plan(op.mask, op.rows, op.cells, cache, plan);
    }
    served.push_back(op.k.data);
    return plan;
}

// Rows of a run that are computed together, with the heads of one group.
struct Tile {
    AttentionRun const* run;
    int row;
    int rows;
    int group;
    int begin;  // slots that any of them sees
    int end;
};

// The queries of a tile are its rows times the heads of its group.
struct Sums {
    float* values;  // queries x value_width
    float* most;    // queries
    float* total;   // queries
};

// One thread's part of the work memory.
struct Scratch {
    float* queries;  // kTileRows x key_width
    float* keys;     // kStrip x key_width
    float* values;   // kStrip x value_width
    float* scores;   // kTileRows x kBlock
    Sums block;
    Sums sums;

    static std::size_t floats(Op const& op) {
        auto const keys = static_cast<std::size_t>(op.key_width), values = static_cast<std::size_t>(op.value_width);
        return kTileRows * (keys + 2 * values + kBlock + 4) + kStrip * (keys + values);
    }

    Scratch(Op const& op, float* at) {
        auto const take = [&at](int count) {
            float* const begin = at;
            at += count;
            return begin;
        };
        queries = take(kTileRows * op.key_width);
        keys = take(kStrip * op.key_width);
        values = take(kStrip * op.value_width);
        scores = take(kTileRows * kBlock);
        for (Sums* part : {&block, &sums})
            *part = {.values = take(kTileRows * op.value_width), .most = take(kTileRows), .total = take(kTileRows)};
    }
};

// The operation's work memory: which plan; sums of blocks, where threads share them out; the threads' own parts.
struct Memory {
    AttentionPlan const** plan;
    float* blocks;
    float* own;

    // A run begins and ends within a block.
    static int blocks_max(Op const& op) { return op.cells / kBlock + 3; }
    static bool may_split(Op const& op) { return block_floats(op) > 0; }
    // None where they would be too many.
    static std::size_t block_floats(Op const& op) {
        auto const floats = static_cast<std::size_t>(op.rows * op.heads) * static_cast<std::size_t>(blocks_max(op)) *
                            static_cast<std::size_t>(op.value_width + kLanes);
        return floats <= kSplitFloats ? floats : 0;
    }
    static std::size_t bytes(Op const& op, int threads) {
        return 2 * kCacheLine +
               sizeof(float) * (block_floats(op) + Scratch::floats(op) * static_cast<std::size_t>(threads));
    }

    Memory(Op const& op, void* work, int thread) {
        auto const misplaced = reinterpret_cast<std::uintptr_t>(work) % kCacheLine;
        auto* const at = static_cast<char*>(work) + (kCacheLine - misplaced) % kCacheLine;
        plan = reinterpret_cast<AttentionPlan const**>(at);
        blocks = reinterpret_cast<float*>(at + kCacheLine);
        own = blocks + block_floats(op) + Scratch::floats(op) * static_cast<std::size_t>(thread);
    }

    // Of one query: weighted values, then the greatest score and the weights' sum.
    [[nodiscard]] float* block(Op const& op, int row, int head, int block) const {
        auto const index = static_cast<std::ptrdiff_t>(row * op.heads + head) * blocks_max(op) + block;
        return blocks + index * (op.value_width + kLanes);
    }
};

void widen(ggml_fp16_t const* from, float* to, int size) {
    int i = 0;
    for (; i + kLanes <= size; i += kLanes) store(to + i, load(from + i));
    if (i == size) return;
    ggml_fp16_t rest[kLanes] = {};
    std::memcpy(rest, from + i, static_cast<std::size_t>(size - i) * sizeof(ggml_fp16_t));
    store(to + i, load(rest));
}

void load_queries(Op const& op, Tile const& tile, Scratch const& scratch) {
    for (int r = 0; r < tile.rows; ++r)
        for (int h = 0; h < op.shared; ++h) {
            float* const to = scratch.queries + static_cast<std::ptrdiff_t>(r * op.shared + h) * op.key_width;
            std::memcpy(to, Op::at<float>(op.q, tile.row + r, tile.group * op.shared + h),
                        static_cast<std::size_t>(op.key_size) * sizeof(float));
            std::fill(to + op.key_size, to + op.key_width, 0.0F);
        }
}

// Keys or values of the slots [begin, begin + kStrip), as 32-bit floats; zeros where there is no cell.
// `count` slots are left of the run: those of the next strip are asked for, to be near when it is loaded.
void load_strip(ggml_tensor const& cache, int group, int const* cells, int count, int size, int width, float* to) {
    for (int i = 0; i < kStrip; ++i, to += width) {
        if (int const later = i + kStrip; later < count && cells[later] >= 0) {
            auto const* const line = reinterpret_cast<char const*>(Op::at<ggml_fp16_t>(cache, cells[later], group));
            for (std::size_t byte = 0; byte < static_cast<std::size_t>(size) * sizeof(ggml_fp16_t); byte += kCacheLine)
                __builtin_prefetch(line + byte);
        }
        if (i < count && cells[i] >= 0) widen(Op::at<ggml_fp16_t>(cache, cells[i], group), to, size);
        else std::fill(to, to + width, 0.0F);
    }
}

template <int Rows, int Keys>
HEARTH_INLINE void dot(float const* q, float const* k, std::ptrdiff_t width, F32x16* out, int stride) {
    F32x16 sum[Rows][Keys];
    for (int i = 0; i < Rows; ++i)
        for (int j = 0; j < Keys; ++j) sum[i][j] = load(q + i * width) * load(k + j * width);
    for (std::ptrdiff_t d = kLanes; d < width; d += kLanes) {
        F32x16 key[Keys];
        for (int j = 0; j < Keys; ++j) key[j] = load(k + j * width + d);
        for (int i = 0; i < Rows; ++i) {
            F32x16 const query = load(q + i * width + d);
            for (int j = 0; j < Keys; ++j) sum[i][j] = multiply_add(query, key[j], sum[i][j]);
        }
    }
    for (int i = 0; i < Rows; ++i)
        for (int j = 0; j < Keys; ++j) out[i * stride + j] = sum[i][j];
}

// `Rows` queries times a strip of keys. However many: each product is the same.
template <int Rows>
void score_rows(float const* q, float const* k, std::ptrdiff_t width, float scale, float* scores) {
    constexpr int kKeys = kLanes / Rows;  // whose products fill the lanes
    constexpr int kRowsAtOnce = std::min(Rows, kDotRows);
    constexpr int kKeysAtOnce = std::min(kKeys, kDotRows * kDotKeys / kRowsAtOnce);
    for (int key = 0; key < kStrip; key += kKeys) {
        F32x16 products[kLanes];
        for (int i = 0; i < Rows; i += kRowsAtOnce)
            for (int j = 0; j < kKeys; j += kKeysAtOnce)
                dot<kRowsAtOnce, kKeysAtOnce>(q + i * width, k + (key + j) * width, width,
                                              products + static_cast<std::ptrdiff_t>(i) * kKeys + j, kKeys);
        float lanes[kLanes];
        store(lanes, sum_rows(products) * scale);
        for (int i = 0; i < Rows; ++i)
            std::memcpy(scores + i * kScores + key, lanes + static_cast<std::ptrdiff_t>(i) * kKeys,
                        sizeof(float) * kKeys);
    }
}

void score(Op const& op, int queries, Scratch const& scratch, int offset) {
    int i = 0;
    auto const next = [&]<int Rows>() {
        score_rows<Rows>(scratch.queries + static_cast<std::ptrdiff_t>(i) * op.key_width, scratch.keys, op.key_width,
                         op.scale, scratch.scores + static_cast<std::ptrdiff_t>(i) * kBlock + offset);
        i += Rows;
    };
    while (queries - i >= 4) next.operator()<4>();
    if (queries - i >= 2) next.operator()<2>();
    if (queries - i >= 1) next.operator()<1>();
}

// Values of the slots [from, to) of a strip, weighted, for `Rows` queries.
template <int Rows, int Parts>
HEARTH_INLINE void add_values(float const* weights, float const* values, std::ptrdiff_t width, int from, int to,
                              float* sums) {
    F32x16 sum[Rows][Parts];
    for (int i = 0; i < Rows; ++i)
        for (int p = 0; p < Parts; ++p) sum[i][p] = load(sums + i * width + p * kVector);
    for (int slot = from; slot < to; ++slot) {
        F32x16 value[Parts];
        for (int p = 0; p < Parts; ++p) value[p] = load(values + slot * width + p * kVector);
        for (int i = 0; i < Rows; ++i) {
            F32x16 const weight = all(weights[i * kScores + slot]);
            for (int p = 0; p < Parts; ++p) sum[i][p] = multiply_add(weight, value[p], sum[i][p]);
        }
    }
    for (int i = 0; i < Rows; ++i)
        for (int p = 0; p < Parts; ++p) store(sums + i * width + p * kVector, sum[i][p]);
}

template <int Rows>
void sum_strip(float const* weights, float const* values, std::ptrdiff_t width, int from, int to, float* sums) {
    std::ptrdiff_t d = 0;
    for (; d + kSumParts * kVector <= width; d += kSumParts * kVector)
        add_values<Rows, kSumParts>(weights, values + d, width, from, to, sums + d);
    for (; d < width; d += kLanes) add_values<Rows, 1>(weights, values + d, width, from, to, sums + d);
}

void sum_values(Op const& op, int queries, Scratch const& scratch, int offset, int from, int to) {
    int i = 0;
    auto const next = [&]<int Rows>() {
        sum_strip<Rows>(scratch.scores + static_cast<std::ptrdiff_t>(i) * kBlock + offset, scratch.values,
                        op.value_width, from, to,
                        scratch.block.values + static_cast<std::ptrdiff_t>(i) * op.value_width);
        i += Rows;
    };
    while (queries - i >= kSumRows) next.operator()<kSumRows>();
    while (queries - i >= 1) next.operator()<1>();
}

// The cap on scores, what the mask adds where it does more than show and hide, and slots without a cell.
void adjust(Op const& op, Tile const& tile, bool plain, int query, int const* cells, int from, int to, float* scores) {
    if (op.softcap != 0)
        for (int i = from; i < to; ++i) scores[i] = op.softcap * std::tanh(scores[i]);
    if (tile.run->holes)
        for (int i = from; i < to; ++i)
            if (cells[i] < 0) scores[i] = kMinusInfinity;
    if (plain) return;
    auto const* const mask = Op::at<ggml_fp16_t>(op.mask, tile.row + query / op.shared, 0);
    float const slope = op.slope(tile.group * op.shared + query % op.shared);
    for (int i = from; i < to; ++i)
        if (cells[i] >= 0) scores[i] += slope * GGML_CPU_FP16_TO_FP32(mask[cells[i]]);
}

// Scores of one query to weights; what it does not see gets none. Slots from `low`
// to `high` of the block are those some query of the tile sees, in whole strips.
void weigh(float* scores, int from, int to, int low, int high, float& most, float& total) {
    std::fill(scores + low, scores + std::max(low, from), kMinusInfinity);
    std::fill(scores + std::max(low, to), scores + high, kMinusInfinity);
    F32x16 greatest = all(kMinusInfinity);
    for (int i = low; i < high; i += kLanes) {
        F32x16 const score = load(scores + i);
        greatest = score > greatest ? score : greatest;
    }
    most = greatest[0];
    for (int i = 1; i < kLanes; ++i) most = std::max(most, greatest[i]);
    total = 0;
    if (most == kMinusInfinity) {
        std::fill(scores + low, scores + high, 0.0F);
        return;
    }
    F32x16 sum{};
    for (int i = low; i < high; i += kLanes) {
        F32x16 const weight = exp_negative(load(scores + i) - most);
        store(scores + i, weight);
        sum += weight;
    }
    total = sum_lanes(sum);
}

// The sums of one block of a tile, into scratch.block. False if no row sees any of it.
bool compute_block(Op const& op, AttentionPlan const& plan, Tile const& tile, int block, Scratch const& scratch) {
    int const first = block * kBlock;
    int const begin = std::max(tile.begin, first), end = std::min(tile.end, first + kBlock);
    if (begin >= end) return false;
    int const queries = tile.rows * op.shared;
    int const low = (begin - first) / kStrip * kStrip;
    int const high = (end - first + kStrip - 1) / kStrip * kStrip;
    int const* const cells = plan.cells.data() + tile.run->first + first;
    for (int strip = low; strip < high; strip += kStrip) {
        load_strip(op.k, tile.group, cells + strip, tile.run->slots - first - strip, op.key_size, op.key_width,
                   scratch.keys);
        score(op, queries, scratch, strip);
    }
    for (int i = 0; i < queries; ++i) {
        int const number = tile.row + i / op.shared;
        auto const row = static_cast<std::size_t>(number);
        int const from = std::max(plan.begin[row], first) - first;
        int const to = std::max(from, std::min(plan.end[row], first + kBlock) - first);
        float* const scores = scratch.scores + static_cast<std::ptrdiff_t>(i) * kBlock;
        if (op.softcap != 0 || !plan.plain || tile.run->holes) adjust(op, tile, plan.plain, i, cells, from, to, scores);
        weigh(scores, std::min(from, high), std::min(to, high), low, high, scratch.block.most[i],
              scratch.block.total[i]);
    }
    std::fill_n(scratch.block.values, static_cast<std::ptrdiff_t>(queries) * op.value_width, 0.0F);
    for (int strip = low; strip < high; strip += kStrip) {
        load_strip(op.v, tile.group, cells + strip, tile.run->slots - first - strip, op.value_size, op.value_width,
                   scratch.values);
        sum_values(op, queries, scratch, strip, std::max(begin - first - strip, 0),
                   std::min(end - first - strip, kStrip));
    }
    return true;
}

// Adds a later block's sums of one query to the earlier ones'.
void merge(float const* from, float from_most, float from_total, float* to, float& most, float& total, int width) {
    if (from_most == kMinusInfinity) return;
    float const greatest = std::max(most, from_most);
    F32x16 const shares = exp_negative(F32x16{most - greatest, from_most - greatest});
    F32x16 const old_share = all(shares[0]), new_share = all(shares[1]);
    for (int d = 0; d < width; d += kLanes)
        store(to + d, multiply_add(load(from + d), new_share, load(to + d) * old_share));
    F32x16 const sum = multiply_add(all(from_total), new_share, all(total) * old_share);
    total = sum[0];
    most = greatest;
}

void finish(Op const& op, int row, int head, float const* values, float most, float total) {
    float share = 1;
    if (op.sinks != nullptr) {  // one weight more, of no value: https://arxiv.org/abs/2309.17453
        float const sink = static_cast<float const*>(op.sinks->data)[head];
        float const greatest = std::max(most, sink);
        F32x16 const shares = exp_negative(F32x16{most - greatest, sink - greatest});
        share = shares[0];
        total = total * share + shares[1];
    }
    share = total == 0 ? 0 : share / total;
    float* const out = op.result(row, head);
    for (int d = 0; d < op.value_size; ++d) out[d] = values[d] * share;
}

// The tiles of a plan, by number; asked for in rising order.
class Tiles {
public:
    Tiles(Op const& op, AttentionPlan const& plan, int rows) : plan_(plan), rows_(rows) {
        for (AttentionRun const& run : plan.runs) {
            count_ += count(run);
            blocks_ = std::max(blocks_, (run.slots + kBlock - 1) / kBlock);
            std::int64_t const slots = run.slots;
            work_ += op.groups * slots * run.rows;
            largest_ = std::max(largest_, slots * std::min(rows, run.rows));
        }
    }

    // Whether threads would wait for the one that has the largest tile.
    [[nodiscard]] bool uneven(int threads) const { return threads > 1 && std::int64_t{2} * threads * largest_ > work_; }
    [[nodiscard]] int count() const { return count_; }
    [[nodiscard]] int blocks() const { return blocks_; }  // of the longest run

    Tile at(int number, int group) {
        while (number >= before_ + count(plan_.runs[run_])) before_ += count(plan_.runs[run_++]);
        AttentionRun const& run = plan_.runs[run_];
        int const offset = (number - before_) * rows_;
        int const row = run.row + offset, rows = std::min(rows_, run.rows - offset);
        // Rows of a run begin and end in order.
        return {.run = &run,
                .row = row,
                .rows = rows,
                .group = group,
                .begin = plan_.begin[static_cast<std::size_t>(row)],
                .end = plan_.end[static_cast<std::size_t>(row + rows - 1)]};
    }

private:
    [[nodiscard]] int count(AttentionRun const& run) const { return (run.rows + rows_ - 1) / rows_; }

    AttentionPlan const& plan_;
    int rows_;  // of a tile
    int count_ = 0;
    int blocks_ = 0;
    std::int64_t work_ = 0;     // slots x rows of all groups
    std::int64_t largest_ = 0;  // of a tile and group
    std::size_t run_ = 0;
    int before_ = 0;  // tiles of earlier runs
};

struct Worker {
    Op const& op;
    AttentionPlan const& plan;
    Memory const& memory;
    Scratch const& scratch;
    ggml_compute_params* params;

    template <typename Unit>
    void share_out(int units, Unit const& unit) const {
        for (int next = params->ith; next < units; next = ggml_threadpool_chunk_add(params->threadpool, 1)) unit(next);
    }

    void whole_tiles(Tiles& tiles) const {
        share_out(tiles.count() * op.groups, [&](int unit) {
            Tile const tile = tiles.at(unit / op.groups, unit % op.groups);
            int const queries = tile.rows * op.shared;
            load_queries(op, tile, scratch);
            std::fill_n(scratch.sums.values, static_cast<std::ptrdiff_t>(queries) * op.value_width, 0.0F);
            std::fill_n(scratch.sums.total, queries, 0.0F);
            std::fill_n(scratch.sums.most, queries, kMinusInfinity);
            for (int block = tile.begin / kBlock; block * kBlock < tile.end; ++block) {
                if (!compute_block(op, plan, tile, block, scratch)) continue;
                for (int i = 0; i < queries; ++i) {
                    auto const at = static_cast<std::ptrdiff_t>(i) * op.value_width;
                    merge(scratch.block.values + at, scratch.block.most[i], scratch.block.total[i],
                          scratch.sums.values + at, scratch.sums.most[i], scratch.sums.total[i], op.value_width);
                }
            }
            for (int i = 0; i < queries; ++i)
                finish(op, tile.row + i / op.shared, tile.group * op.shared + i % op.shared,
                       scratch.sums.values + static_cast<std::ptrdiff_t>(i) * op.value_width, scratch.sums.most[i],
                       scratch.sums.total[i]);
        });
    }

    // The same sums, but other threads compute other blocks of a tile.
    void single_blocks(Tiles& tiles) const {
        share_out(tiles.count() * op.groups * tiles.blocks(), [&](int unit) {
            int const block = unit % tiles.blocks();
            int const rest = unit / tiles.blocks();
            Tile const tile = tiles.at(rest / op.groups, rest % op.groups);
            if (block * kBlock >= tile.end || (block + 1) * kBlock <= tile.begin) return;
            load_queries(op, tile, scratch);
            compute_block(op, plan, tile, block, scratch);
            for (int i = 0; i < tile.rows * op.shared; ++i) {
                float* const to =
                    memory.block(op, tile.row + i / op.shared, tile.group * op.shared + i % op.shared, block);
                std::copy_n(scratch.block.values + static_cast<std::ptrdiff_t>(i) * op.value_width, op.value_width, to);
                to[op.value_width] = scratch.block.most[i];
                to[op.value_width + 1] = scratch.block.total[i];
            }
        });
        ggml_barrier(params->threadpool);
        for (int i = params->ith; i < op.rows * op.heads; i += params->nth) {
            int const row = i / op.heads, head = i % op.heads;
            float most = kMinusInfinity, total = 0;
            std::fill_n(scratch.sums.values, op.value_width, 0.0F);
            int const begin = plan.begin[static_cast<std::size_t>(row)], end = plan.end[static_cast<std::size_t>(row)];
            for (int block = begin / kBlock; block * kBlock < end; ++block) {
                float const* const from = memory.block(op, row, head, block);
                merge(from, from[op.value_width], from[op.value_width + 1], scratch.sums.values, most, total,
                      op.value_width);
            }
            finish(op, row, head, scratch.sums.values, most, total);
        }
    }
};

struct Attention final : ggml::cpu::tensor_traits {
    bool work_size(int threads, ggml_tensor const* op, std::size_t& size) override {
        size = Memory::bytes(Op(*const_cast<ggml_tensor*>(op)), threads);
        return true;
    }

    bool compute_forward(ggml_compute_params* params, ggml_tensor* tensor) override {
        Op const op(*tensor);
        Memory const memory(op, params->wdata, params->ith);
        if (params->ith == 0) {
            *memory.plan = &plan_of(op);
            ggml_threadpool_chunk_set(params->threadpool, params->nth);
        }
        ggml_barrier(params->threadpool);
        AttentionPlan const& plan = **memory.plan;
        Scratch const scratch(op, memory.own);
        Worker const worker{.op = op, .plan = plan, .memory = memory, .scratch = scratch, .params = params};
        // The more rows of a tile, the less often keys and values are read.
        int const rows_max = kTileRows / op.shared;
        Tiles large(op, plan, rows_max);
        if (!large.uneven(params->nth)) {
            worker.whole_tiles(large);
        } else if (large.blocks() > 1 && Memory::may_split(op)) {
            worker.single_blocks(large);
        } else {
            Tiles small(op, plan, std::clamp(op.rows * op.groups / (kUnitsPerThread * params->nth), 1, rows_max));
            worker.whole_tiles(small);
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

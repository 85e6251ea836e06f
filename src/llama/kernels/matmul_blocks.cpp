// Matrix product of weights in blocks of 32 (Q4_0, Q4_1, Q5_0, Q5_1, Q8_0) with columns of activations.
//
// As upstream does, activations are rounded to 8 bits a block at a time, and what
// a row and a column have in common in a block is an integer. Here sixteen rows
// share a 512-bit register, one per lane, and a lane adds
//
//   integer x scale of the weights x scale of the activations (+ minimum of the weights x sum of the activations)
//
// block by block, in order. Integers are exact, so a result depends on its row and its column
// alone, not on how many columns there are or how they are computed: a few columns straight from the weights, the
// next but one tile of rows asked for ahead, for memory is what decoding waits
// for; more from a tile that is unpacked once into the layout of the instruction. Which column
// a value belongs to is then a constant distance from one address: with an address of its own for
// each column, half of the instructions were about those.
//
// Weights enter the instruction without sign, as value + zero; the difference, zero x
// the sum of the activations, is where the integer begins.
//
// Needs VPDPBUSD on 512 bits; elsewhere everything stays upstream's.
#include <ggml-cpu-impl.h>
#include <ggml-cpu.h>
#include <ggml-impl.h>
#include <simd-mappings.h>

#include "llama/kernels/kernels.h"
#include "llama/kernels/product_shape.h"
#define GGML_COMMON_DECL_C
#include <ggml-common.h>

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__) && defined(__AVX512VNNI__)
  #include <immintrin.h>

  #include <algorithm>
  #include <cstdint>
  #include <cstring>

namespace hearth::llama {
namespace {

constexpr std::size_t kRows = 16;    // of a tile: one per lane
constexpr std::size_t kDepth = 32;   // values of a block
constexpr std::size_t kWords = kDepth / 4;
constexpr std::size_t kColumns = 8;  // of a group, computed together
constexpr std::size_t kFew = 4;      // so many columns at most are computed straight from the weights
constexpr std::size_t kUnits = 8;    // of work, for each thread: what the others wait for at the end is one
constexpr std::size_t kAhead = 32;   // rows from one read to one asked for: the next but one tile
constexpr std::size_t kCacheLine = 64;

__m128i load16(void const* from) { return _mm_loadu_si128(static_cast<__m128i const*>(from)); }
__m256i load32(void const* from) { return _mm256_loadu_si256(static_cast<__m256i const*>(from)); }

__m256i nibbles(std::uint8_t const* from) {
    __m128i const pairs = load16(from);
    return _mm256_and_si256(_mm256_set1_epi8(0xF), _mm256_set_m128i(_mm_srli_epi16(pairs, 4), pairs));
}

__m256i five_bits(std::uint8_t const* low, std::uint8_t const* high) {
    __mmask32 bits = 0;
    std::memcpy(&bits, high, sizeof(bits));
    return _mm256_or_si256(nibbles(low), _mm256_maskz_set1_epi8(bits, 0x10));
}

// The 32 values of a block as bytes without sign, in order.
__m256i values(block_q4_0 const& block) { return nibbles(block.qs); }
__m256i values(block_q4_1 const& block) { return nibbles(block.qs); }
__m256i values(block_q5_0 const& block) { return five_bits(block.qs, block.qh); }
__m256i values(block_q5_1 const& block) { return five_bits(block.qs, block.qh); }
__m256i values(block_q8_0 const& block) { return _mm256_xor_si256(load32(block.qs), _mm256_set1_epi8(-128)); }

template <typename Block>
inline constexpr int kZero = 0;  // what was added to values
template <>
inline constexpr int kZero<block_q4_0> = 8;
template <>
inline constexpr int kZero<block_q5_0> = 16;
template <>
inline constexpr int kZero<block_q8_0> = 128;

// A block begins with its scale, and its minimum where it has one.
template <typename Block>
inline constexpr bool kHasMinimum = std::is_same_v<Block, block_q4_1> || std::is_same_v<Block, block_q5_1>;

struct Op {
    ggml_tensor const& weights;
    ggml_tensor const& activations;
    ggml_tensor const& out;
    std::size_t blocks;   // of a row
    std::size_t columns;  // of activations
    std::size_t rows;     // of weights

    explicit Op(ggml_tensor const& op)
        : weights(*op.src[0]),
          activations(*op.src[1]),
          out(op),
          blocks(static_cast<std::size_t>(weights.ne[0]) / kDepth),
          columns(static_cast<std::size_t>(ggml_nrows(&activations))),
          rows(static_cast<std::size_t>(weights.ne[1])) {}

    // Past the last row it comes again.
    template <typename Block>
    [[nodiscard]] Block const* weight_row(std::size_t row) const {
        return reinterpret_cast<Block const*>(static_cast<char const*>(weights.data) +
                                              std::min(row, rows - 1) * weights.nb[1]);
    }
    [[nodiscard]] float* result(std::size_t column) const {
        return reinterpret_cast<float*>(static_cast<char*>(out.data) + column * out.nb[1]);
    }
    void store(std::size_t row, std::size_t column, __m512 sums) const {
        std::size_t const count = std::min(kRows, rows - row);
        _mm512_mask_storeu_ps(result(column) + row, static_cast<__mmask16>((1U << count) - 1), sums);
    }
};

// A block of `Count` columns of activations, rounded.
template <std::size_t Count>
struct Inputs {
    std::int32_t words[kWords * Count];  // four quants each: word by word, or column by column where they are few
    std::int32_t offsets[Count];         // -zero x the sum of the quants
    float scales[Count];
    float sums[Count];  // of the values the quants stand for
};
constexpr std::size_t kInputBytes = sizeof(Inputs<1>);
static_assert(sizeof(Inputs<kColumns>) == kColumns * kInputBytes);

// A block of 16 rows of weights, unpacked.
struct alignas(kCacheLine) Tile {
    std::uint8_t words[kWords][kRows * 4];
    float scales[kRows];
    float minimums[kRows];
};

// The operation's work memory: activations, shared by all threads; then a tile of each thread.
class Memory {
public:
    static std::size_t bytes(Op const& op, int threads) {
        return shared_bytes(op) + op.blocks * sizeof(Tile) * static_cast<std::size_t>(threads) + kCacheLine;
    }

    Memory(Op const& op, void* work, int thread) {
        auto const misplaced = reinterpret_cast<std::uintptr_t>(work) % kCacheLine;
        inputs_ = static_cast<char*>(work) + (kCacheLine - misplaced) % kCacheLine;
        tile = reinterpret_cast<Tile*>(inputs_ + shared_bytes(op)) + op.blocks * static_cast<std::size_t>(thread);
    }

    Tile* tile;  // one for each block of a row

    // The group of `Count` columns that begins with this one: one of these for each block of a row.
    template <std::size_t Count>
    [[nodiscard]] Inputs<Count>* group(Op const& op, std::size_t column) const {
        return reinterpret_cast<Inputs<Count>*>(inputs_ + column * op.blocks * kInputBytes);
    }

private:
    static std::size_t shared_bytes(Op const& op) {
        return (op.columns * op.blocks * kInputBytes + kCacheLine - 1) / kCacheLine * kCacheLine;
    }

    char* inputs_;
};

// Calls `with` with std::integral_constant of `count`. REQUIRES: 0 < count <= kColumns
template <std::size_t Count = kColumns>
void with_count(std::size_t count, auto const& with) {
    if constexpr (Count > 1) {
        if (count < Count) return with_count<Count - 1>(count, with);
    }
    with(std::integral_constant<std::size_t, Count>());
}

struct Rounded {
    std::int32_t words[kWords];  // 32 numbers of 8 bits
    float scale;
    std::int32_t sum;
};

// Upstream's quantize_row_q8_0 of one block, to the bit.
[[gnu::always_inline]] inline Rounded round_block(float const* from) {
    __m512 const low = _mm512_loadu_ps(from), high = _mm512_loadu_ps(from + kDepth / 2);
    float const most = _mm512_reduce_max_ps(_mm512_max_ps(_mm512_abs_ps(low), _mm512_abs_ps(high)));
    __m512 const factor = _mm512_set1_ps(most != 0.0F ? 127.0F / most : 0.0F);
    __m512i const a = _mm512_cvtps_epi32(_mm512_mul_ps(low, factor));
    __m512i const b = _mm512_cvtps_epi32(_mm512_mul_ps(high, factor));
    Rounded out;
    __m128i const bytes[2]{_mm512_cvtsepi32_epi8(a), _mm512_cvtsepi32_epi8(b)};
    std::memcpy(out.words, bytes, sizeof(out.words));
    out.scale = GGML_CPU_FP16_TO_FP32(GGML_CPU_FP32_TO_FP16(most / 127.0F));
    out.sum = _mm512_reduce_add_epi32(_mm512_add_epi32(a, b));
    return out;
}

// Blocks [begin, end) of `Count` columns.
template <std::size_t Count>
void quantise(Op const& op, Memory const& memory, std::size_t column, std::size_t begin, std::size_t end, int zero) {
    bool const few = op.columns <= kFew;
    auto* const to = memory.group<Count>(op, column);
    for (std::size_t c = 0; c < Count; ++c) {
        auto const* const from = reinterpret_cast<float const*>(static_cast<char const*>(op.activations.data) +
                                                                (column + c) * op.activations.nb[1]);
        for (std::size_t b = begin; b < end; ++b) {
            Rounded const rounded = round_block(from + b * kDepth);
            for (std::size_t w = 0; w < kWords; ++w)
                to[b].words[few ? c * kWords + w : w * Count + c] = rounded.words[w];
            to[b].scales[c] = rounded.scale;
            to[b].sums[c] = rounded.scale * static_cast<float>(rounded.sum);
            to[b].offsets[c] = -zero * rounded.sum;
        }
    }
}

// A thread's part: some blocks of all columns, so that threads do not write side by side.
void quantise_part(Op const& op, Memory const& memory, std::size_t thread, std::size_t threads, int zero) {
    std::size_t const begin = op.blocks * thread / threads, end = op.blocks * (thread + 1) / threads;
    if (begin == end) return;
    for (std::size_t column = 0; column < op.columns; column += kColumns)
        with_count(std::min(kColumns, op.columns - column),
                   [&](auto count) { quantise<count>(op, memory, column, begin, end, zero); });
}

// As many bytes as a block of each row of a tile has, which will be wanted soon.
// Past the end of the weights it does nothing.
template <typename Block>
void prefetch(Block const* blocks) {
    auto const* const at = reinterpret_cast<char const*>(blocks);
    for (std::size_t line = 0; line < kRows * sizeof(Block); line += kCacheLine) _mm_prefetch(at + line, _MM_HINT_T0);
}

// Word w of 8 rows, and of 8 more, side by side: 8 registers of two rows to 8 of 16 rows.
void transpose(__m512i (&rows)[kWords]) {
    __m512i pairs[kWords], fours[kWords];
    for (std::size_t i = 0; i < kWords; i += 2) {
        pairs[i] = _mm512_unpacklo_epi32(rows[i], rows[i + 1]);
        pairs[i + 1] = _mm512_unpackhi_epi32(rows[i], rows[i + 1]);
    }
    for (std::size_t i = 0; i < kWords; i += 4)
        for (std::size_t j = 0; j < 2; ++j) {
            fours[i + 2 * j] = _mm512_unpacklo_epi64(pairs[i + j], pairs[i + j + 2]);
            fours[i + 2 * j + 1] = _mm512_unpackhi_epi64(pairs[i + j], pairs[i + j + 2]);
        }
    // Quarters of a register: words w and w + 4 of four rows, then of the rows 8 further.
    __m512i const low = _mm512_set_epi64(13, 12, 5, 4, 9, 8, 1, 0), high = _mm512_set_epi64(15, 14, 7, 6, 11, 10, 3, 2);
    for (std::size_t i = 0; i < 4; ++i) {
        rows[i] = _mm512_permutex2var_epi64(fours[i], low, fours[i + 4]);
        rows[i + 4] = _mm512_permutex2var_epi64(fours[i], high, fours[i + 4]);
    }
}

// Scales of a block of each of 16 rows, and minimums: what its head holds as two halves of a word.
template <typename Block>
class Heads {
public:
    // `order`: which row each lane holds
    Heads(Block const* const (&rows)[kRows], std::size_t (*order)(std::size_t)) : first_(rows[0]) {
        alignas(kCacheLine) std::int32_t places[kRows];
        for (std::size_t lane = 0; lane < kRows; ++lane)
            places[lane] = static_cast<std::int32_t>(reinterpret_cast<char const*>(rows[order(lane)]) -
                                                     reinterpret_cast<char const*>(rows[0]));
        places_ = _mm512_load_si512(places);
    }
    void read(std::size_t b, __m512& scales, __m512& minimums) const {
        __m512i const heads = _mm512_i32gather_epi32(places_, first_ + b, 1);
        scales = _mm512_cvtph_ps(_mm512_cvtepi32_epi16(heads));
        if constexpr (kHasMinimum<Block>)
            minimums = _mm512_cvtph_ps(_mm512_cvtepi32_epi16(_mm512_srli_epi32(heads, 16)));
        else minimums = _mm512_setzero_ps();
    }

private:
    Block const* first_;
    __m512i places_;  // of the rows' first blocks, from the first one's, in bytes
};

constexpr std::size_t in_order(std::size_t lane) { return lane; }

template <typename Block>
void unpack(Op const& op, Memory const& memory, std::size_t row) {
    Block const* from[kRows];
    for (std::size_t r = 0; r < kRows; ++r) from[r] = op.weight_row<Block>(row + r);
    Heads<Block> const heads(from, in_order);
    for (std::size_t b = 0; b < op.blocks; ++b) {
        prefetch(from[0] + kAhead * op.blocks + b * kRows);
        __m512i rows[kWords];
        for (std::size_t r = 0; r < kWords; ++r)
            rows[r] = _mm512_inserti64x4(_mm512_castsi256_si512(values(from[r][b])), values(from[r + kWords][b]), 1);
        transpose(rows);
        Tile& to = memory.tile[b];
        for (std::size_t w = 0; w < kWords; ++w) _mm512_store_si512(to.words[w], rows[w]);
        __m512 scales, minimums;
        heads.read(b, scales, minimums);
        _mm512_store_ps(to.scales, scales);
        _mm512_store_ps(to.minimums, minimums);
    }
}

// What one block adds to the sums of 16 rows and a column.
template <typename Block>
__m512 add_block(__m512 sum, __m512i dots, __m512 row_scales, __m512 row_minimums, float scale, float values_sum) {
    __m512 const scales = _mm512_mul_ps(row_scales, _mm512_set1_ps(scale));
    sum = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dots), scales, sum);
    if constexpr (kHasMinimum<Block>) sum = _mm512_fmadd_ps(row_minimums, _mm512_set1_ps(values_sum), sum);
    return sum;
}

// The unpacked tile times `Count` columns.
template <typename Block, std::size_t Count>
void multiply(Op const& op, Memory const& memory, std::size_t row, std::size_t column) {
    Inputs<Count> const* inputs = memory.group<Count>(op, column);
    __m512 sum[Count] = {};
    for (Tile const* tile = memory.tile; tile != memory.tile + op.blocks; ++tile, ++inputs) {
        __m512i dots[Count];
        for (std::size_t c = 0; c < Count; ++c) dots[c] = _mm512_set1_epi32(inputs->offsets[c]);
        for (std::size_t w = 0; w < kWords; ++w) {
            __m512i const weights = _mm512_load_si512(tile->words[w]);
            for (std::size_t c = 0; c < Count; ++c)
                dots[c] = _mm512_dpbusd_epi32(dots[c], weights, _mm512_set1_epi32(inputs->words[w * Count + c]));
        }
        __m512 const scales = _mm512_load_ps(tile->scales), minimums = _mm512_load_ps(tile->minimums);
        for (std::size_t c = 0; c < Count; ++c)
            sum[c] = add_block<Block>(sum[c], dots[c], scales, minimums, inputs->scales[c], inputs->sums[c]);
    }
    for (std::size_t c = 0; c < Count; ++c) op.store(row, column + c, sum[c]);
}

template <typename Block>
void multiply_tile(Op const& op, Memory const& memory, std::size_t row) {
    unpack<Block>(op, memory, row);
    for (std::size_t column = 0; column < op.columns; column += kColumns)
        with_count(std::min(kColumns, op.columns - column),
                   [&](auto count) { multiply<Block, count>(op, memory, row, column); });
}

// Four lanes of each of 16 rows, four rows to a register, added up: lane 4r + q is row r of register q.
__m512i add_fours(__m512i const (&fours)[4]) {
    __m512i const low =
        _mm512_add_epi32(_mm512_unpacklo_epi32(fours[0], fours[1]), _mm512_unpackhi_epi32(fours[0], fours[1]));
    __m512i const high =
        _mm512_add_epi32(_mm512_unpacklo_epi32(fours[2], fours[3]), _mm512_unpackhi_epi32(fours[2], fours[3]));
    return _mm512_add_epi32(_mm512_unpacklo_epi64(low, high), _mm512_unpackhi_epi64(low, high));
}

// The row that lies in a lane of add_fours(). It is its own inverse.
constexpr std::size_t lane_row(std::size_t lane) { return lane % 4 * 4 + lane / 4; }

// Products of a block of 16 rows with those of `Count` columns, in the order of lane_row().
template <typename Block, std::size_t Count>
void dot_rows(Block const* const (&rows)[kRows], std::size_t b, Inputs<Count> const& inputs, __m512i (&dots)[Count]) {
    __m512i fours[Count][4];
    __m512i const zero = _mm512_setzero_si512();
    if constexpr (sizeof(Block::qs) == kDepth / 2 && !requires(Block block) { block.qh; }) {
        // Nibbles: four rows to a register, the first half of their values in the low bits.
        __m512i const mask = _mm512_set1_epi8(0xF);
        for (std::size_t q = 0; q < 4; ++q) {
            __m512i pairs = _mm512_castsi128_si512(load16(rows[4 * q][b].qs));
            pairs = _mm512_inserti32x4(pairs, load16(rows[4 * q + 1][b].qs), 1);
            pairs = _mm512_inserti32x4(pairs, load16(rows[4 * q + 2][b].qs), 2);
            pairs = _mm512_inserti32x4(pairs, load16(rows[4 * q + 3][b].qs), 3);
            __m512i const low = _mm512_and_si512(pairs, mask);
            __m512i const high = _mm512_and_si512(_mm512_srli_epi16(pairs, 4), mask);
            for (std::size_t c = 0; c < Count; ++c) {
                std::int32_t const* const words = inputs.words + c * kWords;
                __m512i const first = _mm512_dpbusd_epi32(zero, low, _mm512_broadcast_i32x4(load16(words)));
                fours[c][q] = _mm512_dpbusd_epi32(first, high, _mm512_broadcast_i32x4(load16(words + kWords / 2)));
            }
        }
    } else {
        // Halves of a row are neighbours; rows 0, 1, 2, 3 in order.
        __m512i const low = _mm512_set_epi64(13, 12, 5, 4, 9, 8, 1, 0);
        __m512i const high = _mm512_set_epi64(15, 14, 7, 6, 11, 10, 3, 2);
        for (std::size_t q = 0; q < 4; ++q) {
            __m512i pair[Count][2];
            for (std::size_t p = 0; p < 2; ++p) {
                __m256i const first = values(rows[4 * q + p][b]), second = values(rows[4 * q + p + 2][b]);
                __m512i const weights = _mm512_inserti64x4(_mm512_castsi256_si512(first), second, 1);
                for (std::size_t c = 0; c < Count; ++c)
                    pair[c][p] =
                        _mm512_dpbusd_epi32(zero, weights, _mm512_broadcast_i64x4(load32(inputs.words + c * kWords)));
            }
            for (std::size_t c = 0; c < Count; ++c)
                fours[c][q] = _mm512_add_epi32(_mm512_permutex2var_epi64(pair[c][0], low, pair[c][1]),
                                               _mm512_permutex2var_epi64(pair[c][0], high, pair[c][1]));
        }
    }
    for (std::size_t c = 0; c < Count; ++c) dots[c] = add_fours(fours[c]);
}

// Rows [row, row + kRows) times all `Count` columns, straight from the weights.
template <typename Block, std::size_t Count>
void multiply_few(Op const& op, Memory const& memory, std::size_t row) {
    Block const* rows[kRows];
    for (std::size_t r = 0; r < kRows; ++r) rows[r] = op.weight_row<Block>(row + r);
    Heads<Block> const heads(rows, lane_row);
    Inputs<Count> const* inputs = memory.group<Count>(op, 0);
    __m512 sum[Count] = {};
    for (std::size_t b = 0; b < op.blocks; ++b, ++inputs) {
        prefetch(rows[0] + kAhead * op.blocks + b * kRows);
        __m512 scales, minimums;
        heads.read(b, scales, minimums);
        __m512i dots[Count];
        dot_rows<Block, Count>(rows, b, *inputs, dots);
        for (std::size_t c = 0; c < Count; ++c) {
            if constexpr (kZero<Block> != 0) dots[c] = _mm512_add_epi32(dots[c], _mm512_set1_epi32(inputs->offsets[c]));
            sum[c] = add_block<Block>(sum[c], dots[c], scales, minimums, inputs->scales[c], inputs->sums[c]);
        }
    }
    alignas(kCacheLine) std::int32_t lanes[kRows];
    for (std::size_t lane = 0; lane < kRows; ++lane) lanes[lane] = static_cast<std::int32_t>(lane_row(lane));
    __m512i const order = _mm512_load_si512(lanes);
    for (std::size_t c = 0; c < Count; ++c) op.store(row, c, _mm512_permutexvar_ps(order, sum[c]));
}

template <typename Block>
void multiply_rows(Op const& op, Memory const& memory, std::size_t row) {
    if (op.columns > kFew) return multiply_tile<Block>(op, memory, row);
    with_count<kFew>(op.columns, [&](auto count) { multiply_few<Block, count>(op, memory, row); });
}

template <typename Block>
struct Matmul final : ggml::cpu::tensor_traits {
    bool work_size(int threads, ggml_tensor const* op, std::size_t& size) override {
        size = Memory::bytes(Op(*op), threads);
        return true;
    }

    bool compute_forward(ggml_compute_params* params, ggml_tensor* tensor) override {
        Op const op(*tensor);
        Memory const memory(op, params->wdata, params->ith);
        auto const threads = static_cast<std::size_t>(params->nth);
        quantise_part(op, memory, static_cast<std::size_t>(params->ith), threads, kZero<Block>);
        if (params->ith == 0) ggml_threadpool_chunk_set(params->threadpool, params->nth);
        ggml_barrier(params->threadpool);
        std::size_t const tiles = (op.rows + kRows - 1) / kRows;
        std::size_t const unit = std::max<std::size_t>(1, tiles / (threads * kUnits));
        auto const units = static_cast<int>((tiles + unit - 1) / unit);
        for (int taken = params->ith; taken < units; taken = ggml_threadpool_chunk_add(params->threadpool, 1)) {
            std::size_t const begin = static_cast<std::size_t>(taken) * unit, end = std::min(begin + unit, tiles);
            for (std::size_t tile = begin; tile < end; ++tile) multiply_rows<Block>(op, memory, tile * kRows);
        }
        return true;
    }
};

bool is_ours(ggml_tensor const& op) {
    if (!is_plain_product(op)) return false;
    ggml_tensor const& weights = *op.src[0];
    return weights.nb[1] == ggml_row_size(weights.type, weights.ne[0]) &&
           weights.nb[1] <= std::size_t{INT32_MAX} / kRows;
}

}  // namespace

ggml::cpu::tensor_traits* matmul_blocks(ggml_tensor const& op) {
    static Matmul<block_q4_0> q4_0;
    static Matmul<block_q4_1> q4_1;
    static Matmul<block_q5_0> q5_0;
    static Matmul<block_q5_1> q5_1;
    static Matmul<block_q8_0> q8_0;
    if (!is_ours(op)) return nullptr;
    switch (op.src[0]->type) {
        case GGML_TYPE_Q4_0: return &q4_0;
        case GGML_TYPE_Q4_1: return &q4_1;
        case GGML_TYPE_Q5_0: return &q5_0;
        case GGML_TYPE_Q5_1: return &q5_1;
        case GGML_TYPE_Q8_0: return &q8_0;
        default: return nullptr;
    }
}

}  // namespace hearth::llama

#else

namespace hearth::llama {
ggml::cpu::tensor_traits* matmul_blocks(ggml_tensor const&) { return nullptr; }
}  // namespace hearth::llama

#endif

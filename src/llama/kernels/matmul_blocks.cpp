// Matrix product of weights in blocks of 32 (Q4_0, Q4_1, Q5_0, Q5_1, Q8_0) with columns of activations.
//
// As upstream does, activations are rounded to 8 bits a block at a time, and what
// a row and a column have in common in a block is an integer. Here sixteen rows
// share a 512-bit register, one per lane, and a lane adds
//
//   integer x scale of the weights x scale of the activations (+ minimum of the weights x sum of the activations)
//
// block by block, in order. Integers are exact, so a result depends on its row and its column
// alone, not on how many columns there are or how they are computed: one column straight from the weights, the
// next but one tile of rows asked for ahead, for memory is what decoding waits
// for; more from a tile that is unpacked once into the layout of the instruction.
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
constexpr std::size_t kColumns = 8;  // computed together
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

std::size_t rounded(std::size_t bytes) { return (bytes + kCacheLine - 1) / kCacheLine * kCacheLine; }

// The operation's work memory: activations, shared by all threads; then a tile of each thread.
struct Memory {
    block_q8_0* quants;     // columns x blocks, as upstream rounds them
    float* scales;          // columns x blocks
    float* sums;            // columns x blocks: of the values the quants stand for
    std::int32_t* offsets;  // columns x blocks: -zero x the sum of the quants
    std::uint8_t* tile;     // blocks x kWords x kRows x 4
    float* tile_scales;     // blocks x kRows
    float* tile_minimums;   // blocks x kRows

    static std::size_t shared_bytes(Op const& op) {
        std::size_t const count = op.columns * op.blocks;
        return rounded(count * sizeof(block_q8_0)) + 3 * rounded(count * sizeof(float));
    }
    static std::size_t own_bytes(Op const& op) { return op.blocks * kRows * (kDepth + 2 * sizeof(float)); }
    static std::size_t bytes(Op const& op, int threads) {
        return shared_bytes(op) + own_bytes(op) * static_cast<std::size_t>(threads) + kCacheLine;
    }

    Memory(Op const& op, void* work, int thread) {
        auto const misplaced = reinterpret_cast<std::uintptr_t>(work) % kCacheLine;
        char* at = static_cast<char*>(work) + (kCacheLine - misplaced) % kCacheLine;
        std::size_t const count = op.columns * op.blocks;
        auto const take = [&at](std::size_t bytes) {
            char* const begin = at;
            at += rounded(bytes);
            return begin;
        };
        quants = reinterpret_cast<block_q8_0*>(take(count * sizeof(block_q8_0)));
        scales = reinterpret_cast<float*>(take(count * sizeof(float)));
        sums = reinterpret_cast<float*>(take(count * sizeof(float)));
        offsets = reinterpret_cast<std::int32_t*>(take(count * sizeof(float)));
        at += own_bytes(op) * static_cast<std::size_t>(thread);
        tile = reinterpret_cast<std::uint8_t*>(take(op.blocks * kRows * kDepth));
        tile_scales = reinterpret_cast<float*>(take(op.blocks * kRows * sizeof(float)));
        tile_minimums = reinterpret_cast<float*>(at);
    }
};

void quantise(Op const& op, Memory const& memory, std::size_t column, int zero) {
    auto const* const from =
        reinterpret_cast<float const*>(static_cast<char const*>(op.activations.data) + column * op.activations.nb[1]);
    std::size_t const first = column * op.blocks;
    block_q8_0* const to = memory.quants + first;
    ggml_get_type_traits_cpu(GGML_TYPE_Q8_0)->from_float(from, to, op.activations.ne[0]);
    for (std::size_t b = 0; b < op.blocks; ++b) {
        std::int32_t sum = 0;
        for (std::int8_t const quant : to[b].qs) sum += quant;
        float const scale = GGML_CPU_FP16_TO_FP32(to[b].d);
        memory.scales[first + b] = scale;
        memory.sums[first + b] = scale * static_cast<float>(sum);
        memory.offsets[first + b] = -zero * sum;
    }
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

template <typename Block>
void unpack(Op const& op, Memory const& memory, std::size_t row) {
    Block const* from[kRows];
    for (std::size_t r = 0; r < kRows; ++r) from[r] = op.weight_row<Block>(row + r);
    for (std::size_t b = 0; b < op.blocks; ++b) {
        prefetch(from[0] + kAhead * op.blocks + b * kRows);
        __m512i rows[kWords];
        for (std::size_t r = 0; r < kWords; ++r)
            rows[r] = _mm512_inserti64x4(_mm512_castsi256_si512(values(from[r][b])), values(from[r + kWords][b]), 1);
        transpose(rows);
        std::uint8_t* const to = memory.tile + b * kRows * kDepth;
        for (std::size_t w = 0; w < kWords; ++w) _mm512_store_si512(to + w * kCacheLine, rows[w]);
        for (std::size_t r = 0; r < kRows; ++r) {
            memory.tile_scales[b * kRows + r] = GGML_CPU_FP16_TO_FP32(from[r][b].d);
            if constexpr (kHasMinimum<Block>) memory.tile_minimums[b * kRows + r] = GGML_CPU_FP16_TO_FP32(from[r][b].m);
        }
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
    std::size_t const blocks = op.blocks;
    block_q8_0 const* const quants = memory.quants + column * blocks;
    float const* const scales = memory.scales + column * blocks;
    float const* const sums = memory.sums + column * blocks;
    std::int32_t const* const offsets = memory.offsets + column * blocks;
    __m512 sum[Count] = {};
    for (std::size_t b = 0; b < blocks; ++b) {
        std::uint8_t const* const tile = memory.tile + b * kRows * kDepth;
        __m512i dots[Count];
        for (std::size_t c = 0; c < Count; ++c) dots[c] = _mm512_set1_epi32(offsets[c * blocks + b]);
        for (std::size_t w = 0; w < kWords; ++w) {
            __m512i const weights = _mm512_load_si512(tile + w * kCacheLine);
            for (std::size_t c = 0; c < Count; ++c) {
                std::int32_t word = 0;
                std::memcpy(&word, quants[c * blocks + b].qs + w * sizeof(word), sizeof(word));
                dots[c] = _mm512_dpbusd_epi32(dots[c], weights, _mm512_set1_epi32(word));
            }
        }
        __m512 const row_scales = _mm512_load_ps(memory.tile_scales + b * kRows);
        __m512 row_minimums = _mm512_setzero_ps();
        if constexpr (kHasMinimum<Block>) row_minimums = _mm512_load_ps(memory.tile_minimums + b * kRows);
        for (std::size_t c = 0; c < Count; ++c)
            sum[c] = add_block<Block>(sum[c], dots[c], row_scales, row_minimums, scales[c * blocks + b],
                                      sums[c * blocks + b]);
    }
    for (std::size_t c = 0; c < Count; ++c) op.store(row, column + c, sum[c]);
}

template <typename Block>
void multiply_tile(Op const& op, Memory const& memory, std::size_t row) {
    unpack<Block>(op, memory, row);
    std::size_t column = 0;
    for (; column + kColumns <= op.columns; column += kColumns) multiply<Block, kColumns>(op, memory, row, column);
    auto const rest = [&]<std::size_t Count>() {
        if ((op.columns - column) < Count) return;
        multiply<Block, Count>(op, memory, row, column);
        column += Count;
    };
    rest.template operator()<4>();
    rest.template operator()<2>();
    rest.template operator()<1>();
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

// Products of a block of 16 rows with the only column's, in the order of lane_row().
template <typename Block>
__m512i dot_rows(Block const* const (&rows)[kRows], std::size_t b, block_q8_0 const& column) {
    __m512i fours[4];
    __m512i const zero = _mm512_setzero_si512();
    if constexpr (sizeof(Block::qs) == kDepth / 2 && !requires(Block block) { block.qh; }) {
        // Nibbles: four rows to a register, the first half of their values in the low bits.
        __m512i const low = _mm512_set1_epi8(0xF);
        __m512i const first = _mm512_broadcast_i32x4(load16(column.qs));
        __m512i const second = _mm512_broadcast_i32x4(load16(column.qs + kDepth / 2));
        for (std::size_t q = 0; q < 4; ++q) {
            __m512i pairs = _mm512_castsi128_si512(load16(rows[4 * q][b].qs));
            pairs = _mm512_inserti32x4(pairs, load16(rows[4 * q + 1][b].qs), 1);
            pairs = _mm512_inserti32x4(pairs, load16(rows[4 * q + 2][b].qs), 2);
            pairs = _mm512_inserti32x4(pairs, load16(rows[4 * q + 3][b].qs), 3);
            __m512i const dots = _mm512_dpbusd_epi32(zero, _mm512_and_si512(pairs, low), first);
            fours[q] = _mm512_dpbusd_epi32(dots, _mm512_and_si512(_mm512_srli_epi16(pairs, 4), low), second);
        }
    } else {
        __m512i const both = _mm512_broadcast_i64x4(load32(column.qs));
        for (std::size_t q = 0; q < 4; ++q) {
            __m512i pair[2];
            for (std::size_t p = 0; p < 2; ++p) {
                __m256i const first = values(rows[4 * q + p][b]), second = values(rows[4 * q + p + 2][b]);
                __m512i const weights = _mm512_inserti64x4(_mm512_castsi256_si512(first), second, 1);
                pair[p] = _mm512_dpbusd_epi32(zero, weights, both);
            }
            // Halves of a row are neighbours; rows 0, 1, 2, 3 in order.
            fours[q] = _mm512_add_epi32(
                _mm512_permutex2var_epi64(pair[0], _mm512_set_epi64(13, 12, 5, 4, 9, 8, 1, 0), pair[1]),
                _mm512_permutex2var_epi64(pair[0], _mm512_set_epi64(15, 14, 7, 6, 11, 10, 3, 2), pair[1]));
        }
    }
    return add_fours(fours);
}

// Rows [row, row + kRows) times the only column, straight from the weights.
template <typename Block>
void multiply_vector(Op const& op, Memory const& memory, std::size_t row) {
    Block const* rows[kRows];
    alignas(kCacheLine) std::int32_t places[kRows];  // of the rows' first blocks, from the first one's
    for (std::size_t r = 0; r < kRows; ++r) rows[r] = op.weight_row<Block>(row + r);
    for (std::size_t lane = 0; lane < kRows; ++lane)
        places[lane] = static_cast<std::int32_t>(reinterpret_cast<char const*>(rows[lane_row(lane)]) -
                                                 reinterpret_cast<char const*>(rows[0]));
    __m512i const offsets = _mm512_load_si512(places);
    __m512 sum = _mm512_setzero_ps();
    for (std::size_t b = 0; b < op.blocks; ++b) {
        prefetch(rows[0] + kAhead * op.blocks + b * kRows);
        __m512i const heads = _mm512_i32gather_epi32(offsets, rows[0] + b, 1);  // scale, and what follows
        __m512 const row_scales = _mm512_cvtph_ps(_mm512_cvtepi32_epi16(heads));
        __m512 row_minimums = _mm512_setzero_ps();
        if constexpr (kHasMinimum<Block>)
            row_minimums = _mm512_cvtph_ps(_mm512_cvtepi32_epi16(_mm512_srli_epi32(heads, 16)));
        __m512i dots = dot_rows<Block>(rows, b, memory.quants[b]);
        if constexpr (kZero<Block> != 0) dots = _mm512_add_epi32(dots, _mm512_set1_epi32(memory.offsets[b]));
        sum = add_block<Block>(sum, dots, row_scales, row_minimums, memory.scales[b], memory.sums[b]);
    }
    __m512i order;
    for (std::size_t lane = 0; lane < kRows; ++lane) places[lane] = static_cast<std::int32_t>(lane_row(lane));
    order = _mm512_load_si512(places);
    op.store(row, 0, _mm512_permutexvar_ps(order, sum));
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
        for (auto c = static_cast<std::size_t>(params->ith); c < op.columns; c += threads)
            quantise(op, memory, c, kZero<Block>);
        if (params->ith == 0) ggml_threadpool_chunk_set(params->threadpool, params->nth);
        ggml_barrier(params->threadpool);
        auto const tiles = static_cast<int>((op.rows + kRows - 1) / kRows);
        for (int tile = params->ith; tile < tiles; tile = ggml_threadpool_chunk_add(params->threadpool, 1)) {
            auto const row = static_cast<std::size_t>(tile) * kRows;
            if (op.columns == 1) multiply_vector<Block>(op, memory, row);
            else multiply_tile<Block>(op, memory, row);
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

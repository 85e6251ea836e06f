// Matrix product of Q4_1 weights with columns of activations.
//
// Upstream takes row by row and column by column, in 256-bit registers, and
// unpacks each block of weights anew for each column. Here several rows share a
// 512-bit register. With one column, a tile of rows is read side by side, and the
// next but one asked for ahead, for memory is what decoding waits for. With more,
// the tile is unpacked once into the layout of the instruction and meets several
// columns in registers. Every lane does what upstream's ggml_vec_dot_q4_1_q8_1
// does, in its order: results have the same bits.
//
// Needs VPDPBUSD on 512 bits; elsewhere everything stays upstream's.
#include "llama/kernels/kernels.h"

#include <ggml-cpu-impl.h>
#include <ggml-cpu.h>
#include <ggml-impl.h>
#include <simd-mappings.h>
#define GGML_COMMON_DECL_C
#include <ggml-common.h>

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VNNI__)
  #include <immintrin.h>

  #include <algorithm>
  #include <cmath>
  #include <cstdint>

namespace hearth::llama {
namespace {

constexpr int kTileRows = 16;       // weight rows taken together: one per lane of their scales
constexpr std::size_t kAhead = 32;  // rows from one read to one asked for: the next but one tile
constexpr int kPairs = 4;           // register tile: pairs of rows ...
constexpr int kColumns = 4;         // ... times columns
constexpr std::size_t kCacheLine = 64;

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
          blocks(static_cast<std::size_t>(weights.ne[0]) / QK4_1),
          columns(static_cast<std::size_t>(activations.ne[1])),
          rows(static_cast<std::size_t>(weights.ne[1])) {}

    [[nodiscard]] block_q4_1 const* weight_row(std::size_t row) const {
        return static_cast<block_q4_1 const*>(weights.data) + row * blocks;
    }
    [[nodiscard]] float* result(std::size_t column) const {
        return reinterpret_cast<float*>(static_cast<char*>(out.data) + column * out.nb[1]);
    }
};

std::size_t rounded(std::size_t bytes) { return (bytes + kCacheLine - 1) / kCacheLine * kCacheLine; }

// The operation's work memory: activations as upstream quantises them and their
// scales as floats, shared by all threads; then a tile of each thread.
struct Memory {
    block_q8_1* quants;  // columns x blocks
    float* scales;       // columns x blocks: d
    float* sums;         // columns x blocks: s
    std::uint8_t* tile;  // blocks x kTileRows / 2 x 64
    float* tile_scales;  // blocks x kTileRows: d
    float* tile_mins;    // blocks x kTileRows: m

    static std::size_t shared_bytes(Op const& op) {
        std::size_t const count = op.columns * op.blocks;
        return rounded(count * sizeof(block_q8_1)) + 2 * rounded(count * sizeof(float));
    }
    static std::size_t own_bytes(Op const& op) { return op.blocks * kTileRows * (QK4_1 + 2 * sizeof(float)); }
    static std::size_t bytes(Op const& op, int threads) {
        return shared_bytes(op) + own_bytes(op) * static_cast<std::size_t>(threads) + kCacheLine;
    }

    Memory(Op const& op, void* work, int thread) {
        auto const address = rounded(reinterpret_cast<std::uintptr_t>(work));
        auto* at = static_cast<char*>(work) + (address - reinterpret_cast<std::uintptr_t>(work));
        std::size_t const count = op.columns * op.blocks;
        quants = reinterpret_cast<block_q8_1*>(at);
        scales = reinterpret_cast<float*>(at + rounded(count * sizeof(block_q8_1)));
        sums = scales + rounded(count * sizeof(float)) / sizeof(float);
        char* const own = at + shared_bytes(op) + own_bytes(op) * static_cast<std::size_t>(thread);
        tile = reinterpret_cast<std::uint8_t*>(own);
        tile_scales = reinterpret_cast<float*>(own + op.blocks * kTileRows * QK4_1);
        tile_mins = tile_scales + op.blocks * kTileRows;
    }
};

void quantise(Op const& op, Memory const& memory, std::size_t column) {
    auto const* const from =
        reinterpret_cast<float const*>(static_cast<char const*>(op.activations.data) + column * op.activations.nb[1]);
    block_q8_1* const to = memory.quants + column * op.blocks;
    ggml_get_type_traits_cpu(GGML_TYPE_Q8_1)->from_float(from, to, op.activations.ne[0]);
    for (std::size_t b = 0; b < op.blocks; ++b) {
        memory.scales[column * op.blocks + b] = GGML_CPU_FP16_TO_FP32(to[b].d);
        memory.sums[column * op.blocks + b] = GGML_CPU_FP16_TO_FP32(to[b].s);
    }
}

// As many bytes as a block of each row of a tile has, which will be wanted soon.
// Past the end of the weights it does nothing.
void prefetch(block_q4_1 const* blocks) {
    auto const* const at = reinterpret_cast<char const*>(blocks);
    for (std::size_t line = 0; line < kTileRows * sizeof(block_q4_1); line += kCacheLine)
        _mm_prefetch(at + line, _MM_HINT_T0);
}

// Rows [row, row + kTileRows): per block and pair of rows 64 bytes, the first
// row's 32 values, then the second's, in the order of upstream's unpacking.
void unpack(Op const& op, Memory const& memory, std::size_t row) {
    __m256i const low = _mm256_set1_epi8(0xF);
    for (std::size_t r = 0; r < kTileRows; ++r) {
        block_q4_1 const* const from = op.weight_row(row + r);
        for (std::size_t b = 0; b < op.blocks; b += kTileRows) prefetch(from + kAhead * op.blocks + b);
        std::uint8_t* to = memory.tile + r * QK4_1;
        for (std::size_t b = 0; b < op.blocks; ++b, to += std::size_t{kTileRows} * QK4_1) {
            __m128i const nibbles = _mm_loadu_si128(reinterpret_cast<__m128i const*>(from[b].qs));
            __m256i const bytes = _mm256_and_si256(low, _mm256_set_m128i(_mm_srli_epi16(nibbles, 4), nibbles));
            _mm256_store_si256(reinterpret_cast<__m256i*>(to), bytes);
            memory.tile_scales[b * kTileRows + r] = GGML_CPU_FP16_TO_FP32(from[b].d);
            memory.tile_mins[b * kTileRows + r] = GGML_CPU_FP16_TO_FP32(from[b].m);
        }
    }
}

// The eight lanes of a row, added as upstream's hsum_float_8 does.
float add_lanes(__m256 lanes) {
    __m128 sum = _mm_add_ps(_mm256_extractf128_ps(lanes, 1), _mm256_castps256_ps128(lanes));
    sum = _mm_add_ps(sum, _mm_movehl_ps(sum, sum));
    return _mm_cvtss_f32(_mm_add_ss(sum, _mm_movehdup_ps(sum)));
}

// The unpacked tile times `Count` columns.
template <int Count>
void multiply(Op const& op, Memory const& memory, std::size_t row, std::size_t column) {
    std::size_t const blocks = op.blocks;
    block_q8_1 const* const quants = memory.quants + column * blocks;
    float const* const scales = memory.scales + column * blocks;
    float const* const sums = memory.sums + column * blocks;

    alignas(kCacheLine) float offsets[Count][kTileRows];
    __m512 offset[Count] = {};
    for (std::size_t b = 0; b < blocks; ++b) {
        __m512 const mins = _mm512_load_ps(memory.tile_mins + b * kTileRows);
        for (std::size_t c = 0; c < Count; ++c)
            offset[c] = _mm512_fmadd_ps(mins, _mm512_set1_ps(sums[c * blocks + b]), offset[c]);
    }
    for (int c = 0; c < Count; ++c) _mm512_store_ps(offsets[c], offset[c]);

    for (int first = 0; first < kTileRows / 2; first += kPairs) {
        __m512 acc[kPairs][Count] = {};
        for (std::size_t b = 0; b < blocks; ++b) {
            __m512 const row_scales = _mm512_load_ps(memory.tile_scales + b * kTileRows);
            std::uint8_t const* const tile = memory.tile + b * kTileRows * QK4_1 + static_cast<std::size_t>(first) * 64;
            __m512i weights[kPairs];
            __m512 pair_scales[kPairs];
            for (int p = 0; p < kPairs; ++p) {
                weights[p] = _mm512_load_si512(tile + static_cast<std::size_t>(p) * 64);
                int const lane = 2 * (first + p);
                __m512i const lanes = _mm512_inserti64x4(_mm512_set1_epi32(lane), _mm256_set1_epi32(lane + 1), 1);
                pair_scales[p] = _mm512_permutexvar_ps(lanes, row_scales);
            }
            for (std::size_t c = 0; c < Count; ++c) {
                __m512i const values = _mm512_broadcast_i64x4(
                    _mm256_loadu_si256(reinterpret_cast<__m256i const*>(quants[c * blocks + b].qs)));
                __m512 const scale = _mm512_set1_ps(scales[c * blocks + b]);
                for (int p = 0; p < kPairs; ++p) {
                    __m512 const dots =
                        _mm512_cvtepi32_ps(_mm512_dpbusd_epi32(_mm512_setzero_si512(), weights[p], values));
                    acc[p][c] = _mm512_fmadd_ps(_mm512_mul_ps(pair_scales[p], scale), dots, acc[p][c]);
                }
            }
        }
        for (int c = 0; c < Count; ++c) {
            float* const out = op.result(column + static_cast<std::size_t>(c)) + row;
            for (int p = 0; p < kPairs; ++p) {
                int const r = 2 * (first + p);
                out[r] = add_lanes(_mm512_castps512_ps256(acc[p][c])) + offsets[c][r];
                out[r + 1] = add_lanes(_mm512_extractf32x8_ps(acc[p][c], 1)) + offsets[c][r + 1];
            }
        }
    }
}

void multiply_tile(Op const& op, Memory const& memory, std::size_t row) {
    unpack(op, memory, row);
    std::size_t column = 0;
    for (; column + kColumns <= op.columns; column += kColumns) multiply<kColumns>(op, memory, row, column);
    switch (op.columns - column) {
        case 3: multiply<3>(op, memory, row, column); break;
        case 2: multiply<2>(op, memory, row, column); break;
        case 1: multiply<1>(op, memory, row, column); break;
        default: break;
    }
}

// The four rows from `row` on, each in a quarter of a register: its values 0 to 15
// in the low nibbles, 16 to 31 in the high ones.
__m512i load_nibbles(block_q4_1 const* row, std::size_t blocks) {
    auto const load = [&](std::size_t r) {
        return _mm_loadu_si128(reinterpret_cast<__m128i const*>(row[r * blocks].qs));
    };
    __m512i rows = _mm512_castsi128_si512(load(0));
    rows = _mm512_inserti32x4(rows, load(1), 1);
    rows = _mm512_inserti32x4(rows, load(2), 2);
    return _mm512_inserti32x4(rows, load(3), 3);
}

// Rows [row, row + kTileRows) times the only column, straight from the weights.
void multiply_vector(Op const& op, Memory const& memory, std::size_t row) {
    constexpr int kQuads = kTileRows / 4;
    block_q4_1 const* const weights = op.weight_row(row);
    __m512i const row_lanes = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    __m512i const row_offsets =
        _mm512_mullo_epi32(row_lanes, _mm512_set1_epi32(static_cast<int>(op.blocks * sizeof(block_q4_1))));
    __m512i const low = _mm512_set1_epi8(0xF);
    __m512i const zero = _mm512_setzero_si512();
    __m512 lows[kQuads] = {};   // lanes 0 to 3 of upstream's eight, of four rows
    __m512 highs[kQuads] = {};  // lanes 4 to 7
    __m512 offset = _mm512_setzero_ps();
    for (std::size_t b = 0; b < op.blocks; ++b) {
        prefetch(weights + kAhead * op.blocks + b * kTileRows);
        __m512i const pairs = _mm512_i32gather_epi32(row_offsets, weights + b, 1);  // d and m of each row
        __m512 const scales =
            _mm512_mul_ps(_mm512_cvtph_ps(_mm512_cvtepi32_epi16(pairs)), _mm512_set1_ps(memory.scales[b]));
        __m512 const mins = _mm512_cvtph_ps(_mm512_cvtepi32_epi16(_mm512_srli_epi32(pairs, 16)));
        offset = _mm512_fmadd_ps(mins, _mm512_set1_ps(memory.sums[b]), offset);
        auto const* const values = reinterpret_cast<__m128i const*>(memory.quants[b].qs);
        __m512i const low_values = _mm512_broadcast_i32x4(_mm_loadu_si128(values));
        __m512i const high_values = _mm512_broadcast_i32x4(_mm_loadu_si128(values + 1));
        for (int q = 0; q < kQuads; ++q) {
            std::size_t const quad = static_cast<std::size_t>(q) * 4;
            __m512i const nibbles = load_nibbles(weights + quad * op.blocks + b, op.blocks);
            __m512i const lanes = _mm512_add_epi32(_mm512_srli_epi32(row_lanes, 2), _mm512_set1_epi32(4 * q));
            __m512 const scale = _mm512_permutexvar_ps(lanes, scales);
            __m512i const low_dots = _mm512_dpbusd_epi32(zero, _mm512_and_si512(nibbles, low), low_values);
            __m512i const high_dots =
                _mm512_dpbusd_epi32(zero, _mm512_and_si512(_mm512_srli_epi16(nibbles, 4), low), high_values);
            lows[q] = _mm512_fmadd_ps(scale, _mm512_cvtepi32_ps(low_dots), lows[q]);
            highs[q] = _mm512_fmadd_ps(scale, _mm512_cvtepi32_ps(high_dots), highs[q]);
        }
    }
    alignas(kCacheLine) float offsets[kTileRows];
    alignas(kCacheLine) float lanes[4][4];
    _mm512_store_ps(offsets, offset);
    float* const out = op.result(0) + row;
    for (int q = 0; q < kQuads; ++q) {
        _mm512_store_ps(&lanes[0][0], _mm512_add_ps(highs[q], lows[q]));
        for (int r = 0; r < 4; ++r)  // in the order of add_lanes()
            out[4 * q + r] = (lanes[r][0] + lanes[r][2]) + (lanes[r][1] + lanes[r][3]) + offsets[4 * q + r];
    }
}

struct MatmulQ41 final : ggml::cpu::tensor_traits {
    bool work_size(int threads, ggml_tensor const* op, std::size_t& size) override {
        size = Memory::bytes(Op(*op), threads);
        return true;
    }

    bool compute_forward(ggml_compute_params* params, ggml_tensor* tensor) override {
        Op const op(*tensor);
        Memory const memory(op, params->wdata, params->ith);
        auto const threads = static_cast<std::size_t>(params->nth);
        for (auto c = static_cast<std::size_t>(params->ith); c < op.columns; c += threads) quantise(op, memory, c);
        if (params->ith == 0) ggml_threadpool_chunk_set(params->threadpool, params->nth);
        ggml_barrier(params->threadpool);
        auto const tiles = static_cast<int>(op.rows / kTileRows);
        for (int tile = params->ith; tile < tiles; tile = ggml_threadpool_chunk_add(params->threadpool, 1)) {
            auto const row = static_cast<std::size_t>(tile) * kTileRows;
            if (op.columns == 1) multiply_vector(op, memory, row);
            else multiply_tile(op, memory, row);
        }
        return true;
    }
};

bool is_ours(ggml_tensor const& op) {
    if (op.op != GGML_OP_MUL_MAT) return false;
    ggml_tensor const& weights = *op.src[0];
    ggml_tensor const& activations = *op.src[1];
    // Accelerators that keep weights in a layout of their own say so by their buffer.
    if (weights.buffer != nullptr && !ggml_backend_buffer_is_host(weights.buffer)) return false;
    bool const matrices = weights.ne[2] == 1 && weights.ne[3] == 1 && activations.ne[2] == 1 && activations.ne[3] == 1;
    return weights.type == GGML_TYPE_Q4_1 && activations.type == GGML_TYPE_F32 && op.type == GGML_TYPE_F32 &&
           matrices && weights.nb[0] == sizeof(block_q4_1) &&
           weights.nb[1] == ggml_row_size(weights.type, weights.ne[0]) && activations.nb[0] == sizeof(float) &&
           op.nb[0] == sizeof(float) && weights.ne[1] % kTileRows == 0;
}

}  // namespace

ggml::cpu::tensor_traits* matmul_q4_1(ggml_tensor const& op) {
    static MatmulQ41 traits;
    return is_ours(op) ? &traits : nullptr;
}

}  // namespace hearth::llama

#else

namespace hearth::llama {
ggml::cpu::tensor_traits* matmul_q4_1(ggml_tensor const&) { return nullptr; }
}  // namespace hearth::llama

#endif

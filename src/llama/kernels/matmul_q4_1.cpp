// Matrix product of Q4_1 weights with several columns of activations.
//
// Upstream unpacks each block of weights anew for each column. Here a tile of
// weight rows is unpacked once into the layout of the instruction and meets
// several columns in registers. Two rows share a 512-bit register, each in its own
// half, and every lane does what upstream's ggml_vec_dot_q4_1_q8_1 does, in its
// order: results have the same bits.
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

constexpr int kTileRows = 16;  // weight rows unpacked together: one per lane of their scales
constexpr int kPairs = 4;      // register tile: pairs of rows ...
constexpr int kColumns = 4;    // ... times columns
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
        return reinterpret_cast<block_q4_1 const*>(static_cast<char const*>(weights.data) + row * weights.nb[1]);
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

// Rows [row, row + kTileRows): per block and pair of rows 64 bytes, the first
// row's 32 values, then the second's, in the order of upstream's unpacking.
void unpack(Op const& op, Memory const& memory, std::size_t row) {
    __m256i const low = _mm256_set1_epi8(0xF);
    for (std::size_t r = 0; r < kTileRows; ++r) {
        block_q4_1 const* const from = op.weight_row(row + r);
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
        for (int tile = params->ith; tile < tiles; tile = ggml_threadpool_chunk_add(params->threadpool, 1))
            multiply_tile(op, memory, static_cast<std::size_t>(tile) * kTileRows);
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
           matrices && weights.nb[0] == sizeof(block_q4_1) && activations.nb[0] == sizeof(float) &&
           op.nb[0] == sizeof(float) && weights.ne[1] % kTileRows == 0 && activations.ne[1] >= 2;
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

#include "llama/cpu_variants.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "llama/cpu_features.h"
#include "llama/cpu_registration.h"

// Each variant's object exports exactly this one function.
extern "C" {
ggml_backend_reg_t hearth_cpu_reg_sse42();
ggml_backend_reg_t hearth_cpu_reg_avx2();
ggml_backend_reg_t hearth_cpu_reg_avx2_vnni();
ggml_backend_reg_t hearth_cpu_reg_avx512();
ggml_backend_reg_t hearth_cpu_reg_avx512_vnni();
ggml_backend_reg_t hearth_cpu_reg_avx512_bf16();
ggml_backend_reg_t hearth_cpu_reg_amx();
ggml_backend_reg_t hearth_cpu_reg_native();
}

namespace hearth::llama {

namespace {

struct Variant {
    std::string_view name;
    std::uint32_t needs;
    ggml_backend_reg_t (*registration)();
};

// Worst first. The features are those of the compiler flags in
// cmake/HearthLlama.cmake; a build may leave variants out.
[[maybe_unused]] constexpr std::uint32_t kLevel2 = kSse42 | kAvx2;
[[maybe_unused]] constexpr std::uint32_t kLevel3 = kLevel2 | kAvx512;
[[maybe_unused]] constexpr std::uint32_t kLevel4 = kLevel3 | kAvx512Vnni;

constexpr auto kVariants = std::to_array<Variant>({
#ifdef HEARTH_CPU_SSE42
    {"sse42", kSse42, hearth_cpu_reg_sse42},
#endif
#ifdef HEARTH_CPU_AVX2
    {"avx2", kLevel2, hearth_cpu_reg_avx2},
#endif
#ifdef HEARTH_CPU_AVX2_VNNI
    {"avx2-vnni", kLevel2 | kAvxVnni, hearth_cpu_reg_avx2_vnni},
#endif
#ifdef HEARTH_CPU_AVX512
    {"avx512", kLevel3, hearth_cpu_reg_avx512},
#endif
#ifdef HEARTH_CPU_AVX512_VNNI
    {"avx512-vnni", kLevel4, hearth_cpu_reg_avx512_vnni},
#endif
#ifdef HEARTH_CPU_AVX512_BF16
    {"avx512-bf16", kLevel4 | kAvx512Bf16, hearth_cpu_reg_avx512_bf16},
#endif
#ifdef HEARTH_CPU_AMX
    {"amx", kLevel4 | kAvx512Bf16 | kAmxInt8, hearth_cpu_reg_amx},
#endif
#ifdef HEARTH_CPU_NATIVE
    {"native", 0, hearth_cpu_reg_native},
#endif
});

// What upstream packs where the kernels have the feature, rows permitting (ggml-cpu's repack.cpp and amx.cpp).
struct Packed {
    std::string_view type;
    std::uint32_t feature;
};
constexpr auto kPacked = std::to_array<Packed>({{"Q4_0", kAvx2},
                                                {"Q4_K", kAvx2},
                                                {"IQ4_NL", kAvx2},
                                                {"MXFP4", kAvx2},
                                                {"Q2_K", kAvx512},
                                                {"Q4_1", kAmxInt8},
                                                {"Q8_0", kAmxInt8},
                                                {"Q5_K", kAmxInt8},
                                                {"Q6_K", kAmxInt8},
                                                {"IQ4_XS", kAmxInt8},
                                                {"F16", kAmxInt8}});

bool runs_here(Variant const& variant) { return (variant.needs & ~machine_features()) == 0; }

std::string runnable_names() {
    std::string names;
    for (auto const& variant : kVariants) {
        if (!runs_here(variant)) continue;
        if (!names.empty()) names += ", ";
        names += variant.name;
    }
    return names.empty() ? "none" : names;
}

Variant const* find(std::string_view name) {
    for (auto const& variant : kVariants)
        if (variant.name == name) return &variant;
    return nullptr;
}

}  // namespace

std::vector<CpuVariant> cpu_variants() {
    std::vector<CpuVariant> all;
    all.reserve(std::size(kVariants));
    for (auto const& variant : kVariants) all.push_back({std::string(variant.name), runs_here(variant)});
    return all;
}

Result<std::string> choose_cpu_variant(std::string_view name) {
    if (name.empty()) {
        Variant const* best = nullptr;
        for (auto const& variant : kVariants)
            if (runs_here(variant)) best = &variant;
        if (best == nullptr)
            return Error(Code::unsupported,
                         fmt::format("this processor is older than every kernel compiled in, of which "
                                     "the oldest is {}",
                                     kVariants.front().name));
        return std::string(best->name);
    }
    Variant const* const variant = find(name);
    if (variant == nullptr)
        return Error(Code::invalid_argument,
                     fmt::format("unknown CPU variant '{}'; this machine runs: {}", name, runnable_names()),
                     "cpu_variant");
    if (!runs_here(*variant))
        return Error(
            Code::unsupported,
            fmt::format("this machine lacks the instructions of CPU variant '{}'; it runs: {}", name, runnable_names()),
            "cpu_variant");
    return std::string(name);
}

bool may_pack(std::string_view variant, std::string_view type) {
    Variant const* const known = find(variant);
    if (known == nullptr) return true;
    // Of other processors than x86 nobody says which features it has.
    if (known->needs == 0) return type != "F32" && type != "F16" && type != "BF16";
    return std::ranges::any_of(
        kPacked, [&](Packed const& packed) { return packed.type == type && (known->needs & packed.feature) != 0; });
}

ggml_backend_reg_t cpu_registration(std::string_view name) {
    Variant const* const variant = find(name);
    return variant == nullptr ? nullptr : variant->registration();
}

}  // namespace hearth::llama

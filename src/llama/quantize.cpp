#include "llama/quantize.h"

#include <fmt/format.h>
#include <llama.h>

#include <array>
#include <charconv>
#include <exception>
#include <string>

#include "llama/runtime.h"

namespace hearth::llama {
namespace {

constexpr int kLevelInfo = 1;

// Bits by the sizes that upstream's tools/quantize says of Llama 3 8B.
constexpr std::array<QuantizedType, 21> kTypes{{
    {"F32", LLAMA_FTYPE_ALL_F32, 32},
    {"F16", LLAMA_FTYPE_MOSTLY_F16, 16},
    {"BF16", LLAMA_FTYPE_MOSTLY_BF16, 16},
    {"Q8_0", LLAMA_FTYPE_MOSTLY_Q8_0, 8.5},
    {"Q6_K", LLAMA_FTYPE_MOSTLY_Q6_K, 6.56},
    {"Q5_1", LLAMA_FTYPE_MOSTLY_Q5_1, 6.0},
    {"Q5_K_M", LLAMA_FTYPE_MOSTLY_Q5_K_M, 5.7},
    {"Q5_K_S", LLAMA_FTYPE_MOSTLY_Q5_K_S, 5.57},
    {"Q5_0", LLAMA_FTYPE_MOSTLY_Q5_0, 5.5},
    {"Q4_1", LLAMA_FTYPE_MOSTLY_Q4_1, 5.1},
    {"Q4_K_M", LLAMA_FTYPE_MOSTLY_Q4_K_M, 4.89},
    {"Q4_K_S", LLAMA_FTYPE_MOSTLY_Q4_K_S, 4.67},
    {"IQ4_NL", LLAMA_FTYPE_MOSTLY_IQ4_NL, 4.68},
    {"Q4_0", LLAMA_FTYPE_MOSTLY_Q4_0, 4.6},
    {"IQ4_XS", LLAMA_FTYPE_MOSTLY_IQ4_XS, 4.46},
    {"Q3_K_L", LLAMA_FTYPE_MOSTLY_Q3_K_L, 4.3},
    {"Q3_K_M", LLAMA_FTYPE_MOSTLY_Q3_K_M, 4.0},
    {"IQ3_M", LLAMA_FTYPE_MOSTLY_IQ3_M, 3.76},
    {"IQ3_S", LLAMA_FTYPE_MOSTLY_IQ3_S, 3.66},
    {"Q3_K_S", LLAMA_FTYPE_MOSTLY_Q3_K_S, 3.64},
    {"Q2_K", LLAMA_FTYPE_MOSTLY_Q2_K, 3.16},
}};

// "[  12/ 272] blk.0.attn_k.weight   - [...], type = f16, converting to q4_1 .. size = ...": upstream tells how far it
// is nowhere else. Logged when the tensor is done. A line of another shape says nothing.
bool parse_progress(std::string_view line, QuantizeProgress& progress) {
    auto const number = [&](char before, std::uint64_t& value) {
        if (line.empty() || line.front() != before) return false;
        line.remove_prefix(1);
        while (line.starts_with(' ')) line.remove_prefix(1);
        auto const [end, failed] = std::from_chars(line.data(), line.data() + line.size(), value);
        line.remove_prefix(static_cast<std::size_t>(end - line.data()));
        return failed == std::errc{};
    };
    if (!number('[', progress.tensors_done) || !number('/', progress.tensors) || !line.starts_with("] ")) return false;
    line.remove_prefix(2);
    progress.tensor = line.substr(0, line.find(' '));
    return !progress.tensor.empty();
}

}  // namespace

std::span<QuantizedType const> quantized_types() noexcept { return kTypes; }

Status quantize(QuantizeOptions const& options) {
    // The runtime keeps its sink for good, so it gets a copy.
    HEARTH_CHECK(start_runtime(options.cpu_variant, [report = options.progress](int level, std::string_view line) {
        QuantizeProgress progress;
        if (level == kLevelInfo && report && parse_progress(line, progress)) report(progress);
    }));
    auto parameters = llama_model_quantize_default_params();
    parameters.ftype = static_cast<llama_ftype>(options.file_type);
    parameters.nthread = static_cast<std::int32_t>(options.threads);
    ErrorCapture const errors;
    AbortsThrow const aborts;
    try {
        if (llama_model_quantize(options.input.c_str(), options.output.c_str(), &parameters) == 0) return ok();
        bool const twice = errors.text().find("requantizing from type") != std::string::npos;
        return Error(Code::unsupported,
                     fmt::format("{}: not quantised: {}", options.input,
                                 twice ? "its weights are quantised already; make it from the model in F16 or BF16"
                                       : errors.text()),
                     options.input);
    } catch (std::exception const& failure) {
        return Error(Code::unsupported, fmt::format("{}: not quantised: {}", options.input, failure.what()),
                     options.input);
    }
}

}  // namespace hearth::llama

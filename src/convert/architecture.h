// Architecture: a family of models, as Hugging Face names and shapes its tensors
// and parameters, and as the engine wants them.
//
// A family is a row of tables (architecture_tables.cpp) and a few flags; what
// it does to a tensor is one of five things: rename it, put its rows into
// another order, add a number, leave out dimensions of one, or put it behind those
// of other experts.
//
// Sources: upstream's conversion/*.py at the pinned version, whose output is
// compared byte by byte (tests/integration/test_convert.py).
// Threads: none; immutable. Ownership: the tables are static.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "convert/elements.h"
#include "convert/hf_config.h"
#include "convert/metadata.h"

namespace hearth::convert {

struct NamePair {
    std::string_view hf;
    std::string_view gguf;
};

enum class Family : std::uint8_t { llama, qwen2, qwen3, qwen3moe, gemma3, lfm2, bert };

struct FamilyTable {
    Family family{};
    std::string_view gguf;                          // general.architecture
    std::span<std::string_view const> hf_names;     // in config.json
    std::string_view layers;                        // what comes before a layer's number
    std::span<NamePair const> outer;                // outside of layers, without suffix
    std::span<NamePair const> inner;                // inside
    std::span<std::string_view const> skipped;      // beginnings of names that have no place in a GGUF file
    bool permuted = false;                          // rows of queries and keys are in halves, the engine wants pairs
    float norm_shift = 0;                           // added to the weights of norms
};

// What becomes of a tensor.
struct TensorTarget {
    std::string name;
    std::optional<std::uint32_t> layer;
    std::optional<std::uint32_t> expert;  // one of experts(), whose matrices become one tensor, one behind the other
    std::uint32_t heads = 0;  // not 0: reorder rows within this many heads
    float shift = 0;
    bool squeeze = false;  // leave out the second of three dimensions, which is 1
};

class Architecture {
public:
    // `unsupported` names the architecture and those that are known.
    [[nodiscard]] static Result<Architecture> of(HfConfig const& config);

    [[nodiscard]] Family family() const { return table_->family; }
    [[nodiscard]] std::string_view name() const { return table_->gguf; }
    [[nodiscard]] std::uint32_t layers() const { return layers_; }
    [[nodiscard]] std::uint32_t vocabulary() const { return vocabulary_; }
    [[nodiscard]] std::uint32_t experts() const { return experts_; }  // 0: it is no mixture of them

    // Nothing for a tensor the engine has no use for; `unsupported` for one that
    // this family does not know.
    [[nodiscard]] Result<std::optional<TensorTarget>> target(std::string_view hf_name) const;

    // The type the tensor is written in when `wanted` was asked for: norms,
    // biases and the like stay f32.
    [[nodiscard]] static ElementType type_of(std::string_view gguf_name, std::size_t dimensions, ElementType wanted);

    // The keys of the architecture, general.file_type among them.
    [[nodiscard]] Status add_parameters(Metadata& metadata, HfConfig const& config, ElementType type) const;

    // rope_freqs.weight of a model with Llama 3's scaling; empty for others.
    [[nodiscard]] Result<std::vector<float>> rope_factors(HfConfig const& config) const;

private:
    Architecture() = default;

    [[nodiscard]] std::string key(std::string_view name) const;
    Status add_sizes(Metadata& metadata, HfConfig const& config) const;
    Status add_rope(Metadata& metadata, HfConfig const& config) const;
    Status add_scaling(Metadata& metadata, HfConfig const& config, json::View scaling) const;
    Status add_norms(Metadata& metadata, HfConfig const& config) const;
    Status add_family(Metadata& metadata, HfConfig const& config) const;
    Status add_experts(Metadata& metadata, HfConfig const& config) const;
    Status add_gemma3(Metadata& metadata, HfConfig const& config) const;
    Status add_lfm2(Metadata& metadata, HfConfig const& config) const;
    Status add_pooling(Metadata& metadata, HfConfig const& config) const;
    [[nodiscard]] Result<std::optional<std::uint32_t>> head_width(HfConfig const& config) const;

    FamilyTable const* table_ = nullptr;
    std::uint32_t layers_ = 0;
    std::uint32_t width_ = 0;
    std::uint32_t heads_ = 0;
    std::uint32_t kv_heads_ = 0;
    std::uint32_t vocabulary_ = 0;
    std::uint32_t experts_ = 0;
};

[[nodiscard]] std::span<FamilyTable const> family_tables();

}  // namespace hearth::convert

// Architecture: a family of models, as Hugging Face names and shapes its tensors
// and parameters, and as the engine wants them.
//
// A family is a row of a table, and a bit in the table of names
// (architecture_tables.cpp); what it does to a tensor is one of a few things: rename
// it, put its rows into another order, add a number, leave out dimensions of one or
// rows nobody has a token for, put it behind those of other experts, or halve it.
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
#include "models/gguf.h"

namespace hearth::convert {

// Mistral and Mixtral are Llama's architecture to the engine; what their configs may leave out differs.
enum class Family : std::uint8_t { llama, mistral, mixtral, qwen2, qwen3, qwen3moe, gemma3, lfm2, bert };

// A set of families.
using Families = std::uint32_t;
[[nodiscard]] constexpr Families only(Family family) { return Families{1} << static_cast<unsigned>(family); }

struct TensorName {
    std::string_view hf;  // without suffix
    std::string_view gguf;
    Families families = 0;  // that know it
};

// What a config may leave out, as transformers fills it in. 0: it must say so; of heads for keys: as many as heads.
struct Defaults {
    std::uint32_t context = 0;
    std::uint32_t heads = 0;
    std::uint32_t kv_heads = 0;
    std::uint32_t head_width = 0;
    std::uint32_t vocabulary = 0;
    double theta = 1e4;
    double epsilon = 1e-6;
};

struct FamilyTable {
    Family family{};
    std::string_view gguf;                       // general.architecture
    std::span<std::string_view const> hf_names;  // in config.json
    std::string_view layers;                     // what comes before a layer's number
    std::span<std::string_view const> skipped;   // beginnings of names that have no place in a GGUF file
    Defaults defaults{};
    std::string_view experts{};  // what comes before an expert's number; empty: no mixture of them
    bool permuted = false;       // rows of queries and keys are in halves, the engine wants pairs
    float norm_shift = 0;        // added to the weights of norms
};

// What becomes of a tensor.
struct TensorTarget {
    std::string name;
    std::optional<std::uint32_t> layer;
    std::optional<std::uint32_t> expert;  // one of experts(), whose matrices become one tensor, one behind the other
    std::string matrix;    // of an expert: the folder's name for it, without number
    bool stacked = false;  // all experts' matrices are in this tensor already, by their first dimension
    std::string second;    // not empty: of each expert's rows the second half is of this tensor
    std::uint32_t heads = 0;  // not 0: reorder rows within this many heads
    float shift = 0;
    bool squeeze = false;  // leave out the second of three dimensions, which is 1
    bool cut = false;      // rows beyond the vocabulary are left out
};

class Architecture {
public:
    // `unsupported` names the architecture and those that are known.
    [[nodiscard]] static Result<Architecture> of(HfConfig const& config);
    // As a model that was converted says it; knows no vocabulary.
    [[nodiscard]] static Result<Architecture> of(models::GgufFile const& model);

    [[nodiscard]] Family family() const { return table_->family; }
    // To the engine: Mistral and Mixtral are.
    [[nodiscard]] bool is_llama() const { return table_->gguf == "llama"; }
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
    Status read_sizes(HfConfig const& config);
    [[nodiscard]] bool take_expert(std::string_view rest, TensorTarget& target) const;
    [[nodiscard]] std::string engine_name(std::optional<std::uint32_t> layer, std::string_view name) const;
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

// The engine's name of a tensor inside or outside of layers, both without suffix; empty if the family has none.
[[nodiscard]] std::string_view gguf_name(Family family, bool in_layer, std::string_view hf);

}  // namespace hearth::convert

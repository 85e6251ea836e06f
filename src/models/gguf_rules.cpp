// What upstream trusts of the model's shape. Each rule here answers an
// assertion, a division or an allocation of the pinned engine; see
// docs/formats/gguf-rules.md before changing one.
#include <algorithm>
#include <array>
#include <cmath>
#include <iterator>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "models/ggml_types.h"
#include "models/gguf_architectures.h"
#include "models/gguf_header.h"

namespace hearth::models {
namespace {

constexpr std::uint64_t kLayersMax = 512;    // upstream's LLAMA_MAX_LAYERS
constexpr std::uint64_t kExpertsMax = 1024;  // upstream's LLAMA_MAX_EXPERTS
constexpr std::uint64_t kContextMax = 1U << 26;
constexpr std::uint64_t kWidthMax = 1U << 24;
constexpr std::uint64_t kHeadsMax = 1U << 16;

struct NumberRule {
    std::string_view key;  // behind "<architecture>."
    std::uint64_t min;
    std::uint64_t max;
};

constexpr std::array kRequired = {
    NumberRule{"context_length", 1, kContextMax},
    NumberRule{"embedding_length", 1, kWidthMax},
    NumberRule{"block_count", 1, kLayersMax},
};

// u32 where present. A minimum of 1 where upstream divides by it.
constexpr std::array kOptional = {
    NumberRule{"vocab_size", 1, kGgufVocabularyMax},
    NumberRule{"embedding_length_out", 1, kWidthMax},
    NumberRule{"attention.key_length", 1, kHeadsMax},
    NumberRule{"attention.value_length", 1, kHeadsMax},
    NumberRule{"attention.key_length_swa", 1, kHeadsMax},
    NumberRule{"attention.value_length_swa", 1, kHeadsMax},
    NumberRule{"attention.group_norm_groups", 1, kWidthMax},
    NumberRule{"rope.dimension_count", 0, kHeadsMax},
    NumberRule{"rope.dimension_count_swa", 0, kHeadsMax},
    NumberRule{"rope.scaling.original_context_length", 1, kContextMax},
    NumberRule{"pooling_type", 0, 4},
    NumberRule{"expert_count", 0, kExpertsMax},
    NumberRule{"expert_group_count", 0, kExpertsMax},
    NumberRule{"expert_group_used_count", 0, kExpertsMax},
    NumberRule{"experts_per_group", 1, kExpertsMax},
    NumberRule{"num_loops", 1, kLayersMax},
    NumberRule{"hrm.layers_per_stack", 1, kLayersMax},
    NumberRule{"hrm.h_cycles", 1, kLayersMax},
    NumberRule{"hrm.l_cycles", 1, kLayersMax},
    NumberRule{"attention.indexer.block_size", 1, kContextMax},
    NumberRule{"attention.output_group_count", 1, kHeadsMax},
    NumberRule{"interleave_moe_layer_step", 1, kLayersMax},
    NumberRule{"full_attention_interval", 1, kLayersMax},
    NumberRule{"ssm.conv_kernel", 1, kWidthMax},
    NumberRule{"ssm.inner_size", 1, kWidthMax},
    NumberRule{"ssm.state_size", 1, kWidthMax},
    NumberRule{"ssm.time_step_rank", 1, kWidthMax},
    NumberRule{"ssm.group_count", 1, kWidthMax},
    NumberRule{"wkv.head_size", 1, kWidthMax},
    NumberRule{"kda.head_dim", 1, kWidthMax},
    NumberRule{"shortconv.l_cache", 1, kWidthMax},
};

// One number, or one per layer.
constexpr std::array kPerLayer = {
    NumberRule{"feed_forward_length", 0, kWidthMax},
    NumberRule{"attention.head_count", 0, kHeadsMax},
    NumberRule{"attention.head_count_kv", 0, kHeadsMax},
    NumberRule{"expert_used_count", 0, kExpertsMax},
};

// f32; upstream asserts that an epsilon is not negative.
constexpr std::array kEpsilons = {
    std::string_view("attention.layer_norm_epsilon"),
    std::string_view("attention.layer_norm_rms_epsilon"),
    std::string_view("attention.group_norm_epsilon"),
};

constexpr std::array kPositiveFloats = {
    std::string_view("rope.freq_base"),
    std::string_view("rope.freq_base_swa"),
};

class Rules {
public:
    explicit Rules(GgufHeader& header) : header_(header), file_(header.file) {}

    Status run() {
        HEARTH_CHECK(splits());
        HEARTH_CHECK(tensor_types());
        HEARTH_CHECK(architecture());
        if (architecture_.empty()) return ok();  // a later split, which describes nothing
        for (auto const& rule : kRequired) HEARTH_CHECK(number(rule, true));
        for (auto const& rule : kOptional) HEARTH_CHECK(number(rule, false));
        for (auto const& rule : kPerLayer) HEARTH_CHECK(per_layer(rule));
        HEARTH_CHECK(floats());
        HEARTH_CHECK(heads());
        HEARTH_CHECK(experts());
        HEARTH_CHECK(rope());
        return architecture_needs();
    }

private:
    Status splits();
    Status tensor_types();
    Status architecture();
    Status number(NumberRule const& rule, bool required);
    Status per_layer(NumberRule const& rule);
    Status floats();
    Status heads();
    Status experts();
    Status rope();
    Status architecture_needs();
    Status rope_sections();
    Status rope_dimensions(std::string_view dimension_key, std::string_view length_key);

    [[nodiscard]] std::string full(std::string_view key) const { return std::string(prefix_).append(key); }
    [[nodiscard]] std::uint64_t value(std::string_view key, std::uint64_t otherwise) const {
        return file_.number(full(key)).value_or(otherwise);
    }
    // The number of each layer; empty if the key is absent.
    [[nodiscard]] std::vector<std::uint64_t> layers(std::string_view key) const;
    [[nodiscard]] Error wrong(std::string_view key, std::string_view what) const;

    GgufHeader& header_;
    GgufFile& file_;
    std::string architecture_;
    std::string prefix_;  // "<architecture>."
};

Error Rules::wrong(std::string_view key, std::string_view what) const {
    auto const place = header_.places.find(key);
    return corrupt_at(file_.path, place == header_.places.end() ? 0 : place->second.offset,
                      fmt::format("{} {}", key, what));
}

// Upstream reads these with an accessor that asserts the exact type.
Status Rules::splits() {
    for (auto const& [key, type] : {std::pair{"split.no", GgufType::u16},
                                    {"split.count", GgufType::u16},
                                    {"split.tensors.count", GgufType::i32}}) {
        auto const place = header_.places.find(std::string_view(key));
        if (place == header_.places.end()) continue;
        if (place->second.type != type) {
            return wrong(key,
                         fmt::format("has type {}; it must be {}", to_string(place->second.type), to_string(type)));
        }
    }
    auto const count = file_.number("split.count").value_or(1);
    auto const index = file_.number("split.no").value_or(0);
    if (count > kGgufSplitsMax)
        return wrong("split.count", fmt::format("is {}; at most {} are allowed", count, kGgufSplitsMax));
    if (index >= std::max<std::uint64_t>(count, 1))
        return wrong("split.no", fmt::format("is {}, but split.count is {}", index, count));
    if (header_.places.contains("split.tensors.count") && !file_.number("split.tensors.count")) {
        return wrong("split.tensors.count", "is negative");
    }
    return ok();
}

// The engine multiplies matrices of every type it has a dot product for, and
// calls a null pointer for the others. Norms and biases meet F32 activations
// element by element, for which it knows F32 alone.
Status Rules::tensor_types() {
    constexpr std::array<std::string_view, 7> kNoProduct = {"I8", "I16", "I32", "I64", "F64", "Q8_1", "Q8_K"};
    for (auto const& tensor : file_.tensors) {
        auto const type = ggml_type_name(tensor.type);
        auto const ends = [&](std::string_view suffix) { return std::string_view(tensor.name).ends_with(suffix); };
        auto const refuse = [&](std::string_view why) {
            return corrupt_at(file_.path, file_.data_offset + tensor.offset,
                              fmt::format("tensor {} has type {}; {}", quoted(tensor.name), type, why));
        };
        bool const index_table =
            (type == "I32" && ends("ffn_gate_tid2eid.weight")) || (type == "I64" && tensor.name == "d2t");
        if (index_table) continue;
        if (std::find(kNoProduct.begin(), kNoProduct.end(), type) != kNoProduct.end())
            return refuse("the engine cannot compute with it");
        bool const elementwise = tensor.dimensions.size() == 1 || ends("norm.weight") || ends(".bias");
        if (elementwise && type != "F32") return refuse("norms, biases and other vectors must be F32");
    }
    return ok();
}

Status Rules::architecture() {
    bool const later_split = file_.number("split.no").value_or(0) > 0;
    auto const place = header_.places.find("general.architecture");
    if (place == header_.places.end()) {
        if (later_split) return ok();
        return corrupt_at(file_.path, 0, "general.architecture is missing: nothing says what model this is");
    }
    if (place->second.type != GgufType::string) {
        return wrong("general.architecture",
                     fmt::format("has type {}; it must be string", to_string(place->second.type)));
    }
    auto const name = file_.text("general.architecture");
    auto const plain = [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_' || c == '.';
    };
    if (name.empty() || name.size() > 64 || !std::all_of(name.begin(), name.end(), plain)) {
        return wrong("general.architecture",
                     fmt::format("is {}; it must be 1 to 64 characters of a-z, 0-9, '-', '_' and '.'", quoted(name)));
    }
    if (name == "clip")
        return wrong("general.architecture", "is 'clip': an image or audio projector, not a language model");
    if (later_split) return ok();
    architecture_ = name;
    prefix_ = name + ".";
    return ok();
}

Status Rules::number(NumberRule const& rule, bool required) {
    auto const key = full(rule.key);
    auto const place = header_.places.find(key);
    if (place == header_.places.end()) {
        if (!required) return ok();
        return corrupt_at(file_.path, 0, fmt::format("{} is missing", key));
    }
    // Some keys of kOptional are arrays in a few architectures, which upstream reads as such.
    if (place->second.type == GgufType::array && !required) return ok();
    if (place->second.type != GgufType::u32) {
        return wrong(key, fmt::format("has type {}; it must be u32", to_string(place->second.type)));
    }
    auto const given = *file_.number(key);
    // plamo2 has no groups, and is not divided by them.
    if (given == 0 && architecture_ == "plamo2" && rule.key == "ssm.group_count") return ok();
    if (given < rule.min || given > rule.max) {
        return wrong(key, fmt::format("is {}; {} to {} are allowed", given, rule.min, rule.max));
    }
    return ok();
}

Status Rules::per_layer(NumberRule const& rule) {
    auto const key = full(rule.key);
    auto const* array = file_.array(key);
    if (array == nullptr) return number(rule, false);
    auto const blocks = value("block_count", 0);
    if (array->count != blocks)
        return wrong(key, fmt::format("has {} elements, but there are {} layers", array->count, blocks));
    if (array->element != GgufType::u32 && array->element != GgufType::i32) {
        return wrong(key, fmt::format("holds {}; it must hold u32 or i32", to_string(array->element)));
    }
    for (auto const each : array->numbers) {
        if (each < 0 || static_cast<std::uint64_t>(each) > rule.max) {
            return wrong(key, fmt::format("holds {}; {} to {} are allowed", each, rule.min, rule.max));
        }
    }
    return ok();
}

std::vector<std::uint64_t> Rules::layers(std::string_view key) const {
    auto const name = full(key);
    if (auto const one = file_.number(name)) return std::vector<std::uint64_t>(value("block_count", 0), *one);
    auto const* array = file_.array(name);
    if (array == nullptr) return {};
    std::vector<std::uint64_t> result;
    std::transform(array->numbers.begin(), array->numbers.end(), std::back_inserter(result),
                   [](std::int64_t n) { return static_cast<std::uint64_t>(n); });
    return result;
}

Status Rules::floats() {
    for (auto const& [key, value] : file_.metadata) {
        auto const* number = std::get_if<double>(&value);
        if (number != nullptr && !std::isfinite(*number))
            return wrong(key, fmt::format("is {}; it must be finite", *number));
    }
    auto const f32 = [&](std::string_view key, auto&& holds, std::string_view range) -> Status {
        auto const name = full(key);
        auto const place = header_.places.find(name);
        if (place == header_.places.end() || place->second.type == GgufType::array) return ok();
        if (place->second.type != GgufType::f32) {
            return wrong(name, fmt::format("has type {}; it must be f32", to_string(place->second.type)));
        }
        auto const given = std::get<double>(file_.metadata.at(name));
        if (!holds(given)) return wrong(name, fmt::format("is {}; it must be {}", given, range));
        return ok();
    };
    for (auto const key : kEpsilons) HEARTH_CHECK(f32(key, [](double v) { return v >= 0 && v <= 1; }, "from 0 to 1"));
    for (auto const key : kPositiveFloats) HEARTH_CHECK(f32(key, [](double v) { return v > 0; }, "positive"));
    return f32("rope.scaling.factor", [](double v) { return v >= 0; }, "0 or more");
}

// Attention repeats each key/value head for a whole number of query heads.
Status Rules::heads() {
    auto const heads = layers("attention.head_count");
    auto const kv_heads = layers("attention.head_count_kv");
    for (std::size_t i = 0; i < std::min(heads.size(), kv_heads.size()); ++i) {
        if (kv_heads[i] != 0 && heads[i] % kv_heads[i] != 0) {
            return wrong(
                full("attention.head_count_kv"),
                fmt::format("is {} in layer {}, which does not divide the {} heads", kv_heads[i], i, heads[i]));
        }
    }
    if (!heads.empty() && heads[0] > value("embedding_length", 0)) {
        return wrong(full("attention.head_count"), fmt::format("is {}, more than the embedding's {} elements", heads[0],
                                                               value("embedding_length", 0)));
    }
    return ok();
}

Status Rules::experts() {
    auto const count = value("expert_count", 0);
    auto const used = layers("expert_used_count");
    auto const used_max = used.empty() ? 0 : *std::max_element(used.begin(), used.end());
    auto const groups = value("expert_group_count", 0);
    auto const group_used = value("expert_group_used_count", 0);
    auto const key = full("expert_used_count");
    if (used_max > count) return wrong(key, fmt::format("is {}, but expert_count is {}", used_max, count));
    // Hunyuan files may say one expert and use none; upstream corrects that.
    bool const hunyuan = architecture_.starts_with("hunyuan") && count == 1;
    if (count > 0 && used_max == 0 && !hunyuan)
        return wrong(full("expert_count"), fmt::format("is {}, but no expert is used", count));
    if (groups > 0 && groups >= count)
        return wrong(full("expert_group_count"), fmt::format("is {}, but expert_count is {}", groups, count));
    if (groups > 1 && (count % groups != 0 || group_used == 0 || group_used >= groups)) {
        return wrong(full("expert_group_count"),
                     fmt::format("is {} with {} experts and {} groups used; it must divide the experts and exceed "
                                 "the groups used, of which there must be one",
                                 groups, count, group_used));
    }
    auto const predicted = file_.number(full("nextn_predict_layers"));
    if (predicted && *predicted >= value("block_count", 0)) {
        return wrong(full("nextn_predict_layers"),
                     fmt::format("is {}, but there are {} layers", *predicted, value("block_count", 0)));
    }
    return ok();
}

// Rotation works on pairs of elements inside one head.
Status Rules::rope_dimensions(std::string_view dimension_key, std::string_view length_key) {
    auto const dimensions = file_.number(full(dimension_key));
    if (!dimensions) return ok();
    if (*dimensions % 2 != 0) return wrong(full(dimension_key), fmt::format("is {}; it must be even", *dimensions));
    auto const heads = layers("attention.head_count");
    if (heads.empty() || heads[0] == 0) return ok();
    auto const length = value(length_key, value("attention.key_length", value("embedding_length", 0) / heads[0]));
    if (*dimensions > length) {
        return wrong(full(dimension_key), fmt::format("is {}, but a head has {} elements", *dimensions, length));
    }
    return ok();
}

Status Rules::rope() {
    HEARTH_CHECK(rope_dimensions("rope.dimension_count", "attention.key_length"));
    HEARTH_CHECK(rope_dimensions("rope.dimension_count_swa", "attention.key_length_swa"));
    auto const key = full("rope.scaling.type");
    auto const place = header_.places.find(key);
    if (place == header_.places.end()) return ok();
    if (place->second.type != GgufType::string) {
        return wrong(key, fmt::format("has type {}; it must be string", to_string(place->second.type)));
    }
    auto const type = file_.text(key);
    for (auto const* const known : {"none", "linear", "yarn", "longrope"}) {
        if (type == known) return ok();
    }
    return wrong(key, fmt::format("is {}; none, linear, yarn and longrope are known", quoted(type)));
}

// Upstream rotates by up to three positions where it knows of sections.
Status Rules::rope_sections() {
    auto const key = full("rope.dimension_sections");
    auto const* array = file_.array(key);
    if (array == nullptr) return wrong(key, fmt::format("is missing; architecture '{}' needs it", architecture_));
    auto const& sections = array->numbers;
    bool const some =
        std::any_of(sections.begin(), sections.begin() + std::min<std::ptrdiff_t>(3, std::ssize(sections)),
                    [](std::int64_t n) { return n > 0; });
    bool const sane =
        std::all_of(sections.begin(), sections.end(), [](std::int64_t n) { return n >= 0 && n <= 65536; });
    if (!some || !sane) return wrong(key, "must hold numbers from 0 to 65536, one of the first three above 0");
    return ok();
}

Status Rules::architecture_needs() {
    auto const needs = needs_of(architecture_);
    if (needs.experts && value("expert_count", 0) == 0) {
        return wrong(full("expert_count"), fmt::format("must be above 0 for architecture '{}'", architecture_));
    }
    if (needs.rope_sections) HEARTH_CHECK(rope_sections());
    auto const heads = layers("attention.head_count");
    if (heads.empty() || heads[0] == 0) return ok();
    auto const otherwise = value("embedding_length", 0) / heads[0];
    for (std::string const suffix : {"", "_swa"}) {
        auto const keys = value("attention.key_length" + suffix, value("attention.key_length", otherwise));
        auto const values = value("attention.value_length" + suffix, value("attention.value_length", otherwise));
        auto const rotated = value("rope.dimension_count" + suffix,
                                   value("rope.dimension_count", value("attention.key_length", otherwise)));
        if (needs.equal_head_lengths && keys != values) {
            return wrong(full("attention.value_length" + suffix),
                         fmt::format("is {}, but keys have length {}", values, keys));
        }
        if (needs.whole_head_rotation && rotated != keys) {
            return wrong(full("rope.dimension_count" + suffix),
                         fmt::format("is {}, but a head has {} elements", rotated, keys));
        }
        // Where the file says nothing, the whole head is rotated: by pairs.
        if (needs.whole_head_rotation && rotated % 2 != 0) {
            return wrong(full("attention.head_count"),
                         fmt::format("makes heads of {} elements; it must be even", rotated));
        }
    }
    return ok();
}

}  // namespace

Status check_hyperparameters(GgufHeader& header) { return Rules(header).run(); }

}  // namespace hearth::models

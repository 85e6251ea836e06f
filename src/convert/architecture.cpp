#include "convert/architecture.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <numbers>
#include <system_error>
#include <utility>

#include <fmt/format.h>

#include "convert/tokenizer_json.h"

namespace hearth::convert {
namespace {

constexpr std::uint32_t kHeadsMax = 4096;
constexpr std::uint32_t kExpertsMax = 1024;
constexpr double kGemma3LocalTheta = 10000;

bool remove_prefix(std::string_view& text, std::string_view prefix) {
    if (!text.starts_with(prefix)) return false;
    text.remove_prefix(prefix.size());
    return true;
}

// The number that `text` begins with, and the dot behind it; nothing for `limit` or more.
std::optional<std::uint32_t> take_number(std::string_view& text, std::uint32_t limit) {
    std::uint32_t number = 0;
    auto const [end, failed] = std::from_chars(text.data(), text.data() + text.size(), number);
    if (failed != std::errc{} || number >= limit || end == text.data() + text.size() || *end != '.')
        return std::nullopt;
    text.remove_prefix(static_cast<std::size_t>(end - text.data()) + 1);
    return number;
}

// The engine's spelling of TensorFlow's names for the parts of a norm.
std::string modern_name(std::string_view name) {
    if (name.ends_with(".gamma")) return std::string(name.substr(0, name.size() - 5)) + "weight";
    if (name.ends_with(".beta")) return std::string(name.substr(0, name.size() - 4)) + "bias";
    return std::string(name);
}

std::optional<json::View> rope_parameters(HfConfig const& config) {
    return config.find({"rope_parameters", "rope_scaling"});
}

// The part of the parameters that is for layers with full attention.
std::optional<json::View> full_rope(HfConfig const& config) {
    auto const rope = rope_parameters(config);
    auto const full = rope ? rope->find("full_attention") : std::nullopt;
    return full ? full : rope;
}

std::string_view rope_type(std::optional<json::View> rope) {
    auto value = rope ? rope->find("rope_type") : std::nullopt;
    if (!value && rope) value = rope->find("type");
    return value ? value->text().value_or("") : "";
}

}  // namespace

Result<Architecture> Architecture::of(HfConfig const& config) {
    HEARTH_TRY(auto const name, config.architecture());
    Architecture architecture;
    std::vector<std::string_view> known;
    for (auto const& table : family_tables()) {
        for (auto const hf_name : table.hf_names) {
            known.push_back(hf_name);
            if (hf_name == name) architecture.table_ = &table;
        }
    }
    if (architecture.table_ == nullptr) {
        return config.wrong("architectures",
                            fmt::format("\"{}\" is not converted; known are {}", name, fmt::join(known, ", ")),
                            Code::unsupported);
    }
    HEARTH_CHECK(architecture.read_sizes(config));
    return architecture;
}

Status Architecture::read_sizes(HfConfig const& config) {
    auto const& defaults = table_->defaults;
    auto const count = [&](std::initializer_list<std::string_view> keys, std::uint32_t absent, std::uint32_t max) {
        return absent == 0 ? config.count(keys, max) : config.count_or(keys, absent, max);
    };
    HEARTH_TRY(layers_, config.count({"num_hidden_layers", "n_layers", "n_layer", "num_layers"}, kLayersMax));
    HEARTH_TRY(width_, config.count({"hidden_size", "n_embd", "dim"}));
    HEARTH_TRY(heads_, count({"num_attention_heads", "n_head", "n_heads"}, defaults.heads, kHeadsMax));
    auto const kv_heads = defaults.kv_heads == 0 ? heads_ : defaults.kv_heads;
    HEARTH_TRY(kv_heads_, config.count_or({"num_key_value_heads", "n_kv_heads"}, kv_heads, kHeadsMax));
    HEARTH_TRY(vocabulary_, count({"vocab_size"}, defaults.vocabulary, kVocabularyMax));
    constexpr std::array<std::string_view, 3> kExperts{"num_local_experts", "num_experts", "n_routed_experts"};
    if (!table_->experts.empty()) {
        HEARTH_TRY(experts_, config.count({kExperts[0], kExperts[1], kExperts[2]}, kExpertsMax));
    } else if (config.find({kExperts[0], kExperts[1], kExperts[2]})) {
        return config.wrong("num_experts",
                            "of mixtures of experts only MixtralForCausalLM and Qwen3MoeForCausalLM are converted",
                            Code::unsupported);
    }
    return ok();
}

Result<Architecture> Architecture::of(models::GgufFile const& model) {
    auto const name = model.text("general.architecture");
    Architecture architecture;
    // Of several families that are one to the engine, the first that has experts if this one has.
    auto const experts = model.number(fmt::format("{}.expert_count", name)).value_or(0);
    for (auto const& table : family_tables()) {
        bool const fits = table.gguf == name && table.experts.empty() == (experts == 0);
        if (fits && architecture.table_ == nullptr) architecture.table_ = &table;
    }
    if (architecture.table_ == nullptr)
        return Error(Code::unsupported,
                     fmt::format("{}: adapters of architecture {} are not converted", model.path, name), model.path);
    auto const number = [&](std::string_view key) {
        return static_cast<std::uint32_t>(model.number(architecture.key(key)).value_or(0));  // its reader bounds it
    };
    auto const kv_heads = architecture.key("attention.head_count_kv");
    if (model.metadata.contains(kv_heads) && !model.number(kv_heads))
        return Error(Code::unsupported,
                     fmt::format("{}: {} differs between layers; adapters of such models are not converted", model.path,
                                 kv_heads),
                     model.path);
    architecture.layers_ = number("block_count");
    architecture.width_ = number("embedding_length");
    architecture.heads_ = number("attention.head_count");
    architecture.kv_heads_ = number("attention.head_count_kv");
    if (architecture.kv_heads_ == 0) architecture.kv_heads_ = architecture.heads_;
    architecture.experts_ = static_cast<std::uint32_t>(experts);
    if (architecture.table_->permuted && architecture.heads_ == 0)
        return Error(Code::unsupported, fmt::format("{}: it does not say how many heads it has", model.path),
                     model.path);
    return architecture;
}

std::string Architecture::key(std::string_view name) const { return fmt::format("{}.{}", table_->gguf, name); }

Result<std::optional<TensorTarget>> Architecture::target(std::string_view hf_name) const {
    auto const name = table_->family == Family::bert ? modern_name(hf_name) : std::string(hf_name);
    std::string_view rest = name;
    remove_prefix(rest, "bert.");
    remove_prefix(rest, "model.");
    if (!remove_prefix(rest, "language_model.model.")) remove_prefix(rest, "language_model.");
    for (auto const skipped : table_->skipped) {
        if (rest.starts_with(skipped)) return std::optional<TensorTarget>();
    }
    if (rest.ends_with(".rotary_emb.inv_freq")) return std::optional<TensorTarget>();

    auto const unknown = [&] {
        return Error(Code::unsupported, fmt::format("tensor \"{}\": not known in models of {}", hf_name, table_->gguf));
    };
    TensorTarget target;
    if (remove_prefix(rest, table_->layers)) {
        target.layer = take_number(rest, layers_);
        if (!target.layer) return unknown();
    }
    if (experts_ > 0 && target.layer && rest.starts_with(table_->experts)) {
        if (!take_expert(rest, target)) return unknown();
        rest = target.matrix;
    }
    target.name = engine_name(target.layer, rest);
    if (target.name.empty()) return unknown();
    if (table_->permuted && target.name.find(".attn_q.") != std::string::npos) target.heads = heads_;
    if (table_->permuted && target.name.find(".attn_k.") != std::string::npos) target.heads = kv_heads_;
    if (target.name.ends_with("norm.weight")) target.shift = table_->norm_shift;
    target.squeeze = target.name.find(".shortconv.conv.") != std::string::npos;
    target.cut = table_->family == Family::gemma3 && target.name == "token_embd.weight";
    return std::optional(std::move(target));
}

// "mlp.experts.7.up_proj.weight" is the seventh's part of "mlp.experts.up_proj.weight", which may also be there whole,
// then without suffix and with gates and ups in one.
bool Architecture::take_expert(std::string_view rest, TensorTarget& target) const {
    constexpr std::string_view kWeight = ".weight";
    auto part = rest.substr(table_->experts.size());
    bool const numbered = !part.empty() && part.front() >= '0' && part.front() <= '9';
    if (numbered) {
        target.expert = take_number(part, experts_);
        target.matrix = fmt::format("{}{}", table_->experts, part);
        return target.expert.has_value();
    }
    if (part.ends_with(kWeight)) part.remove_suffix(kWeight.size());
    target.stacked = true;
    bool const both = part == "gate_up_proj";
    target.matrix = fmt::format("{}{}{}", table_->experts, both ? "gate_proj" : part, kWeight);
    if (both) target.second = engine_name(target.layer, fmt::format("{}up_proj{}", table_->experts, kWeight));
    return true;
}

// Empty if the family knows no such tensor.
std::string Architecture::engine_name(std::optional<std::uint32_t> layer, std::string_view name) const {
    auto const dot = name.rfind('.');
    auto const suffix = dot == std::string_view::npos ? std::string_view() : name.substr(dot + 1);
    if (suffix != "weight" && suffix != "bias") return {};
    auto const base = gguf_name(family(), layer.has_value(), name.substr(0, dot));
    if (base.empty()) return {};
    return layer ? fmt::format("blk.{}.{}.{}", *layer, base, suffix) : fmt::format("{}.{}", base, suffix);
}

ElementType Architecture::type_of(std::string_view gguf_name, std::size_t dimensions, ElementType wanted) {
    constexpr std::array<std::string_view, 2> kAlwaysF32{"position_embd.weight", "token_types.weight"};
    bool const f32 = dimensions <= 1 || gguf_name.ends_with("_norm.weight") ||
                     gguf_name.ends_with(".ffn_gate_inp.weight") || !gguf_name.ends_with(".weight") ||
                     gguf_name.ends_with(".shortconv.conv.weight") ||
                     std::find(kAlwaysF32.begin(), kAlwaysF32.end(), gguf_name) != kAlwaysF32.end();
    return f32 ? ElementType::f32 : wanted;
}

Status Architecture::add_parameters(Metadata& metadata, HfConfig const& config, ElementType type) const {
    HEARTH_CHECK(add_sizes(metadata, config));
    if (family() != Family::bert) HEARTH_CHECK(add_rope(metadata, config));
    HEARTH_CHECK(add_norms(metadata, config));
    if (experts_ > 0) HEARTH_CHECK(add_experts(metadata, config));
    HEARTH_TRY(auto const width, head_width(config));
    if (width) {
        metadata.u32(key("attention.key_length"), *width);
        metadata.u32(key("attention.value_length"), *width);
    }
    metadata.u32("general.file_type", file_type_of(type));
    return add_family(metadata, config);
}

Status Architecture::add_sizes(Metadata& metadata, HfConfig const& config) const {
    metadata.u32(key("block_count"), layers_);
    HEARTH_TRY(auto const context,
               config.count_or({"max_position_embeddings", "n_ctx", "n_positions"}, table_->defaults.context));
    metadata.u32(key("context_length"), context);
    metadata.u32(key("embedding_length"), width_);
    HEARTH_TRY(auto const feed_forward, config.count({"intermediate_size", "n_inner", "block_ff_dim"}));
    metadata.u32(key("feed_forward_length"), feed_forward);
    metadata.u32(key("attention.head_count"), heads_);
    if (family() == Family::bert) return ok();
    if (family() == Family::lfm2) return add_lfm2(metadata, config);
    metadata.u32(key("attention.head_count_kv"), kv_heads_);
    return ok();
}

Status Architecture::add_rope(Metadata& metadata, HfConfig const& config) const {
    auto const full = full_rope(config);
    if (full) HEARTH_CHECK(add_scaling(metadata, config, *full));
    HEARTH_TRY(auto theta, config.real_or({"global_rope_theta", "rope_theta"}, table_->defaults.theta));
    if (auto const value = full ? full->find("rope_theta") : std::nullopt) theta = value->number().value_or(theta);
    metadata.f32(key("rope.freq_base"), theta);

    auto const rope = rope_parameters(config);
    auto const sliding = rope ? rope->find("sliding_attention") : std::nullopt;
    HEARTH_TRY(auto local, config.real({"local_rope_theta", "rope_local_base_freq"}));
    if (!local && family() == Family::gemma3) local = kGemma3LocalTheta;
    if (auto const value = sliding ? sliding->find("rope_theta") : std::nullopt) local = value->number();
    if (local) metadata.f32(key("rope.freq_base_swa"), *local);
    return ok();
}

Status Architecture::add_scaling(Metadata& metadata, HfConfig const& config, json::View scaling) const {
    auto const type = rope_type(scaling);
    // Llama 3's scaling is a tensor; "default" is none.
    if (type.empty() || type == "default" || type == "llama3") return ok();
    auto const real = [&](std::string_view name) {
        auto const value = scaling.find(name);
        return value ? value->number() : std::nullopt;
    };
    auto const factor = real("factor");
    if ((type != "linear" && type != "yarn") || !factor)
        return config.wrong("rope_scaling", fmt::format("type \"{}\" is not converted", type), Code::unsupported);
    metadata.text(key("rope.scaling.type"), type);
    metadata.f32(key("rope.scaling.factor"), *factor);
    if (type == "linear") return ok();
    auto original = scaling.find("original_max_position_embeddings");
    if (!original) original = config.find({"original_max_position_embeddings"});
    auto const context = original ? original->integer() : std::nullopt;
    if (!context || *context < 1 || *context > kWidthMax)
        return config.wrong("rope_scaling", "original_max_position_embeddings is no length of a context");
    metadata.u32(key("rope.scaling.original_context_length"), static_cast<std::uint32_t>(*context));
    constexpr std::array<std::pair<std::string_view, std::string_view>, 4> kYarn{
        {{"extrapolation_factor", "rope.scaling.yarn_ext_factor"},
         {"attention_factor", "rope.scaling.yarn_attn_factor"},
         {"beta_fast", "rope.scaling.yarn_beta_fast"},
         {"beta_slow", "rope.scaling.yarn_beta_slow"}}};
    for (auto const& [hf, gguf] : kYarn) {
        if (auto const value = real(hf)) metadata.f32(key(gguf), *value);
    }
    return ok();
}

Status Architecture::add_norms(Metadata& metadata, HfConfig const& config) const {
    auto const absent = table_->defaults.epsilon;
    if (family() == Family::bert) {
        HEARTH_TRY(auto const epsilon, config.real_or({"layer_norm_eps"}, absent));
        metadata.f32(key("attention.layer_norm_epsilon"), epsilon);
        return ok();
    }
    bool const lfm2 = family() == Family::lfm2;
    HEARTH_TRY(auto const epsilon,
               lfm2 ? config.real_or({"norm_eps"}, absent) : config.real_or({"rms_norm_eps", "norm_eps"}, absent));
    metadata.f32(key("attention.layer_norm_rms_epsilon"), epsilon);
    return ok();
}

// The width of a head where it is said, or where transformers' config has a default for it.
Result<std::optional<std::uint32_t>> Architecture::head_width(HfConfig const& config) const {
    std::optional<std::uint32_t> width;
    if (config.find({"head_dim"})) {
        HEARTH_TRY(width, config.count({"head_dim"}, kWidthMax));
        return width;
    }
    if (family() == Family::llama) width = width_ / heads_;
    else if (table_->defaults.head_width != 0) width = table_->defaults.head_width;
    return width;
}

Status Architecture::add_family(Metadata& metadata, HfConfig const& config) const {
    switch (family()) {
        case Family::llama:
        case Family::mistral:
        case Family::mixtral: {
            metadata.u32(key("vocab_size"), vocabulary_);
            HEARTH_TRY(auto const width, head_width(config));
            metadata.u32(key("rope.dimension_count"), width.value_or(width_ / heads_));
            return ok();
        }
        case Family::qwen2:
        case Family::qwen3: return add_pooling(metadata, config);
        case Family::qwen3moe: {
            // The engine always makes the sum of the weights of a token's experts 1; the family's default is not to.
            auto const sums = config.find({"norm_topk_prob"});
            if (!sums || !sums->boolean().value_or(false))
                return config.wrong("norm_topk_prob", "is not true; the engine has no other way", Code::unsupported);
            HEARTH_TRY(auto const feed_forward, config.count({"moe_intermediate_size"}));
            metadata.u32(key("expert_feed_forward_length"), feed_forward);
            return ok();
        }
        case Family::gemma3: return add_gemma3(metadata, config);
        case Family::lfm2: {
            metadata.u32(key("vocab_size"), vocabulary_);
            HEARTH_TRY(auto const cache, config.count_or({"conv_L_cache"}, 3));
            metadata.u32(key("shortconv.l_cache"), cache);
            return ok();
        }
        case Family::bert: metadata.boolean(key("attention.causal"), false); return add_pooling(metadata, config);
    }
    return ok();
}

Status Architecture::add_experts(Metadata& metadata, HfConfig const& config) const {
    metadata.u32(key("expert_count"), experts_);
    HEARTH_TRY(auto const used,
               config.count({"num_experts_per_tok", "num_experts_per_token", "top_k_experts"}, experts_));
    metadata.u32(key("expert_used_count"), used);
    // Layers without experts among those with them have other tensors, which are not known here.
    constexpr std::array<std::string_view, 4> kOther{"n_group", "scoring_func", "score_function",
                                                     "moe_router_activation"};
    for (auto const name : kOther) {
        if (config.find({name})) return config.wrong(name, "is not known in this family", Code::unsupported);
    }
    return ok();
}

Status Architecture::add_gemma3(Metadata& metadata, HfConfig const& config) const {
    if (config.find({"attn_logit_softcapping"}))
        return config.wrong("attn_logit_softcapping", "is not known in Gemma 3", Code::unsupported);
    HEARTH_TRY(auto const softcap, config.real_or({"final_logit_softcapping"}, 0));
    if (softcap != 0) metadata.f32(key("final_logit_softcapping"), softcap);
    HEARTH_TRY(auto const pattern, config.count_or({"sliding_window_pattern"}, 6));
    if (pattern == 1) return ok();
    HEARTH_TRY(auto const window, config.count_or({"sliding_window"}, 4096));
    metadata.u32(key("attention.sliding_window"), window);
    return ok();
}

// Layers without attention have no heads; the feed-forward width is computed.
Status Architecture::add_lfm2(Metadata& metadata, HfConfig const& config) const {
    auto const types = config.find({"layer_types"});
    if (!types || types->size() != layers_)
        return config.wrong("layer_types", fmt::format("does not have the {} entries of the layers", layers_));
    std::vector<std::int32_t> heads;
    for (auto const type : types->elements())
        heads.push_back(type.text().value_or("") == "conv" ? 0 : static_cast<std::int32_t>(kv_heads_));
    metadata.i32s(key("attention.head_count_kv"), heads);

    HEARTH_TRY(std::uint64_t width, config.count({"block_ff_dim", "intermediate_size"}));
    auto const adjust = config.find({"block_auto_adjust_ff_dim"});
    if (!adjust || adjust->boolean().value_or(true)) {
        HEARTH_TRY(auto const multiplier, config.real_or({"block_ffn_dim_multiplier"}, 1));
        HEARTH_TRY(auto const multiple, config.count_or({"block_multiple_of"}, 256));
        width = 2 * width / 3;
        if (multiplier <= 0 || multiplier > 64)
            return config.wrong("block_ffn_dim_multiplier", "is not within 0 to 64");
        width = static_cast<std::uint64_t>(multiplier * static_cast<double>(width));
        width = (width + multiple - 1) / multiple * multiple;
    }
    metadata.u32(key("feed_forward_length"), static_cast<std::uint32_t>(width));
    return ok();
}

Status Architecture::add_pooling(Metadata& metadata, HfConfig const& config) const {
    HEARTH_TRY(auto const modules, read_json(config.folder() + "/modules.json", config_limits()));
    if (!modules) return ok();
    for (auto const module : modules->root().elements()) {
        auto const type = module.find("type");
        auto const path = module.find("path");
        if (!type || !path || !type->text().value_or("").ends_with("Pooling")) continue;
        auto const folder = path->text().value_or("");
        if (folder.empty() || folder.starts_with('.') ||
            folder.find_first_of(std::string_view("/\\\0", 3)) != std::string_view::npos)
            return config.wrong("modules.json", "its pooling module lies outside of the folder");
        HEARTH_TRY(auto const pooling,
                   read_json(fmt::format("{}/{}/config.json", config.folder(), folder), config_limits()));
        auto const is = [&](std::string_view name) {
            auto const value = pooling ? pooling->root().find(name) : std::nullopt;
            return value && value->boolean().value_or(false);
        };
        constexpr std::uint32_t kMean = 1;
        constexpr std::uint32_t kCls = 2;
        constexpr std::uint32_t kLast = 3;
        auto const mode = pooling ? pooling->root().find("pooling_mode") : std::nullopt;
        auto const named = mode ? mode->text().value_or("") : "";
        if (is("pooling_mode_mean_tokens") || named == "mean") metadata.u32(key("pooling_type"), kMean);
        else if (is("pooling_mode_cls_token") || named == "cls") metadata.u32(key("pooling_type"), kCls);
        else if (is("pooling_mode_lasttoken") || named == "lasttoken") metadata.u32(key("pooling_type"), kLast);
        else
            return config.wrong("modules.json", "pools neither by mean nor by first nor by last token",
                                Code::unsupported);
        return ok();
    }
    return ok();
}

Result<std::vector<float>> Architecture::rope_factors(HfConfig const& config) const {
    auto const rope = full_rope(config);
    if (!is_llama() || rope_type(rope) != "llama3") return std::vector<float>();
    auto const real = [&](std::string_view name, double absent) {
        auto const value = rope->find(name);
        return static_cast<float>(value ? value->number().value_or(absent) : absent);
    };
    HEARTH_TRY(auto const width, head_width(config));
    HEARTH_TRY(auto theta, config.real_or({"rope_theta"}, table_->defaults.theta));
    if (auto const value = rope->find("rope_theta")) theta = value->number().value_or(theta);
    float const factor = real("factor", 8);
    float const low = real("low_freq_factor", 1);
    float const high = real("high_freq_factor", 4);
    float const context = real("original_max_position_embeddings", 8192);
    auto const dimensions = width.value_or(width_ / heads_);
    std::vector<float> factors;
    // In single precision throughout, as upstream computes it.
    for (std::uint32_t i = 0; i < dimensions; i += 2) {
        float const frequency =
            1.0F / std::pow(static_cast<float>(theta), static_cast<float>(i) / static_cast<float>(dimensions));
        float const wavelength = static_cast<float>(2 * std::numbers::pi) / frequency;
        if (wavelength < context / high) {
            factors.push_back(1);
        } else if (wavelength > context / low) {
            factors.push_back(factor);
        } else {
            float const smooth = (context / wavelength - low) / (high - low);
            factors.push_back(1 / ((1 - smooth) / factor + smooth));
        }
    }
    return factors;
}

}  // namespace hearth::convert

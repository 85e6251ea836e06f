#include "convert/adapter.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "base/assert.h"
#include "convert/architecture.h"
#include "convert/gguf_output.h"
#include "convert/hf_config.h"
#include "convert/metadata.h"
#include "models/gguf.h"
#include "models/safetensors.h"

namespace hearth::convert {
namespace {

constexpr std::string_view kWeightsName = "adapter_model.safetensors";
constexpr std::string_view kPrefix = "base_model.model.";
constexpr std::string_view kSuffixA = ".lora_A.weight";
constexpr std::string_view kSuffixB = ".lora_B.weight";
constexpr std::uint32_t kRankMax = 4096;

struct Change {
    models::SafetensorsTensor const* a = nullptr;
    models::SafetensorsTensor const* b = nullptr;
    std::string name;         // of the base's matrix
    std::uint32_t heads = 0;  // not 0: the rows of B are in another order within so many heads
};

class AdapterConfig {
public:
    static Result<AdapterConfig> read(std::string const& folder) {
        auto const path = fmt::format("{}/{}", folder, kAdapterConfigName);
        HEARTH_TRY(auto document, read_json(path, config_limits()));
        if (!document) return Error(Code::not_found, fmt::format("{}: there is no such file", path), path);
        if (!document->root().is(json::Kind::object))
            return Error(Code::corrupt, fmt::format("{}: no JSON object", path), path);
        AdapterConfig config(path, *std::move(document));
        HEARTH_CHECK(config.check());
        return config;
    }

    // What the engine divides by the rank.
    [[nodiscard]] double alpha() const { return alpha_; }

    // What all matrices must have; nothing: each its own.
    [[nodiscard]] std::optional<std::uint32_t> rank() const { return rank_; }

private:
    AdapterConfig(std::string path, json::Document document) : path_(std::move(path)), document_(std::move(document)) {}

    [[nodiscard]] Error wrong(std::string_view key, std::string_view what, Code code = Code::unsupported) const {
        return {code, fmt::format("{}: {}: {}", path_, key, what), path_};
    }

    // Absent, null, false, and nothing in it.
    [[nodiscard]] bool is_set(std::string_view key) const {
        auto const value = document_.root().find(key);
        if (!value || value->is(json::Kind::null)) return false;
        if (auto const flag = value->boolean()) return *flag;
        bool const list = value->is(json::Kind::array) || value->is(json::Kind::object);
        return !list || value->size() > 0;
    }

    [[nodiscard]] std::string text(std::string_view key) const {
        auto const value = document_.root().find(key);
        return std::string(value ? value->text().value_or("") : "");
    }

    Status check() {
        if (text("peft_type") != "LORA")
            return wrong("peft_type", fmt::format("is \"{}\"; LORA is converted", text("peft_type")));
        constexpr std::array<std::string_view, 8> kRefused{
            "use_dora",          "alpha_pattern",           "fan_in_fan_out",    "modules_to_save",
            "layer_replication", "alora_invocation_tokens", "invocation_string", "lora_bias"};
        for (auto const key : kRefused)
            if (is_set(key)) return wrong(key, "is set; adapters that need it are not converted");
        if (auto const bias = text("bias"); !bias.empty() && bias != "none")
            return wrong("bias", fmt::format("is \"{}\"; biases are not converted", bias));
        HEARTH_CHECK(check_start());
        auto const alpha = document_.root().find("lora_alpha");
        auto const number = alpha ? alpha->number() : std::nullopt;
        if (!number || !std::isfinite(*number) || *number <= 0)
            return wrong("lora_alpha", "is no number above 0", Code::corrupt);
        alpha_ = *number;
        if (!is_set("use_rslora")) return ok();
        auto const rank = document_.root().find("r");
        auto const size = rank ? rank->integer() : std::nullopt;
        if (is_set("rank_pattern"))
            return wrong("rank_pattern", "is set together with use_rslora: one alpha cannot say it");
        if (!size || *size < 1 || *size > kRankMax)
            return wrong("r", fmt::format("is no number of 1 to {}", kRankMax), Code::corrupt);
        rank_ = static_cast<std::uint32_t>(*size);
        alpha_ *= std::sqrt(static_cast<double>(*size));
        return ok();
    }

    // Other ways to begin put something else in the place of the base's matrices (PEFT, tuners/lora/layer.py).
    [[nodiscard]] Status check_start() const {
        constexpr std::array<std::string_view, 4> kKeepBase{"", "gaussian", "orthogonal", "eva"};
        auto const start = text("init_lora_weights");
        if (std::ranges::find(kKeepBase, start) != kKeepBase.end()) return ok();
        return wrong("init_lora_weights", fmt::format("is \"{}\"; the adapter belongs to a base it changed", start));
    }

    std::string path_;
    json::Document document_;
    double alpha_ = 0;
    std::optional<std::uint32_t> rank_;
};

Error refuse(std::string const& folder, std::string_view tensor, std::string_view what, Code code = Code::unsupported) {
    return {code, fmt::format("{}: tensor \"{}\": {}", folder, tensor, what), folder};
}

std::string replaced(std::string_view name, std::string_view suffix) {
    if (name.starts_with(kPrefix)) name.remove_prefix(kPrefix.size());
    return std::string(name.substr(0, name.size() - suffix.size())) + ".weight";
}

// In the order of the file, as upstream has them.
class Planner {
public:
    Planner(Architecture const& architecture, std::string const& folder)
        : architecture_(architecture), folder_(folder) {}

    Status add(models::SafetensorsTensor const& tensor) {
        std::string_view const name = tensor.name;
        bool const is_a = name.ends_with(kSuffixA);
        if (!is_a && !name.ends_with(kSuffixB))
            return refuse(folder_, name, "it is no change of a matrix (lora_A, lora_B); others are not converted");
        HEARTH_TRY(auto target, architecture_.target(replaced(name, is_a ? kSuffixA : kSuffixB)));
        if (!target) return refuse(folder_, name, "the engine has no use for what it changes");
        if (target->expert) return refuse(folder_, name, "changes of single experts are not converted");
        if (target->name == "token_embd.weight")
            return refuse(folder_, name, "changes of embeddings are not converted");
        if (!element_type_of(tensor.type))
            return refuse(folder_, name,
                          fmt::format("its type {} is not converted; F32, F16 and BF16 are", to_string(tensor.type)));
        if (tensor.shape.size() != 2 || tensor.bytes == 0)
            return refuse(folder_, name, "it has not two dimensions", Code::corrupt);
        if (tensor.bytes > kHeadBytesMax)
            return refuse(folder_, name, fmt::format("{} bytes; at most {} are converted", tensor.bytes, kHeadBytesMax),
                          Code::too_large);
        auto [found, fresh] = places_.try_emplace(target->name, plan_.size());
        if (fresh) plan_.push_back({.name = target->name, .heads = target->heads});
        auto& place = is_a ? plan_[found->second].a : plan_[found->second].b;
        if (place != nullptr) return refuse(folder_, name, "two tensors of the file are this one", Code::corrupt);
        place = &tensor;
        return ok();
    }

    Result<std::vector<Change>> finish(std::optional<std::uint32_t> rank) {
        if (plan_.empty())
            return Error(Code::corrupt, fmt::format("{}: the adapter changes nothing", folder_), folder_);
        for (auto const& [a, b, name, heads] : plan_) {
            if (a == nullptr || b == nullptr)
                return Error(Code::corrupt,
                             fmt::format("{}: {} has no {}", folder_, name, a == nullptr ? "lora_A" : "lora_B"),
                             folder_);
            if (a->shape[0] != b->shape[1] || a->shape[0] > kRankMax)
                return refuse(folder_, b->name,
                              fmt::format("rank {}, that of lora_A is {}; at most {} is converted", b->shape[1],
                                          a->shape[0], kRankMax),
                              Code::corrupt);
            if (rank && a->shape[0] != *rank)
                return refuse(folder_, a->name, fmt::format("rank {}, the configuration says {}", a->shape[0], *rank),
                              Code::corrupt);
            if (heads > 0 && b->shape[0] % (std::uint64_t{2} * heads) != 0)
                return refuse(folder_, b->name, fmt::format("{} rows are not {} heads of pairs", b->shape[0], heads),
                              Code::corrupt);
        }
        return std::move(plan_);
    }

private:
    Architecture const& architecture_;
    std::string const& folder_;
    std::vector<Change> plan_;
    std::map<std::string, std::size_t> places_;
};

Status write_tensor(models::SafetensorsModel const& weights, models::SafetensorsTensor const& source,
                    std::uint32_t heads, ElementType type, GgufOutput& output) {
    std::vector<std::byte> in(source.bytes);
    HEARTH_CHECK(weights.read(source, 0, in));
    if (heads > 0) {
        std::vector<std::byte> ordered(in.size());
        auto const head = in.size() / heads;
        for (std::size_t at = 0; at < in.size(); at += head)
            interleave_halves(std::span(in).subspan(at, head), source.bytes / source.shape[0],
                              std::span(ordered).subspan(at, head));
        in.swap(ordered);
    }
    auto const from = element_type_of(source.type).value();
    std::vector<std::byte> out(in.size() / element_bytes(from) * element_bytes(type));
    convert_elements(from, in, 0, type, out);
    return output.write(out);
}

Metadata describe(Architecture const& architecture, ElementType type, double alpha) {
    Metadata metadata;
    metadata.text("general.architecture", architecture.name());
    metadata.text("general.type", "adapter");
    metadata.text("adapter.type", "lora");
    metadata.u32("general.file_type", file_type_of(type));
    metadata.f32("adapter.lora.alpha", alpha);
    metadata.u32("general.quantization_version", kQuantizationVersion);
    return metadata;
}

}  // namespace

Result<Report> convert_adapter(AdapterOptions const& options, Planned const& planned, Watch const& watch) {
    HEARTH_TRY(auto const config, AdapterConfig::read(options.folder));
    HEARTH_TRY(auto const base, models::read_gguf_model(options.base));
    HEARTH_TRY(auto const architecture, Architecture::of(base.front()));
    HEARTH_TRY(auto const weights,
               models::SafetensorsModel::open_file(fmt::format("{}/{}", options.folder, kWeightsName)));
    Planner planner(architecture, options.folder);
    for (auto const& tensor : weights.tensors()) HEARTH_CHECK(planner.add(tensor));
    HEARTH_TRY(auto const plan, planner.finish(config.rank()));

    auto const type = options.type.value_or(element_type_of(plan.front().a->type).value());
    Report report{.architecture = std::string(architecture.name()), .type = std::string(to_string(type))};
    std::vector<OutputTensor> tensors;
    Progress progress;
    for (auto const& change : plan) {
        tensors.push_back({.name = change.name + ".lora_a", .shape = change.a->shape, .type = type});
        tensors.push_back({.name = change.name + ".lora_b", .shape = change.b->shape, .type = type});
    }
    for (auto const& tensor : tensors) {
        progress.bytes += tensor.bytes();
        report.parameters += tensor.elements();
    }
    progress.tensors = report.tensors = tensors.size();
    auto const metadata = describe(architecture, type, config.alpha());
    report.file_bytes = GgufOutput::file_bytes(metadata, tensors);
    if (planned) HEARTH_CHECK(planned(report));
    HEARTH_TRY(auto output, GgufOutput::create(options.output, metadata, tensors));
    for (auto const& change : plan) {
        HEARTH_CHECK(write_tensor(weights, *change.a, 0, type, output));
        HEARTH_CHECK(write_tensor(weights, *change.b, change.heads, type, output));
        progress.tensors_done += 2;
        progress.bytes_done += (change.a->elements() + change.b->elements()) * element_bytes(type);
        if (watch && !watch(progress)) return Error(Code::cancelled, "the conversion was stopped");
    }
    HEARTH_ASSERT(output.complete(), "every tensor is written");
    HEARTH_CHECK(weights.unchanged());
    return report;
}

}  // namespace hearth::convert

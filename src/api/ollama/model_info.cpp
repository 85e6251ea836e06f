#include "api/ollama/model_info.h"

#include <string_view>
#include <type_traits>
#include <variant>

namespace hearth::api::ollama {
namespace {

constexpr std::string_view kTemplate = "tokenizer.chat_template";
constexpr std::string_view kParameterCount = "general.parameter_count";

void write_value(JsonWriter& json, models::GgufArray const& array, Verbosity verbosity) {
    if (verbosity == Verbosity::brief || array.numbers.empty()) {
        json.null();
        return;
    }
    json.begin_array();
    for (auto const number : array.numbers) json.number(number);
    json.end_array();
}

void write_value(JsonWriter& json, models::GgufValue const& value, Verbosity verbosity) {
    std::visit(
        [&](auto const& held) {
            using Held = std::remove_cvref_t<decltype(held)>;
            if constexpr (std::is_same_v<Held, models::GgufArray>) write_value(json, held, verbosity);
            else if constexpr (std::is_same_v<Held, std::string>) json.string(held);
            else if constexpr (std::is_same_v<Held, bool>) json.boolean(held);
            else json.number(held);
        },
        value);
}

}  // namespace

void write_model_info(JsonWriter& json, models::FileFacts const& facts, Verbosity verbosity) {
    auto const& metadata = facts.files.front().metadata;
    json.begin_object();
    for (auto const& [key, value] : metadata) {
        if (key == kTemplate) continue;
        json.key(key);
        write_value(json, value, verbosity);
    }
    if (!metadata.contains(kParameterCount)) json.key(kParameterCount).number(facts.report.parameters);
    json.end_object();
}

void write_model_info(JsonWriter& json, std::optional<domain::ModelInfo> const& info) {
    json.begin_object();
    if (info) {
        json.key("general.architecture").string(info->architecture);
        json.key("general.name").string(info->name);
        json.key(kParameterCount).number(info->parameters);
        json.key(info->architecture + ".context_length").number(info->context_train);
        json.key(info->architecture + ".embedding_length").number(info->embedding);
    }
    json.end_object();
}

void write_tensors(JsonWriter& json, models::FileFacts const& facts) {
    json.begin_array();
    for (auto const& file : facts.files) {
        for (auto const& tensor : file.tensors) {
            json.begin_object();
            json.key("name").string(tensor.name);
            json.key("type").string(models::ggml_type_name(tensor.type));
            json.key("shape").begin_array();
            for (auto const dimension : tensor.dimensions) json.number(dimension);
            json.end_array().end_object();
        }
    }
    json.end_array();
}

}  // namespace hearth::api::ollama

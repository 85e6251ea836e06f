#include "catalog/folder_facts.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <optional>
#include <string_view>
#include <system_error>
#include <utility>

#include <fmt/format.h>

#include "base/ascii.h"
#include "digest/sha256.h"
#include "json/json.h"
#include "models/safetensors.h"

namespace hearth::catalog {
namespace {

namespace fs = std::filesystem;

// Nothing if there is no such regular file.
Result<std::optional<std::string>> read_text(fs::path const& path, std::size_t bytes_max) {
    std::error_code failed;
    if (!fs::is_regular_file(path, failed)) return std::optional<std::string>();
    std::ifstream file(path, std::ios::binary);
    std::string text(std::min<std::uintmax_t>(fs::file_size(path, failed), bytes_max) + 1, '\0');
    file.read(text.data(), static_cast<std::streamsize>(text.size()));
    text.resize(static_cast<std::size_t>(file.gcount()));
    auto const name = path.filename().string();
    if (file.bad() || failed) return Error(Code::io, fmt::format("{} cannot be read", name));
    if (text.size() > bytes_max)
        return Error(Code::too_large, fmt::format("{} has more than the {} bytes that are read", name, bytes_max));
    return std::optional(std::move(text));
}

Result<std::optional<json::Document>> read_json(fs::path const& path) {
    HEARTH_TRY(auto text, read_text(path, kConfigBytesMax));
    if (!text) return std::optional<json::Document>();
    json::Limits const limits{.bytes = kConfigBytesMax, .values = 1U << 20, .depth = 32};
    HEARTH_TRY(auto document, json::Document::parse(*std::move(text), limits, path.filename().string()));
    return std::optional(std::move(document));
}

std::string text_of(std::optional<json::View> value) {
    return std::string(value ? value->text().value_or("") : std::string_view());
}

// As conversion looks for it: what text_config says, which only models of several kinds of input have, goes first.
std::optional<json::View> find(json::View config, std::initializer_list<std::string_view> keys) {
    auto const inner = config.find("text_config");
    for (auto const key : keys) {
        if (auto const value = inner ? inner->find(key) : std::nullopt) return value;
        if (auto const value = config.find(key)) return value;
    }
    return std::nullopt;
}

// The default one; a model may have several, by name.
std::string template_in(json::View value) {
    if (auto const text = value.text()) return std::string(*text);
    for (auto const choice : value.elements())
        if (text_of(choice.find("name")) == "default") return text_of(choice.find("template"));
    return {};
}

Result<std::string> chat_template(fs::path const& folder) {
    HEARTH_TRY(auto const tokenizer, read_json(folder / "tokenizer_config.json"));
    if (!tokenizer) return std::string();
    if (auto const value = tokenizer->root().find_any("chat_template")) return template_in(*value);
    HEARTH_TRY(auto jinja, read_text(folder / "chat_template.jinja", kConfigBytesMax));
    if (jinja) return *std::move(jinja);
    HEARTH_TRY(auto const document, read_json(folder / "chat_template.json"));
    auto const value = document ? document->root().find("chat_template") : std::nullopt;
    return value ? template_in(*value) : std::string();
}

// "license: NAME" of the card's front matter; a license that is described elsewhere is left to it.
std::string license_of(fs::path const& folder) {
    auto const card = read_text(folder / "README.md", kCardBytesMax);
    if (!card || !*card || !(*card)->starts_with("---")) return {};
    constexpr std::string_view kKey = "\nlicense:";
    std::string_view front(**card);
    front = front.substr(0, front.find("\n---", 3));
    auto const at = front.find(kKey);
    if (at == std::string_view::npos) return {};
    auto value = front.substr(at + kKey.size());
    value = value.substr(0, value.find('\n'));
    constexpr std::string_view kAround = " \t\r'\"";
    auto const first = value.find_first_not_of(kAround);
    if (first == std::string_view::npos) return {};
    return std::string(value.substr(first, value.find_last_not_of(kAround) - first + 1));
}

// What most of the weights are kept as.
std::string quantization_of(json::View config, models::SafetensorsModel const& weights) {
    auto const packed = config.find("quantization_config");
    auto method = text_of(packed ? packed->find("quant_method") : std::nullopt);
    if (!method.empty()) {
        std::ranges::transform(method, method.begin(),
                               [](char c) { return static_cast<char>(c >= 'a' && c <= 'z' ? c - 'a' + 'A' : c); });
        return method;
    }
    std::map<models::SafetensorsType, std::uint64_t> bytes;
    for (auto const& tensor : weights.tensors()) bytes[tensor.type] += tensor.bytes;
    auto const most = std::ranges::max_element(bytes, {}, [](auto const& entry) { return entry.second; });
    return most == bytes.end() ? std::string() : std::string(to_string(most->first));
}

Status describe(fs::path const& folder, Model& model) {
    HEARTH_TRY(auto const config, read_json(folder / "config.json"));
    if (!config || !config->root().is(json::Kind::object)) return Error(Code::corrupt, "config.json is no JSON object");
    auto const root = config->root();
    auto architecture = text_of(find(root, {"model_type"}));
    constexpr std::string_view kText = "_text";  // the part of a model of several kinds of input that reads texts
    if (architecture.ends_with(kText)) architecture.resize(architecture.size() - kText.size());
    model.architecture = std::move(architecture);
    auto const context = find(root, {"max_position_embeddings", "n_positions"});
    model.context = static_cast<std::uint64_t>(
        std::max<std::int64_t>(0, context ? context->integer().value_or(0) : std::int64_t{0}));
    std::error_code failed;
    bool const embeds = fs::is_regular_file(folder / "modules.json", failed);
    model.capabilities = {embeds || model.architecture == "bert" ? "embedding" : "completion"};
    HEARTH_TRY(auto const source, chat_template(folder));
    if (!source.empty()) model.template_sha256 = digest::sha256_hex(source);
    model.license = license_of(folder);
    HEARTH_TRY(auto const weights, models::SafetensorsModel::open(folder.string()));
    model.parameters = models::count_parameters(weights);
    model.quantization = quantization_of(root, weights);
    return ok();
}

}  // namespace

void read_folder_facts(std::string const& folder, Model& model) {
    model.title = fs::path(folder).filename().string();
    auto const described = describe(folder, model);
    model.problem = described ? std::string() : described.error().message;
}

}  // namespace hearth::catalog

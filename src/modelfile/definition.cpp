#include "modelfile/definition.h"

#include <cmath>
#include <optional>
#include <utility>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "json/json.h"

namespace hearth::modelfile {
namespace {

using Json = nlohmann::ordered_json;

std::string text_of(json::View object, std::string_view name) {
    auto const member = object.find(name);
    auto const text = member ? member->text() : std::nullopt;
    return text ? std::string(*text) : std::string();
}

// Texts may come from a registry and hold anything.
std::string dump(Json const& json, int indent) { return json.dump(indent, ' ', false, Json::error_handler_t::replace); }

std::string joined(std::vector<std::string> const& texts) {
    std::string out;
    for (auto const& text : texts) out += (out.empty() ? "" : "\n") + text;
    return out;
}

bool is_file_name(std::string_view name) {
    return !name.empty() && name != "." && name != ".." && name.find('/') == std::string_view::npos &&
           name.find('\0') == std::string_view::npos;
}

// Beside the note: a name leads nowhere else.
Result<std::vector<Adapter>> read_adapters(json::View root) {
    std::vector<Adapter> out;
    auto const list = root.find("adapters");
    if (!list) return out;
    if (!list->is(json::Kind::array) || list->size() > kAdaptersMax)
        return Error(Code::corrupt, fmt::format("adapters: no JSON array of at most {}", kAdaptersMax));
    for (auto const element : list->elements()) {
        auto const scale = element.is(json::Kind::object) ? element.find("scale") : std::nullopt;
        auto const number = scale ? scale->number() : std::optional(1.0);
        Adapter adapter{element.is(json::Kind::object) ? text_of(element, "file") : std::string(),
                        number ? static_cast<float>(*number) : 0};
        if (!is_file_name(adapter.file) || !number || !std::isfinite(adapter.scale))
            return Error(Code::corrupt,
                         "adapters: one has no name of a file beside the note, or a scale that is no number");
        out.push_back(std::move(adapter));
    }
    return out;
}

// Of entries that are none nothing is known.
std::vector<RecordedFile> read_files(json::View root) {
    std::vector<RecordedFile> out;
    auto const list = root.find("files");
    if (!list || !list->is(json::Kind::array)) return out;
    for (auto const element : list->elements()) {
        auto const member = element.is(json::Kind::object) ? element.find("size") : std::nullopt;
        auto const size = member ? member->integer() : std::nullopt;
        if (!size || *size < 0) continue;
        out.push_back({text_of(element, "name"), static_cast<std::uint64_t>(*size), text_of(element, "sha256"),
                       text_of(element, "etag")});
    }
    return out;
}

}  // namespace

Result<std::vector<Message>> read_messages(std::string text) {
    std::vector<Message> out;
    if (text.empty()) return out;
    HEARTH_TRY(auto const document, json::Document::parse(std::move(text), {}, "messages"));
    if (!document.root().is(json::Kind::array)) return Error(Code::corrupt, "messages: no JSON array");
    if (document.root().size() > kMessagesMax)
        return Error(Code::corrupt,
                     fmt::format("messages: {} of them, the limit is {}", document.root().size(), kMessagesMax));
    for (auto const element : document.root().elements()) {
        Message message{text_of(element, "role"), text_of(element, "content")};
        if (message.role != "system" && message.role != "user" && message.role != "assistant")
            return Error(Code::corrupt, "messages: a role is none of system, user and assistant");
        out.push_back(std::move(message));
    }
    return out;
}

Result<Definition> read_definition(std::string text) {
    json::Limits limits;
    limits.bytes = kDefinitionBytesMax;
    HEARTH_TRY(auto const document, json::Document::parse(std::move(text), limits, "a model's note"));
    auto const root = document.root();
    if (!root.is(json::Kind::object)) return Error(Code::corrupt, "a model's note is no JSON object");
    Definition out;
    out.source = text_of(root, "source");
    out.revision = text_of(root, "revision");
    out.files = read_files(root);
    out.from = text_of(root, "from");
    out.template_text = text_of(root, "template");
    out.system = text_of(root, "system");
    out.license = text_of(root, "license");
    out.needs = text_of(root, "requires");
    out.options = text_of(root, "params");
    HEARTH_TRY(out.messages, read_messages(text_of(root, "messages")));
    HEARTH_TRY(out.adapters, read_adapters(root));
    return out;
}

std::string write_definition(Definition const& definition) {
    Json root = {{"source", definition.source}};
    auto const add = [&](char const* name, std::string const& text) {
        if (!text.empty()) root[name] = text;
    };
    add("revision", definition.revision);
    for (auto const& [name, size, sha256, etag] : definition.files)
        root["files"].push_back(Json{{"name", name}, {"size", size}, {"sha256", sha256}, {"etag", etag}});
    add("from", definition.from);
    add("template", definition.template_text);
    add("system", definition.system);
    add("params", definition.options);
    add("license", definition.license);
    add("requires", definition.needs);
    if (!definition.messages.empty()) {
        auto messages = Json::array();
        for (auto const& [role, content] : definition.messages)
            messages.push_back(Json{{"role", role}, {"content", content}});
        add("messages", dump(messages, -1));
    }
    for (auto const& [file, scale] : definition.adapters)
        root["adapters"].push_back(Json{{"file", file}, {"scale", scale}});
    return dump(root, 2) + "\n";
}

Modelfile to_modelfile(Definition const& definition, std::string from) {
    Modelfile out;
    out.from = std::move(from);
    out.template_text = definition.template_text;
    out.system = definition.system;
    out.needs = definition.needs;
    if (auto parameters = from_options(definition.options)) out.parameters = *std::move(parameters);
    out.messages = definition.messages;
    if (!definition.license.empty()) out.licenses.push_back(definition.license);
    for (auto const& adapter : definition.adapters) out.adapters.push_back(adapter.file);
    return out;
}

std::string modelfile_text(Modelfile shown) {
    auto written = write_modelfile(shown);
    if (written) return *std::move(written);
    shown.template_text.clear();
    shown.system.clear();
    shown.licenses.clear();
    shown.messages.clear();
    written = write_modelfile(shown);
    return written ? *std::move(written) : std::string();
}

Result<Definition> apply(Modelfile const& modelfile, Definition base) {
    HEARTH_TRY(auto const options, to_options(modelfile.parameters));
    HEARTH_TRY(base.options, merge_options(base.options, options));
    if (!modelfile.template_text.empty()) base.template_text = modelfile.template_text;
    if (!modelfile.system.empty()) base.system = modelfile.system;
    if (!modelfile.needs.empty()) base.needs = modelfile.needs;
    if (!modelfile.licenses.empty()) base.license = joined(modelfile.licenses);
    if (!modelfile.messages.empty()) base.messages = modelfile.messages;
    if (!modelfile.adapters.empty()) base.adapters.clear();
    for (auto const& file : modelfile.adapters) base.adapters.push_back({file, 1});
    return base;
}

}  // namespace hearth::modelfile

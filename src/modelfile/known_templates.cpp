#include "modelfile/known_templates.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "digest/sha256.h"
#include "json/json.h"

namespace hearth::modelfile {
namespace {

constexpr std::string_view kSpace = " \t\r\n";

std::string text_of(json::View object, std::string_view name) {
    auto const member = object.find(name);
    auto const text = member ? member->text() : std::nullopt;
    return std::string(text.value_or(""));
}

}  // namespace

Result<std::vector<KnownTemplate>> parse_known_templates(std::string text) {
    HEARTH_TRY(auto const document, json::Document::parse(std::move(text), {}, "known templates"));
    if (!document.root().is(json::Kind::array)) return Error(Code::corrupt, "known templates: no list");
    std::vector<KnownTemplate> out;
    for (auto const entry : document.root().elements()) {
        if (!entry.is(json::Kind::object)) return Error(Code::corrupt, "known templates: an entry is no object");
        KnownTemplate known{text_of(entry, "name"), text_of(entry, "sha256"), text_of(entry, "jinja")};
        if (known.name.empty() || known.jinja.empty() || !digest::is_sha256(known.sha256))
            return Error(Code::corrupt, fmt::format("known templates: entry '{}' is not complete", known.name));
        out.push_back(std::move(known));
    }
    return out;
}

std::string template_key(std::string_view go_text) {
    std::string text;
    for (char const c : go_text)
        if (c != '\r') text += c;
    auto const first = text.find_first_not_of(kSpace);
    if (first == std::string::npos) return {};
    return digest::sha256_hex(std::string_view(text).substr(first, text.find_last_not_of(kSpace) - first + 1));
}

KnownTemplate const* find_known_template(std::string_view go_text) {
    static auto const list = parse_known_templates(std::string(builtin_known_templates()));
    if (!list || go_text.empty()) return nullptr;
    auto const found = std::ranges::find(*list, template_key(go_text), &KnownTemplate::sha256);
    return found == list->end() ? nullptr : &*found;
}

}  // namespace hearth::modelfile

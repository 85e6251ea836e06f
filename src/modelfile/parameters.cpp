#include "modelfile/parameters.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <optional>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "base/utf8.h"
#include "json/json.h"

namespace hearth::modelfile {
namespace {

enum class Type : std::uint8_t { whole, number, boolean, texts };

struct Known {
    std::string_view name;
    Type type;
};

// Ollama's; those that it names deprecated are here if they do something.
constexpr std::array kKnown{
    Known{"draft_num_predict", Type::whole},
    Known{"frequency_penalty", Type::number},
    Known{"main_gpu", Type::whole},
    Known{"min_p", Type::number},
    Known{"mirostat", Type::whole},
    Known{"mirostat_eta", Type::number},
    Known{"mirostat_tau", Type::number},
    Known{"num_batch", Type::whole},
    Known{"num_ctx", Type::whole},
    Known{"num_gpu", Type::whole},
    Known{"num_keep", Type::whole},
    Known{"num_predict", Type::whole},
    Known{"num_thread", Type::whole},
    Known{"presence_penalty", Type::number},
    Known{"repeat_last_n", Type::whole},
    Known{"repeat_penalty", Type::number},
    Known{"seed", Type::whole},
    Known{"stop", Type::texts},
    Known{"temperature", Type::number},
    Known{"top_k", Type::whole},
    Known{"top_p", Type::number},
    Known{"typical_p", Type::number},
    Known{"use_mmap", Type::boolean},
};

constexpr std::size_t kValueShown = 64;

std::string_view name_of(Type type) {
    switch (type) {
        case Type::whole: return "a whole number";
        case Type::number: return "a number";
        case Type::boolean: return "true or false";
        case Type::texts: return "a text";
    }
    return "";
}

Known const* find(std::string_view name) {
    auto const at = std::ranges::find(kKnown, name, &Known::name);
    return at == kKnown.end() ? nullptr : &*at;
}

Error unknown(std::string_view name) {
    return {Code::invalid_argument, fmt::format("unknown parameter '{}'", name.substr(0, kValueShown)), "parameter"};
}

Error mistyped(Known const& known, std::string_view value) {
    return {Code::invalid_argument,
            fmt::format("parameter '{}' must be {}, got '{}'", known.name, name_of(known.type),
                        value.substr(0, kValueShown)),
            "parameter"};
}

Error too_many(std::size_t count) {
    return {Code::invalid_argument, fmt::format("{} parameters, the limit is {}", count, kParametersMax), "parameter"};
}

template <typename T>
std::optional<T> parse(std::string_view text) {
    T value{};
    auto const parsed = std::from_chars(text.data(), text.data() + text.size(), value);
    if (parsed.ec != std::errc{} || parsed.ptr != text.data() + text.size()) return std::nullopt;
    return value;
}

// REQUIRES: the type is not texts
Result<nlohmann::ordered_json> value_of(Known const& known, std::string const& text) {
    if (known.type == Type::whole) {
        if (auto const whole = parse<std::int64_t>(text)) return nlohmann::ordered_json(*whole);
    } else if (known.type == Type::number) {
        if (auto const number = parse<double>(text); number && std::isfinite(*number))
            return nlohmann::ordered_json(*number);
    } else if (text == "true" || text == "false") {
        return nlohmann::ordered_json(text == "true");
    }
    return mistyped(known, text);
}

std::string text_of(json::View value) {
    if (auto const text = value.text()) return std::string(*text);
    if (auto const flag = value.boolean()) return *flag ? "true" : "false";
    if (auto const whole = value.integer()) return std::to_string(*whole);
    if (auto const number = value.number()) return fmt::format("{}", *number);
    return std::string(json::describe(value.kind()));
}

Status read_member(json::Member const& member, std::vector<Parameter>& out) {
    auto const* known = find(member.name);
    if (known == nullptr) return unknown(member.name);
    if (known->type == Type::texts && member.value.is(json::Kind::array)) {
        for (auto const element : member.value.elements()) {
            if (!element.is(json::Kind::string)) return mistyped(*known, text_of(element));
            out.push_back({std::string(member.name), text_of(element)});
        }
    } else {
        auto const value = text_of(member.value);
        bool const is_text = member.value.is(json::Kind::string);
        if (known->type == Type::texts ? !is_text : is_text || !value_of(*known, value)) return mistyped(*known, value);
        out.push_back({std::string(member.name), value});
    }
    return out.size() > kParametersMax ? Status(too_many(out.size())) : ok();
}

}  // namespace

Result<std::string> to_options(std::span<Parameter const> parameters) {
    if (parameters.empty()) return std::string();
    if (parameters.size() > kParametersMax) return too_many(parameters.size());
    nlohmann::ordered_json root = nlohmann::ordered_json::object();
    for (auto const& [name, value] : parameters) {
        auto const* known = find(name);
        if (known == nullptr) return unknown(name);
        if (known->type == Type::texts) {
            if (!is_valid_utf8(value)) return mistyped(*known, "bytes that are no UTF-8");
            root[name].push_back(value);
        } else {
            HEARTH_TRY(root[name], value_of(*known, value));
        }
    }
    return root.dump();
}

Result<std::vector<Parameter>> from_options(std::string_view options) {
    std::vector<Parameter> out;
    if (options.empty()) return out;
    HEARTH_TRY(auto const document, json::Document::parse(std::string(options), {}, "parameters"));
    if (!document.root().is(json::Kind::object))
        return Error(Code::invalid_argument, "parameters must be a JSON object", "parameters");
    for (auto const member : document.root().members()) HEARTH_CHECK(read_member(member, out));
    return out;
}

Result<std::string> merge_options(std::string_view base, std::string_view over) {
    HEARTH_TRY(auto const old, from_options(base));
    HEARTH_TRY(auto const added, from_options(over));
    std::vector<Parameter> merged;
    for (auto const& parameter : old)
        if (std::ranges::find(added, parameter.name, &Parameter::name) == added.end()) merged.push_back(parameter);
    merged.insert(merged.end(), added.begin(), added.end());
    return to_options(merged);
}

std::string describe(std::span<Parameter const> parameters) {
    std::string out;
    for (auto const& [name, value] : parameters) {
        auto const* known = find(name);
        bool const quoted = known != nullptr && known->type == Type::texts;
        if (!out.empty()) out += '\n';
        out += quoted ? fmt::format("{:<30} \"{}\"", name, value) : fmt::format("{:<30} {}", name, value);
    }
    return out;
}

}  // namespace hearth::modelfile

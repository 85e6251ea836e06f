#include "models/names.h"

#include <algorithm>

#include <fmt/format.h>

#include "base/ascii.h"

namespace hearth::models {
namespace {

// What holds for one part of a name.
struct Part {
    std::string_view what;
    std::size_t bytes_max;
    std::string_view extra;  // allowed behind the first byte, besides letters, digits and '_'
};
constexpr Part kHost{"host", kNameHostMax, "-.:"};
constexpr Part kNamespace{"namespace", kNamePartMax, "-"};
constexpr Part kModel{"model", kNamePartMax, "-."};
constexpr Part kTag{"tag", kNamePartMax, "-."};

bool is_word(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_'; }

Error bad(Part const& part, std::string_view why) {
    return {Code::invalid_argument, fmt::format("the {} of a model name {}", part.what, why), "model"};
}

Result<std::string> read(Part const& part, std::string_view text) {
    if (text.empty()) return bad(part, "is empty");
    if (text.size() > part.bytes_max)
        return bad(part, fmt::format("has {} bytes, the limit is {}", text.size(), part.bytes_max));
    if (!is_word(text.front())) return bad(part, "must begin with a letter, a digit or '_'");
    auto const allowed = [&](char c) { return is_word(c) || part.extra.find(c) != std::string_view::npos; };
    if (!std::ranges::all_of(text, allowed))
        return bad(part, fmt::format("may hold letters, digits, '_' and any of '{}' only", part.extra));
    return std::string(text);
}

// What stands behind the last `separator`, which is taken off `text` with it.
std::string_view cut_last(std::string_view& text, char separator) {
    auto const at = text.rfind(separator);
    auto const tail = text.substr(at + 1);
    text = text.substr(0, at);
    return tail;
}

bool equal_ignoring_case(std::string_view a, std::string_view b) { return ascii_lower(a) == ascii_lower(b); }

}  // namespace

bool ModelName::operator==(ModelName const& other) const {
    return equal_ignoring_case(host, other.host) && equal_ignoring_case(space, other.space) &&
           equal_ignoring_case(model, other.model) && equal_ignoring_case(tag, other.tag);
}

Result<ModelName> parse_model_name(std::string_view text) {
    constexpr std::size_t kBytesMax = kNameHostMax + 3 * kNamePartMax + 3;
    if (text.size() > kBytesMax) {
        return Error(Code::invalid_argument,
                     fmt::format("a model name has {} bytes, the limit is {}", text.size(), kBytesMax), "model");
    }
    ModelName name{std::string(kNameHostDefault), std::string(kNameNamespaceDefault), {}, std::string(kNameTagDefault)};
    auto rest = text;
    // A ':' before the last '/' is the host's port.
    auto const colon = rest.rfind(':');
    auto const slash = rest.rfind('/');
    if (colon != std::string_view::npos && (slash == std::string_view::npos || colon > slash)) {
        HEARTH_TRY(name.tag, read(kTag, cut_last(rest, ':')));
    }
    bool const has_space = rest.find('/') != std::string_view::npos;
    HEARTH_TRY(name.model, read(kModel, has_space ? cut_last(rest, '/') : rest));
    if (!has_space) return name;
    bool const has_host = rest.find('/') != std::string_view::npos;
    HEARTH_TRY(name.space, read(kNamespace, has_host ? cut_last(rest, '/') : rest));
    if (!has_host) return name;
    HEARTH_TRY(name.host, read(kHost, rest));
    return name;
}

bool is_same_name(std::string_view a, std::string_view b) {
    if (equal_ignoring_case(a, b)) return true;
    auto const first = parse_model_name(a);
    auto const second = parse_model_name(b);
    return first && second && *first == *second;
}

std::string full_name(ModelName const& name) {
    return fmt::format("{}/{}/{}:{}", name.host, name.space, name.model, name.tag);
}

std::string short_name(ModelName const& name) {
    if (!equal_ignoring_case(name.host, kNameHostDefault)) return full_name(name);
    if (!equal_ignoring_case(name.space, kNameNamespaceDefault))
        return fmt::format("{}/{}:{}", name.space, name.model, name.tag);
    return fmt::format("{}:{}", name.model, name.tag);
}

}  // namespace hearth::models

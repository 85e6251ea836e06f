#include "names/names.h"

#include <algorithm>

#include <fmt/format.h>

#include "base/ascii.h"

namespace hearth::names {
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

// "[::1]" and "[::1]:5000": an address of IPv6, as hosts are written with it.
bool is_bracketed(std::string_view text) {
    auto const end = text.find(']');
    if (!text.starts_with('[') || end == std::string_view::npos || end < 3) return false;
    auto const address = text.substr(1, end - 1), port = text.substr(end + 1);
    auto const digit = [](char c) { return c >= '0' && c <= '9'; };
    auto const hex = [&](char c) { return digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F'); };
    bool const numbered =
        port.empty() || (port.size() > 1 && port.front() == ':' && std::ranges::all_of(port.substr(1), digit));
    return numbered && std::ranges::all_of(address, [&](char c) { return hex(c) || c == ':' || c == '.'; });
}

Result<std::string> read(Part const& part, std::string_view text) {
    if (text.empty()) return bad(part, "is empty");
    if (text.size() > part.bytes_max)
        return bad(part, fmt::format("has {} bytes, the limit is {}", text.size(), part.bytes_max));
    if (part.what == kHost.what && is_bracketed(text)) return std::string(text);
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

// As in Docker's names.
bool is_host(std::string_view first) {
    if (first.starts_with('[')) return is_bracketed(first);
    auto const colon = first.rfind(':');
    auto const port = colon == std::string_view::npos ? std::string_view("0") : first.substr(colon + 1);
    bool const numbered = !port.empty() && port.find_first_not_of("0123456789") == std::string_view::npos;
    bool const marked = first.find_first_of(".:") != std::string_view::npos || ascii_lower(first) == "localhost";
    return numbered && marked;
}

std::string replaced(std::string_view text, std::string_view what, std::string_view by) {
    std::string out;
    while (true) {
        auto const at = text.find(what);
        out += text.substr(0, at);
        if (at == std::string_view::npos) return out;
        out += by;
        text.remove_prefix(at + what.size());
    }
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
    if (!has_host && is_host(rest)) {
        HEARTH_TRY(name.host, read(kHost, rest));
        return name;
    }
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

std::string local_name(ModelName const& name) {
    auto text = short_name(name);
    if (equal_ignoring_case(name.tag, kNameTagDefault)) text.resize(text.size() - kNameTagDefault.size() - 1);
    return text;
}

std::string to_file_stem(std::string_view name) { return replaced(name, "/", kSlash); }

std::string from_file_stem(std::string_view stem) {
    if (stem.find(kSlash) == std::string_view::npos) return std::string(stem);
    auto name = replaced(stem, kSlash, "/");
    return parse_model_name(name) ? name : std::string(stem);
}

}  // namespace hearth::names

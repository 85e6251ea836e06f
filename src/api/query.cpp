#include "api/query.h"

#include <algorithm>
#include <charconv>
#include <cstddef>

#include <fmt/format.h>

namespace hearth::api {
namespace {

std::string decoded(std::string_view text) {
    std::string out;
    for (std::size_t i = 0; i < text.size(); ++i) {
        unsigned code = 0;
        auto const digits = text.substr(std::min(i + 1, text.size()), 2);
        auto const parsed = std::from_chars(digits.data(), digits.data() + digits.size(), code, 16);
        bool const escape =
            text[i] == '%' && digits.size() == 2 && parsed.ec == std::errc{} && parsed.ptr == digits.data() + 2;
        if (escape) {
            out += static_cast<char>(code);
            i += 2;
        } else {
            out += text[i] == '+' ? ' ' : text[i];
        }
    }
    return out;
}

}  // namespace

std::optional<std::string> query_value(std::string_view query, std::string_view name) {
    while (!query.empty()) {
        auto const end = std::min(query.find('&'), query.size());
        auto const pair = query.substr(0, end);
        query.remove_prefix(std::min(end + 1, query.size()));
        auto const equals = std::min(pair.find('='), pair.size());
        if (decoded(pair.substr(0, equals)) == name) return decoded(pair.substr(std::min(equals + 1, pair.size())));
    }
    return std::nullopt;
}

Verdict read_query_number(std::string_view query, std::string_view name, std::uint64_t low, std::uint64_t high,
                          std::uint64_t& out) {
    auto const text = query_value(query, name);
    if (!text) return std::nullopt;
    std::uint64_t value = 0;
    auto const [end, failed] = std::from_chars(text->data(), text->data() + text->size(), value);
    bool const whole = failed == std::errc{} && end == text->data() + text->size();
    if (!whole || value < low || value > high)
        return invalid_value(
            name, fmt::format("'{}' must be a number from {} to {}, got '{}'.", name, low, high, text->substr(0, 64)));
    out = value;
    return std::nullopt;
}

}  // namespace hearth::api

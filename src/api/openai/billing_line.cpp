#include "api/openai/billing_line.h"

#include <algorithm>
#include <cstddef>
#include <string_view>

namespace hearth::api::openai {
namespace {

constexpr std::string_view kName = "x-anthropic-billing-header:";
constexpr std::string_view kHash = "cch";
constexpr std::string_view kVersion = "cc_version";
constexpr std::size_t kAttributesMax = 16;
constexpr std::size_t kValueMax = 64;

bool is_word(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-';
}
bool is_value(char c) { return is_word(c) || c == '.' || c == '/' || c == '+'; }

// Where the run of characters that `of` takes ends.
template <typename Of>
std::size_t run_end(std::string_view text, std::size_t at, Of const& of) {
    while (at < text.size() && of(text[at])) ++at;
    return at;
}

// The part of a value that changes between requests: [begin, end).
std::size_t changing_from(std::string_view key, std::string_view value) {
    if (key == kHash) return 0;
    if (key != kVersion) return value.size();
    // 2.1.101.e51: three numbers, then a fingerprint of the conversation.
    if (std::ranges::count(value, '.') != 3) return value.size();
    return value.rfind('.') + 1;
}

}  // namespace

void settle_billing_line(std::string& text) {
    if (!text.starts_with(kName)) return;
    auto at = kName.size();
    for (std::size_t count = 0; count < kAttributesMax; ++count) {
        at = run_end(text, at, [](char c) { return c == ' '; });
        auto const key_end = run_end(text, at, is_word);
        if (key_end == at || key_end == text.size() || text[key_end] != '=') return;
        auto const begin = key_end + 1;
        auto const end = run_end(text, begin, is_value);
        bool const closed = end == text.size() || text[end] == ';' || text[end] == '\n' || text[end] == '\r';
        if (!closed || end - begin > kValueMax) return;
        auto const view = std::string_view(text);
        auto const from = begin + changing_from(view.substr(at, key_end - at), view.substr(begin, end - begin));
        std::fill(text.begin() + static_cast<std::ptrdiff_t>(from), text.begin() + static_cast<std::ptrdiff_t>(end),
                  '0');
        if (end == text.size() || text[end] != ';') return;
        at = end + 1;
    }
}

}  // namespace hearth::api::openai

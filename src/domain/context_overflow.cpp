#include "domain/context_overflow.h"

#include <charconv>
#include <string_view>

#include <fmt/format.h>

namespace hearth::domain {
namespace {

constexpr std::string_view kBefore = "The prompt has ";
constexpr std::string_view kBetween = " tokens, but the context holds ";
constexpr std::string_view kAfter = " tokens for prompt and output together.";

// Removes `text` from the front of `rest`; false if it is not there.
bool skip(std::string_view& rest, std::string_view text) {
    if (!rest.starts_with(text)) return false;
    rest.remove_prefix(text.size());
    return true;
}

bool take(std::string_view& rest, std::uint32_t& number) {
    auto const [end, failed] = std::from_chars(rest.data(), rest.data() + rest.size(), number);
    if (failed != std::errc{}) return false;
    rest.remove_prefix(static_cast<std::size_t>(end - rest.data()));
    return true;
}

}  // namespace

Error context_overflow(ContextOverflow numbers) {
    return Error(Code::context_overflow,
                 fmt::format("{}{}{}{}{}", kBefore, numbers.prompt_tokens, kBetween, numbers.context, kAfter));
}

std::optional<ContextOverflow> parse_context_overflow(Error const& error) {
    if (error.code != Code::context_overflow) return std::nullopt;
    std::string_view rest = error.message;
    ContextOverflow numbers;
    bool const matches = skip(rest, kBefore) && take(rest, numbers.prompt_tokens) && skip(rest, kBetween) &&
                         take(rest, numbers.context) && skip(rest, kAfter) && rest.empty();
    if (!matches) return std::nullopt;
    return numbers;
}

}  // namespace hearth::domain

// Readers of the fields that say when a request is computed and on what.
#include <algorithm>
#include <array>
#include <string>
#include <utility>

#include <fmt/format.h>

#include "api/keep_alive.h"
#include "api/openai/field_readers.h"

namespace hearth::api::openai {
namespace {

using domain::Priority;

template <typename Value>
struct Word {
    std::string_view word;
    Value value;
};

constexpr std::array kPriorities{Word<Priority>{"interactive", Priority::interactive},
                                 Word<Priority>{"normal", Priority::normal}, Word<Priority>{"batch", Priority::batch}};
constexpr std::array kTiers{
    Word<Priority>{"auto", Priority::normal},          Word<Priority>{"default", Priority::normal},
    Word<Priority>{"priority", Priority::interactive}, Word<Priority>{"scale", Priority::interactive},
    Word<Priority>{"fast", Priority::interactive},     Word<Priority>{"flex", Priority::batch}};

constexpr std::array kOverflows{Word<domain::Overflow>{"error", domain::Overflow::error},
                                Word<domain::Overflow>{"shift", domain::Overflow::shift},
                                Word<domain::Overflow>{"truncate_middle", domain::Overflow::truncate_middle}};
constexpr std::int64_t kTokensMax = 1 << 24;  // as domain::validate

template <typename Words>
std::string list(Words const& words) {
    std::string out;
    for (auto const& word : words) out += fmt::format("{}'{}'", out.empty() ? "" : ", ", word.word);
    return out;
}

template <typename Words, typename Value>
Verdict read_word(std::string_view field, JsonView value, Words const& words, Value& out) {
    auto const same = [&](auto const& word) { return word.word == value.as_string(); };
    auto const found = std::ranges::find_if(words, same);
    if (found == words.end())
        return invalid_value(field, fmt::format("'{}' must be one of {}, got {}.", field, list(words), quote(value)));
    out = found->value;
    return std::nullopt;
}

}  // namespace

Verdict read_timeout(Field const& field, JsonView value, std::optional<std::uint32_t>& ms) {
    std::int64_t given = 0;
    if (auto problem = read_integer(field.name, value, 0, domain::kDeadlineMsMax, given)) return problem;
    ms.reset();
    if (given > 0) ms = static_cast<std::uint32_t>(given);
    return std::nullopt;
}

Verdict read_keep_alive_field(Field const& field, JsonView value, Draft& draft) {
    return read_keep_alive(field.name, value, draft.request.keep_alive);
}

Verdict read_ttl(Field const& field, JsonView value, Draft& draft) {
    return read_seconds_to_live(field.name, value, draft.request.keep_alive);
}

Verdict read_service_tier(Field const& field, JsonView value, Draft& draft) {
    if (value.kind() != JsonKind::string) return wrong_type(field.name, "a string", value);
    draft.tier_asked = true;
    return read_word(field.name, value, kTiers, draft.request.priority);
}

Verdict read_priority(Field const& field, JsonView value, Draft& draft) {
    if (value.kind() == JsonKind::string) return read_word(field.name, value, kPriorities, draft.request.priority);
    bool const whole = value.kind() == JsonKind::integer || (value.kind() == JsonKind::number && value.as_integer());
    if (!whole) return wrong_type(field.name, "a string or an integer", value);
    auto const number = value.as_number();
    draft.request.priority = number < 0 ? Priority::interactive : number == 0 ? Priority::normal : Priority::batch;
    return std::nullopt;
}

Verdict read_context_overflow(Field const& field, JsonView value, Draft& draft) {
    if (value.kind() != JsonKind::string) return wrong_type(field.name, "a string", value);
    return read_word(field.name, value, kOverflows, draft.request.overflow);
}

Verdict read_keep_tokens(Field const& field, JsonView value, Draft& draft) {
    std::int64_t tokens = 0;
    if (auto problem = read_integer(field.name, value, -1, kTokensMax, tokens)) return problem;
    draft.request.keep_tokens.reset();
    if (tokens >= 0) draft.request.keep_tokens = static_cast<std::uint32_t>(tokens);
    return std::nullopt;
}

Verdict read_discard_tokens(Field const& field, JsonView value, Draft& draft) {
    std::int64_t tokens = 0;
    if (auto problem = read_integer(field.name, value, 0, kTokensMax, tokens)) return problem;
    draft.request.discard_tokens.reset();
    if (tokens > 0) draft.request.discard_tokens = static_cast<std::uint32_t>(tokens);
    return std::nullopt;
}

Verdict read_cache_salt(Field const& field, JsonView value, Draft& draft) {
    std::string salt;
    if (auto problem = read_string(field.name, value, salt)) return problem;
    if (salt.empty() || salt.size() > domain::kCacheSaltBytesMax) {
        return invalid_value(field.name, fmt::format("'{}' must have 1 to {} bytes, it has {}.", field.name,
                                                     domain::kCacheSaltBytesMax, salt.size()));
    }
    draft.request.cache_salt = std::move(salt);
    return std::nullopt;
}

}  // namespace hearth::api::openai

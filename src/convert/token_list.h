// TokenList: the tokens of a GGUF file's vocabulary, by id, and what converters
// tell of a token by its looks.
//
// Threads: none. Ownership: owns its texts.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace hearth::convert {

// As the engine numbers them.
enum class TokenType : std::uint8_t { normal = 1, unknown = 2, control = 3, user_defined = 4, unused = 5, byte = 6 };

inline constexpr std::string_view kWordBegin = "\xe2\x96\x81";  // U+2581, which SentencePiece writes for a space

struct TokenList {
    std::vector<std::string> texts;
    std::vector<std::int32_t> types;

    void add(std::string text, TokenType type) {
        texts.push_back(std::move(text));
        types.push_back(static_cast<std::int32_t>(type));
    }
};

// What stands in the place of an id that no token has.
[[nodiscard]] std::string padding_token(std::uint32_t id);

// Tokens that some models add without saying that they are control tokens.
[[nodiscard]] bool looks_special(std::string_view token);

[[nodiscard]] std::string replaced(std::string_view text, std::string_view from, std::string_view to);

}  // namespace hearth::convert

// TokenizerJson: a tokenizer.json, checked and given a shape.
//
// BPE, of bytes or as SentencePiece has it (byte_fallback), and WordPiece are
// read; the other models of the format (Unigram, WordLevel) are `unsupported`.
// Every id is below kVocabularyMax and belongs to one token; merges name tokens of
// the vocabulary; sizes are bounded before anything is allocated.
//
// What is not needed to convert (truncation, padding, decoder) is not looked at.
// Normaliser, pre-tokeniser and post-processor stay JSON: they matter only as
// far as the probe text goes (pre_tokenizer.h).
//
// Format: huggingface/tokenizers, version "1.0".
// Threads: none; immutable. Ownership: owns the document that all texts view.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "json/json.h"

namespace hearth::convert {

inline constexpr std::uint32_t kVocabularyMax = 1U << 21;  // as the GGUF reader
inline constexpr std::size_t kTokenBytesMax = 1U << 16;
inline constexpr std::size_t kMergesMax = 1U << 21;

struct AddedToken {
    std::uint32_t id = 0;
    std::string_view content;
    bool special = false;
    bool normalized = true;
    bool plain = true;  // matches anywhere, and takes no spaces along
};

struct Merge {
    std::string_view left;
    std::string_view right;
};

enum class TokenizerModel : std::uint8_t { bpe, wordpiece };

struct TokenizerJson {
    json::Document document;
    TokenizerModel model{};
    // By id; nothing where no token has that id. Added tokens included.
    std::vector<std::optional<std::string_view>> tokens{};
    std::vector<AddedToken> added{};
    std::vector<Merge> merges{};  // best first
    bool ignore_merges = false;
    bool byte_fallback = false;  // SentencePiece's: what no token covers falls apart into "<0x0A>" and its kin
    // WordPiece only.
    std::string_view unknown{};
    std::string_view continuing_prefix{};
    std::uint32_t word_max = 0;  // code points

    [[nodiscard]] std::optional<json::View> part(std::string_view name) const { return document.root().find(name); }
};

// `corrupt` says what is wrong, `unsupported` what is not read. `path` is for messages.
[[nodiscard]] Result<TokenizerJson> parse_tokenizer_json(std::string text, std::string const& path);

}  // namespace hearth::convert

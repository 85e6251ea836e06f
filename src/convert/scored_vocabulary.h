// The engine's tokenizer "llama": pieces are merged by the score of what comes of
// it, best first, and what no piece covers falls apart into bytes.
//
// Made from a tokenizer.model, which has scores, or from a tokenizer.json of
// BPE with byte_fallback, whose merges have ranks: the first product of merges
// gets 0, the next -1 and so on, which is what SentencePiece's own trainer
// gives. (Upstream writes -1000 for all of them there, which merges from left
// to right.) Ranks can be scores only if all merges with one product stand
// together and name every way to split it; others are refused.
//
// Sources: upstream's conversion/base.py, _create_vocab_sentencepiece() and
// _set_vocab_llama_hf(); its scores, types and texts but for the above, and for
// user-defined pieces nobody names again, which it calls normal.
// Threads: none; pure functions.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "convert/sentencepiece.h"
#include "convert/token_list.h"
#include "convert/tokenizer_json.h"
#include "json/json.h"

namespace hearth::convert {

inline constexpr float kPaddingScore = -10000;  // of ids that no token has

struct ScoredTokens {
    TokenList tokens;
    std::vector<float> scores;
    bool space_before = true;  // as SentencePieceModel
};

// Tokens that were added after training: text -> id (added_tokens.json), and
// added_tokens_decoder of tokenizer_config.json, which has the last word. Ids from
// `size` on are passed over.
struct AddedSources {
    std::optional<json::View> by_text{};
    std::optional<json::View> by_id{};
    std::string folder{};  // for messages
};

// `size` tokens. `corrupt` if the model has more pieces.
[[nodiscard]] Result<ScoredTokens> scored_tokens(SentencePieceModel const& model, AddedSources const& added,
                                                 std::uint32_t size);

// Of a tokenizer.json with byte_fallback; a score for each id of `tokenizer.tokens`.
// `unsupported` for merges that no scores can stand for.
[[nodiscard]] Result<std::vector<float>> scores_of_merges(TokenizerJson const& tokenizer, std::string const& path);

// Whether a text begins with a space, by its normaliser and pre-tokeniser.
// `unsupported` for rules that the engine's tokenizer does not carry out.
[[nodiscard]] Result<bool> space_before(TokenizerJson const& tokenizer, std::string const& path);

}  // namespace hearth::convert

// SentencePiece: a tokenizer.model, checked and given a shape.
//
// A protobuf message with the pieces (text, score, kind) in the order of their
// ids, and how the text is prepared. What the engine's tokenizer would do
// otherwise than SentencePiece is `unsupported`: models that are not BPE,
// normalisation tables, dropped spaces, a mark behind words, no bytes to fall
// back to. What SentencePiece itself refuses is `corrupt`: empty and repeated
// pieces, more than one unknown piece, bytes that are not all there.
//
// Fields that do not matter to the engine (how it was trained) are skipped, but
// must be well formed; one that matters and occurs twice is refused.
//
// Format: github.com/google/sentencepiece, src/sentencepiece_model.proto.
// Threads: none; pure functions.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace hearth::convert {

// As the format numbers them; the engine's token types have the same numbers.
enum class PieceKind : std::uint8_t { normal = 1, unknown = 2, control = 3, user_defined = 4, unused = 5, byte = 6 };

struct Piece {
    std::string text;
    float score = 0;
    PieceKind kind = PieceKind::normal;
};

struct SentencePieceModel {
    std::vector<Piece> pieces;   // by id
    bool space_before = true;    // a text begins with a space, written or not
};

// "<0x0A>": the spelling of a byte.
[[nodiscard]] bool is_byte_piece(std::string_view text) noexcept;

// REQUIRES: bytes.size() <= kTokenizerBytesMax. `path` is for messages.
[[nodiscard]] Result<SentencePieceModel> parse_sentencepiece(std::string_view bytes, std::string const& path);

}  // namespace hearth::convert

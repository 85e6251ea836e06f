#include "convert/sentencepiece.h"

#include <array>
#include <bit>
#include <bitset>
#include <cmath>
#include <optional>
#include <unordered_set>
#include <utility>

#include <fmt/format.h>

#include "base/utf8.h"
#include "convert/protobuf.h"
#include "convert/tokenizer_json.h"

namespace hearth::convert {
namespace {

// Numbers of fields in sentencepiece_model.proto.
namespace model {
constexpr std::uint32_t kPieces = 1, kTrainer = 2, kNormalizer = 3;
}
namespace piece {
constexpr std::uint32_t kText = 1, kScore = 2, kKind = 3;
}
namespace trainer {
constexpr std::uint32_t kModelType = 3, kSpaceBehind = 24, kByteFallback = 35;
}
namespace normalizer {
constexpr std::uint32_t kTable = 2, kSpaceBefore = 3, kDropSpaces = 4, kEscapeSpaces = 5;
}
constexpr std::uint64_t kBpe = 2;
constexpr std::size_t kBytes = 256;

std::optional<std::size_t> byte_of(std::string_view text) noexcept {
    if (text.size() != 6 || !text.starts_with("<0x") || text[5] != '>') return std::nullopt;
    std::size_t value = 0;
    for (char const digit : text.substr(3, 2)) {
        bool const number = digit >= '0' && digit <= '9';
        if (!number && (digit < 'A' || digit > 'F')) return std::nullopt;
        value = value * 16 + static_cast<std::size_t>(number ? digit - '0' : digit - 'A' + 10);
    }
    return value;
}

class Parser {
public:
    Parser(SentencePieceModel& out, std::string const& path) : out_(out), path_(path) {}

    Status run(std::string_view bytes) {
        HEARTH_CHECK(each(bytes, [&](ProtobufField const& field) -> Status {
            switch (field.number) {
                case model::kPieces: return read_piece(field);
                case model::kTrainer: return once(trainer_, field);
                case model::kNormalizer: return once(normalizer_, field);
                default: return ok();
            }
        }));
        HEARTH_CHECK(read_trainer());
        HEARTH_CHECK(read_normalizer());
        return check_pieces();
    }

private:
    [[nodiscard]] Error corrupt(std::string_view what) const {
        return {Code::corrupt, fmt::format("{}: {}", path_, what), path_};
    }
    [[nodiscard]] Error unsupported(std::string_view what) const {
        return {Code::unsupported, fmt::format("{}: {}", path_, what), path_};
    }

    template <typename Action>
    Status each(std::string_view message, Action const& action) const {
        ProtobufReader reader(message);
        for (;;) {
            auto field = reader.next();
            if (!field) return corrupt(field.error().message);
            if (!field->has_value()) return ok();
            HEARTH_CHECK(action(**field));
        }
    }

    // Keeps the field if it is the first of its number.
    Status once(std::optional<ProtobufField>& kept, ProtobufField const& field) const {
        if (kept) return corrupt(fmt::format("field {} is there twice", field.number));
        kept = field;
        return ok();
    }

    // The fields of these numbers, in this order; the others are skipped.
    template <std::size_t Count>
    Result<std::array<std::optional<ProtobufField>, Count>> pick(
        std::string_view message, std::array<std::uint32_t, Count> const& numbers) const {
        std::array<std::optional<ProtobufField>, Count> fields;
        HEARTH_CHECK(each(message, [&](ProtobufField const& field) -> Status {
            for (std::size_t i = 0; i < Count; ++i) {
                if (field.number == numbers[i]) return once(fields[i], field);
            }
            return ok();
        }));
        return fields;
    }

    Result<std::string_view> bytes_of(std::optional<ProtobufField> const& field) const {
        if (!field) return std::string_view();
        if (field->wire == Wire::bytes) return field->bytes;
        return corrupt(fmt::format("field {} is no text", field->number));
    }
    Result<std::uint64_t> number_of(std::optional<ProtobufField> const& field, std::uint64_t absent) const {
        if (!field) return absent;
        if (field->wire == Wire::varint) return field->value;
        return corrupt(fmt::format("field {} is no whole number", field->number));
    }
    Result<float> real_of(std::optional<ProtobufField> const& field) const {
        if (!field) return 0.0F;
        if (field->wire == Wire::fixed32) return std::bit_cast<float>(static_cast<std::uint32_t>(field->value));
        return corrupt(fmt::format("field {} is no number", field->number));
    }

    Status read_piece(ProtobufField const& field) {
        if (out_.pieces.size() == kVocabularyMax) {
            return Error(Code::too_large,
                         fmt::format("{}: more than the {} pieces that are read", path_, kVocabularyMax), path_);
        }
        HEARTH_TRY(auto const message, bytes_of(field));
        HEARTH_TRY(auto const parts, pick(message, std::array{piece::kText, piece::kScore, piece::kKind}));
        auto const& [text, score, kind] = parts;
        Piece piece;
        HEARTH_TRY(piece.text, bytes_of(text));
        HEARTH_TRY(piece.score, real_of(score));
        HEARTH_TRY(auto const number, number_of(kind, static_cast<std::uint64_t>(PieceKind::normal)));
        if (number < static_cast<std::uint64_t>(PieceKind::normal) ||
            number > static_cast<std::uint64_t>(PieceKind::byte))
            return corrupt(fmt::format("piece {} is of no known kind ({})", out_.pieces.size(), number));
        piece.kind = static_cast<PieceKind>(number);
        HEARTH_CHECK(check_piece(piece));
        out_.pieces.push_back(std::move(piece));
        return ok();
    }

    [[nodiscard]] Status check_piece(Piece const& piece) const {
        auto const wrong = [&](std::string_view what) {
            return corrupt(fmt::format("piece {} {}", out_.pieces.size(), what));
        };
        if (piece.text.empty()) return wrong("is empty");
        if (piece.text.size() > kTokenBytesMax) {
            return Error(Code::too_large,
                         fmt::format("{}: piece {} has {} bytes; at most {} are read", path_, out_.pieces.size(),
                                     piece.text.size(), kTokenBytesMax),
                         path_);
        }
        if (!is_valid_utf8(piece.text)) return wrong("is not UTF-8");
        if (!std::isfinite(piece.score)) return wrong("has a score that is no number");
        if (piece.kind == PieceKind::byte && !byte_of(piece.text)) return wrong("is called a byte, but is none");
        return ok();
    }

    Status read_trainer() const {
        HEARTH_TRY(auto const message, bytes_of(trainer_));
        HEARTH_TRY(auto const fields,
                   pick(message, std::array{trainer::kModelType, trainer::kSpaceBehind, trainer::kByteFallback}));
        auto const& [type, behind, fallback] = fields;
        HEARTH_TRY(auto const kind, number_of(type, 1));
        HEARTH_TRY(auto const space_behind, number_of(behind, 0));
        HEARTH_TRY(auto const byte_fallback, number_of(fallback, 0));
        if (kind != kBpe)
            return unsupported(fmt::format("a model of type {} is not converted; BPE ({}) is", kind, kBpe));
        if (space_behind != 0) return unsupported("marks of spaces behind words are not converted");
        if (byte_fallback == 0) return unsupported("a model without byte_fallback is not converted");
        return ok();
    }

    Status read_normalizer() {
        HEARTH_TRY(auto const message, bytes_of(normalizer_));
        HEARTH_TRY(auto const fields, pick(message, std::array{normalizer::kTable, normalizer::kSpaceBefore,
                                                               normalizer::kDropSpaces, normalizer::kEscapeSpaces}));
        auto const& [table, before, drop, escape] = fields;
        HEARTH_TRY(auto const rules, bytes_of(table));
        HEARTH_TRY(auto const space_before, number_of(before, 1));
        HEARTH_TRY(auto const drops, number_of(drop, 1));
        HEARTH_TRY(auto const escapes, number_of(escape, 1));
        if (!rules.empty())
            return unsupported("texts are normalised by a table, which the engine's tokenizer does not do");
        if (drops != 0) return unsupported("spaces are dropped, which the engine's tokenizer does not do");
        if (escapes == 0) return unsupported("spaces are not marked, which the engine's tokenizer does");
        out_.space_before = space_before != 0;
        return ok();
    }

    [[nodiscard]] Status check_pieces() const {
        if (out_.pieces.empty()) return corrupt("no pieces");
        std::unordered_set<std::string_view> texts;
        std::bitset<kBytes> bytes;
        std::size_t unknown = 0;
        for (std::size_t id = 0; id < out_.pieces.size(); ++id) {
            auto const& piece = out_.pieces[id];
            if (!texts.insert(piece.text).second) return corrupt(fmt::format("piece {} repeats another", id));
            if (piece.kind == PieceKind::unknown) ++unknown;
            if (piece.kind == PieceKind::byte) bytes.set(byte_of(piece.text).value());
        }
        if (unknown != 1) return corrupt(fmt::format("{} unknown pieces; there must be 1", unknown));
        if (!bytes.all()) return corrupt(fmt::format("{} of {} bytes are pieces", bytes.count(), kBytes));
        return ok();
    }

    SentencePieceModel& out_;
    std::string const& path_;
    std::optional<ProtobufField> trainer_;
    std::optional<ProtobufField> normalizer_;
};

}  // namespace

bool is_byte_piece(std::string_view text) noexcept { return byte_of(text).has_value(); }

Result<SentencePieceModel> parse_sentencepiece(std::string_view bytes, std::string const& path) {
    SentencePieceModel model;
    HEARTH_CHECK(Parser(model, path).run(bytes));
    return model;
}

}  // namespace hearth::convert

// What upstream trusts of the tokenizer; see docs/formats/gguf-rules.md.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "models/gguf_header.h"
#include "models/text_set.h"

namespace hearth::models {
namespace {

constexpr std::int32_t kTokenTypeMax = 6;  // undefined, normal, unknown, control, user defined, unused, byte
constexpr std::int32_t kByteType = 6;
constexpr std::uint64_t kNoToken = 0xffffffff;  // how converters write "none"
constexpr std::int64_t kNone = -1;
constexpr std::size_t kByteTokens = 256;

// The defaults of upstream's tokenizers: which ids it falls back to when the
// file names none, and whether it may add them to a prompt by itself.
struct Tokenizer {
    std::string_view name;
    bool merges;
    bool bytes;  // may have tokens of type byte
    std::int64_t bos, eos, sep;
    bool adds_bos, adds_eos, adds_sep;
};
constexpr std::array kTokenizers = {
    Tokenizer{"llama", false, true, 1, 2, kNone, true, false, false},
    Tokenizer{"gpt2", true, true, 11, 11, kNone, true, true, false},
    Tokenizer{"hybriddna", true, true, 11, 11, kNone, true, true, false},
    Tokenizer{"whitespace", true, true, 11, 11, kNone, true, true, false},
    Tokenizer{"gemma4", true, true, kNone, kNone, kNone, true, false, false},
    Tokenizer{"bert", false, false, 101, kNone, 102, true, false, true},
    Tokenizer{"t5", false, true, kNone, 1, kNone, false, true, false},
    Tokenizer{"plamo2", false, true, 1, 2, kNone, false, false, false},
    Tokenizer{"rwkv", false, true, kNone, kNone, kNone, false, false, false},
};

constexpr std::array<std::string_view, 14> kIds = {"bos",       "eos",     "eot",     "eom",    "unknown",
                                                   "seperator", "padding", "cls",     "mask",   "fim_pre",
                                                   "fim_suf",   "fim_mid", "fim_rep", "fim_sep"};
// Generation goes wrong without these: an id outside the vocabulary is refused.
constexpr std::array<std::string_view, 4> kVitalIds = {"bos", "eos", "eot", "eom"};

std::string id_key(std::string_view name) { return fmt::format("tokenizer.ggml.{}_token_id", name); }

class Vocabulary {
public:
    explicit Vocabulary(GgufHeader& header) : header_(header), file_(header.file) {}

    Status run() {
        if (file_.number("split.no").value_or(0) > 0) return ok();  // the first split carries it
        HEARTH_CHECK(model());
        HEARTH_CHECK(tokens());
        HEARTH_CHECK(byte_tokens());
        HEARTH_CHECK(scores());
        HEARTH_CHECK(token_types());
        HEARTH_CHECK(merges());
        HEARTH_CHECK(switches());
        HEARTH_CHECK(ids());
        HEARTH_CHECK(added_ids());
        return chat_template();
    }

private:
    Status model();
    Status tokens();
    Status byte_tokens();
    Status scores();
    Status token_types();
    Status merges();
    Status switches();
    Status ids();
    Status added_ids();
    Status chat_template();

    [[nodiscard]] Error wrong(std::string_view key, std::string_view what) const;
    [[nodiscard]] Result<GgufArray const*> parallel(std::string_view key, GgufType element,
                                                    std::optional<GgufType> other) const;
    [[nodiscard]] std::optional<std::uint64_t> valid_id(std::string_view name, std::int64_t otherwise) const;
    [[nodiscard]] bool flag(std::string_view name, bool otherwise) const;
    template <typename T>
    [[nodiscard]] T element(GgufArray const& array, std::uint64_t i) const {
        T value{};
        std::memcpy(&value, header_.bytes.data() + array.offset + i * sizeof(T), sizeof(T));
        return value;
    }

    GgufHeader& header_;
    GgufFile& file_;
    Tokenizer const* tokenizer_ = nullptr;
    std::uint64_t count_ = 0;
    std::array<bool, kByteTokens> bytes_seen_{};
};

Error Vocabulary::wrong(std::string_view key, std::string_view what) const {
    auto const place = header_.places.find(key);
    return corrupt_at(file_.path, place == header_.places.end() ? 0 : place->second.offset,
                      fmt::format("{} {}", key, what));
}

Status Vocabulary::model() {
    constexpr std::string_view kKey = "tokenizer.ggml.model";
    auto const place = header_.places.find(kKey);
    if (place == header_.places.end()) return wrong(kKey, "is missing: the model has no tokenizer");
    if (place->second.type != GgufType::string) {
        return wrong(kKey, fmt::format("has type {}; it must be string", to_string(place->second.type)));
    }
    auto const name = file_.text(kKey);
    for (auto const& known : kTokenizers) {
        if (name == known.name) tokenizer_ = &known;
    }
    if (tokenizer_ == nullptr) {
        bool const none = name == "no_vocab" || name == "none";
        return wrong(kKey, fmt::format("is {}: {}", quoted(name),
                                       none ? "the model has no vocabulary" : "the engine knows no such tokenizer"));
    }
    constexpr std::string_view kPre = "tokenizer.ggml.pre";
    auto const pre = header_.places.find(kPre);
    if (pre != header_.places.end() && pre->second.type != GgufType::string) {
        return wrong(kPre, fmt::format("has type {}; it must be string", to_string(pre->second.type)));
    }
    return ok();
}

// "<0x0A>" -> 10
std::optional<std::uint8_t> byte_of(std::string_view token) {
    if (token.size() != 6 || !token.starts_with("<0x") || token[5] != '>') return std::nullopt;
    auto const digit = [](char c) { return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1; };
    if (digit(token[3]) < 0 || digit(token[4]) < 0) return std::nullopt;
    return static_cast<std::uint8_t>(digit(token[3]) * 16 + digit(token[4]));
}

// Upstream asserts that every text names one token. It sees texts up to the
// first NUL, and calls an empty one "[EMPTY_<index>]".
Status Vocabulary::tokens() {
    constexpr std::string_view kKey = "tokenizer.ggml.tokens";
    auto const* array = file_.array(kKey);
    if (array == nullptr) return wrong(kKey, "is missing or no array: the model has no vocabulary");
    if (array->element != GgufType::string)
        return wrong(kKey, fmt::format("holds {}; it must hold strings", to_string(array->element)));
    count_ = array->count;
    if (count_ == 0 || count_ > kGgufVocabularyMax) {
        return wrong(kKey, fmt::format("has {} tokens; 1 to {} are allowed", count_, kGgufVocabularyMax));
    }
    std::vector<std::string> stand_ins;  // for empty texts
    TextSet seen(count_);
    auto offset = array->offset;
    std::vector<std::pair<std::uint64_t, std::uint64_t>> empty;  // index, offset
    auto const refuse = [&](std::uint64_t index, std::uint64_t at, std::size_t first, std::string_view text) {
        return corrupt_at(file_.path, at, fmt::format("token {} repeats token {} ({})", index, first, quoted(text)));
    };
    for (std::uint64_t i = 0; i < count_; ++i) {
        std::uint64_t length = 0;
        std::memcpy(&length, header_.bytes.data() + offset, sizeof(length));
        std::string_view text(reinterpret_cast<char const*>(header_.bytes.data() + offset + sizeof(length)), length);
        text = text.substr(0, text.find('\0'));
        if (text.empty()) {
            empty.emplace_back(i, offset);
        } else if (auto const first = seen.add(text)) {
            return refuse(i, offset, *first, text);
        } else if (auto const byte = byte_of(text)) {
            bytes_seen_[*byte] = true;
        }
        if (text.size() == 1) bytes_seen_[static_cast<unsigned char>(text[0])] = true;
        offset += sizeof(length) + length;
    }
    stand_ins.reserve(empty.size());  // the set keeps views
    for (auto const& [index, at] : empty) {
        auto const& text = stand_ins.emplace_back(fmt::format("[EMPTY_{}]", index));
        if (seen.add(text))
            return corrupt_at(file_.path, at,
                              fmt::format("token {} is empty and another is named {}", index, quoted(text)));
    }
    if (!empty.empty()) file_.warnings.push_back(fmt::format("{} tokens have no text", empty.size()));
    return ok();
}

// Not fatal: such a model cannot tokenise those bytes, and upstream says so with an exception.
Status Vocabulary::byte_tokens() {
    if (tokenizer_->name != "llama") return ok();
    std::size_t missing = 0;
    for (bool const seen : bytes_seen_) missing += seen ? 0 : 1;
    if (missing > 0) {
        file_.warnings.push_back(
            fmt::format("{} of 256 bytes have no token: text that needs them cannot be tokenised", missing));
    }
    return ok();
}

// An optional array with one element per token; null if absent.
Result<GgufArray const*> Vocabulary::parallel(std::string_view key, GgufType element,
                                              std::optional<GgufType> other) const {
    auto const place = header_.places.find(key);
    if (place == header_.places.end()) return static_cast<GgufArray const*>(nullptr);
    auto const* array = file_.array(key);
    if (array == nullptr)
        return wrong(key, fmt::format("has type {}; it must be an array", to_string(place->second.type)));
    if (array->element != element && array->element != other) {
        return wrong(key, fmt::format("holds {}; it must hold {}", to_string(array->element), to_string(element)));
    }
    if (array->count != count_)
        return wrong(key, fmt::format("has {} elements, but there are {} tokens", array->count, count_));
    return array;
}

Status Vocabulary::scores() {
    constexpr std::string_view kKey = "tokenizer.ggml.scores";
    HEARTH_TRY(auto const* array, parallel(kKey, GgufType::f32, GgufType::i32));
    if (array == nullptr || array->element != GgufType::f32) return ok();
    for (std::uint64_t i = 0; i < count_; ++i) {
        // Not a number has no order, and the tokenizer sorts by score.
        if (std::isnan(element<float>(*array, i))) {
            return corrupt_at(file_.path, array->offset + i * sizeof(float),
                              fmt::format("the score of token {} is not a number", i));
        }
    }
    return ok();
}

Status Vocabulary::token_types() {
    HEARTH_TRY(auto const* array, parallel("tokenizer.ggml.token_type", GgufType::i32, std::nullopt));
    if (array == nullptr) return ok();
    for (std::uint64_t i = 0; i < count_; ++i) {
        auto const type = element<std::int32_t>(*array, i);
        if (type < 0 || type > kTokenTypeMax) {
            return corrupt_at(file_.path, array->offset + i * sizeof(type),
                              fmt::format("token {} has type {}; 0 to {} exist", i, type, kTokenTypeMax));
        }
        if (type == kByteType && !tokenizer_->bytes) {
            return corrupt_at(
                file_.path, array->offset + i * sizeof(type),
                fmt::format("token {} is of type byte, which tokenizer '{}' has not", i, tokenizer_->name));
        }
    }
    return ok();
}

Status Vocabulary::merges() {
    constexpr std::string_view kKey = "tokenizer.ggml.merges";
    auto const place = header_.places.find(kKey);
    if (place == header_.places.end()) {
        if (!tokenizer_->merges || file_.text("tokenizer.ggml.pre") == "kimi-k2") return ok();
        return wrong(kKey, fmt::format("is missing; tokenizer '{}' needs it", tokenizer_->name));
    }
    auto const* array = file_.array(kKey);
    if (array == nullptr || array->element != GgufType::string) return wrong(kKey, "must be an array of strings");
    return ok();
}

Status Vocabulary::switches() {
    for (auto const* const name :
         {"add_bos_token", "add_eos_token", "add_sep_token", "add_space_prefix", "remove_extra_whitespaces"}) {
        auto const key = fmt::format("tokenizer.ggml.{}", name);
        auto const place = header_.places.find(key);
        if (place != header_.places.end() && place->second.type != GgufType::boolean) {
            return wrong(key, fmt::format("has type {}; it must be bool", to_string(place->second.type)));
        }
    }
    return ok();
}

Status Vocabulary::ids() {
    for (auto const name : kIds) {
        auto const key = id_key(name);
        auto const place = header_.places.find(key);
        if (place == header_.places.end()) continue;
        if (place->second.type != GgufType::u32) {
            return wrong(key, fmt::format("has type {}; it must be u32", to_string(place->second.type)));
        }
        auto const id = *file_.number(key);
        if (id < count_ || id == kNoToken) continue;
        auto const what = fmt::format("is {}, but there are {} tokens", id, count_);
        if (std::find(kVitalIds.begin(), kVitalIds.end(), name) != kVitalIds.end()) return wrong(key, what);
        file_.warnings.push_back(fmt::format("{} {}; it is ignored", key, what));
    }
    return ok();
}

std::optional<std::uint64_t> Vocabulary::valid_id(std::string_view name, std::int64_t otherwise) const {
    auto const given = file_.number(id_key(name));
    if (given && *given < count_) return given;
    if (otherwise >= 0 && static_cast<std::uint64_t>(otherwise) < count_) return static_cast<std::uint64_t>(otherwise);
    return std::nullopt;
}

bool Vocabulary::flag(std::string_view name, bool otherwise) const {
    auto const found = file_.metadata.find(fmt::format("tokenizer.ggml.{}", name));
    return found == file_.metadata.end() ? otherwise : std::get<bool>(found->second);
}

// Upstream asserts that a token it is to add to prompts exists.
Status Vocabulary::added_ids() {
    auto const missing = [&](std::string_view id) {
        return wrong(id_key(id), fmt::format("names no token of the {}, but prompts are to get one (tokenizer '{}')",
                                             count_, tokenizer_->name));
    };
    bool const always_bos = tokenizer_->name == "gemma4" || tokenizer_->name == "bert";
    if ((always_bos || flag("add_bos_token", tokenizer_->adds_bos)) && !valid_id("bos", tokenizer_->bos))
        return missing("bos");
    if (flag("add_eos_token", tokenizer_->adds_eos) && !valid_id("eos", tokenizer_->eos)) return missing("eos");
    if (tokenizer_->adds_sep && !valid_id("seperator", tokenizer_->sep)) return missing("seperator");
    if (!file_.number(id_key("eos")))
        file_.warnings.emplace_back("tokenizer.ggml.eos_token_id is missing: a default ends answers");
    return ok();
}

Status Vocabulary::chat_template() {
    for (auto const& [key, place] : header_.places) {
        if (!key.starts_with("tokenizer.chat_template")) continue;
        bool const list = key == "tokenizer.chat_templates";  // names of further templates
        auto const type = place.type;
        if (type != (list ? GgufType::array : GgufType::string)) {
            return wrong(key, fmt::format("has type {}; it must be {}", to_string(type), list ? "an array" : "string"));
        }
    }
    if (file_.text("tokenizer.chat_template").empty()) {
        file_.warnings.emplace_back("no chat template: chat requests cannot be rendered as the model was trained");
    }
    return ok();
}

}  // namespace

Status check_vocabulary(GgufHeader& header) { return Vocabulary(header).run(); }

}  // namespace hearth::models

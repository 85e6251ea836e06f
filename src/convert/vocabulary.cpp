#include "convert/vocabulary.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <system_error>
#include <unordered_map>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "convert/pre_tokenizer.h"
#include "convert/special_tokens.h"
#include "convert/tokenizer_json.h"

namespace hearth::convert {
namespace {

// As gguf.h has them.
enum class TokenType : std::uint8_t { normal = 1, control = 3, user_defined = 4, unused = 5 };

constexpr std::string_view kWordBegin = "\xe2\x96\x81";  // U+2581, which SentencePiece writes for a space
constexpr std::uint32_t kGraniteVocabulary = 49152;

// Tokens that some models add without saying that they are control tokens.
bool looks_special(std::string_view token) {
    constexpr std::array<std::string_view, 4> kNames{"<pad>", "<mask>", "<2mass>", "[@BOS@]"};
    constexpr std::string_view kWideBar = "\xef\xbd\x9c";  // U+FF5C
    auto const between = [&](std::string_view begin, std::string_view end) {
        return token.starts_with(begin) && token.ends_with(end);
    };
    return std::find(kNames.begin(), kNames.end(), token) != kNames.end() || between("<|", "|>") ||
           between(fmt::format("<{}", kWideBar), fmt::format("{}>", kWideBar)) || between("<unused", ">");
}

std::string replaced(std::string_view text, std::string_view from, std::string_view to) {
    std::string out;
    for (;;) {
        auto const at = text.find(from);
        out.append(text.substr(0, at));
        if (at == std::string_view::npos) return out;
        out.append(to);
        text.remove_prefix(at + from.size());
    }
}

struct Vocabulary {
    std::vector<std::string> tokens;
    std::vector<std::int32_t> types;

    void add(std::string token, TokenType type) {
        tokens.push_back(std::move(token));
        types.push_back(static_cast<std::int32_t>(type));
    }
};

// tokenizer_config.json may repeat the added tokens, and has the last word on which are special.
Result<std::unordered_map<std::uint32_t, bool>> special_by_id(TokenizerJson const& tokenizer,
                                                              std::optional<json::View> config,
                                                              std::string const& path) {
    std::unordered_map<std::uint32_t, bool> special;
    for (auto const& added : tokenizer.added) special[added.id] = added.special;
    auto const decoder = config ? config->find("added_tokens_decoder") : std::nullopt;
    if (!decoder) return special;
    for (auto const [text, value] : decoder->members()) {
        std::uint32_t id = 0;
        auto const [end, failed] = std::from_chars(text.data(), text.data() + text.size(), id);
        auto const content = value.find("content");
        auto const token = content ? content->text() : std::nullopt;
        bool const known = failed == std::errc{} && end == text.data() + text.size() && id < tokenizer.tokens.size() &&
                           token && tokenizer.tokens[id] == *token;
        if (!known) {
            return Error(Code::corrupt,
                         fmt::format("{}: added_tokens_decoder.{}: not the token that tokenizer.json has under that id",
                                     path, text.substr(0, 40)),
                         path);
        }
        auto const flag = value.find("special");
        special[id] = flag && flag->boolean().value_or(false);
    }
    return special;
}

// A token of the plain vocabulary that tokenizer_config.json names for a purpose is a control token too.
void add_named(std::unordered_map<std::uint32_t, bool>& special, TokenizerJson const& tokenizer,
               std::optional<json::View> config) {
    if (!config) return;
    for (auto const* kind :
         {"bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"}) {
        auto value = config->find(kind);
        if (value && value->is(json::Kind::object)) value = value->find("content");
        auto const text = value ? value->text() : std::nullopt;
        if (!text) continue;
        auto const found = std::find(tokenizer.tokens.begin(), tokenizer.tokens.end(), *text);
        if (found == tokenizer.tokens.end()) continue;
        special.emplace(static_cast<std::uint32_t>(found - tokenizer.tokens.begin()), true);
    }
}

Result<Vocabulary> vocabulary_of(TokenizerJson const& tokenizer, std::optional<json::View> config, std::uint32_t size,
                                 std::string const& folder) {
    auto const path = folder + "/tokenizer.json";
    if (tokenizer.tokens.size() > size) {
        return Error(Code::corrupt,
                     fmt::format("{}: has a token {}, but config.json says vocab_size is {}", path,
                                 tokenizer.tokens.size() - 1, size),
                     path);
    }
    HEARTH_TRY(auto special, special_by_id(tokenizer, config, folder + "/tokenizer_config.json"));
    add_named(special, tokenizer, config);
    Vocabulary vocabulary;
    for (std::uint32_t id = 0; id < size; ++id) {
        auto const token = id < tokenizer.tokens.size() ? tokenizer.tokens[id] : std::nullopt;
        auto const added = special.find(id);
        if (!token) vocabulary.add(fmt::format("[PAD{}]", id), TokenType::unused);
        else if (added == special.end()) vocabulary.add(std::string(*token), TokenType::normal);
        else if (added->second || looks_special(*token)) vocabulary.add(std::string(*token), TokenType::control);
        else vocabulary.add(replaced(*token, kWordBegin, " "), TokenType::user_defined);
    }
    return vocabulary;
}

std::vector<std::string> merges_of(TokenizerJson const& tokenizer) {
    std::vector<std::string> merges;
    merges.reserve(tokenizer.merges.size());
    constexpr std::string_view kSpace = "\xc4\xa0";  // U+0120, the byte-level character for a space
    for (auto const& [left, right] : tokenizer.merges)
        merges.push_back(fmt::format("{} {}", replaced(left, " ", kSpace), replaced(right, " ", kSpace)));
    return merges;
}

// The engine marks the beginning of a word, WordPiece its continuation.
void mark_beginnings(Vocabulary& vocabulary, std::string_view continuing) {
    for (std::size_t i = 0; i < vocabulary.tokens.size(); ++i) {
        auto& token = vocabulary.tokens[i];
        if (vocabulary.types[i] == static_cast<std::int32_t>(TokenType::control)) continue;
        if (token.starts_with(continuing)) token.erase(0, continuing.size());
        else token.insert(0, kWordBegin);
    }
}

Status add_wordpiece(Metadata& metadata, HfConfig const& config, Vocabulary vocabulary, TokenizerJson const& tokenizer,
                     std::string const& pre) {
    if (tokenizer.continuing_prefix != "##") {
        return config.wrong("tokenizer.json",
                            fmt::format("continues words with \"{}\", not with \"##\"", tokenizer.continuing_prefix),
                            Code::unsupported);
    }
    HEARTH_TRY(auto const types, config.count_or({"type_vocab_size"}, 2));
    metadata.u32("tokenizer.ggml.token_type_count", types);
    mark_beginnings(vocabulary, tokenizer.continuing_prefix);
    metadata.text("tokenizer.ggml.model", "bert");
    metadata.text("tokenizer.ggml.pre", pre);
    metadata.texts("tokenizer.ggml.tokens", vocabulary.tokens);
    metadata.i32s("tokenizer.ggml.token_type", vocabulary.types);
    return ok();
}

}  // namespace

Status add_vocabulary(Metadata& metadata, HfConfig const& config, Architecture const& architecture) {
    auto const path = config.folder() + "/tokenizer.json";
    HEARTH_TRY(auto text, read_text(path, kTokenizerBytesMax));
    if (!text)
        return Error(Code::not_found, fmt::format("{}: there is no such file; a tokenizer.model is not read", path),
                     path);
    HEARTH_TRY(auto const tokenizer, parse_tokenizer_json(*std::move(text), path));
    HEARTH_TRY(auto const document, read_json(config.folder() + "/tokenizer_config.json", config_limits()));
    auto const tokenizer_config = document ? std::optional(document->root()) : std::nullopt;
    bool const wordpiece = tokenizer.model == TokenizerModel::wordpiece;
    if (wordpiece != (architecture.family() == Family::bert))
        return config.wrong("tokenizer.json", "its model does not fit the architecture", Code::unsupported);

    HEARTH_TRY(auto const pre, detect_pre_tokenizer(tokenizer, path));
    HEARTH_TRY(auto vocabulary, vocabulary_of(tokenizer, tokenizer_config, architecture.vocabulary(), config.folder()));
    // Upstream bounds the ids of special tokens only where it knows no merges.
    auto const limit = wordpiece ? std::optional(architecture.vocabulary()) : std::nullopt;
    HEARTH_TRY(auto const special, SpecialTokens::read(config, tokenizer, tokenizer_config, limit));
    if (wordpiece) {
        HEARTH_CHECK(add_wordpiece(metadata, config, std::move(vocabulary), tokenizer, pre));
        special.add_to(metadata);
        return ok();
    }
    auto const prefix = tokenizer_config ? tokenizer_config->find("add_prefix_space") : std::nullopt;
    if (architecture.family() == Family::llama && prefix && prefix->boolean())
        metadata.boolean("tokenizer.ggml.add_space_prefix", *prefix->boolean());
    metadata.text("tokenizer.ggml.model", "gpt2");
    metadata.text("tokenizer.ggml.pre", pre);
    metadata.texts("tokenizer.ggml.tokens", vocabulary.tokens);
    metadata.i32s("tokenizer.ggml.token_type", vocabulary.types);
    metadata.texts("tokenizer.ggml.merges", merges_of(tokenizer));
    special.add_to(metadata);
    // As upstream, which tells Granite's small models, and with them SmolLM2, by the size of the vocabulary.
    if (architecture.family() == Family::llama && architecture.vocabulary() == kGraniteVocabulary)
        metadata.boolean("tokenizer.ggml.add_bos_token", false);
    return ok();
}

}  // namespace hearth::convert

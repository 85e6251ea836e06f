#include "convert/vocabulary.h"

#include <algorithm>
#include <charconv>
#include <system_error>
#include <unordered_map>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "convert/pre_tokenizer.h"
#include "convert/scored_vocabulary.h"
#include "convert/sentencepiece.h"
#include "convert/special_tokens.h"
#include "convert/token_list.h"
#include "convert/tokenizer_json.h"

namespace hearth::convert {
namespace {

constexpr std::uint32_t kGraniteVocabulary = 49152;
constexpr std::uint32_t kCodeLlamaVocabulary = 32016;

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

// A token whose id the model has no room for. With byte_fallback added ones do not count: Gemma's small models name
// one of the large ones.
std::optional<std::size_t> token_beyond(TokenizerJson const& tokenizer, std::uint32_t size) {
    if (tokenizer.tokens.size() <= size) return std::nullopt;
    if (!tokenizer.byte_fallback) return tokenizer.tokens.size() - 1;
    std::vector<bool> added(tokenizer.tokens.size());
    for (auto const& token : tokenizer.added) added[token.id] = true;
    for (std::size_t id = size; id < added.size(); ++id) {
        if (tokenizer.tokens[id] && !added[id]) return id;
    }
    return std::nullopt;
}

Result<TokenList> tokens_of(TokenizerJson const& tokenizer, std::optional<json::View> config, std::uint32_t size,
                            std::string const& folder) {
    auto const path = folder + "/tokenizer.json";
    if (auto const beyond = token_beyond(tokenizer, size)) {
        return Error(Code::corrupt,
                     fmt::format("{}: has a token {}, but config.json says vocab_size is {}", path, *beyond, size),
                     path);
    }
    HEARTH_TRY(auto special, special_by_id(tokenizer, config, folder + "/tokenizer_config.json"));
    add_named(special, tokenizer, config);
    TokenList list;
    for (std::uint32_t id = 0; id < size; ++id) {
        auto const token = id < tokenizer.tokens.size() ? tokenizer.tokens[id] : std::nullopt;
        auto const added = special.find(id);
        if (!token) list.add(padding_token(id), TokenType::unused);
        else if (added == special.end()) list.add(std::string(*token), TokenType::normal);
        else if (added->second || looks_special(*token)) list.add(std::string(*token), TokenType::control);
        else list.add(replaced(*token, kWordBegin, " "), TokenType::user_defined);
    }
    return list;
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
void mark_beginnings(TokenList& list, std::string_view continuing) {
    for (std::size_t i = 0; i < list.texts.size(); ++i) {
        auto& token = list.texts[i];
        if (list.types[i] == static_cast<std::int32_t>(TokenType::control)) continue;
        if (token.starts_with(continuing)) token.erase(0, continuing.size());
        else token.insert(0, kWordBegin);
    }
}

Status add_wordpiece(Metadata& metadata, HfConfig const& config, TokenList list, TokenizerJson const& tokenizer,
                     std::string const& pre) {
    if (tokenizer.continuing_prefix != "##") {
        return config.wrong("tokenizer.json",
                            fmt::format("continues words with \"{}\", not with \"##\"", tokenizer.continuing_prefix),
                            Code::unsupported);
    }
    HEARTH_TRY(auto const types, config.count_or({"type_vocab_size"}, 2));
    metadata.u32("tokenizer.ggml.token_type_count", types);
    mark_beginnings(list, tokenizer.continuing_prefix);
    metadata.text("tokenizer.ggml.model", "bert");
    metadata.text("tokenizer.ggml.pre", pre);
    metadata.texts("tokenizer.ggml.tokens", list.texts);
    metadata.i32s("tokenizer.ggml.token_type", list.types);
    return ok();
}

bool knows_scores(Architecture const& architecture) {
    return architecture.is_llama() || architecture.family() == Family::gemma3;
}

Result<ScoredTokens> read_sentencepiece(HfConfig const& config, Architecture const& architecture,
                                        std::string_view model_bytes, std::optional<json::View> tokenizer_config) {
    HEARTH_TRY(auto const model, parse_sentencepiece(model_bytes, config.folder() + "/tokenizer.model"));
    HEARTH_TRY(auto const added, read_json(config.folder() + "/added_tokens.json", config_limits()));
    AddedSources const sources{
        .by_text = added ? std::optional(added->root()) : std::nullopt,
        .by_id = tokenizer_config ? tokenizer_config->find("added_tokens_decoder") : std::nullopt,
        .folder = config.folder()};
    return scored_tokens(model, sources, architecture.vocabulary());
}

Result<ScoredTokens> read_ranked(HfConfig const& config, Architecture const& architecture,
                                 TokenizerJson const& tokenizer, std::optional<json::View> tokenizer_config) {
    auto const path = config.folder() + "/tokenizer.json";
    ScoredTokens out;
    HEARTH_TRY(out.space_before, space_before(tokenizer, path));
    HEARTH_TRY(out.scores, scores_of_merges(tokenizer, path));
    HEARTH_TRY(out.tokens, tokens_of(tokenizer, tokenizer_config, architecture.vocabulary(), config.folder()));
    out.scores.resize(out.tokens.texts.size(), kPaddingScore);
    for (std::size_t id = 0; id < out.tokens.texts.size(); ++id) {
        if (is_byte_piece(out.tokens.texts[id])) out.tokens.types[id] = static_cast<std::int32_t>(TokenType::byte);
    }
    return out;
}

// What the engine takes for granted unless it is told; Gemma's converter always tells.
void add_space_before(Metadata& metadata, Architecture const& architecture, bool before) {
    constexpr std::string_view kKey = "tokenizer.ggml.add_space_prefix";
    if (architecture.family() == Family::gemma3 || (!before && !metadata.has(kKey))) metadata.boolean(kKey, before);
}

Status add_scored(Metadata& metadata, HfConfig const& config, Architecture const& architecture,
                  ScoredTokens const& scored, TokenizerJson const* tokenizer,
                  std::optional<json::View> tokenizer_config) {
    HEARTH_TRY(auto const special, SpecialTokens::read(config, tokenizer, tokenizer_config, architecture.vocabulary()));
    metadata.text("tokenizer.ggml.model", "llama");
    metadata.text("tokenizer.ggml.pre", "default");
    metadata.texts("tokenizer.ggml.tokens", scored.tokens.texts);
    metadata.f32s("tokenizer.ggml.scores", scored.scores);
    metadata.i32s("tokenizer.ggml.token_type", scored.tokens.types);
    special.add_to(metadata);
    add_space_before(metadata, architecture, scored.space_before);
    return ok();
}

Status add_merged(Metadata& metadata, HfConfig const& config, Architecture const& architecture,
                  TokenizerJson const& tokenizer, std::optional<json::View> tokenizer_config) {
    HEARTH_TRY(auto const pre, detect_pre_tokenizer(tokenizer, config.folder() + "/tokenizer.json"));
    HEARTH_TRY(auto list, tokens_of(tokenizer, tokenizer_config, architecture.vocabulary(), config.folder()));
    bool const wordpiece = tokenizer.model == TokenizerModel::wordpiece;
    // Upstream bounds the ids of special tokens only where it knows no merges.
    auto const limit = wordpiece ? std::optional(architecture.vocabulary()) : std::nullopt;
    HEARTH_TRY(auto const special, SpecialTokens::read(config, &tokenizer, tokenizer_config, limit));
    if (wordpiece) {
        HEARTH_CHECK(add_wordpiece(metadata, config, std::move(list), tokenizer, pre));
    } else {
        metadata.text("tokenizer.ggml.model", "gpt2");
        metadata.text("tokenizer.ggml.pre", pre);
        metadata.texts("tokenizer.ggml.tokens", list.texts);
        metadata.i32s("tokenizer.ggml.token_type", list.types);
        metadata.texts("tokenizer.ggml.merges", merges_of(tokenizer));
    }
    special.add_to(metadata);
    return ok();
}

// As upstream, which tells these models by the sizes of their vocabularies.
void add_by_size(Metadata& metadata, Architecture const& architecture) {
    if (!architecture.is_llama()) return;
    constexpr std::uint32_t kEndOfInfill = 32010;
    if (architecture.vocabulary() == kCodeLlamaVocabulary) metadata.u32("tokenizer.ggml.eot_token_id", kEndOfInfill);
    // Granite's small models, and with them SmolLM2.
    if (architecture.vocabulary() == kGraniteVocabulary) metadata.boolean("tokenizer.ggml.add_bos_token", false);
}

}  // namespace

Status add_vocabulary(Metadata& metadata, HfConfig const& config, Architecture const& architecture) {
    auto const path = config.folder() + "/tokenizer.json";
    HEARTH_TRY(auto text, read_text(path, kTokenizerBytesMax));
    HEARTH_TRY(auto const document, read_json(config.folder() + "/tokenizer_config.json", config_limits()));
    auto const tokenizer_config = document ? std::optional(document->root()) : std::nullopt;
    std::optional<std::string> pieces;
    if (knows_scores(architecture)) {
        HEARTH_TRY(pieces, read_text(config.folder() + "/tokenizer.model", kTokenizerBytesMax));
    }
    if (!text && !pieces) {
        return Error(Code::not_found,
                     fmt::format("{}: there is no such file{}", path,
                                 knows_scores(architecture) ? ", and no tokenizer.model" : ""),
                     path);
    }
    std::optional<TokenizerJson> tokenizer;
    if (text) {
        HEARTH_TRY(tokenizer, parse_tokenizer_json(*std::move(text), path));
    }
    if (tokenizer && (tokenizer->model == TokenizerModel::wordpiece) != (architecture.family() == Family::bert))
        return config.wrong("tokenizer.json", "its model does not fit the architecture", Code::unsupported);
    if (tokenizer && tokenizer->byte_fallback && !knows_scores(architecture))
        return config.wrong("tokenizer.json", "byte_fallback is not converted in this family", Code::unsupported);

    auto const prefix = tokenizer_config ? tokenizer_config->find("add_prefix_space") : std::nullopt;
    if (architecture.is_llama() && prefix && prefix->boolean())
        metadata.boolean("tokenizer.ggml.add_space_prefix", *prefix->boolean());
    auto const* const json = tokenizer ? &*tokenizer : nullptr;
    if (pieces || tokenizer->byte_fallback) {
        auto const scored = pieces ? read_sentencepiece(config, architecture, *pieces, tokenizer_config)
                                   : read_ranked(config, architecture, *tokenizer, tokenizer_config);
        if (!scored) return scored.error();
        HEARTH_CHECK(add_scored(metadata, config, architecture, *scored, json, tokenizer_config));
    } else {
        HEARTH_CHECK(add_merged(metadata, config, architecture, *tokenizer, tokenizer_config));
    }
    add_by_size(metadata, architecture);
    return ok();
}

}  // namespace hearth::convert

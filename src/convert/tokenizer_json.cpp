#include "convert/tokenizer_json.h"

#include <unordered_set>
#include <utility>

#include <fmt/format.h>

#include "convert/hf_config.h"

namespace hearth::convert {
namespace {

class Parser {
public:
    Parser(TokenizerJson& out, std::string const& path) : out_(out), path_(path) {}

    Status run() {
        auto const model = out_.part("model");
        if (!model) return corrupt("no model");
        HEARTH_CHECK(read_kind(*model));
        HEARTH_CHECK(read_vocabulary(*model));
        HEARTH_CHECK(read_added());
        if (out_.model == TokenizerModel::wordpiece) return read_wordpiece(*model);
        return read_merges(*model);
    }

private:
    [[nodiscard]] Error corrupt(std::string_view what) const {
        return Error(Code::corrupt, fmt::format("{}: {}", path_, what), path_);
    }
    [[nodiscard]] Error unsupported(std::string_view what) const {
        return Error(Code::unsupported, fmt::format("{}: {}", path_, what), path_);
    }
    [[nodiscard]] Error too_large(std::string_view what, std::size_t count, std::size_t max) const {
        return Error(Code::too_large, fmt::format("{}: {} {}; at most {} are read", path_, count, what, max), path_);
    }
    static bool is_true(json::View object, std::string_view name) {
        auto const value = object.find(name);
        return value && value->boolean().value_or(false);
    }
    Status read_kind(json::View model) {
        auto const type = text_of(model, "type");
        // Older files leave the type out; then merges tell.
        bool const bpe = type == "BPE" || (type.empty() && model.find("merges"));
        bool const wordpiece = type == "WordPiece" || (type.empty() && model.find("max_input_chars_per_word"));
        if (!bpe && !wordpiece) return unsupported(fmt::format("a model of type \"{}\" is not converted", type));
        out_.model = bpe ? TokenizerModel::bpe : TokenizerModel::wordpiece;
        out_.byte_fallback = is_true(model, "byte_fallback");
        out_.ignore_merges = is_true(model, "ignore_merges");
        return ok();
    }

    Status keep(std::string_view token, std::uint32_t id) {
        if (token.size() > kTokenBytesMax) return too_large("bytes of one token", token.size(), kTokenBytesMax);
        if (id >= out_.tokens.size()) out_.tokens.resize(id + 1);
        if (out_.tokens[id] && *out_.tokens[id] != token) return corrupt(fmt::format("two tokens have the id {}", id));
        out_.tokens[id] = token;
        return ok();
    }

    Result<std::uint32_t> id_of(std::optional<json::View> value) const {
        auto const id = value ? value->integer() : std::nullopt;
        if (!id || *id < 0 || *id >= kVocabularyMax)
            return corrupt(fmt::format("an id is no whole number below {}", kVocabularyMax));
        return static_cast<std::uint32_t>(*id);
    }

    Status read_vocabulary(json::View model) {
        auto const vocabulary = model.find("vocab");
        if (!vocabulary || !vocabulary->is(json::Kind::object)) return corrupt("model.vocab is no object");
        if (vocabulary->size() == 0) return corrupt("model.vocab is empty");
        if (vocabulary->size() > kVocabularyMax) return too_large("tokens", vocabulary->size(), kVocabularyMax);
        for (auto const [token, value] : vocabulary->members()) {
            HEARTH_TRY(auto const id, id_of(value));
            if (id < out_.tokens.size() && out_.tokens[id])
                return corrupt(fmt::format("two tokens have the id {}", id));
            HEARTH_CHECK(keep(token, id));
        }
        return ok();
    }

    Status read_added() {
        auto const added = out_.part("added_tokens");
        if (!added) return ok();
        if (!added->is(json::Kind::array)) return corrupt("added_tokens is no array");
        if (added->size() > kVocabularyMax) return too_large("added tokens", added->size(), kVocabularyMax);
        for (auto const value : added->elements()) {
            HEARTH_TRY(auto const id, id_of(value.find("id")));
            auto const content = value.find("content");
            auto const text = content ? content->text() : std::nullopt;
            if (!text) return corrupt(fmt::format("the added token {} has no content", id));
            HEARTH_CHECK(keep(*text, id));
            bool const plain = !is_true(value, "single_word") && !is_true(value, "lstrip") && !is_true(value, "rstrip");
            out_.added.push_back({.id = id,
                                  .content = *text,
                                  .special = is_true(value, "special"),
                                  .normalized = is_true(value, "normalized"),
                                  .plain = plain});
        }
        return ok();
    }

    // "a b", or ["a", "b"] as newer files have it.
    static std::optional<Merge> merge_of(json::View value) {
        if (auto const text = value.text()) {
            auto const space = text->find(' ');
            if (space == std::string_view::npos || text->find(' ', space + 1) != std::string_view::npos)
                return std::nullopt;
            return Merge{text->substr(0, space), text->substr(space + 1)};
        }
        if (value.size() != 2 || !value.is(json::Kind::array)) return std::nullopt;
        auto element = value.elements().begin();
        auto const left = (*element).text();
        auto const right = (*++element).text();
        if (!left || !right) return std::nullopt;
        return Merge{*left, *right};
    }

    Status read_merges(json::View model) {
        auto const merges = model.find("merges");
        if (!merges || !merges->is(json::Kind::array)) return corrupt("model.merges is no array");
        if (merges->size() > kMergesMax) return too_large("merges", merges->size(), kMergesMax);
        out_.merges.reserve(merges->size());
        for (auto const value : merges->elements()) {
            auto const merge = merge_of(value);
            if (!merge || merge->left.empty() || merge->right.empty())
                return corrupt(fmt::format("merge {} is no pair of tokens", out_.merges.size()));
            out_.merges.push_back(*merge);
        }
        return ok();
    }

    Status read_wordpiece(json::View model) {
        out_.unknown = text_of(model, "unk_token");
        out_.continuing_prefix = text_of(model, "continuing_subword_prefix");
        auto const max = model.find("max_input_chars_per_word");
        auto const value = max ? max->integer() : std::optional<std::int64_t>(100);
        if (!value || *value < 1 || *value > 100000)
            return corrupt("max_input_chars_per_word is not within 1 to 100000");
        out_.word_max = static_cast<std::uint32_t>(*value);
        if (out_.unknown.empty()) return corrupt("a WordPiece model without unk_token");
        return ok();
    }

    TokenizerJson& out_;
    std::string const& path_;
};

}  // namespace

Result<TokenizerJson> parse_tokenizer_json(std::string text, std::string const& path) {
    json::Limits const limits{.bytes = kTokenizerBytesMax, .values = kTokenizerValuesMax, .depth = 32};
    HEARTH_TRY(auto document, json::Document::parse(std::move(text), limits, path));
    TokenizerJson tokenizer{.document = std::move(document)};
    HEARTH_CHECK(Parser(tokenizer, path).run());
    return tokenizer;
}

}  // namespace hearth::convert

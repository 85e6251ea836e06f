#include "convert/scored_vocabulary.h"

#include <charconv>
#include <string_view>
#include <system_error>
#include <unordered_map>
#include <utility>

#include <fmt/format.h>

#include "base/utf8.h"
#include "convert/hf_config.h"

namespace hearth::convert {
namespace {

constexpr float kAddedScore = -1000;  // of what is never the product of a merge
constexpr std::int64_t kNoRank = -1;
constexpr std::size_t kRulesMax = 16;
constexpr std::size_t kMergedBytesMax = 512;  // of a token that merges may make; published ones have below 100

static_assert(static_cast<int>(TokenType::byte) == static_cast<int>(PieceKind::byte));

class Scored {
public:
    Scored(AddedSources const& added, std::uint32_t size) : added_(added), size_(size) {}

    Result<ScoredTokens> run(SentencePieceModel const& model) {
        auto const count = model.pieces.size();
        if (count > size_) {
            auto const path = added_.folder + "/tokenizer.model";
            return Error(Code::corrupt,
                         fmt::format("{}: has {} pieces, but config.json says vocab_size is {}", path, count, size_),
                         path);
        }
        out_.space_before = model.space_before;
        for (auto const& piece : model.pieces) add(piece);
        for (auto id = static_cast<std::uint32_t>(count); id < size_; ++id) {
            out_.tokens.add(padding_token(id), TokenType::unused);
            out_.scores.push_back(kPaddingScore);
        }
        HEARTH_CHECK(add_by_text());
        HEARTH_CHECK(add_by_id());
        return std::move(out_);
    }

private:
    void add(Piece const& piece) {
        bool const user_defined = piece.kind == PieceKind::user_defined;
        // The engine looks for these in texts whose spaces are not marked yet.
        out_.tokens.add(user_defined ? replaced(piece.text, kWordBegin, " ") : piece.text,
                        static_cast<TokenType>(piece.kind));
        out_.scores.push_back(piece.score);
    }

    void put(std::uint32_t id, std::string text, TokenType type) {
        out_.tokens.texts[id] = std::move(text);
        out_.tokens.types[id] = static_cast<std::int32_t>(type);
        out_.scores[id] = kAddedScore;
    }

    [[nodiscard]] Error corrupt(std::string_view file, std::string_view what) const {
        auto path = fmt::format("{}/{}", added_.folder, file);
        auto message = fmt::format("{}: {}", path, what);
        return {Code::corrupt, std::move(message), std::move(path)};
    }

    Status add_by_text() {
        if (!added_.by_text) return ok();
        for (auto const [text, value] : added_.by_text->members()) {
            auto const id = value.integer();
            if (!id || *id < 0 || text.empty())
                return corrupt("added_tokens.json", fmt::format("\"{}\": no token with an id", text.substr(0, 40)));
            if (*id >= size_) continue;
            put(static_cast<std::uint32_t>(*id), std::string(text), TokenType::user_defined);
        }
        return ok();
    }

    Status add_by_id() {
        if (!added_.by_id) return ok();
        for (auto const [name, value] : added_.by_id->members()) {
            std::uint32_t id = 0;
            auto const [end, failed] = std::from_chars(name.data(), name.data() + name.size(), id);
            auto const text = text_of(value, "content");
            if (failed != std::errc{} || end != name.data() + name.size() || text.empty()) {
                return corrupt("tokenizer_config.json",
                               fmt::format("added_tokens_decoder.{}: no id with a token", name.substr(0, 40)));
            }
            if (id >= size_) continue;
            auto const special = value.find("special");
            if ((special && special->boolean().value_or(false)) || looks_special(text))
                put(id, std::string(text), TokenType::control);
            else put(id, replaced(text, kWordBegin, " "), TokenType::user_defined);
        }
        return ok();
    }

    AddedSources const& added_;
    std::uint32_t const size_;
    ScoredTokens out_;
};

// The ranks of merges as scores of what they produce.
class Ranks {
public:
    Ranks(TokenizerJson const& tokenizer, std::string const& path) : tokenizer_(tokenizer), path_(path) {
        ids_.reserve(tokenizer.tokens.size());
        for (std::uint32_t id = 0; id < tokenizer.tokens.size(); ++id) {
            if (tokenizer.tokens[id]) ids_.emplace(*tokenizer.tokens[id], id);
        }
    }

    Result<std::vector<float>> run() {
        auto const count = tokenizer_.tokens.size();
        ranks_.assign(count, kNoRank);
        ways_.assign(count, 0);
        HEARTH_CHECK(rank_products());
        HEARTH_CHECK(check_ways());
        std::vector<float> scores(count, kAddedScore);
        for (std::size_t id = 0; id < count; ++id) {
            if (ranks_[id] != kNoRank) scores[id] = static_cast<float>(-ranks_[id]);
        }
        return scores;
    }

private:
    [[nodiscard]] Error refuse(Code code, std::string_view what) const {
        return {code, fmt::format("{}: {}", path_, what), path_};
    }

    Status rank_products() {
        std::int64_t next = 0;
        std::string product;
        for (std::size_t i = 0; i < tokenizer_.merges.size(); ++i) {
            auto const& [left, right] = tokenizer_.merges[i];
            product.assign(left).append(right);
            auto const found = ids_.find(product);
            if (found == ids_.end())
                return refuse(Code::corrupt, fmt::format("merge {} makes no token of the vocabulary", i));
            auto const id = found->second;
            if (ranks_[id] == kNoRank) ranks_[id] = next++;
            else if (ranks_[id] != next - 1)
                return refuse(Code::unsupported, fmt::format("merge {} does not stand with the others that make "
                                                             "the same token: no scores can stand for them",
                                                             i));
            ++ways_[id];
        }
        return ok();
    }

    // The engine merges whatever two pieces make a third one.
    Status check_ways() const {
        std::vector<bool> added(tokenizer_.tokens.size());
        for (auto const& token : tokenizer_.added) added[token.id] = true;
        for (std::uint32_t id = 0; id < tokenizer_.tokens.size(); ++id) {
            if (!tokenizer_.tokens[id] || added[id]) continue;
            // Looking for its parts takes the square of its length.
            if (auto const bytes = tokenizer_.tokens[id]->size(); bytes > kMergedBytesMax)
                return refuse(Code::too_large,
                              fmt::format("token {} has {} bytes; at most {} are read", id, bytes, kMergedBytesMax));
            if (auto const ways = ways_to_split(*tokenizer_.tokens[id]); ways != ways_[id]) {
                return refuse(Code::unsupported,
                              fmt::format("{} merges make token {}, which {} pairs of tokens make: no scores can "
                                          "stand for them",
                                          ways_[id], id, ways));
            }
        }
        return ok();
    }

    [[nodiscard]] std::size_t ways_to_split(std::string_view text) const {
        std::size_t ways = 0;
        if (text.empty()) return ways;
        for (auto at = utf8_sequence(text).length; at < text.size(); at += utf8_sequence(text.substr(at)).length)
            ways += ids_.contains(text.substr(0, at)) && ids_.contains(text.substr(at)) ? 1 : 0;
        return ways;
    }

    TokenizerJson const& tokenizer_;
    std::string const& path_;
    std::unordered_map<std::string_view, std::uint32_t> ids_;
    std::vector<std::int64_t> ranks_;
    std::vector<std::size_t> ways_;
};

// What normaliser and pre-tokeniser do to spaces.
class SpaceRules {
public:
    explicit SpaceRules(std::string const& path) : path_(path) {}

    Status normalize(json::View rule) {
        auto const type = text_of(rule, "type");
        if (type == "Prepend" && text_of(rule, "prepend") == kWordBegin) return before_ = true, ok();
        auto const pattern = rule.find("pattern");
        if (type == "Replace" && pattern && text_of(*pattern, "String") == " " &&
            text_of(rule, "content") == kWordBegin)
            return marked_ = true, ok();
        auto const list = rule.find("normalizers");
        if (type != "Sequence" || !list || list->size() > kRulesMax)
            return refuse(fmt::format("a normaliser of type \"{}\"", type));
        for (auto const inner : list->elements()) {
            if (text_of(inner, "type") == "Sequence") return refuse("a sequence of normalisers in another");
            HEARTH_CHECK(normalize(inner));
        }
        return ok();
    }

    Status split(json::View rule) {
        auto const type = text_of(rule, "type");
        auto const pattern = rule.find("pattern");
        // No spaces are left by then.
        if (type == "Split" && marked_ && pattern && text_of(*pattern, "String") == " ") return ok();
        auto const cuts = rule.find("split");
        if (type != "Metaspace" || text_of(rule, "replacement") != kWordBegin || !cuts || cuts->boolean() != false)
            return refuse(fmt::format("a pre-tokeniser of type \"{}\"", type));
        marked_ = true;
        auto const scheme = text_of(rule, "prepend_scheme");
        auto const prefix = rule.find("add_prefix_space");
        before_ = scheme.empty() ? !prefix || prefix->boolean() != false : scheme != "never";
        return ok();
    }

    [[nodiscard]] Result<bool> before() const {
        if (!marked_) return refuse("spaces that are not marked");
        return before_;
    }

private:
    [[nodiscard]] Error refuse(std::string_view what) const {
        return {Code::unsupported, fmt::format("{}: {} beside byte_fallback is not converted", path_, what), path_};
    }

    std::string const& path_;
    bool marked_ = false;
    bool before_ = false;
};

}  // namespace

Result<ScoredTokens> scored_tokens(SentencePieceModel const& model, AddedSources const& added, std::uint32_t size) {
    return Scored(added, size).run(model);
}

Result<std::vector<float>> scores_of_merges(TokenizerJson const& tokenizer, std::string const& path) {
    return Ranks(tokenizer, path).run();
}

Result<bool> space_before(TokenizerJson const& tokenizer, std::string const& path) {
    SpaceRules rules(path);
    if (auto const normalizer = tokenizer.part("normalizer")) HEARTH_CHECK(rules.normalize(*normalizer));
    if (auto const splitter = tokenizer.part("pre_tokenizer")) HEARTH_CHECK(rules.split(*splitter));
    return rules.before();
}

}  // namespace hearth::convert

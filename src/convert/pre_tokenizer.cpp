#include "convert/pre_tokenizer.h"

#include <algorithm>
#include <optional>
#include <unordered_map>
#include <utility>

#include <fmt/format.h>

#include "base/utf8.h"
#include "convert/probe_text.h"
#include "convert/text_splitter.h"
#include "digest/sha256.h"

namespace hearth::convert {
namespace {

using Ids = std::vector<std::uint32_t>;

std::vector<std::string_view> characters(std::string_view text) {
    std::vector<std::string_view> parts;
    while (!text.empty()) {
        auto const length = utf8_sequence(text).length;
        parts.push_back(text.substr(0, length));
        text.remove_prefix(length);
    }
    return parts;
}

class Encoder {
public:
    explicit Encoder(TokenizerJson const& tokenizer) : tokenizer_(tokenizer) {
        ids_.reserve(tokenizer.tokens.size());
        for (std::uint32_t id = 0; id < tokenizer.tokens.size(); ++id) {
            if (tokenizer.tokens[id]) ids_.emplace(*tokenizer.tokens[id], id);
        }
        ranks_.reserve(tokenizer.merges.size());
        for (std::uint32_t rank = 0; rank < tokenizer.merges.size(); ++rank)
            ranks_.emplace(fmt::format("{} {}", tokenizer.merges[rank].left, tokenizer.merges[rank].right), rank);
    }

    Status encode(std::string_view text, Ids& out) {
        HEARTH_TRY(auto splitter,
                   TextSplitter::create(tokenizer_.part("normalizer"), tokenizer_.part("pre_tokenizer")));
        while (!text.empty()) {
            auto const found = first_added(text);
            auto const plain = text.substr(0, found ? found->first : text.size());
            if (!plain.empty()) {
                HEARTH_TRY(auto const pieces, splitter.split(code_points(plain)));
                for (auto const& piece : pieces) HEARTH_CHECK(add_piece(piece, out));
            }
            text.remove_prefix(plain.size());
            if (!found) return ok();
            if (!found->second->plain)
                return Error(Code::unsupported,
                             fmt::format("the added token \"{}\" takes spaces along", found->second->content));
            out.push_back(found->second->id);
            text.remove_prefix(found->second->content.size());
        }
        return ok();
    }

    Result<std::uint32_t> id_of(std::string_view token) const {
        auto const found = ids_.find(token);
        if (found != ids_.end()) return found->second;
        return Error(Code::corrupt, fmt::format("the token \"{}\" is not in the vocabulary", token));
    }

private:
    // The leftmost added token, the longest of those that begin there.
    std::optional<std::pair<std::size_t, AddedToken const*>> first_added(std::string_view text) const {
        std::optional<std::pair<std::size_t, AddedToken const*>> best;
        for (auto const& added : tokenizer_.added) {
            if (added.content.empty()) continue;
            auto const at = text.find(added.content);
            if (at == std::string_view::npos) continue;
            if (!best || at < best->first || (at == best->first && added.content.size() > best->second->content.size()))
                best = {at, &added};
        }
        return best;
    }

    Status add_piece(std::string const& piece, Ids& out) const {
        return tokenizer_.model == TokenizerModel::bpe ? add_merged(piece, out) : add_words(piece, out);
    }

    Status add_merged(std::string const& piece, Ids& out) const {
        if (tokenizer_.ignore_merges) {
            if (auto const whole = ids_.find(piece); whole != ids_.end()) return out.push_back(whole->second), ok();
        }
        std::vector<std::string> parts;
        for (auto const part : characters(piece)) parts.emplace_back(part);
        for (;;) {
            auto best = ranks_.end();
            std::size_t at = 0;
            for (std::size_t i = 0; i + 1 < parts.size(); ++i) {
                auto const found = ranks_.find(fmt::format("{} {}", parts[i], parts[i + 1]));
                if (found != ranks_.end() && (best == ranks_.end() || found->second < best->second))
                    best = found, at = i;
            }
            if (best == ranks_.end()) break;
            parts[at] += parts[at + 1];
            parts.erase(parts.begin() + static_cast<std::ptrdiff_t>(at) + 1);
        }
        for (auto const& part : parts) {
            HEARTH_TRY(auto const id, id_of(part));
            out.push_back(id);
        }
        return ok();
    }

    // WordPiece: the longest token that fits, again and again; all or nothing.
    Status add_words(std::string const& piece, Ids& out) const {
        auto const parts = characters(piece);
        Ids word;
        for (std::size_t begin = 0; begin < parts.size();) {
            auto end = parts.size();
            for (; end > begin; --end) {
                auto const* const first = parts[begin].data();
                std::string_view const text(
                    first, static_cast<std::size_t>(parts[end - 1].data() + parts[end - 1].size() - first));
                auto const found =
                    ids_.find(begin == 0 ? std::string(text) : fmt::format("{}{}", tokenizer_.continuing_prefix, text));
                if (found == ids_.end()) continue;
                word.push_back(found->second);
                break;
            }
            if (end == begin || parts.size() > tokenizer_.word_max) {
                HEARTH_TRY(auto const unknown, id_of(tokenizer_.unknown));
                out.push_back(unknown);
                return ok();
            }
            begin = end;
        }
        out.insert(out.end(), word.begin(), word.end());
        return ok();
    }

    TokenizerJson const& tokenizer_;
    struct Hash : std::hash<std::string_view> {
        using is_transparent = void;  // NOLINT(readability-identifier-naming): the standard's
    };
    std::unordered_map<std::string, std::uint32_t, Hash, std::equal_to<>> ids_;
    std::unordered_map<std::string, std::uint32_t, Hash, std::equal_to<>> ranks_;
};

// What a post-processor puts around a single text.
class PostProcessor {
public:
    PostProcessor(Encoder const& encoder, Ids& ids) : encoder_(encoder), ids_(ids) {}

    Status apply(json::View rule) {
        auto const value = rule.find("type");
        auto const type = value ? value->text().value_or("") : "";
        if (type == "ByteLevel") return ok();
        if (type == "TemplateProcessing") return apply_template(rule);
        if (type == "RobertaProcessing" || type == "BertProcessing") return apply_pair(rule);
        if (type != "Sequence") return Error(Code::unsupported, fmt::format("a post-processor of type \"{}\"", type));
        auto const list = rule.find("processors");
        if (!list) return ok();
        for (auto const inner : list->elements()) {
            auto const inner_type = inner.find("type");
            if (inner_type && inner_type->text() == "Sequence")
                return Error(Code::unsupported, "a sequence of post-processors in another");
            HEARTH_CHECK(apply(inner));
        }
        return ok();
    }

private:
    Status apply_template(json::View rule) {
        auto const single = rule.find("single");
        if (!single || !single->is(json::Kind::array))
            return Error(Code::unsupported, "a TemplateProcessing rule without a template");
        Ids out;
        for (auto const part : single->elements()) {
            if (part.find("Sequence")) {
                out.insert(out.end(), ids_.begin(), ids_.end());
                continue;
            }
            auto const special = part.find("SpecialToken");
            auto const name = special ? special->find("id") : std::nullopt;
            auto const text = name ? name->text() : std::nullopt;
            if (!text) return Error(Code::unsupported, "an unknown part in a TemplateProcessing rule");
            HEARTH_TRY(auto const id, encoder_.id_of(*text));
            out.push_back(id);
        }
        ids_ = std::move(out);
        return ok();
    }

    Status apply_pair(json::View rule) {
        auto const id_of = [&](std::string_view name) -> Result<std::uint32_t> {
            auto const pair = rule.find(name);
            auto const text = pair && pair->size() == 2 ? (*pair->elements().begin()).text() : std::nullopt;
            if (!text) return Error(Code::unsupported, fmt::format("a post-processor without {}", name));
            return encoder_.id_of(*text);
        };
        HEARTH_TRY(auto const first, id_of("cls"));
        HEARTH_TRY(auto const last, id_of("sep"));
        ids_.insert(ids_.begin(), first);
        ids_.push_back(last);
        return ok();
    }

    Encoder const& encoder_;
    Ids& ids_;
};

}  // namespace

Result<std::vector<std::uint32_t>> encode_probe(TokenizerJson const& tokenizer) {
    Encoder encoder(tokenizer);
    Ids ids;
    HEARTH_CHECK(encoder.encode(probe_text(), ids));
    if (auto const rule = tokenizer.part("post_processor")) HEARTH_CHECK(PostProcessor(encoder, ids).apply(*rule));
    return ids;
}

Result<std::string> detect_pre_tokenizer(TokenizerJson const& tokenizer, std::string const& path) {
    auto const ids = encode_probe(tokenizer);
    if (!ids) {
        return Error(ids.error().code, fmt::format("{}: its pre-tokeniser is not known: {}", path, ids.error().message),
                     path);
    }
    auto const hash = digest::sha256_hex(fmt::format("[{}]", fmt::join(*ids, ", ")));
    auto const name = pre_tokenizer_named_by(hash);
    if (!name.empty()) return std::string(name);
    return Error(Code::unsupported,
                 fmt::format("{}: its pre-tokeniser is none of those the engine knows (hash {})", path, hash), path);
}

}  // namespace hearth::convert

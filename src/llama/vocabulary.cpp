#include "llama/vocabulary.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <exception>
#include <functional>
#include <map>

namespace hearth::llama {

namespace {

// Upstream counts in 32 bits and answers a too small buffer with the size it needs.
Result<std::vector<Token>> upstream_tokenize(llama_vocab const* vocab, std::string_view text, bool add_special) {
    std::vector<Token> tokens(text.size() + 8);
    for (int attempt = 0; attempt < 2; ++attempt) {
        auto const count = llama_tokenize(vocab, text.data(), static_cast<std::int32_t>(text.size()), tokens.data(),
                                          static_cast<std::int32_t>(tokens.size()), add_special, false);
        if (count >= 0) {
            tokens.resize(static_cast<std::size_t>(count));
            return tokens;
        }
        if (count == INT32_MIN) break;
        tokens.resize(static_cast<std::size_t>(-count));
    }
    return Error(Code::internal, fmt::format("the tokenizer gave up on {} bytes", text.size()));
}

bool is_space(char c) { return std::isspace(static_cast<unsigned char>(c)) != 0; }

// Does [begin, end) meet one of the sorted spans?
bool meets(std::span<TextSpan const> spans, std::size_t begin, std::size_t end) {
    auto const it = std::upper_bound(spans.begin(), spans.end(), begin,
                                     [](std::size_t at, TextSpan const& span) { return at < span.end; });
    return it != spans.end() && it->begin < end;
}

// What upstream would abort on when it first adds these tokens.
Status check_edges(llama_vocab const* vocab) {
    bool const word_piece = llama_vocab_type(vocab) == LLAMA_VOCAB_TYPE_WPM;
    if ((llama_vocab_get_add_bos(vocab) || word_piece) && llama_vocab_bos(vocab) == LLAMA_TOKEN_NULL)
        return Error(Code::corrupt, "the tokenizer wants a BOS token before each prompt but defines none");
    if (llama_vocab_get_add_eos(vocab) && llama_vocab_eos(vocab) == LLAMA_TOKEN_NULL)
        return Error(Code::corrupt, "the tokenizer wants an EOS token after each prompt but defines none");
    if (word_piece && llama_vocab_sep(vocab) == LLAMA_TOKEN_NULL)
        return Error(Code::corrupt, "the WordPiece tokenizer defines no separator token");
    return ok();
}

std::string special_text(llama_vocab const* vocab, llama_token token) {
    if (token == LLAMA_TOKEN_NULL) return {};
    std::string text(256, '\0');
    auto const size = static_cast<std::int32_t>(text.size());
    auto count = llama_token_to_piece(vocab, token, text.data(), size, 0, true);
    if (count < 0) {
        text.resize(static_cast<std::size_t>(-count));
        count = llama_token_to_piece(vocab, token, text.data(), -count, 0, true);
    }
    text.resize(static_cast<std::size_t>(std::max(count, 0)));
    return text;
}

}  // namespace

Result<Vocabulary> Vocabulary::create(llama_model const& model) {
    llama_vocab const* const vocab = llama_model_get_vocab(&model);
    if (llama_vocab_type(vocab) == LLAMA_VOCAB_TYPE_NONE)
        return Error(Code::unsupported, "the model file carries no tokenizer");
    HEARTH_CHECK(check_edges(vocab));

    Vocabulary out(vocab);
    out.size_ = static_cast<std::uint32_t>(llama_vocab_n_tokens(vocab));
    out.adds_bos_ = llama_vocab_get_add_bos(vocab);
    out.adds_eos_ = llama_vocab_get_add_eos(vocab);
    out.bos_text_ = special_text(vocab, llama_vocab_bos(vocab));
    out.eos_text_ = special_text(vocab, llama_vocab_eos(vocab));
    out.load_specials();
    for (auto const& special : out.specials_)
        if (special.text.empty())
            return Error(Code::corrupt, fmt::format("token {} is special but has no text", special.id));

    // Which tokens the tokenizer's kind puts around a text is best asked of it.
    HEARTH_TRY(auto const bare, upstream_tokenize(vocab, "a", false));
    HEARTH_TRY(auto const dressed, upstream_tokenize(vocab, "a", true));
    auto const at = std::search(dressed.begin(), dressed.end(), bare.begin(), bare.end());
    if (!bare.empty() && at != dressed.end()) {
        out.prefix_.assign(dressed.begin(), at);
        out.suffix_.assign(at + static_cast<std::ptrdiff_t>(bare.size()), dressed.end());
    }
    return out;
}

void Vocabulary::load_specials() {
    for (Token id = 0; id < static_cast<Token>(size_); ++id) {
        auto const attributes = static_cast<unsigned>(llama_vocab_get_attr(vocab_, id));
        bool const control = (attributes & (LLAMA_TOKEN_ATTR_CONTROL | LLAMA_TOKEN_ATTR_UNKNOWN)) != 0;
        if (!control && (attributes & LLAMA_TOKEN_ATTR_USER_DEFINED) == 0) continue;
        specials_.push_back({llama_vocab_get_text(vocab_, id), id, control, (attributes & LLAMA_TOKEN_ATTR_LSTRIP) != 0,
                             (attributes & LLAMA_TOKEN_ATTR_RSTRIP) != 0});
    }
    std::map<std::size_t, Group, std::greater<>> groups;
    for (std::uint32_t i = 0; i < specials_.size(); ++i) {
        std::string_view const special = specials_[i].text;
        if (special.empty()) continue;  // create() refuses the model
        Group& group = groups[special.size()];
        group.length = special.size();
        group.starts[static_cast<unsigned char>(special.front())] = true;
        group.by_text.emplace(special, i);
    }
    for (auto& [length, group] : groups) groups_.push_back(std::move(group));
}

// Splits one piece of text at the special tokens of one length.
void Vocabulary::split_piece(std::string_view text, TextSpan span, Group const& group, bool parse_control,
                             std::span<TextSpan const> plain, std::vector<Piece>& out) const {
    std::size_t rest = span.begin;  // text from here on has not been put out
    std::size_t at = span.begin;
    while (at + group.length <= span.end) {
        auto found = group.by_text.end();
        if (group.starts[static_cast<unsigned char>(text[at])])
            found = group.by_text.find(text.substr(at, group.length));
        bool const taken = found != group.by_text.end() && (!specials_[found->second].control ||
                                                            (parse_control && !meets(plain, at, at + group.length)));
        if (!taken) {
            ++at;
            continue;
        }
        Special const& special = specials_[found->second];
        std::size_t left = at;
        if (special.strips_left)
            while (left > rest && is_space(text[left - 1])) --left;
        if (left > rest) out.push_back({{rest, left}, kText});
        out.push_back({{at, at + group.length}, found->second});
        at += group.length;
        if (special.strips_right)
            while (at < span.end && is_space(text[at])) ++at;
        rest = at;
    }
    if (rest < span.end) out.push_back({{rest, span.end}, kText});
}

std::vector<Vocabulary::Piece> Vocabulary::split(std::string_view text, bool parse_control,
                                                 std::span<TextSpan const> plain) const {
    std::vector<Piece> pieces;
    if (!text.empty()) pieces.push_back({{0, text.size()}, kText});
    std::vector<Piece> next;
    for (Group const& group : groups_) {
        next.clear();
        for (Piece const& piece : pieces) {
            if (piece.special == kText) split_piece(text, piece.text, group, parse_control, plain, next);
            else next.push_back(piece);
        }
        pieces.swap(next);
    }
    return pieces;
}

Status Vocabulary::append_plain(std::string_view text, std::vector<Token>& out) const {
    try {
        HEARTH_TRY(auto const tokens, upstream_tokenize(vocab_, text, false));
        out.insert(out.end(), tokens.begin(), tokens.end());
        return ok();
    } catch (std::exception const& e) {
        return Error(Code::internal, fmt::format("the tokenizer failed on {} bytes: {}", text.size(), e.what()));
    }
}

Result<std::vector<Token>> Vocabulary::tokenize_pieces(std::string_view text, bool parse_control,
                                                       std::span<TextSpan const> plain) const {
    if (text.size() > domain::kPromptBytesMax)
        return Error(Code::too_large, fmt::format("the text has {} bytes; at most {} can be tokenised", text.size(),
                                                  domain::kPromptBytesMax));
    std::vector<Token> tokens;
    for (Piece const& piece : split(text, parse_control, plain)) {
        if (piece.special != kText) tokens.push_back(specials_[piece.special].id);
        else HEARTH_CHECK(append_plain(text.substr(piece.text.begin, piece.text.end - piece.text.begin), tokens));
    }
    return tokens;
}

Result<std::vector<Token>> Vocabulary::tokenize(std::string_view text, TokenizeOptions options) const {
    HEARTH_TRY(auto tokens, tokenize_pieces(text, options.parse_special, {}));
    if (options.add_special) {
        tokens.insert(tokens.begin(), prefix_.begin(), prefix_.end());
        tokens.insert(tokens.end(), suffix_.begin(), suffix_.end());
    }
    return tokens;
}

Result<std::vector<Token>> Vocabulary::tokenize_marked(std::string_view text, std::span<TextSpan const> plain) const {
    return tokenize_pieces(text, true, plain);
}

bool Vocabulary::infills() const {
    return llama_vocab_fim_pre(vocab_) != LLAMA_TOKEN_NULL && llama_vocab_fim_suf(vocab_) != LLAMA_TOKEN_NULL &&
           llama_vocab_fim_mid(vocab_) != LLAMA_TOKEN_NULL;
}

// As upstream's server puts it for /infill.
Result<std::vector<Token>> Vocabulary::tokenize_infill(std::string_view prefix, std::string_view suffix) const {
    if (!infills())
        return Error(Code::unsupported, "the model's vocabulary has no tokens for filling in the middle", "suffix");
    HEARTH_TRY(auto const before, tokenize_pieces(prefix, false, {}));
    HEARTH_TRY(auto const behind, tokenize_pieces(suffix, false, {}));
    auto tokens = prefix_;
    tokens.push_back(llama_vocab_fim_pre(vocab_));
    tokens.insert(tokens.end(), before.begin(), before.end());
    tokens.push_back(llama_vocab_fim_suf(vocab_));
    tokens.insert(tokens.end(), behind.begin(), behind.end());
    tokens.push_back(llama_vocab_fim_mid(vocab_));
    return tokens;
}

// Upstream's server, but that what stands for query and document never becomes control tokens.
Result<std::vector<Token>> Vocabulary::tokenize_form(std::string_view query, std::string_view document,
                                                     std::string_view form) const {
    constexpr std::string_view kQuery = "{query}", kDocument = "{document}";
    std::string text;
    std::vector<TextSpan> plain;
    while (!form.empty()) {
        auto const at = std::min(form.find(kQuery), form.find(kDocument));
        text += form.substr(0, at);
        if (at == std::string_view::npos) break;
        form.remove_prefix(at);
        bool const is_query = form.starts_with(kQuery);
        auto const put = is_query ? query : document;
        if (put.size() > domain::kPromptBytesMax - std::min<std::size_t>(text.size(), domain::kPromptBytesMax))
            return Error(Code::too_large, fmt::format("the text that the model's form makes of query and document has "
                                                      "more than {} bytes, which is the limit",
                                                      domain::kPromptBytesMax));
        plain.push_back({text.size(), text.size() + put.size()});
        text += put;
        form.remove_prefix(is_query ? kQuery.size() : kDocument.size());
    }
    return tokenize_marked(text, plain);
}

Result<std::vector<Token>> Vocabulary::tokenize_pair(std::string_view query, std::string_view document,
                                                     std::string_view form) const {
    if (!form.empty()) return tokenize_form(query, document, form);
    HEARTH_TRY(auto const first, tokenize_pieces(query, false, {}));
    HEARTH_TRY(auto const second, tokenize_pieces(document, false, {}));
    auto const separator = llama_vocab_sep(vocab_);
    auto const eos = llama_vocab_eos(vocab_);
    auto const end = eos == LLAMA_TOKEN_NULL ? separator : eos;
    std::vector<Token> out;
    auto const add = [&](bool wanted, llama_token token) {
        if (wanted && token != LLAMA_TOKEN_NULL) out.push_back(token);
    };
    add(llama_vocab_get_add_bos(vocab_), llama_vocab_bos(vocab_));
    out.insert(out.end(), first.begin(), first.end());
    add(llama_vocab_get_add_eos(vocab_), end);
    add(llama_vocab_get_add_sep(vocab_), separator);
    out.insert(out.end(), second.begin(), second.end());
    add(llama_vocab_get_add_eos(vocab_), end);
    return out;
}

void Vocabulary::append_piece(Token token, std::string& out) const {
    if (token < 0 || token >= static_cast<Token>(size_)) return;
    std::size_t const before = out.size();
    out.resize(before + 32);  // most pieces are shorter
    auto count = llama_token_to_piece(vocab_, token, out.data() + before, 32, 0, false);
    if (count < 0) {
        out.resize(before + static_cast<std::size_t>(-count));
        count = llama_token_to_piece(vocab_, token, out.data() + before, -count, 0, false);
    }
    out.resize(before + static_cast<std::size_t>(std::max(count, 0)));
}

void Vocabulary::append_spelling(Token token, std::string& out) const {
    if (token >= 0 && token < static_cast<Token>(size_)) out += llama_vocab_get_text(vocab_, token);
}

bool Vocabulary::is_end_of_generation(Token token) const {
    return token >= 0 && token < static_cast<Token>(size_) && llama_vocab_is_eog(vocab_, token);
}

}  // namespace hearth::llama

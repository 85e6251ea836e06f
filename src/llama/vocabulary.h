// Vocabulary: text to tokens and back.
//
// Upstream tokenises plain text; which special tokens ("<|im_start|>") are read
// as such is decided here, for two reasons. In a rendered chat template only
// the template's own text may become control tokens, never a message's. And
// upstream's search is quadratic in the number of special tokens in the text,
// which a client chooses.
//
// The rule is upstream's: special tokens are taken longest text first, wherever
// they occur, left to right; what lies between is tokenised apart. Tokens of
// kind "user defined" count everywhere, control and unknown tokens only where
// they may.
//
// Threads: all members const, from any thread.
// Ownership: views a model, which must outlive it.
#pragma once

#include <llama.h>

#include <array>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/result.h"
#include "llama/backend.h"

namespace hearth::llama {

// A half-open range of bytes.
struct TextSpan {
    std::size_t begin = 0;
    std::size_t end = 0;
};

class Vocabulary {
public:
    // Fails with `unsupported` for a model without tokenizer, `corrupt` for one
    // that upstream would abort on or loop over. Upstream's exceptions pass.
    [[nodiscard]] static Result<Vocabulary> create(llama_model const& model);

    Vocabulary(Vocabulary&&) = default;
    Vocabulary& operator=(Vocabulary&&) = default;

    [[nodiscard]] std::uint32_t size() const { return size_; }

    // As Backend::tokenize.
    [[nodiscard]] Result<std::vector<Token>> tokenize(std::string_view text, TokenizeOptions options) const;

    // A rendered template: control tokens are recognised outside `plain` only; a
    // match that reaches into a plain span is plain text. Adds nothing around.
    // REQUIRES: `plain` is sorted, without overlap
    [[nodiscard]] Result<std::vector<Token>> tokenize_marked(std::string_view text,
                                                             std::span<TextSpan const> plain) const;

    // As Backend::tokenize_infill.
    [[nodiscard]] Result<std::vector<Token>> tokenize_infill(std::string_view prefix, std::string_view suffix) const;
    [[nodiscard]] bool infills() const;

    // As Backend::tokenize_pair. `form` is the model's own template for it; empty: what the
    // vocabulary puts around texts and between them.
    [[nodiscard]] Result<std::vector<Token>> tokenize_pair(std::string_view query, std::string_view document,
                                                           std::string_view form) const;

    void append_piece(Token token, std::string& out) const;
    void append_spelling(Token token, std::string& out) const;
    [[nodiscard]] bool is_end_of_generation(Token token) const;

    // The text of BOS and EOS as a template spells them; empty if the model has none.
    [[nodiscard]] std::string const& bos_text() const { return bos_text_; }
    [[nodiscard]] std::string const& eos_text() const { return eos_text_; }
    // Whether the model wants them around a prompt.
    [[nodiscard]] bool adds_bos() const { return adds_bos_; }
    [[nodiscard]] bool adds_eos() const { return adds_eos_; }

private:
    struct Special {
        std::string text;
        Token id = 0;
        bool control = false;  // or unknown: recognised only where allowed
        bool strips_left = false;
        bool strips_right = false;
    };
    struct Piece {  // a special token, or text when special is kText
        TextSpan text;
        std::uint32_t special = 0;
    };
    // The special tokens whose texts have one length; the texts view specials_.
    struct Group {
        std::size_t length = 0;
        std::array<bool, 256> starts{};  // by first byte
        std::unordered_map<std::string_view, std::uint32_t> by_text;
    };
    static constexpr std::uint32_t kText = UINT32_MAX;

    explicit Vocabulary(llama_vocab const* vocab) : vocab_(vocab) {}

    [[nodiscard]] std::vector<Piece> split(std::string_view text, bool parse_control,
                                           std::span<TextSpan const> plain) const;
    void split_piece(std::string_view text, TextSpan span, Group const& group, bool parse_control,
                     std::span<TextSpan const> plain, std::vector<Piece>& out) const;
    [[nodiscard]] Result<std::vector<Token>> tokenize_pieces(std::string_view text, bool parse_control,
                                                             std::span<TextSpan const> plain) const;
    [[nodiscard]] Result<std::vector<Token>> tokenize_form(std::string_view query, std::string_view document,
                                                           std::string_view form) const;
    [[nodiscard]] Status append_plain(std::string_view text, std::vector<Token>& out) const;
    void load_specials();

    llama_vocab const* vocab_;
    std::uint32_t size_ = 0;
    std::vector<Special> specials_;
    std::vector<Group> groups_;              // longest first
    std::vector<Token> prefix_, suffix_;     // what add_special puts around
    std::string bos_text_, eos_text_;
    bool adds_bos_ = false, adds_eos_ = false;
};

}  // namespace hearth::llama

// TextSplitter: the normaliser and pre-tokeniser of a tokenizer.json, carried
// out on a text of the probe's characters.
//
// Threads: one. Ownership: views the tokenizer's document.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "convert/pattern.h"
#include "json/json.h"

namespace hearth::convert {

class TextSplitter {
public:
    // Either may be absent. `unsupported` names a rule that is not carried out.
    [[nodiscard]] static Result<TextSplitter> create(std::optional<json::View> normalizer,
                                                     std::optional<json::View> pre_tokenizer);

    // The pieces that are looked up or merged one by one; in byte-level
    // tokenizers each byte is already the character that stands for it.
    [[nodiscard]] Result<std::vector<std::string>> split(std::u32string_view text);

private:
    enum class Kind { lowercase, bert_clean, bert_spaces, strip_accents, pattern, digits, byte_level, bert_words };
    enum class Behavior { isolated, removed, merged_with_previous, merged_with_next };
    struct Step {
        Kind kind{};
        std::optional<Pattern> pattern{};
        Behavior behavior = Behavior::isolated;
        bool invert = false;
        bool prefix_space = false;
        bool each = false;  // digits one by one
    };
    using Pieces = std::vector<std::u32string>;

    TextSplitter() = default;
    Status add_normalizer(json::View rule, std::size_t depth);
    Status add_pre_tokenizer(json::View rule, std::size_t depth);
    Status add_split(json::View rule);
    Status add_byte_level(json::View rule);
    Result<Pieces> apply(Step const& step, Pieces const& pieces);
    Status split_by(Step const& step, std::u32string const& piece, Pieces& out);

    std::vector<Step> steps_;
    std::size_t budget_ = kPatternStepsMax;
};

}  // namespace hearth::convert

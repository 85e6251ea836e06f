// Pattern: the regular expressions that tokenizer.json files split text with.
//
// Only one text is ever split: the probe text that tells pre-tokenisers apart
// (pre_tokenizer.h). That makes a small backtracking matcher enough, whose steps
// are counted and bounded, so that no expression in a file can take long.
//
// Read are: literals, escapes, classes with ranges, negation and intersection,
// \p{..}, \s \S \d \D \w \W, groups, (?i:..), (?:..), look-ahead, |, and the
// quantifiers ? * + {n} {n,} {n,m} with their lazy and possessive forms. What
// else there is (back references, look-behind, anchors) is `unsupported`.
//
// Threads: none; immutable once parsed.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <string_view>
#include <utility>

#include "base/result.h"

namespace hearth::convert {

inline constexpr std::size_t kPatternBytesMax = 8192;
inline constexpr std::size_t kPatternDepthMax = 32;
inline constexpr std::size_t kPatternStepsMax = 1'000'000;  // of one split

class Pattern {
public:
    [[nodiscard]] static Result<Pattern> parse(std::string_view text);

    ~Pattern();
    Pattern(Pattern&&) noexcept;
    Pattern& operator=(Pattern&&) noexcept;

    // The first match at or after `from` that is not empty: its begin and end.
    // `steps` counts down; `too_large` when it is used up.
    [[nodiscard]] Result<std::optional<std::pair<std::size_t, std::size_t>>> find(std::u32string_view text,
                                                                                  std::size_t from,
                                                                                  std::size_t& steps) const;

    struct Node;

private:
    explicit Pattern(std::unique_ptr<Node> root);
    std::unique_ptr<Node> root_;
};

}  // namespace hearth::convert

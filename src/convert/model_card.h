// ModelCard: the front matter of a model's README.md, as far as a GGUF file has
// keys for it.
//
// Front matter is YAML; what model cards write there is read and nothing more:
// "key: scalar", and lists of scalars, in blocks ("- x") or flows ("[x, y]").
// A value of any other shape (a nested map, a folded text, an anchor) is passed
// over, never guessed at: it is no part of the model.
//
// Threads: none. Ownership: owns its texts.
#pragma once

#include <cstddef>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace hearth::convert {

inline constexpr std::size_t kModelCardBytesMax = 1U << 20;
inline constexpr std::size_t kModelCardValuesMax = 4096;

struct ModelCard {
    // A scalar is one value. Without a key it is not there, or has another shape.
    std::map<std::string, std::vector<std::string>, std::less<>> values;
    std::map<std::string, bool, std::less<>> is_list;

    [[nodiscard]] std::string scalar(std::string_view key) const;  // empty if absent or a list
    [[nodiscard]] std::vector<std::string> list(std::string_view key) const;  // a scalar counts as a list of one
};

// Never fails: what cannot be read is not there.
[[nodiscard]] ModelCard parse_model_card(std::string_view readme);

}  // namespace hearth::convert

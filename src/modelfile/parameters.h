// Parameters: PARAMETER lines of a Modelfile, and the same as a JSON object of
// Ollama's options, which is what registries and definitions hold.
//
// Threads: none; pure functions. Limits: kParametersMax. Errors: `invalid_argument`
// names the parameter, its type and the value.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace hearth::modelfile {

inline constexpr std::size_t kParametersMax = 256;

struct Parameter {
    std::string name;   // in lower case
    std::string value;  // as it is written, without quotes
    bool operator==(Parameter const&) const = default;
};

// {"temperature":0.7,"stop":["a","b"]}. `stop` may be there several times and is a
// list; of other names the last one counts. "" for none.
[[nodiscard]] Result<std::string> to_options(std::span<Parameter const> parameters);

// The reverse, in the order of the object; "" is none. Refuses what is no such object.
[[nodiscard]] Result<std::vector<Parameter>> from_options(std::string_view options);

// Those of `base` with those of `over` in place of equal names; both as to_options() writes them.
[[nodiscard]] Result<std::string> merge_options(std::string_view base, std::string_view over);

// As /api/show has them: a line each, name and value in columns.
[[nodiscard]] std::string describe(std::span<Parameter const> parameters);

}  // namespace hearth::modelfile

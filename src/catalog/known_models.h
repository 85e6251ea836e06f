// Known models: short names and where their files come from.
//
// The built-in list is known_models.json; a user's list has the same format and
// comes first: an entry of the same name replaces the built-in one. A JSON array
// of objects with `name` and `source`, and optionally `about`, `license`,
// `bytes` and `sha256` (64 lowercase hexadecimal digits, as published).
//
// Threads: none; pure functions.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace hearth::catalog {

inline constexpr std::size_t kKnownListMax = 4U << 20;  // bytes of one list
inline constexpr std::size_t kKnownModelsMax = 10'000;  // entries of one list
inline constexpr std::size_t kKnownTextMax = 1024;      // bytes of one field

struct KnownModel {
    std::string name;    // MODEL:TAG
    std::string source;  // "hf.co/ORG/REPO/FILE", "https://..", "pypi PACKAGE VERSION FILE"
    std::string about, license;
    std::uint64_t bytes = 0;  // 0: not published
    std::string sha256;       // empty: not published

    bool operator==(KnownModel const&) const = default;
};

[[nodiscard]] std::string_view builtin_known_models();

// Strict: a field that is not known, missing or of another type is `corrupt`, and
// the message says of which entry.
[[nodiscard]] Result<std::vector<KnownModel>> parse_known_models(std::string_view json);

// `own` with those of `builtin` whose names it has not; by name.
[[nodiscard]] std::vector<KnownModel> merge_known_models(std::vector<KnownModel> own,
                                                         std::vector<KnownModel> const& builtin);

}  // namespace hearth::catalog

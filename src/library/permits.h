// Permits: which models may be pulled, loaded and changed.
//
// A pattern is a glob: `*` any text, also with '/', `?` one character, `[a-z]` one of
// a set; without regard to case. A model is named if one of the names it goes by, or
// the source it comes from, matches one of the patterns.
//
// Threads: none; constant after construction.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace hearth::library {

inline constexpr std::size_t kPatternsMax = 1000;
inline constexpr std::size_t kPatternBytesMax = 512;

// `param` of the errors that mean: possible, but not allowed here; and of the one among
// them that means another chat template, where Library::trust() helps. Their code is `unsupported`.
// And of those that mean that a model's file is damaged or may be, and that it is not in the form it is to be
// served in, or not yet: their code is `unavailable`.
inline constexpr std::string_view kNotAllowed = "permission";
inline constexpr std::string_view kTemplateChanged = "template";
inline constexpr std::string_view kDamaged = "damaged";
inline constexpr std::string_view kNotReshaped = "reshaped";

[[nodiscard]] Error not_allowed(std::string message);

class Permits {
public:
    // `open`: without patterns everything is allowed; else nothing may be changed
    // then, though what is there may be loaded.
    // Fails with `invalid_argument` for too many patterns, or one that is empty or too long.
    [[nodiscard]] static Result<Permits> create(std::vector<std::string> patterns, bool open);

    // Fail with not_allowed(); the message names the flag.
    [[nodiscard]] Status may_load(std::span<std::string const> names) const;
    // Pulls, copies, removals, and trust in another template.
    [[nodiscard]] Status may_change(std::span<std::string const> names) const;
    // Anything at all: for what has no name yet.
    [[nodiscard]] Status may_change_some() const;
    // A file by its path, which goes by `names`, too: those must be allowed, and unless the server
    // is open it must lie in one of `folders`. REQUIRES: of all paths links are resolved
    [[nodiscard]] Status may_open(std::string const& path, std::span<std::string const> names,
                                  std::span<std::string const> folders) const;

private:
    Permits(std::vector<std::string> patterns, bool open) : patterns_(std::move(patterns)), open_(open) {}
    [[nodiscard]] bool matches(std::span<std::string const> names) const;

    std::vector<std::string> patterns_;  // in lower case
    bool open_;
};

}  // namespace hearth::library

// JsonPattern: JSON with holes, for the expectations of a case.
//
// `...` as a value matches anything; as the last member of an object or the last
// element of an array it allows more; inside a string it matches any text.
// Everything else must be equal, numbers by value, members in any order.
#pragma once

#include <memory>
#include <string>
#include <string_view>

namespace hearth::conformance {

class JsonPattern {
public:
    // Throws std::runtime_error with the place of a syntax error.
    static JsonPattern parse(std::string_view text);

    // Empty if `json` matches; else where and why not.
    [[nodiscard]] std::string mismatch(std::string_view json) const;

    struct Node;

private:
    explicit JsonPattern(std::shared_ptr<Node const> root) : root_(std::move(root)) {}
    std::shared_ptr<Node const> root_;
};

// True if `pattern`, in which each `...` stands for any text, matches `text`.
[[nodiscard]] bool matches_text(std::string_view pattern, std::string_view text);

// The pattern that --update writes for `json`: one line, what differs from run
// to run left out.
[[nodiscard]] std::string stable_pattern(std::string_view json);

}  // namespace hearth::conformance

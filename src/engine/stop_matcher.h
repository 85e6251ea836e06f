// StopMatcher: finds stop strings in a stream of bytes cut anywhere.
//
// What it lets through can never turn out to be part of a stop string: it holds
// back exactly the longest suffix that could still become one. The stop string
// that completes first wins; of several that complete at the same byte, the
// longest. So the outcome does not depend on where tokens begin and end.
//
// One Knuth-Morris-Pratt automaton per string: O(strings) amortised per byte,
// a table look-up per byte while no string has begun.
//
// Threads: one; a StopSet may be shared.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace hearth::engine {

// The strings with their failure tables; immutable.
class StopSet {
public:
    // Empty strings are left out of the search. REQUIRES: no string above 65535 bytes
    explicit StopSet(std::vector<std::string> strings);

    [[nodiscard]] bool empty() const { return searched_.empty(); }
    [[nodiscard]] std::string const& string(std::size_t index) const { return strings_[index]; }

private:
    friend class StopMatcher;
    struct Pattern {
        std::size_t index;  // in strings_
        std::string text;
        std::vector<std::uint16_t> failure;  // per prefix: its longest proper suffix that is a prefix
    };
    std::vector<std::string> strings_;
    std::vector<Pattern> searched_;
    std::array<bool, 256> starts_{};  // bytes that begin a string
};

class StopMatcher {
public:
    explicit StopMatcher(std::shared_ptr<StopSet const> set);

    // Appends to `out` what can be let through. Returns the index of the stop
    // string that was completed; its bytes and all after them are dropped, and
    // nothing may be pushed any more.
    std::optional<std::size_t> push(std::string_view bytes, std::string& out);

    // The stream ended without a stop string: appends what was held back.
    void finish(std::string& out);

    [[nodiscard]] std::size_t held() const { return held_.size(); }

private:
    // Advances every automaton by one byte; the pattern that completed, if any.
    std::optional<std::size_t> advance(std::uint8_t byte);
    [[nodiscard]] std::size_t longest_prefix() const;

    std::shared_ptr<StopSet const> set_;
    std::vector<std::uint16_t> matched_;  // per pattern: bytes of it that the stream ends with
    std::string held_;
};

}  // namespace hearth::engine

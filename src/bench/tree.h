// run_tree(): how long the scheduler's look-ups in its prefix tree take.
//
// The tree is grown as a server grows it: half of its tokens are a few long
// conversations, told turn by turn over shared system prompts, with answers that
// were asked for again and so branch; the rest are many short chats. Looked up are
// prompts of a fixed length, in random order, each time with the processor's
// caches filled with other things, as they are after a step of a model: prompts
// that are in the tree to their end, that part from it somewhere, and that it
// knows only the system prompt of; and the same for models that go back only to
// checkpoints, of which there is one behind every message.
//
// Threads: one. Limits: the constants below; about 100 bytes a token.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"
#include "traffic/stats.h"

namespace hearth::bench {

inline constexpr std::uint32_t kTreeTokensMin = 1U << 12;
inline constexpr std::uint32_t kTreeTokensMax = 1U << 25;
inline constexpr std::uint32_t kTreePromptMin = 256;
inline constexpr std::uint32_t kTreeLookupsMax = 1U << 20;
inline constexpr std::uint32_t kTreeOtherMibMax = 1024;

struct TreeOptions {
    std::uint32_t tokens = 1'000'000;
    std::uint32_t prompt = 32'768;  // at most a quarter of `tokens`
    std::uint32_t lookups = 200;    // of each kind
    std::uint64_t seed = 1;
    std::uint32_t other_mib = 64;  // what is read between look-ups; at most kTreeOtherMibMax
};

[[nodiscard]] Status check(TreeOptions const& options);

struct TreeLookups {
    std::string name;
    double found_tokens = 0;  // of the prompt, on average
    traffic::Summary us;
};

struct TreeReport {
    std::uint64_t tokens = 0;
    std::uint64_t nodes = 0;
    std::uint64_t conversations = 0;
    std::uint32_t prompt = 0;
    std::vector<TreeLookups> kinds;  // the first: prompts that are in the tree to their end
    double build_ms = 0;
};

// Fails as check() does.
[[nodiscard]] Result<TreeReport> run_tree(TreeOptions const& options);

[[nodiscard]] std::string to_json(TreeReport const& report);
[[nodiscard]] std::string to_text(TreeReport const& report);

}  // namespace hearth::bench

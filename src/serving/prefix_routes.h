// PrefixRoutes: which of several workers was given prompts that begin alike.
//
// A worker keeps what it computed of a prompt for the next one that begins so; with
// several workers of one model that is worth something only if the next one comes to
// the same. What a prompt begins with is told here by its text: after each message of
// a chat, after each kRouteBlock bytes of what else there is. So a conversation stays
// with its worker from one turn to the next, and the front needs no tokens for it.
//
// Threads: one. Limits: kBeginningsMax of a prompt, of its first kRouteBytesMax bytes,
// are looked at; kRoutesMax are remembered, the latest.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <unordered_map>
#include <utility>
#include <vector>

#include "domain/generate.h"

namespace hearth::serving {

inline constexpr std::size_t kRouteBlock = 256;
inline constexpr std::size_t kRouteBytesMax = 1U << 20;
inline constexpr std::size_t kBeginningsMax = 64;
inline constexpr std::size_t kRoutesMax = 16384;

// Of ever longer beginnings of the prompt a number each, the shortest first: equal where
// all is that decides whether what was computed can be used. None of what is to embed.
[[nodiscard]] std::vector<std::uint64_t> beginnings_of(domain::GenerateRequest const& request);

class PrefixRoutes {
public:
    struct Found {
        std::uint32_t worker = 0;
        std::size_t beginnings = 0;  // how many of the prompt's it was given
    };

    // Who was given the longest of them last.
    [[nodiscard]] std::optional<Found> find(std::span<std::uint64_t const> beginnings) const;

    void note(std::span<std::uint64_t const> beginnings, std::uint32_t worker);

private:
    using Routes = std::unordered_map<std::uint64_t, std::uint32_t>;

    // Two halves: when the younger is full it becomes the older, which is forgotten.
    Routes young_, old_;
};

}  // namespace hearth::serving

// Texts and their states: a state that says of which text it is, so that a
// wrong one is seen.
#pragma once

#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

#include "kvstore/store.h"

namespace hearth::kvstore::testing {

inline std::uint64_t mix(std::uint64_t x) {
    x ^= x >> 31U;
    x *= 0x9E3779B97F4A7C15;
    x ^= x >> 29U;
    return x * 0xBF58476D1CE4E5B9 ^ x >> 32U;
}

// Tokens that follow from the seed alone.
inline std::vector<Token> text_of(std::uint64_t seed, std::size_t size) {
    std::vector<Token> text(size);
    for (std::size_t i = 0; i < size; ++i) text[i] = static_cast<Token>(mix(seed + i * 977) % 50000);
    return text;
}

// `bytes_per_token` bytes for each of positions [begin, text.size()), from all tokens up to there.
inline std::vector<std::byte> state_of(Space const& space, std::span<Token const> text, std::size_t begin,
                                       std::size_t bytes_per_token = 24) {
    std::uint64_t sum = 0;
    std::memcpy(&sum, space.digest.data(), sizeof sum);
    std::vector<std::byte> out;
    for (std::size_t i = 0; i < text.size(); ++i) {
        sum = mix(sum * 31 + static_cast<std::uint64_t>(text[i]));
        for (std::size_t b = 0; i >= begin && b < bytes_per_token; ++b)
            out.push_back(static_cast<std::byte>(sum >> (8 * (b % 8))));
    }
    return out;
}

// Puts what of `text` the store lacks, in pieces.
inline void put_all(Store& store, Space const& space, std::span<Token const> text, std::size_t piece,
                    Keep keep = Keep::while_room, std::size_t bytes_per_token = 24) {
    for (std::size_t begin = store.find(space, text); begin < text.size();) {
        auto const end = std::min(text.size(), begin + piece);
        store.put(space, text.first(end), static_cast<std::uint32_t>(begin),
                  state_of(space, text.first(end), begin, bytes_per_token), keep);
        begin = end;
    }
}

// The state at the end of `text`.
inline std::vector<std::byte> whole_state_of(Space const& space, std::span<Token const> text) {
    auto state = state_of(space, text, text.size() - 1, 40);
    state.push_back(std::byte{0x5a});
    return state;
}

// True if the pieces are the states of the text, without gap; the tokens they cover in `end`.
inline bool are_right(std::span<Piece const> pieces, Space const& space, std::span<Token const> text,
                      std::uint32_t& end, std::size_t bytes_per_token = 24) {
    end = 0;
    for (auto const& piece : pieces) {
        if (piece.is_state && piece.blob) {
            if (piece.end != end || &piece != &pieces.back()) return false;
            if (*piece.blob != whole_state_of(space, text.first(end))) return false;
            continue;
        }
        if (piece.end <= end || piece.end > text.size() || !piece.blob) return false;
        auto const want = state_of(space, text.first(piece.end), end, bytes_per_token);
        if (piece.blob->size() < want.size() || std::memcmp(piece.blob->data(), want.data(), want.size()) != 0)
            return false;
        end = piece.end;
    }
    return true;
}

}  // namespace hearth::kvstore::testing

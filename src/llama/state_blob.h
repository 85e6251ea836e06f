// StateBlob: the envelope of a saved sequence.
//
// Upstream's state is a memory image that it reads back trustingly, so it is
// wrapped in a header that says for which model, build and options it was made
// and where in a sequence it begins, and in a checksum over all of it.
//
// Layout, little-endian: magic u64, fingerprint u64, positions u32, begin
// u32, payload bytes u64, checksum u64, payload.
//
// Pure functions. Private to the module.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "base/result.h"

namespace hearth::llama {

inline constexpr std::size_t kStateHeaderBytes = 40;

struct StateHeader {
    std::uint64_t fingerprint = 0;
    std::uint32_t positions = 0;
    std::uint32_t begin = 0;  // the first of them
    [[nodiscard]] std::uint64_t end() const { return std::uint64_t{begin} + positions; }
};

// Identity of what may read a blob: hash of a text that names it.
[[nodiscard]] std::uint64_t state_fingerprint(std::string_view identity);

// Writes the header in front of a payload that is already in place.
// REQUIRES: blob.size() >= kStateHeaderBytes
void seal_state(std::span<std::byte> blob, StateHeader const& header);

// Fails with `corrupt`, saying what does not fit.
[[nodiscard]] Result<StateHeader> open_state(std::span<std::byte const> blob, std::uint64_t fingerprint);

}  // namespace hearth::llama

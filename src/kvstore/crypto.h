// Digests, checksums and sealing, over libsodium and xxHash. Private to kvstore.
//
// Threads: any.
#pragma once

#include <array>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kvstore/options.h"

namespace hearth::kvstore {

inline constexpr std::size_t kTagBytes = 16;    // of a checksum and of a seal alike
inline constexpr std::size_t kNonceBytes = 24;
using Nonce = std::array<std::byte, kNonceBytes>;
using Tag = std::array<std::byte, kTagBytes>;

// 128 bits of BLAKE2b over the parts and their lengths, keyed if `secret` is not empty.
[[nodiscard]] Digest digest(std::span<std::byte const> secret, std::span<std::span<std::byte const> const> parts);

[[nodiscard]] std::string hex(std::span<std::byte const> data);

[[nodiscard]] Nonce random_nonce();

// XXH3 of both: finds accidents, not authors.
[[nodiscard]] Tag checksum(std::span<std::byte const> context, std::span<std::byte const> data);

// XChaCha20-Poly1305. `section` tells apart what one nonce seals.
// `data` and then its tag; `context` is authenticated with it.
[[nodiscard]] std::vector<std::byte> seal(SealKey const& key, Nonce nonce, std::uint8_t section,
                                          std::span<std::byte const> context, std::span<std::byte const> data);
// Opens in place: on success the data lies at the front, the tag is left behind it.
[[nodiscard]] bool unseal(SealKey const& key, Nonce nonce, std::uint8_t section, std::span<std::byte const> context,
                          std::span<std::byte> sealed);

}  // namespace hearth::kvstore

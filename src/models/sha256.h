// SHA-256 (FIPS 180-4), for the hash of a chat template or of a whole file.
//
// Threads: one per object.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

namespace hearth::models {

class Sha256 {
public:
    void add(std::string_view data);

    // 64 lowercase hexadecimal digits, of all bytes so far.
    [[nodiscard]] std::string hex() const;

private:
    std::array<std::uint32_t, 8> state_{0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                        0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    std::string rest_;  // less than a block
    std::uint64_t bytes_ = 0;
};

[[nodiscard]] std::string sha256_hex(std::string_view data);

}  // namespace hearth::models

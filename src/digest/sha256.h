// SHA-256 (FIPS 180-4), by OpenSSL, which uses the processor's instructions for it.
//
// Threads: one at a time per object.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "base/result.h"

namespace hearth::digest {

class Sha256 {
public:
    Sha256();
    ~Sha256();
    Sha256(Sha256 const&) = delete;
    Sha256& operator=(Sha256 const&) = delete;

    void add(std::span<std::byte const> bytes);
    // 64 lowercase hexadecimal digits; the object starts anew.
    [[nodiscard]] std::string finish();
    void restart();

private:
    struct State;
    std::unique_ptr<State> state_;
};

[[nodiscard]] std::string sha256_hex(std::string_view data);

inline constexpr std::size_t kFilePieceBytes = std::size_t{1} << 20;

// Of a whole file, read in pieces of kFilePieceBytes; `stop`, if there is one, is asked before each.
// Errors: `not_found`, `io`, `cancelled`.
[[nodiscard]] Result<std::string> sha256_of_file(std::string const& path, std::function<bool()> const& stop = {});

// 64 hexadecimal digits in lower case, and nothing else.
[[nodiscard]] bool is_sha256(std::string_view text);

}  // namespace hearth::digest

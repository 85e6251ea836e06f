// Sha256: a running SHA-256 (FIPS 180-4), by OpenSSL, which uses the processor's
// instructions for it.
//
// Threads: one at a time.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "base/result.h"

namespace hearth::fetch {

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

// Of a whole file. `io` when it cannot be read.
[[nodiscard]] Result<std::string> sha256_of_file(std::string const& path);

// 64 hexadecimal digits in lower case, and nothing else.
[[nodiscard]] bool is_sha256(std::string_view text);

}  // namespace hearth::fetch

// Where Ollama's clients look for a server: OLLAMA_HOST, as they read it.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"

namespace hearth::app {

struct Address {
    std::string host = "127.0.0.1";
    std::uint16_t port = 11434;
    bool operator==(Address const&) const = default;
};

// "", "0.0.0.0", "host:port", ":port", "[::1]:port", each with http:// or
// https:// before it (which then stand for ports 80 and 443) and a path, which
// is left out. What is missing is the default. Fails with `invalid_argument`.
[[nodiscard]] Result<Address> parse_ollama_host(std::string_view text);

}  // namespace hearth::app

// Where Ollama's clients look for a server, and which pages and apps may call it:
// OLLAMA_HOST and OLLAMA_ORIGINS, as Ollama reads them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

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

inline constexpr std::size_t kOllamaOriginsMax = 256;

// "https://a.example,http://localhost:*" as http::Options::allowed_origins, behind those that
// Ollama allows without being told: apps that are no web pages. (What is on loopback needs no
// leave here.) Fails with `invalid_argument` for more than kOllamaOriginsMax, and as http::check_origins().
[[nodiscard]] Result<std::vector<std::string>> parse_ollama_origins(std::string_view text);

}  // namespace hearth::app

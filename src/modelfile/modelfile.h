// Modelfile: what `create` makes a model of, as Ollama's users write it.
//
//   # a comment
//   FROM smollm2
//   PARAMETER temperature 0.7
//   SYSTEM """You are a pirate.
//   Answer in rhyme."""
//   MESSAGE user Ahoy!
//
// A word, blanks, a value. Words are known in any case. A value ends with its
// line, or is held by quotation marks (" or """), over lines too. Lines that
// begin with # are comments; so nothing behind a value is one.
//
// Threads: none; pure functions. Limits: kBytesMax, kMessagesMax, kLicensesMax,
// kParametersMax. Errors: `invalid_argument`, naming the line.
// Source: Ollama's parser, as its documentation tells it.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "modelfile/parameters.h"

namespace hearth::modelfile {

inline constexpr std::size_t kBytesMax = std::size_t{4} << 20;
inline constexpr std::size_t kMessagesMax = 1024;
inline constexpr std::size_t kLicensesMax = 64;
inline constexpr std::size_t kAdaptersMax = 16;

struct Message {
    std::string role;  // system, user or assistant
    std::string content;
    bool operator==(Message const&) const = default;
};

struct Modelfile {
    std::string from;           // a model's name or a path; never empty
    std::string template_text;  // TEMPLATE, SYSTEM, REQUIRES: the last one counts; empty: none
    std::string system;
    std::string needs;          // REQUIRES: the oldest version of Ollama it is for
    std::vector<std::string> adapters;
    std::vector<std::string> licenses;
    std::vector<Parameter> parameters;
    std::vector<Message> messages;
    bool operator==(Modelfile const&) const = default;
};

// Parameters are known by name and of their type when it succeeds.
[[nodiscard]] Result<Modelfile> parse_modelfile(std::string_view text);

// What parse_modelfile() reads as the same. Fails with `invalid_argument` for a
// text that no quotation marks can hold: three of them end one of its lines.
[[nodiscard]] Result<std::string> write_modelfile(Modelfile const& modelfile);

}  // namespace hearth::modelfile

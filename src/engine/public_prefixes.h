// PublicPrefixes: beginnings of prompts that an administrator marked as shared
// among all tenants (--public-prefix).
//
// Each is the text of a system message. As tokens it is what the chat template
// makes of a conversation that begins with it, up to where conversations that go
// on differently still agree: a border that no later text moves. The same text
// also counts where it begins a prompt without a template. A model whose template
// knows no system message has the latter only.
//
// Threads: any, after construction.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "llama/backend.h"

namespace hearth::engine {

using domain::Token;

class PublicPrefixes {
public:
    // Texts that the model cannot read are none of its prefixes.
    PublicPrefixes(llama::Backend const& backend, std::span<std::string const> texts);

    // Leading tokens of `prompt` that are a public prefix: the longest; 0 if it begins with none.
    [[nodiscard]] std::uint32_t match(std::span<Token const> prompt) const;

    // Of each text in order: its tokens behind the chat template; 0 if that does not take it.
    [[nodiscard]] std::vector<std::uint32_t> const& tokens() const { return tokens_; }

private:
    std::vector<std::vector<Token>> prefixes_;  // longest first
    std::vector<std::uint32_t> tokens_;
};

}  // namespace hearth::engine

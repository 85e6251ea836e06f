#include "engine/public_prefixes.h"

#include <algorithm>
#include <array>
#include <functional>
#include <string_view>
#include <utility>

namespace hearth::engine {
namespace {

// What may follow, told apart by its first byte: letters, digits, breaks and
// spaces, which tokens like to swallow, and what is no ASCII.
constexpr std::array<std::string_view, 8> kContinuations{"a",   "The", "7",        "\n\n",
                                                         "  b", "\"",  "\xC3\xA9", "\xE4\xBD\xA0"};

using Render = std::function<Result<std::vector<Token>>(std::string_view rest)>;

// The tokens with which all begin; empty if fewer than two could be made.
std::vector<Token> common_beginning(Render const& render) {
    std::vector<Token> common;
    std::size_t made = 0;
    for (auto const rest : kContinuations) {
        auto const tokens = render(rest);
        if (!tokens) continue;
        if (made++ == 0) common = *tokens;
        auto const parted = std::ranges::mismatch(common, *tokens).in1;
        common.erase(parted, common.end());
    }
    if (made < 2) common.clear();
    return common;
}

std::vector<Token> behind_template(llama::Backend const& backend, std::string const& text) {
    return common_beginning([&](std::string_view rest) -> Result<std::vector<Token>> {
        domain::ChatPrompt const chat{{{"system", text}, {"user", std::string(rest)}}, true};
        HEARTH_TRY(auto rendered, backend.render_chat(chat));
        return std::move(rendered.tokens);
    });
}

std::vector<Token> as_it_stands(llama::Backend const& backend, std::string const& text) {
    return common_beginning([&](std::string_view rest) { return backend.tokenize(text + std::string(rest), {}); });
}

}  // namespace

PublicPrefixes::PublicPrefixes(llama::Backend const& backend, std::span<std::string const> texts) {
    for (auto const& text : texts) {
        auto chat = behind_template(backend, text);
        tokens_.push_back(static_cast<std::uint32_t>(chat.size()));
        prefixes_.push_back(std::move(chat));
        prefixes_.push_back(as_it_stands(backend, text));
    }
    std::erase_if(prefixes_, [](auto const& prefix) { return prefix.empty(); });
    std::ranges::sort(prefixes_, std::ranges::greater{}, &std::vector<Token>::size);
}

std::uint32_t PublicPrefixes::match(std::span<Token const> prompt) const {
    auto const begins = [prompt](std::vector<Token> const& prefix) {
        return prefix.size() <= prompt.size() && std::equal(prefix.begin(), prefix.end(), prompt.begin());
    };
    auto const found = std::ranges::find_if(prefixes_, begins);
    return found == prefixes_.end() ? 0 : static_cast<std::uint32_t>(found->size());
}

}  // namespace hearth::engine

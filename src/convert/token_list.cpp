#include "convert/token_list.h"

#include <algorithm>
#include <array>

#include <fmt/format.h>

namespace hearth::convert {

std::string padding_token(std::uint32_t id) { return fmt::format("[PAD{}]", id); }

bool looks_special(std::string_view token) {
    constexpr std::array<std::string_view, 4> kNames{"<pad>", "<mask>", "<2mass>", "[@BOS@]"};
    constexpr std::string_view kWideBar = "\xef\xbd\x9c";  // U+FF5C
    auto const between = [&](std::string_view begin, std::string_view end) {
        return token.starts_with(begin) && token.ends_with(end);
    };
    return std::find(kNames.begin(), kNames.end(), token) != kNames.end() || between("<|", "|>") ||
           between(fmt::format("<{}", kWideBar), fmt::format("{}>", kWideBar)) || between("<unused", ">");
}

std::string replaced(std::string_view text, std::string_view from, std::string_view to) {
    std::string out;
    for (;;) {
        auto const at = text.find(from);
        out.append(text.substr(0, at));
        if (at == std::string_view::npos) return out;
        out.append(to);
        text.remove_prefix(at + from.size());
    }
}

}  // namespace hearth::convert

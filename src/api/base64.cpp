#include "api/base64.h"

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace hearth::api {

std::string base64(std::span<std::byte const> bytes) {
    static constexpr std::string_view kDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    constexpr std::size_t kGroup = 3;  // bytes in four digits
    std::string out;
    out.reserve((bytes.size() + kGroup - 1) / kGroup * 4);
    for (std::size_t i = 0; i < bytes.size(); i += kGroup) {
        auto const left = bytes.size() - i;
        std::uint32_t group = 0;
        for (std::size_t j = 0; j < kGroup; ++j)
            group = group << 8U | (j < left ? std::to_integer<std::uint32_t>(bytes[i + j]) : 0U);
        for (std::uint32_t digit = 0; digit < 4; ++digit)
            out += digit <= left ? kDigits[group >> (18 - 6 * digit) & 63U] : '=';
    }
    return out;
}

}  // namespace hearth::api

#include "fetch/address.h"

#include <algorithm>
#include <array>
#include <cstddef>

#include "base/assert.h"

namespace hearth::fetch {
namespace {

struct Block {
    std::array<std::uint8_t, 16> prefix;
    unsigned bits;
    AddressClass kind;
};

using enum AddressClass;

// The first match counts.
constexpr std::array kIpv4{
    Block{{127}, 8, loopback},
    Block{{10}, 8, local},
    Block{{172, 16}, 12, local},
    Block{{192, 168}, 16, local},
    Block{{100, 64}, 10, local},
    Block{{169, 254}, 16, link_local},
    Block{{0}, 8, unusable},
    Block{{192, 0, 0}, 24, unusable},
    Block{{192, 0, 2}, 24, unusable},
    Block{{198, 18}, 15, local},
    Block{{198, 51, 100}, 24, unusable},
    Block{{203, 0, 113}, 24, unusable},
    Block{{224}, 3, unusable},
};

constexpr std::array kIpv6{
    Block{{0xfc}, 7, local},
    Block{{0xfe, 0x80}, 10, link_local},
    Block{{0xfe, 0xc0}, 10, local},  // site-local, withdrawn but not reused
    Block{{0xff}, 8, unusable},
    Block{{0x20, 0x01, 0x0d, 0xb8}, 32, unusable},
    Block{{0x20, 0x01, 0x00}, 23, unusable},  // Teredo and other protocols' own
    Block{{0x20}, 3, everywhere},             // 2000::/3 is what there is
};

bool inside(std::span<std::uint8_t const> address, Block const& block) {
    for (unsigned bit = 0; bit < block.bits; ++bit) {
        auto const mask = static_cast<std::uint8_t>(0x80U >> (bit % 8));
        if ((address[bit / 8] & mask) != (block.prefix[bit / 8] & mask)) return false;
    }
    return true;
}

AddressClass classify_ipv4(std::span<std::uint8_t const> address) {
    auto const* const block = std::ranges::find_if(kIpv4, [&](Block const& b) { return inside(address, b); });
    return block == kIpv4.end() ? everywhere : block->kind;
}

constexpr Block kMapped{{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff}, 96, unusable};      // ::ffff:a.b.c.d
constexpr Block kTranslated{{0x00, 0x64, 0xff, 0x9b}, 96, unusable};                    // 64:ff9b::a.b.c.d
constexpr Block k6To4{{0x20, 0x02}, 16, unusable};                                      // 2002:ab:cd::

}  // namespace

std::string_view to_string(AddressClass kind) noexcept {
    switch (kind) {
        case loopback: return "this machine";
        case local: return "a local network";
        case link_local: return "a link-local address";
        case everywhere: return "the internet";
        case unusable: break;
    }
    return "no usable address";
}

AddressClass classify(std::span<std::uint8_t const> address) {
    HEARTH_ASSERT(address.size() == 4 || address.size() == 16, "an IP address");
    if (address.size() == 4) return classify_ipv4(address);
    if (inside(address, kMapped) || inside(address, kTranslated)) return classify_ipv4(address.subspan(12));
    if (inside(address, k6To4)) return classify_ipv4(address.subspan(2, 4));
    constexpr std::array<std::uint8_t, 16> kLoopback{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1};
    if (std::ranges::equal(address, kLoopback)) return loopback;
    auto const* const block = std::ranges::find_if(kIpv6, [&](Block const& b) { return inside(address, b); });
    return block == kIpv6.end() ? unusable : block->kind;
}

bool may_lead_to(AddressClass from, AddressClass to) {
    switch (to) {
        case everywhere: return true;
        case local: return from != everywhere;
        case loopback: return from == loopback;
        case link_local:
        case unusable: break;
    }
    return false;
}

}  // namespace hearth::fetch

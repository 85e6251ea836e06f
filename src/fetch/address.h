// AddressClass: what kind of machine an IP address leads to.
//
// A server on the internet must not be able to send Hearth to one behind the
// user's firewall (SSRF). The first address of a request is the user's choice;
// where redirects may lead from there is decided by may_lead_to(), on the
// address a socket is about to connect to, not on a name: a name that answers
// differently the second time gains nothing.
//
// Threads: pure functions.
// Source: IANA's registries of special-purpose IPv4 and IPv6 addresses.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

namespace hearth::fetch {

enum class AddressClass : std::uint8_t {
    loopback,     // this machine
    local,        // private, carrier's and unique local networks
    link_local,   // also where clouds keep their machines' credentials
    everywhere,   // the internet
    unusable,     // unspecified, multicast, reserved
};

[[nodiscard]] std::string_view to_string(AddressClass) noexcept;

// 4 or 16 bytes in network order. IPv4 inside IPv6 (mapped, translated, 6to4)
// counts as the IPv4 address.
[[nodiscard]] AddressClass classify(std::span<std::uint8_t const> address);

// May a request that the user sent to an address of class `from` be led on to
// `to`? From the internet only to the internet, from a local network also back
// to local networks, from this machine anywhere but link-local.
[[nodiscard]] bool may_lead_to(AddressClass from, AddressClass to);

}  // namespace hearth::fetch

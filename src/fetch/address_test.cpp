#include "fetch/address.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>

#include <array>
#include <string>

namespace hearth::fetch {
namespace {

AddressClass of(std::string const& text) {
    std::array<std::uint8_t, 16> bytes{};
    bool const six = text.find(':') != std::string::npos;
    EXPECT_EQ(::inet_pton(six ? AF_INET6 : AF_INET, text.c_str(), bytes.data()), 1) << text;
    return classify(std::span(bytes).first(six ? 16 : 4));
}

TEST(Address, KnowsTheSpecialNetworks) {
    using enum AddressClass;
    struct Case {
        char const* text;
        AddressClass kind;
    };
    for (auto const& [text, kind] : {
             Case{"127.0.0.1", loopback},
             Case{"127.255.255.255", loopback},
             Case{"10.1.2.3", local},
             Case{"172.15.0.1", everywhere},
             Case{"172.16.0.1", local},
             Case{"172.31.255.255", local},
             Case{"172.32.0.1", everywhere},
             Case{"192.168.0.1", local},
             Case{"100.64.0.1", local},
             Case{"100.128.0.1", everywhere},
             Case{"169.254.169.254", link_local},
             Case{"0.0.0.0", unusable},
             Case{"224.0.0.1", unusable},
             Case{"255.255.255.255", unusable},
             Case{"8.8.8.8", everywhere},
             Case{"::1", loopback},
             Case{"::", unusable},
             Case{"::ffff:127.0.0.1", loopback},
             Case{"::ffff:8.8.8.8", everywhere},
             Case{"64:ff9b::a9fe:a9fe", link_local},
             Case{"2002:0a00:0001::", local},
             Case{"fe80::1", link_local},
             Case{"fd00::1", local},
             Case{"ff02::1", unusable},
             Case{"2606:4700::1111", everywhere},
             Case{"2001:db8::1", unusable},
             Case{"::127.0.0.1", unusable},
         }) {
        EXPECT_EQ(of(text), kind) << text << " is " << to_string(of(text));
    }
}

TEST(Address, NeverLeadsInward) {
    using enum AddressClass;
    EXPECT_TRUE(may_lead_to(everywhere, everywhere));
    EXPECT_TRUE(may_lead_to(local, local));
    EXPECT_TRUE(may_lead_to(loopback, loopback));
    EXPECT_TRUE(may_lead_to(loopback, local));
    EXPECT_FALSE(may_lead_to(everywhere, local));
    EXPECT_FALSE(may_lead_to(everywhere, loopback));
    EXPECT_FALSE(may_lead_to(local, loopback));
    for (auto const from : {loopback, local, link_local, everywhere}) {
        EXPECT_FALSE(may_lead_to(from, link_local));
        EXPECT_FALSE(may_lead_to(from, unusable));
        EXPECT_TRUE(may_lead_to(from, everywhere));
    }
}

}  // namespace
}  // namespace hearth::fetch

#include "fetch/proxy_exceptions.h"

#include <string_view>

#include <gtest/gtest.h>

namespace hearth::fetch {
namespace {

bool past(std::string_view exceptions, std::string_view url) {
    auto const parsed = parse_url(url);
    EXPECT_TRUE(parsed) << url;
    return parsed && goes_past_proxy(exceptions, *parsed);
}

TEST(ProxyExceptions, ANameIsItselfAndWhatIsBelowIt) {
    for (auto const* const exceptions : {"example.com", ".example.com", "Example.COM", "example.com.", "x, example.com",
                                         "x,,example.com,", "x example.com\ty"}) {
        EXPECT_TRUE(past(exceptions, "https://example.com/x")) << exceptions;
        EXPECT_TRUE(past(exceptions, "https://hub.example.com/x")) << exceptions;
        EXPECT_TRUE(past(exceptions, "https://example.com:8443/x")) << exceptions;
        EXPECT_FALSE(past(exceptions, "https://notexample.com/x")) << exceptions;
        EXPECT_FALSE(past(exceptions, "https://example.com.evil/x")) << exceptions;
        EXPECT_FALSE(past(exceptions, "https://com/x")) << exceptions;
    }
    EXPECT_TRUE(past("example.com", "https://example.com./x"));
    EXPECT_TRUE(past("localhost", "http://localhost:1/"));
}

TEST(ProxyExceptions, AStarIsEveryMachine) {
    EXPECT_TRUE(past("*", "https://example.com/"));
    EXPECT_TRUE(past("a, *", "http://10.0.0.1/"));
    EXPECT_TRUE(past("*", "http://[::1]/"));
    EXPECT_FALSE(past("*.example.com", "https://hub.example.com/")) << "no patterns";
}

TEST(ProxyExceptions, AnAddressIsItselfAndANetworkWhatIsInIt) {
    EXPECT_TRUE(past("10.1.2.3", "http://10.1.2.3/"));
    EXPECT_FALSE(past("10.1.2.3", "http://10.1.2.33/"));
    EXPECT_FALSE(past("2.3", "http://10.1.2.3/")) << "no end of a name";
    EXPECT_FALSE(past("10.1.2.3", "http://a.10.1.2.3.example/"));
    EXPECT_TRUE(past("10.1.2.0/24", "http://10.1.2.250/"));
    EXPECT_TRUE(past("10.1.2.128/25", "http://10.1.2.250/"));
    EXPECT_FALSE(past("10.1.2.128/25", "http://10.1.2.100/"));
    EXPECT_TRUE(past("0.0.0.0/0", "http://10.1.2.3/"));
    EXPECT_FALSE(past("0.0.0.0/0", "http://[2001:db9::1]/"));
    EXPECT_FALSE(past("10.1.2.0/24", "http://example.com/")) << "names are not resolved";
    EXPECT_TRUE(past("2001:DB9::1", "http://[2001:db9:0::1]/"));
    EXPECT_TRUE(past("[2001:db9::1]", "http://[2001:db9::1]/"));
    EXPECT_TRUE(past("fd00::/8", "http://[fd12::1]/"));
    EXPECT_FALSE(past("fd00::/8", "http://[fc12::1]/"));
}

TEST(ProxyExceptions, APortLeavesOthersToTheProxy) {
    EXPECT_TRUE(past("example.com:8443", "https://example.com:8443/"));
    EXPECT_TRUE(past("example.com:443", "https://hub.example.com/"));
    EXPECT_FALSE(past("example.com:8443", "https://example.com/"));
    EXPECT_TRUE(past("10.0.0.1:80", "http://10.0.0.1/"));
    EXPECT_FALSE(past("10.0.0.1:80", "https://10.0.0.1/"));
    EXPECT_TRUE(past("[::2]:80", "http://[::2]/"));
    EXPECT_FALSE(past("[::2]:80", "http://[::2]:81/"));
}

TEST(ProxyExceptions, WhatIsNeitherIsNobody) {
    for (auto const* const exceptions :
         {"", ",", " , ", ".", ":", "example.com:", "example.com:x", "example.com:99999999999", "[::1", "[::1]x", "[]",
          "10.0.0.0/", "10.0.0.0/33", "10.0.0.0/-1", "10.0.0.0/8x", "/8", "[10.0.0.1]:"}) {
        EXPECT_FALSE(past(exceptions, "https://example.com/")) << exceptions;
        EXPECT_FALSE(past(exceptions, "https://10.0.0.1/")) << exceptions;
        EXPECT_FALSE(past(exceptions, "https://[::1]/")) << exceptions;
    }
}

}  // namespace
}  // namespace hearth::fetch

#include "http/access.h"

#include <gtest/gtest.h>

namespace hearth::http {
namespace {

AccessPolicy policy(std::string host, std::vector<std::string> hosts = {}, std::vector<std::string> origins = {}) {
    Options options;
    options.host = std::move(host);
    options.allowed_hosts = std::move(hosts);
    options.allowed_origins = std::move(origins);
    return AccessPolicy(options);
}

bool host_allowed(AccessPolicy const& p, std::string_view text) {
    auto const authority = parse_authority(text);
    EXPECT_TRUE(authority.has_value()) << text;
    return authority && p.allows_host(*authority);
}

bool origin_allowed(AccessPolicy const& p, std::string_view origin, std::string_view host) {
    return p.allows_origin(origin, parse_authority(host).value());
}

TEST(Authority, SplitsHostAndPort) {
    auto const name = parse_authority("Example.ORG.:8080");
    ASSERT_TRUE(name.has_value());
    EXPECT_EQ(name->host, "example.org");
    EXPECT_EQ(name->port, "8080");
    EXPECT_EQ(name->kind, Authority::Kind::name);
    auto const six = parse_authority("[::1]:80");
    ASSERT_TRUE(six.has_value());
    EXPECT_EQ(six->host, "::1");
    EXPECT_EQ(six->kind, Authority::Kind::ip);
    EXPECT_EQ(parse_authority("10.0.0.1")->kind, Authority::Kind::ip);
    EXPECT_EQ(parse_authority("0x7f.1")->kind, Authority::Kind::name);  // not an address to us, so not loopback either
}

TEST(Authority, RefusesWhatIsNoHost) {
    for (std::string_view const bad : {"", ":80", "a:", "a:b", "a:123456", "a:-1", "a b", "a/b", "a@b", "[::1", "[x]",
                                       "[::1]80", "::1", "a,b", "\xC3\xBC.de", "a\t"}) {
        EXPECT_FALSE(parse_authority(bad).has_value()) << bad;
    }
    EXPECT_FALSE(parse_authority(std::string(254, 'a')).has_value());
}

TEST(AccessPolicy, LoopbackIsAlwaysAllowedOthersAreNot) {
    auto const p = policy("127.0.0.1");
    for (std::string_view const good : {"localhost", "LOCALHOST:1", "app.localhost", "127.0.0.1:8080", "127.9.9.9",
                                        "[::1]:8080", "[::ffff:127.0.0.1]", "localhost."}) {
        EXPECT_TRUE(host_allowed(p, good)) << good;
    }
    for (std::string_view const bad : {"evil.example", "localhost.evil.example", "evillocalhost", "10.0.0.1", "0.0.0.0",
                                       "[::2]", "127.0.0.1.evil.example", "2130706433"}) {
        EXPECT_FALSE(host_allowed(p, bad)) << bad;
    }
}

TEST(AccessPolicy, AStarInAnOriginStandsForAnyText) {
    auto const p = policy("127.0.0.1", {}, {"App://*", "https://*.example.com", "http://lan:*"});
    for (std::string_view const good :
         {"app://obsidian.md", "app://", "https://a.b.example.com", "HTTPS://X.example.com", "http://lan:3000"}) {
        EXPECT_TRUE(origin_allowed(p, good, "127.0.0.1:8080")) << good;
    }
    for (std::string_view const bad : {"app:/", "https://example.com", "https://a.example.com:81",
                                       "http://a.example.com", "https://lan:1", "null"}) {
        EXPECT_FALSE(origin_allowed(p, bad, "127.0.0.1:8080")) << bad;
    }
    EXPECT_FALSE(origin_allowed(policy("127.0.0.1", {}, {"a*a"}), "a", "127.0.0.1")) << "the ends do not overlap";
}

TEST(AccessPolicy, AnOriginThatCouldNeverComeIsRefused) {
    EXPECT_TRUE(check_origins({"*", "app://*", "http://lan:*", "https://a.example"}));
    for (char const* const bad : {"https://*.example.com:*", "http://192.168.*.*:3000", "**"}) {
        auto const refused = check_origins({"app://*", bad});
        ASSERT_FALSE(refused) << bad;
        EXPECT_EQ(refused.error().code, Code::invalid_argument);
        EXPECT_EQ(refused.error().message, std::string("an allowed origin has one '*' at most, got '") + bad + "'");
    }
}

TEST(AccessPolicy, ConfiguredHostsAreAllowed) {
    auto const p = policy("ai.lan", {"Hearth.example", "port.example:81", "*.wild.example"});
    for (std::string_view const good :
         {"ai.lan:8080", "hearth.example", "HEARTH.example:9", "port.example:81", "a.b.wild.example"}) {
        EXPECT_TRUE(host_allowed(p, good)) << good;
    }
    for (std::string_view const bad :
         {"port.example", "port.example:82", "wild.example", "evilwild.example", "x.hearth.example"}) {
        EXPECT_FALSE(host_allowed(p, bad)) << bad;
    }
    EXPECT_TRUE(host_allowed(policy("127.0.0.1", {"*"}), "anything.example"));
}

TEST(AccessPolicy, AServerOnAllAddressesTakesAnyAddressButNoForeignName) {
    for (char const* const all : {"0.0.0.0", "::", ""}) {
        auto const p = policy(all);
        EXPECT_TRUE(host_allowed(p, "192.168.1.5:8080"));
        EXPECT_TRUE(host_allowed(p, "[fe80::1]"));
        EXPECT_FALSE(host_allowed(p, "rebound.example"));
    }
}

TEST(AccessPolicy, OriginsMustBeTheSameLoopbackOrAllowed) {
    auto const p = policy("ai.lan", {}, {"https://app.example", "chrome-extension://abc"});
    EXPECT_TRUE(origin_allowed(p, "http://ai.lan:8080", "ai.lan:8080"));
    EXPECT_TRUE(origin_allowed(p, "http://ai.lan", "ai.lan"));
    EXPECT_TRUE(origin_allowed(p, "https://ai.lan", "ai.lan"));  // behind a proxy that ends TLS
    EXPECT_TRUE(origin_allowed(p, "https://AI.lan", "ai.lan:443"));
    EXPECT_TRUE(origin_allowed(p, "http://localhost:3000", "ai.lan:8080"));
    EXPECT_TRUE(origin_allowed(p, "http://[::1]:3000", "ai.lan:8080"));
    EXPECT_TRUE(origin_allowed(p, "https://app.example", "ai.lan:8080"));
    EXPECT_TRUE(origin_allowed(p, "chrome-extension://abc", "ai.lan:8080"));
    for (std::string_view const bad :
         {"http://app.example", "https://app.example:444", "https://app.example.evil.example", "null",
          "http://ai.lan:8081", "http://evil.example", "file://", "http://", "", "localhost", "ftp://localhost",
          "chrome-extension://abd", "http://localhost@evil.example"}) {
        EXPECT_FALSE(origin_allowed(p, bad, "ai.lan:8080")) << bad;
    }
    EXPECT_TRUE(origin_allowed(policy("ai.lan", {}, {"*"}), "null", "ai.lan"));
}

TEST(AccessPolicy, AnswersAPreflightWithTheHeadersOfTheSdks) {
    EXPECT_EQ(AccessPolicy::allowed_headers(
                  "Authorization, content-type,x-stainless-os , anthropic-version, X-Evil, OpenAI-Beta"),
              "authorization, content-type, x-stainless-os, anthropic-version, openai-beta");
    EXPECT_EQ(AccessPolicy::allowed_headers(""), "");
    EXPECT_EQ(AccessPolicy::allowed_headers(",,  ,cookie"), "");
}

}  // namespace
}  // namespace hearth::http

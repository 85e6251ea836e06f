#include "app/ollama_host.h"

#include <algorithm>

#include <gtest/gtest.h>

namespace hearth::app {
namespace {

Address parse(std::string_view text) {
    auto const address = parse_ollama_host(text);
    EXPECT_TRUE(address.has_value()) << text;
    return address ? *address : Address{"none", 0};
}

TEST(OllamaHost, IsReadAsItsClientsReadIt) {
    EXPECT_EQ(parse(""), (Address{"127.0.0.1", 11434}));
    EXPECT_EQ(parse("1.2.3.4"), (Address{"1.2.3.4", 11434}));
    EXPECT_EQ(parse("example.com:1234"), (Address{"example.com", 1234}));
    EXPECT_EQ(parse(":1234"), (Address{"127.0.0.1", 1234}));
    EXPECT_EQ(parse("[::1]:1234"), (Address{"::1", 1234}));
    EXPECT_EQ(parse("[::1]"), (Address{"::1", 11434}));
    EXPECT_EQ(parse("::1"), (Address{"::1", 11434}));
    EXPECT_EQ(parse("http://example.com"), (Address{"example.com", 80}));
    EXPECT_EQ(parse("https://example.com"), (Address{"example.com", 443}));
    EXPECT_EQ(parse("http://example.com:1234/path"), (Address{"example.com", 1234}));
    EXPECT_EQ(parse(" \"127.0.0.1:0\" "), (Address{"127.0.0.1", 0}));
}

TEST(OllamaHost, RefusesWhatIsNoPort) {
    for (std::string_view const text : {"a:b", "a:", "a:65536", "a:-1", "a:12x", "[::1]x", "[::1]:"})
        EXPECT_FALSE(parse_ollama_host(text).has_value()) << text;
}

TEST(OllamaOrigins, AreThoseNamedBehindTheAppsThatAlwaysMay) {
    auto const none = parse_ollama_origins("");
    ASSERT_TRUE(none);
    EXPECT_TRUE(std::ranges::find(*none, "app://*") != none->end());
    auto some = parse_ollama_origins("\"https://a.example, http://b.example:* ,,*\"");
    ASSERT_TRUE(some);
    some->erase(some->begin(), some->begin() + static_cast<std::ptrdiff_t>(none->size()));
    EXPECT_EQ(*some, (std::vector<std::string>{"https://a.example", "http://b.example:*", "*"}));
}

TEST(OllamaOrigins, ThatCouldNeverComeAreNamed) {
    auto const refused = parse_ollama_origins("https://a.example,http://*.lan:*");
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, Code::invalid_argument);
    EXPECT_TRUE(refused.error().message.starts_with("OLLAMA_ORIGINS: ")) << refused.error().message;
    EXPECT_NE(refused.error().message.find("'http://*.lan:*'"), std::string::npos) << refused.error().message;
}

TEST(OllamaOrigins, HaveALimit) {
    std::string many;
    for (std::size_t i = 0; i <= kOllamaOriginsMax; ++i) many += "https://a.example,";
    auto const refused = parse_ollama_origins(many);
    ASSERT_FALSE(refused);
    EXPECT_NE(refused.error().message.find("the limit is 256"), std::string::npos) << refused.error().message;
}

}  // namespace
}  // namespace hearth::app

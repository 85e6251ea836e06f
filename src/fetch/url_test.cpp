#include "fetch/url.h"

#include <gtest/gtest.h>

namespace hearth::fetch {
namespace {

TEST(Url, ReadsWhatPeopleWrite) {
    auto const url = parse_url("HTTPS://Example.org/a/b.gguf?download=true#top");
    ASSERT_TRUE(url) << url.error().message;
    EXPECT_EQ(*url, (Url{true, "example.org", 443, "/a/b.gguf?download=true"}));
    EXPECT_EQ(url->origin(), "https://example.org:443");
    EXPECT_EQ(url->text(), "https://example.org/a/b.gguf?download=true");
    EXPECT_EQ(url->text_without_query(), "https://example.org/a/b.gguf");
    EXPECT_EQ(url->file_name(), "b.gguf");
    auto const six = parse_url("http://[::1]:8080?x=1");
    ASSERT_TRUE(six) << six.error().message;
    EXPECT_EQ(*six, (Url{false, "::1", 8080, "/?x=1"}));
    EXPECT_EQ(six->authority(), "[::1]:8080");
}

TEST(Url, RefusesWhatCouldBeReadTwice) {
    for (auto const* text : {"",
                             "example.org/x",
                             "ftp://example.org/",
                             "file:///etc/passwd",
                             "http://",
                             "http:///x",
                             "http://user@host/",
                             "http://a:b@host/",
                             "http://host:0/",
                             "http://host:65536/",
                             "http://host:8080x/",
                             "http://host:/",
                             "http://ho st/",
                             "http://host\\@evil/",
                             "http://host/\r\nX: y",
                             "http://h\xc3\xb6st/",
                             "http://[::1/",
                             "http://[::1]x/",
                             "http://[127.0.0.1]/",
                             "http://2130706433/",
                             "http://0x7f.1/",
                             "http://127.1/",
                             "http://127.0.0.01/",
                             "http://a..b/",
                             "http://.a/",
                             "http://[fe80::1%25eth0]/"}) {
        EXPECT_FALSE(parse_url(text)) << text;
    }
    auto const long_one = parse_url("http://host/" + std::string(kUrlBytesMax, 'x'));
    ASSERT_FALSE(long_one);
    EXPECT_NE(long_one.error().message.find("8192"), std::string::npos) << long_one.error().message;
}

TEST(Url, ResolvesLocations) {
    auto const base = parse_url("https://host:8443/a/b/c?q=1");
    ASSERT_TRUE(base);
    struct Case {
        char const* reference;
        char const* expected;
    };
    for (auto const& [reference, expected] :
         {Case{"http://other/x", "http://other/x"}, Case{"//other/x", "https://other/x"},
          Case{"/x?y=z", "https://host:8443/x?y=z"}, Case{"x", "https://host:8443/a/b/x"},
          Case{"../x", "https://host:8443/a/x"}, Case{"../../../../x", "https://host:8443/x"},
          Case{"?z", "https://host:8443/a/b/c?z"}, Case{"./", "https://host:8443/a/b/"}}) {
        auto const url = resolve_url(*base, reference);
        ASSERT_TRUE(url) << reference << ": " << url.error().message;
        EXPECT_EQ(url->text(), expected) << reference;
    }
    EXPECT_FALSE(resolve_url(*base, ""));
    EXPECT_FALSE(resolve_url(*base, "javascript:alert(1)"));
}

TEST(Url, EncodesAndDecodes) {
    EXPECT_EQ(encode_path("a b/\xc3\xa4+?"), "a%20b/%C3%A4%2B%3F");
    EXPECT_EQ(encode_component("a/b:c"), "a%2Fb%3Ac");
    EXPECT_EQ(parse_url("http://h/a%2Fb%zz%41")->file_name(), "a/b%zzA");
}

TEST(Url, KnowsLoopbackByName) {
    for (auto const* text : {"http://localhost/", "http://127.9.9.9/", "http://[::1]/", "http://a.localhost/"})
        EXPECT_TRUE(names_loopback(*parse_url(text))) << text;
    for (auto const* text : {"http://127.evil.org/", "http://localhost.evil.org/", "http://10.0.0.1/", "http://[::]/"})
        EXPECT_FALSE(names_loopback(*parse_url(text))) << text;
}

}  // namespace
}  // namespace hearth::fetch

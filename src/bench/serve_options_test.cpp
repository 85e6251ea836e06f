#include <gtest/gtest.h>

#include <set>

#include "bench/serve.h"

namespace hearth::bench {
namespace {

TEST(ServeOptions, TheDefaultsAreValid) { EXPECT_TRUE(check(ServeOptions{})); }

TEST(ServeOptions, EveryOptionHasANameOfItsOwnAndHelp) {
    std::set<std::string_view> names;
    for (auto const& spec : serve_option_table()) {
        EXPECT_TRUE(names.insert(spec.name).second) << spec.name;
        EXPECT_FALSE(spec.help.empty()) << spec.name;
    }
}

TEST(ServeOptions, AreSetByName) {
    ServeOptions o;
    for (auto const& [name, value] :
         std::initializer_list<std::pair<char const*, char const*>>{{"mode", "poisson"},
                                                                    {"rate", "2.5"},
                                                                    {"concurrency", "16"},
                                                                    {"endpoint", "completions"},
                                                                    {"stop-at-eos", ""},
                                                                    {"server-pid", "42"},
                                                                    {"url", "http://[::1]:9/x/"},
                                                                    {"keep-text", ""},
                                                                    {"slo-ttft", "200"}}) {
        auto const status = set_option(o, name, value);
        ASSERT_TRUE(status) << status.error().message;
    }
    EXPECT_EQ(o.mode, Mode::poisson);
    EXPECT_DOUBLE_EQ(o.rate_per_s, 2.5);
    EXPECT_EQ(o.concurrency, 16U);
    EXPECT_EQ(o.endpoint, Endpoint::completions);
    EXPECT_FALSE(o.ignore_eos);
    EXPECT_TRUE(o.keep_text);
    EXPECT_EQ(o.server_pid, 42);
    EXPECT_TRUE(check(o));
}

TEST(ServeOptions, WhatDoesNotFitIsRefusedByName) {
    for (auto const& [name, value] :
         std::initializer_list<std::pair<char const*, char const*>>{{"mode", "open"},
                                                                    {"rate", "fast"},
                                                                    {"concurrency", "-1"},
                                                                    {"concurrency", "4x"},
                                                                    {"endpoint", "embeddings"},
                                                                    {"requests", "99999999999"},
                                                                    {"frobnicate", "1"}}) {
        ServeOptions o;
        auto const status = set_option(o, name, value);
        ASSERT_FALSE(status) << name << " " << value;
        EXPECT_EQ(status.error().param, name);
    }
}

TEST(ServeOptions, LimitsAreQuotedWithTheValueGiven) {
    auto const message = [](auto change) {
        ServeOptions o;
        change(o);
        auto const status = check(o);
        return status ? std::string("accepted") : status.error().param + ": " + status.error().message;
    };
    EXPECT_EQ(message([](auto& o) { o.concurrency = 5000; }), "concurrency: --concurrency must be 1 to 4096, got 5000");
    EXPECT_EQ(message([](auto& o) { o.rate_per_s = 0; }).substr(0, 12), "rate: --rate");
    EXPECT_EQ(message([](auto& o) { o.rate_per_s = std::numeric_limits<double>::quiet_NaN(); }).substr(0, 12),
              "rate: --rate");
    EXPECT_EQ(message([](auto& o) { o.requests = 1'000'000; }).substr(0, 9), "requests:");
    EXPECT_EQ(message([](auto& o) { o.mode = Mode::replay; }).substr(0, 6), "trace:");
    EXPECT_EQ(message([](auto& o) { o.duration_s = -1; }), "duration: --duration must be 0 to 86400, got -1");
    EXPECT_EQ(message([](auto& o) {
                  o.mode = Mode::interference;
                  o.duration_s = 1;
              }).substr(0, 9),
              "duration:");
    EXPECT_EQ(message([](auto& o) { o.trace = "x.csv"; }).substr(0, 6), "trace:");
    EXPECT_EQ(message([](auto& o) { o.extra_body = "[1]"; }).substr(0, 11), "extra-body:");
    EXPECT_EQ(message([](auto& o) { o.url = "https://x"; }).substr(0, 4), "url:");
    EXPECT_EQ(message([](auto& o) { o.api_key = "a\r\nb"; }).substr(0, 8), "api-key:");
    EXPECT_EQ(message([](auto& o) {
                  o.prompts_file = "p";
                  o.prefix_groups = 1;
              }).substr(0, 8),
              "prompts:");
}

TEST(ServeOptions, UrlsAreSplit) {
    auto const plain = parse_url("http://localhost:8080");
    ASSERT_TRUE(plain);
    EXPECT_EQ(plain->host, "localhost");
    EXPECT_EQ(plain->port, 8080);
    EXPECT_EQ(plain->prefix, "");
    EXPECT_EQ(plain->authority, "localhost:8080");
    auto const prefixed = parse_url("http://[::1]/api/");
    ASSERT_TRUE(prefixed);
    EXPECT_EQ(prefixed->host, "::1");
    EXPECT_EQ(prefixed->port, 80);
    EXPECT_EQ(prefixed->prefix, "/api");
    EXPECT_EQ(prefixed->authority, "[::1]:80");
    for (auto url : {"", "localhost:8080", "https://x", "http://", "http://:80", "http://x:0", "http://x:99999",
                     "http://x:8o", "http://a b/", "http://x/\r\nEvil: 1", "http://user@x/"}) {
        EXPECT_FALSE(parse_url(url)) << url;
    }
}

}  // namespace
}  // namespace hearth::bench

#include "bench/sse_scanner.h"

#include <gtest/gtest.h>

#include <string>

namespace hearth::bench {
namespace {

// What llama-server sends for a chat, shortened.
constexpr std::string_view kChat =
    "data: "
    "{\"choices\":[{\"finish_reason\":null,\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":null}}],\"id\":"
    "\"c\"}\n\n"
    ": ping\n\n"
    "data: {\"choices\":[{\"finish_reason\":null,\"index\":0,\"delta\":{\"content\":\"Say "
    "\\\"\\u00e9\"}}],\"id\":\"c\"}\n\n"
    "data: {\"choices\":[{\"finish_reason\":null,\"index\":0,\"delta\":{\"content\":\"\"}}],\"id\":\"c\"}\n\n"
    "data: "
    "{\"choices\":[{\"finish_reason\":null,\"index\":0,\"delta\":{\"content\":\"\\n\\ud83d\\ude00!\"}}],\"id\":\"c\"}"
    "\r\n\r\n"
    "data: {\"choices\":[{\"finish_reason\":\"length\",\"index\":0,\"delta\":{}}],\"id\":\"c\"}\n\n"
    "data: {\"choices\":[],\"id\":\"c\",\"usage\":{\"completion_tokens\":5,\"prompt_tokens\":36,\"total_tokens\":41,"
    "\"prompt_tokens_details\":{\"cached_tokens\":7}}}\n\n"
    "data: [DONE]\n\n";

void expect_chat(SseScanner const& s, std::uint32_t events, std::string const& where) {
    EXPECT_EQ(events, 2U) << where;
    EXPECT_TRUE(s.done()) << where;
    EXPECT_FALSE(s.failed()) << where;
    EXPECT_EQ(s.text(), "Say \"\xC3\xA9\n\xF0\x9F\x98\x80!") << where;
    EXPECT_EQ(s.finish_reason(), "length") << where;
    EXPECT_EQ(s.error(), "") << where;
    ASSERT_TRUE(s.usage().has_value()) << where;
    EXPECT_EQ(s.usage()->completion_tokens, 5U) << where;
    EXPECT_EQ(s.usage()->prompt_tokens, 36U) << where;
    EXPECT_EQ(s.usage()->cached_tokens, 7U) << where;
}

TEST(SseScanner, CountsOnlyEventsWithOutputWhereverTheBytesAreSplit) {
    for (std::size_t cut = 0; cut <= kChat.size(); ++cut) {
        SseScanner s(KeepText::yes);
        auto events = s.feed(kChat.substr(0, cut));
        events += s.feed(kChat.substr(cut));
        expect_chat(s, events, "split at " + std::to_string(cut));
    }
}

TEST(SseScanner, ReadsAStreamFedByteByByte) {
    SseScanner s(KeepText::yes);
    std::uint32_t events = 0;
    for (auto const& byte : kChat) events += s.feed({&byte, 1});
    expect_chat(s, events, "bytes");
}

TEST(SseScanner, KeepsNoTextUnlessAsked) {
    SseScanner s;
    EXPECT_EQ(s.feed(kChat), 2U);
    EXPECT_EQ(s.text(), "");
}

TEST(SseScanner, CompletionsCarryTheirOutputInText) {
    SseScanner s(KeepText::yes);
    EXPECT_EQ(
        s.feed("data: {\"choices\":[{\"text\": \" it\",\"index\":0,\"logprobs\":null,\"finish_reason\":null}]}\n\n"),
        1U);
    EXPECT_EQ(
        s.feed(
            "data: {\"choices\":[{\"text\":\"\",\"index\":0,\"logprobs\":null,\"finish_reason\":\"stop\"}],\"usage\":"
            "{\"completion_tokens\":1,\"prompt_tokens\":2}}\n\n"),
        0U);
    EXPECT_EQ(s.text(), " it");
    EXPECT_EQ(s.finish_reason(), "stop");
    EXPECT_EQ(s.usage()->prompt_tokens, 2U);
}

TEST(SseScanner, ThinkingIsOutputToo) {
    SseScanner s(KeepText::yes);
    EXPECT_EQ(s.feed("data: {\"choices\":[{\"delta\":{\"content\":null,\"reasoning_content\":\"hm\"}}]}\n\n"), 1U);
    EXPECT_EQ(s.text(), "hm");
}

TEST(SseScanner, KeysInsideTheTextOrInLogprobsAreNotMistakenForOutput) {
    SseScanner s(KeepText::yes);
    EXPECT_EQ(s.feed("data: {\"logprobs\":{\"content\":[{\"token\":\"x\"}]},\"delta\":{}}\n\n"), 0U);
    EXPECT_EQ(s.feed("data: {\"delta\":{\"note\":\"{\\\"content\\\":\\\"x\\\",\\\"usage\\\":{\\\"a\\\":1}}\"}}\n\n"),
              0U);
    EXPECT_EQ(s.feed("data: {\"delta\":{\"my_content\":\"x\",\"content\":\"\"}}\n\n"), 0U);
    EXPECT_FALSE(s.usage().has_value());
    EXPECT_EQ(s.text(), "");
}

TEST(SseScanner, NullUsageInEveryEventIsNoUsage) {
    SseScanner s;
    EXPECT_EQ(s.feed("data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}],\"usage\":null}\n\n"), 1U);
    EXPECT_FALSE(s.usage().has_value());
}

TEST(SseScanner, AnErrorInsideTheStreamIsRemembered) {
    SseScanner s;
    s.feed("data: {\"error\":{\"message\":\"engine lost\",\"code\":\"engine_lost\"}}\n\n");
    EXPECT_EQ(s.error(), "engine lost");
    SseScanner t;
    t.feed("data: {\"error\":\"plain\"}\n\n");
    EXPECT_EQ(t.error(), "plain");
    SseScanner u;
    u.feed("data: {\"error\":null,\"choices\":[{\"delta\":{}}]}\n\n");
    EXPECT_EQ(u.error(), "");
}

TEST(SseScanner, ALineBeyondItsLimitFails) {
    SseScanner s;
    std::string const part(1U << 20, 'a');
    for (int i = 0; i < 5; ++i) s.feed(part);
    EXPECT_TRUE(s.failed());
}

TEST(SseScanner, KeptTextIsBoundedAndSaysSo) {
    SseScanner s(KeepText::yes);
    auto const event = "data: {\"delta\":{\"content\":\"" + std::string(1U << 20, 'a') + "\"}}\n\n";
    for (int i = 0; i < 8; ++i) EXPECT_EQ(s.feed(event), 1U);
    EXPECT_TRUE(s.text_cut());
    EXPECT_LE(s.text().size(), SseScanner::kTextBytesMax + (1U << 20));
}

TEST(SseScanner, BrokenEscapesInTextEndInReplacementsNotInErrors) {
    for (auto const& [json, text] : {std::pair<std::string, std::string>{"a\\ud800b\"",
                                                                         "a\xEF\xBF\xBD"
                                                                         "b"},
                                     {"\\uZZZZ\"", "\xEF\xBF\xBDZZZZ"},
                                     {"\\ud83d\\u0041\"",
                                      "\xEF\xBF\xBD"
                                      "A"},
                                     {"open", "open"},
                                     {"end\\", "end"},
                                     {"\\t\\r\\b\\f\\/\\\\\"", "\t\r\b\f/\\"}}) {
        std::string out;
        append_json_string(json, out);
        EXPECT_EQ(out, text) << json;
    }
}

}  // namespace
}  // namespace hearth::bench

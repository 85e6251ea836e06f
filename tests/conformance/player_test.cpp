// A runner that cannot fail would make every case green: these are the failures
// it must see.
#include "player.h"

#include <gtest/gtest.h>

namespace hearth::conformance {
namespace {

test::HttpAnswer stream(std::string body) {
    test::HttpAnswer answer;
    answer.status = 200;
    answer.headers = {{"content-type", "text/event-stream"}, {"x-request-id", "r1"}};
    answer.body = std::move(body);
    return answer;
}

std::string check(std::string expected, test::HttpAnswer const& answer) {
    Expected e;
    e.status = 200;
    e.body = std::move(expected);
    return difference(e, answer);
}

constexpr std::string_view kStream = "data: {\"a\":1}\n\n: ping\n\ndata: {\"a\":2}\n\ndata: [DONE]\n\n";

TEST(Difference, ComparesStreamsEventByEvent) {
    auto const answer = stream(std::string(kStream));
    EXPECT_EQ(check("data: {\"a\": 1}\n: ping\ndata: {\"a\":\n  2}\ndata: [DONE]\n", answer), "");
    EXPECT_NE(check("data: {\"a\": 1}\ndata: {\"a\": 2}\ndata: [DONE]\n", answer), "") << "a comment is an event too";
    EXPECT_NE(check("data: {\"a\": 1}\n: ping\ndata: {\"a\": 2}\n", answer), "") << "one too many came";
    EXPECT_NE(check(std::string("data: {\"a\": 1}\n: ping\ndata: {\"a\": 2}\ndata: [DONE]\ndata: [DONE]\n"), answer),
              "")
        << "one is missing";
    EXPECT_EQ(check("data: {\"a\": 1}\n...\ndata: [DONE]\n", answer), "");
    EXPECT_EQ(check("...\n", answer), "");
    EXPECT_NE(check("...\ndata: {\"a\": 3}\n...\n", answer), "");
    EXPECT_NE(check("data: {\"a\": 1}\n...\n", stream("data: {\"a\":1}")), "") << "an event without its end";
}

TEST(Difference, ChecksWhatHoldsForEveryAnswer) {
    auto answer = stream(std::string(kStream));
    answer.headers.pop_back();
    EXPECT_EQ(check("...\n", answer), "no x-request-id");
    EXPECT_NE(check("...\n", stream("data: {\"error\":{\"message\":\"x\"}}\n\n")), "")
        << "an error without code, hint, request id";
    auto const error = [](std::string_view id, std::string_view doc) {
        return stream(
            "data: {\"error\":{\"message\":\"m\",\"type\":\"t\",\"param\":null,\"code\":\"c\",\"request_id\":\"" +
            std::string(id) + "\",\"hint\":\"h\",\"doc\":\"/docs/errors#" + std::string(doc) + "\"}}\n\n");
    };
    EXPECT_EQ(check("...\n", error("r1", "c")), "");
    EXPECT_NE(check("...\n", error("r2", "c")), "") << "another request id";
    EXPECT_NE(check("...\n", error("r1", "d")), "") << "another anchor";
}

TEST(Difference, ComparesStatusTypeAndHeaders) {
    test::HttpAnswer answer;
    answer.status = 200;
    answer.headers = {
        {"content-type", "application/json; charset=utf-8"}, {"x-request-id", "r1"}, {"retry-after", "5"}};
    answer.body = "{}";
    Expected expected;
    expected.status = 200;
    expected.body = "{}";
    EXPECT_EQ(difference(expected, answer), "");
    expected.content_type = "application/json";
    EXPECT_EQ(difference(expected, answer), "");
    expected.headers = {{"retry-after", "..."}, {"x-other", "-"}};
    EXPECT_EQ(difference(expected, answer), "");
    expected.headers = {{"retry-after", "-"}};
    EXPECT_NE(difference(expected, answer), "");
    expected.headers = {{"retry-after", "6"}};
    EXPECT_NE(difference(expected, answer), "");
    expected.headers = {{"missing", "..."}};
    EXPECT_NE(difference(expected, answer), "");
    expected.headers.clear();
    expected.content_type = "text/plain";
    EXPECT_NE(difference(expected, answer), "");
    expected.content_type.clear();
    expected.status = 400;
    EXPECT_NE(difference(expected, answer), "");
}

TEST(ExpectationFor, MatchesTheAnswerItWasMadeFrom) {
    auto const answer = stream(std::string(kStream));
    EXPECT_EQ(expectation_for({}, answer),
              "200 text/event-stream\ndata: {\"a\": 1}\n: ping\ndata: {\"a\": 2}\ndata: [DONE]\n");
}

std::string play(std::string_view text) {
    auto const file = CaseFile::parse("x.case", text);
    auto const outcome = Player(file).play();
    std::string all;
    for (auto const& failure : outcome.failures) all += failure + "\n";
    return all;
}

TEST(Player, PassesATrueCaseAndFailsAFalseOne) {
    EXPECT_EQ(play("GET /livez\n----\n200 application/json\n{\"status\": \"ok\"}\n"), "");
    EXPECT_EQ(play("GET /livez\n----\n200 application/json\n{\"status\": \"bad\"}\n"),
              "x.case:1: $.status: expected \"bad\", got \"ok\"\n");
    EXPECT_EQ(play("frobnicate\nGET /livez\n----\n200\n...\n"),
              "x.case:1: frobnicate : no step is called 'frobnicate'\n");
    EXPECT_EQ(play("receive a\n----\n200\n...\n"), "x.case:1: receive a: nothing was started as 'a'\n");
    EXPECT_EQ(play("livez\n====\nreceive a\n----\n200\n...\n"), "x.case:1: livez : no step is called 'livez'\n")
        << "the case ends at the first step that cannot be done";
    EXPECT_THROW(play("set frobnicate 1\nGET /livez\n----\n200\n...\n"), std::runtime_error);
}

// Each of these would wait for ever.
TEST(Player, FailsAStepWhoseWaitDoesNotEnd) {
    constexpr std::string_view kHeld = "set patience_ms 50\nset hold_at 0\n";
    auto const held = [&](std::string_view steps) { return play(std::string(kHeld) + std::string(steps)); };
    EXPECT_EQ(held("await inside=1\n"), "x.case:3: await inside=1: awaited inside=1 for 50 ms, it is 0\n");
    EXPECT_EQ(held("POST /v1/completions {\"prompt\": \"x\"}\n----\n200\n...\n"),
              "x.case:3: POST /v1/completions: time is over; not read yet: ''\n");
    EXPECT_EQ(held("start a POST /v1/completions {\"prompt\": \"x\"}\nreceive a\n----\n200\n...\n"),
              "x.case:4: receive a: time is over; not read yet: ''\n");
    EXPECT_EQ(held("raw \"GET /livez HTTP/1.1\\r\\n\"\n----\n200\n...\n"),
              "x.case:3: raw \"GET /livez HTTP/1.1\\r\\n\": time is over; not read yet: ''\n");
}

TEST(Player, FailsAWaitForAStreamThatOnlyPings) {
    auto const failure = play(
        "set patience_ms 50\nset hold_at 0\nset ping_ms 1\n"
        "start a POST /v1/completions {\"prompt\": \"x\", \"stream\": true}\nevents a 100000\n");
    EXPECT_TRUE(failure.starts_with("x.case:5: events a 100000: time is over; not read yet: ")) << failure;
    EXPECT_NE(failure.find("after these events: : ping\n\n"), std::string::npos) << failure;
}

}  // namespace
}  // namespace hearth::conformance

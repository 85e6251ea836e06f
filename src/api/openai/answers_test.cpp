#include "api/openai/answers.h"

#include <limits>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace hearth::api::openai {
namespace {

using Json = nlohmann::json;

Identity identity() { return {"chatcmpl-1", 1700000000, "m", "fp_x", "req-1"}; }

AnswerShape shape(Surface surface, std::uint32_t choices = 1) {
    AnswerShape shape;
    shape.surface = surface;
    shape.choices = choices;
    return shape;
}

// The payloads of the data events, comments and [DONE] left out.
std::vector<Json> events(std::string const& stream) {
    std::vector<Json> found;
    std::size_t at = 0;
    while (at < stream.size()) {
        auto const end = stream.find("\n\n", at);
        EXPECT_NE(end, std::string::npos) << "unfinished event";
        if (end == std::string::npos) break;
        auto const line = stream.substr(at, end - at);
        EXPECT_EQ(line.find('\n'), std::string::npos) << "one line per event";
        if (line.starts_with("data: {")) found.push_back(Json::parse(line.substr(6)));
        at = end + 2;
    }
    return found;
}

domain::Delta delta(std::string text, std::uint32_t choice = 0) { return {choice, 1, std::move(text), {}}; }

domain::SampledLogprob sampled(std::string bytes, float logprob, std::vector<domain::TokenLogprob> top = {}) {
    return {{7, logprob, std::move(bytes)}, std::move(top)};
}

Totals totals() {
    domain::Timings timings;
    timings.cache_n = 2;
    timings.prompt_n = 8;
    timings.prompt_ms = 4;
    timings.predicted_n = 2;
    timings.predicted_ms = 10;
    timings.queue_ms = 1;
    return {{10, 2, 3}, timings, {}};
}

TEST(OpenAiStream, WritesAChatFromRoleToDone) {
    auto const stream = make_stream_answer(identity(), shape(Surface::chat));
    std::string out;
    stream->begin(out);
    stream->delta(out, 0, delta("Hi \"you\"\n"));
    stream->choice_done(out, 0, domain::FinishReason::stop);
    stream->end(out, totals());
    EXPECT_TRUE(out.ends_with("data: [DONE]\n\n"));
    auto const chunks = events(out);
    ASSERT_EQ(chunks.size(), 3U);
    for (auto const& chunk : chunks) {
        EXPECT_EQ(chunk["id"], "chatcmpl-1");
        EXPECT_EQ(chunk["object"], "chat.completion.chunk");
        EXPECT_EQ(chunk["created"], 1700000000);
        EXPECT_EQ(chunk["model"], "m");
        EXPECT_EQ(chunk["system_fingerprint"], "fp_x");
        EXPECT_FALSE(chunk.contains("usage"));
    }
    EXPECT_EQ(
        chunks[0]["choices"],
        Json::parse(R"([{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}])"));
    EXPECT_EQ(chunks[1]["choices"],
              Json::parse(R"([{"index":0,"delta":{"content":"Hi \"you\"\n"},"logprobs":null,"finish_reason":null}])"));
    EXPECT_EQ(chunks[2]["choices"], Json::parse(R"([{"index":0,"delta":{},"logprobs":null,"finish_reason":"stop"}])"));
    EXPECT_FALSE(chunks[1].contains("timings"));
    EXPECT_EQ(chunks[2]["timings"]["predicted_per_second"], 200);
    EXPECT_EQ(chunks[2]["timings"]["prompt_per_token_ms"], 0.5);
}

TEST(OpenAiStream, PutsUsageInAChunkOfItsOwnAndNullInTheOthers) {
    auto with_usage = shape(Surface::chat);
    with_usage.include_usage = true;
    auto const stream = make_stream_answer(identity(), with_usage);
    std::string out;
    stream->begin(out);
    stream->delta(out, 0, delta("x"));
    stream->choice_done(out, 0, domain::FinishReason::length);
    stream->end(out, totals());
    auto const chunks = events(out);
    ASSERT_EQ(chunks.size(), 4U);
    for (std::size_t i = 0; i < 3; ++i) EXPECT_TRUE(chunks[i].contains("usage") && chunks[i]["usage"].is_null()) << i;
    EXPECT_EQ(chunks[2]["choices"][0]["finish_reason"], "length");
    EXPECT_EQ(chunks[3]["choices"], Json::array());
    EXPECT_EQ(chunks[3]["usage"], Json::parse(R"({"prompt_tokens":10,"completion_tokens":3,"total_tokens":13,
        "prompt_tokens_details":{"cached_tokens":2,"audio_tokens":0},
        "completion_tokens_details":{"reasoning_tokens":0,"audio_tokens":0,
        "accepted_prediction_tokens":0,"rejected_prediction_tokens":0}})"));
    EXPECT_TRUE(chunks[3].contains("timings")) << "on the last chunk";
    EXPECT_FALSE(chunks[2].contains("timings"));
}

TEST(OpenAiStream, EndsAChoiceAtOnceWhileOthersGoOn) {
    auto const stream = make_stream_answer(identity(), shape(Surface::chat, 2));
    std::string out;
    stream->begin(out);
    EXPECT_EQ(events(out).size(), 2U) << "a role chunk for each choice";
    out.clear();
    stream->choice_done(out, 1, domain::FinishReason::stop);
    ASSERT_EQ(events(out).size(), 1U);
    EXPECT_EQ(events(out)[0]["choices"][0]["index"], 1);
    out.clear();
    stream->choice_done(out, 0, domain::FinishReason::stop);
    EXPECT_EQ(out, "") << "waits for the timings";
    stream->end(out, totals());
    ASSERT_EQ(events(out).size(), 1U);
    EXPECT_EQ(events(out)[0]["choices"][0]["index"], 0);
}

TEST(OpenAiStream, SkipsDeltasThatSayNothing) {
    auto const stream = make_stream_answer(identity(), shape(Surface::chat));
    std::string out;
    stream->delta(out, 0, delta(""));
    EXPECT_EQ(out, "");
}

TEST(OpenAiStream, WritesChatLogprobs) {
    auto with_logprobs = shape(Surface::chat);
    with_logprobs.logprobs = true;
    auto const stream = make_stream_answer(identity(), with_logprobs);
    std::string out;
    auto event = delta("a");
    event.logprobs = {sampled("a", -0.5F, {{7, -0.5F, "a"}, {8, -std::numeric_limits<float>::infinity(), "\xE2\x82"}})};
    stream->delta(out, 0, event);
    auto const chunks = events(out);
    ASSERT_EQ(chunks.size(), 1U);
    EXPECT_EQ(chunks[0]["choices"][0]["delta"]["content"], "a");
    EXPECT_EQ(chunks[0]["choices"][0]["logprobs"],
              Json::parse(R"({"content":[{"token":"a","logprob":-0.5,"bytes":[97],"top_logprobs":[
        {"token":"a","logprob":-0.5,"bytes":[97]},{"token":"\ufffd","logprob":-9999.0,"bytes":[226,130]}]}],
        "refusal":null})"));
    EXPECT_EQ(chunks[0]["choices"][0]["finish_reason"], nullptr);
}

TEST(OpenAiStream, WritesTextCompletionsWithRunningOffsets) {
    auto with_logprobs = shape(Surface::text);
    with_logprobs.logprobs = true;
    auto const stream = make_stream_answer(identity(), with_logprobs);
    std::string out;
    stream->begin(out);
    EXPECT_EQ(out, "") << "no role in text";
    auto first = delta("h\xC3\xA9");
    first.logprobs = {sampled("h", -1), sampled("\xC3\xA9", -2)};
    auto second = delta("!");
    second.logprobs = {sampled("!", -3, {{9, -0.25F, "?"}})};
    stream->delta(out, 0, first);
    stream->delta(out, 0, second);
    stream->choice_done(out, 0, domain::FinishReason::stop);
    stream->end(out, totals());
    auto const chunks = events(out);
    ASSERT_EQ(chunks.size(), 3U);
    EXPECT_EQ(chunks[0]["object"], "text_completion");
    EXPECT_EQ(chunks[0]["choices"][0]["text"], "h\xC3\xA9");
    EXPECT_EQ(chunks[0]["choices"][0]["logprobs"]["text_offset"], Json::parse("[0,1]"));
    EXPECT_EQ(chunks[0]["choices"][0]["logprobs"]["tokens"], Json::parse("[\"h\",\"\u00e9\"]"));
    EXPECT_EQ(chunks[1]["choices"][0]["logprobs"], Json::parse(R"({"tokens":["!"],"token_logprobs":[-3.0],
        "top_logprobs":[{"?":-0.25,"!":-3.0}],"text_offset":[2]})"));
    EXPECT_EQ(chunks[2]["choices"], Json::parse(R"([{"index":0,"text":"","logprobs":null,"finish_reason":"stop"}])"));
}

TEST(OpenAiStream, EchoesThePromptOfEachChoice) {
    auto echoing = shape(Surface::text, 2);
    echoing.generations = 2;
    echoing.echoes = {"one", "two"};
    auto const stream = make_stream_answer(identity(), echoing);
    std::string out;
    stream->begin(out);
    auto const chunks = events(out);
    ASSERT_EQ(chunks.size(), 4U);
    EXPECT_EQ(chunks[1]["choices"][0]["text"], "one");
    EXPECT_EQ(chunks[2]["choices"][0]["text"], "two");
    EXPECT_EQ(chunks[3]["choices"][0]["index"], 3);
}

TEST(OpenAiStream, WritesErrorsInBandWithoutDone) {
    auto const stream = make_stream_answer(identity(), shape(Surface::chat));
    std::string out;
    Problem problem;
    problem.kind = Kind::engine_lost;
    problem.message = "lost";
    stream->fail(out, problem);
    auto const chunks = events(out);
    ASSERT_EQ(chunks.size(), 1U);
    EXPECT_EQ(chunks[0]["error"]["code"], "engine_lost");
    EXPECT_EQ(chunks[0]["error"]["request_id"], "req-1");
    EXPECT_EQ(out.find("[DONE]"), std::string::npos);
}

TEST(OpenAiStream, PingsInComments) {
    auto const stream = make_stream_answer(identity(), shape(Surface::chat));
    std::string out;
    stream->ping(out, {});
    stream->ping(out, {3, std::nullopt});
    EXPECT_EQ(out, ": ping\n\n: waiting, 3 ahead\n\n");
}

TEST(OpenAiStream, ReportsPromptProgress) {
    auto const stream = make_stream_answer(identity(), shape(Surface::chat));
    std::string out;
    stream->progress(out, 0, {100, 10, 60, 1.5});
    auto const chunks = events(out);
    ASSERT_EQ(chunks.size(), 1U);
    EXPECT_EQ(chunks[0]["prompt_progress"], Json::parse(R"({"total":100,"cache":10,"processed":60,"time_ms":1.5})"));
    EXPECT_EQ(chunks[0]["choices"][0]["delta"], Json::object());
}

TEST(OpenAiStream, IsValidJsonWhateverTheNames) {
    auto hostile = identity();
    hostile.model = "a\"b\\{}\n\xFF";
    auto const stream = make_stream_answer(hostile, shape(Surface::chat));
    std::string out;
    stream->begin(out);
    stream->delta(out, 0, delta("{}\u2028"));
    stream->choice_done(out, 0, domain::FinishReason::stop);
    stream->end(out, totals());
    for (auto const& chunk : events(out)) EXPECT_EQ(chunk["model"], "a\"b\\{}\n\uFFFD");
}

TEST(RenderAnswer, WritesAChatCompletion) {
    Answer answer;
    answer.choices = {{"Hi", {}, domain::FinishReason::stop}, {"Yo", {}, domain::FinishReason::length}};
    answer.totals = totals();
    auto const body = Json::parse(render_answer(identity(), shape(Surface::chat, 2), answer));
    EXPECT_EQ(body["object"], "chat.completion");
    EXPECT_EQ(body["choices"], Json::parse(R"([
        {"index":0,"message":{"role":"assistant","content":"Hi","refusal":null,"annotations":[]},
         "logprobs":null,"finish_reason":"stop"},
        {"index":1,"message":{"role":"assistant","content":"Yo","refusal":null,"annotations":[]},
         "logprobs":null,"finish_reason":"length"}])"));
    EXPECT_EQ(body["usage"]["total_tokens"], 13);
    EXPECT_EQ(body["timings"]["cache_n"], 2);
    EXPECT_EQ(body["service_tier"], "default");
}

TEST(RenderAnswer, WritesATextCompletionWithEchoAndLogprobs) {
    Answer answer;
    answer.choices = {{"b", {sampled("b", -1)}, domain::FinishReason::stop}};
    auto echoing = shape(Surface::text);
    echoing.echoes = {"a"};
    EXPECT_EQ(Json::parse(render_answer(identity(), echoing, answer))["choices"],
              Json::parse(R"([{"index":0,"text":"ab","logprobs":null,"finish_reason":"stop"}])"));
    auto with_logprobs = shape(Surface::text);
    with_logprobs.logprobs = true;
    auto const body = Json::parse(render_answer(identity(), with_logprobs, answer));
    EXPECT_EQ(body["choices"][0]["logprobs"]["token_logprobs"], Json::parse("[-1.0]"));
    EXPECT_FALSE(body.contains("timings")) << "with several prompts there are none";
}

TEST(Fingerprint, IsStableAndTellsModelsAndBuildsApart) {
    EXPECT_EQ(fingerprint("b1", "m"), fingerprint("b1", "m"));
    EXPECT_NE(fingerprint("b1", "m"), fingerprint("b2", "m"));
    EXPECT_NE(fingerprint("b1", "m"), fingerprint("b1", "n"));
    EXPECT_EQ(fingerprint("b1", "m").size(), 13U);
}

TEST(OpenAiAnswer, NamesTheTierItGot) {
    auto chat = shape(Surface::chat);
    chat.priority = domain::Priority::batch;
    Answer answer;
    answer.choices.resize(1);
    EXPECT_EQ(Json::parse(render_answer(identity(), chat, answer))["service_tier"], "flex");
    auto text = shape(Surface::text);
    EXPECT_FALSE(Json::parse(render_answer(identity(), text, answer)).contains("service_tier"));
    text.tier_asked = true;
    text.priority = domain::Priority::interactive;
    EXPECT_EQ(Json::parse(render_answer(identity(), text, answer))["service_tier"], "priority");
}

TEST(OpenAiStream, SaysWhatWasLeftOutOfThePrompt) {
    auto asked = shape(Surface::chat);
    asked.include_usage = true;
    auto const stream = make_stream_answer(identity(), asked);
    auto cut = totals();
    cut.usage.left_out_tokens = 9;
    cut.usage.context_shifts = 2;
    cut.usage.shifted_tokens = 31;
    std::string out;
    stream->begin(out);
    stream->choice_done(out, 0, domain::FinishReason::stop);
    stream->end(out, cut);
    auto const last = events(out).back();
    EXPECT_EQ(last["usage"]["left_out_tokens"], 9);
    EXPECT_EQ(last["timings"]["truncated"], true);
    EXPECT_EQ(last["usage"]["context_shifts"], 2);
    EXPECT_EQ(last["usage"]["shifted_tokens"], 31);
    EXPECT_EQ(last["timings"]["shift_n"], 2);
    EXPECT_EQ(last["timings"]["shifted_n"], 31);
    EXPECT_EQ(last["timings"]["left_out_n"], 9);
}

TEST(OpenAiStream, TellsWhoWaitsWhereAndHowLong) {
    auto const stream = make_stream_answer(identity(), shape(Surface::chat));
    std::string out;
    stream->ping(out, {});
    stream->ping(out, {3, std::nullopt});
    stream->ping(out, {3, 12});
    stream->ping(out, {3, std::nullopt, 0});
    stream->ping(out, {0, 12, 40});
    EXPECT_EQ(out,
              ": ping\n\n: waiting, 3 ahead\n\n: waiting, 3 ahead, about 12 s\n\n: loading the model, 0 %\n\n"
              ": loading the model, 40 %, about 12 s\n\n");
}

}  // namespace
}  // namespace hearth::api::openai

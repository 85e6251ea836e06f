#include "bench/serve.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <map>
#include <mutex>
#include <nlohmann/json.hpp>
#include <set>

#include "bench/testing/test_server.h"

namespace hearth::bench {
namespace {

using testing::After;
using testing::Peer;
using testing::TestRequest;
using testing::TestServer;
using Json = nlohmann::json;

// A model whose tokens are words: two for a chat template, one per word.
class FakeModel {
public:
    After operator()(TestRequest const& request, Peer const& peer) {
        if (request.path == "/v1/models") return send_json(peer, R"({"data":[{"id":"fake"}]})");
        if (request.path == "/health") return send_json(peer, "{}");
        auto const body = Json::parse(request.body);
        {
            std::lock_guard const lock(mutex_);
            bodies_.push_back(body);
        }
        auto const prompt = text_of(body);
        auto const words = static_cast<std::uint64_t>(std::count(prompt.begin(), prompt.end(), ' ')) + 1;
        peer.write(TestServer::kStreamHead);
        auto const tokens = body["max_tokens"].get<std::uint64_t>();
        for (std::uint64_t i = 0; i < tokens; ++i) {
            if (!peer.write_event(R"({"choices":[{"delta":{"content":"w "}}]})")) return After::close;
        }
        peer.write_event(Json{{"usage", {{"prompt_tokens", words + 2}, {"completion_tokens", tokens}}}}.dump());
        peer.write_event("[DONE]");
        peer.write_chunk("");
        return After::keep;
    }
    static After send_json(Peer const& peer, std::string const& body) {
        peer.write("HTTP/1.1 200 OK\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body);
        return After::keep;
    }
    static std::string text_of(Json const& body) {
        return body.contains("prompt") ? body["prompt"].get<std::string>()
                                       : body["messages"][0]["content"].get<std::string>();
    }
    std::vector<Json> bodies() {
        std::lock_guard const lock(mutex_);
        return bodies_;
    }

private:
    std::mutex mutex_;
    std::vector<Json> bodies_;
};

struct Fixture {
    FakeModel model;
    TestServer server{[this](TestRequest const& r, Peer const& p) { return model(r, p); }};
    ServeOptions options;
    Fixture() {
        options.url = server.url();
        options.requests = 12;
        options.prompt_words = 10;
        options.output_tokens = 5;
        options.warmup = 1;
    }
};

TEST(Serve, AClosedLoopCountsEveryRequestAndToken) {
    Fixture f;
    f.options.concurrency = 4;
    f.options.slo_ttft_ms = 60'000;
    f.options.server_pid = ::getpid();
    auto const report = run_serve(f.options);
    ASSERT_TRUE(report) << report.error().message;
    EXPECT_EQ(report->model, "fake");
    EXPECT_EQ(report->requests, 12U);
    EXPECT_EQ(report->completed, 12U);
    EXPECT_EQ(report->streams_peak, 4U);
    EXPECT_EQ(report->output_tokens, 60U);
    EXPECT_EQ(report->chunks, 60U);
    EXPECT_EQ(report->prompt_tokens, 12U * 12U);
    EXPECT_TRUE(report->tokens_from_usage);
    EXPECT_EQ(report->ttft_ms.count, 12U);
    EXPECT_EQ(report->itl_ms.count, 48U);
    EXPECT_GT(report->output_per_s, 0);
    EXPECT_DOUBLE_EQ(report->goodput_per_s, report->requests_per_s);
    EXPECT_FALSE(report->server_after.processes.empty());
    EXPECT_EQ(f.model.bodies().size(), 13U) << "with the warm-up";
}

TEST(Serve, RequestsCarryWhatTheOptionsSay) {
    Fixture f;
    f.options.requests = 1;
    f.options.warmup = 0;
    f.options.temperature = 0.5;
    f.options.extra_body = R"({"cache_prompt":false,"stream_options":{"include_usage":true,"x":1}})";
    ASSERT_TRUE(run_serve(f.options));
    auto const chat = f.model.bodies().back();
    EXPECT_EQ(chat["model"], "fake");
    EXPECT_EQ(chat["stream"], true);
    EXPECT_EQ(chat["ignore_eos"], true);
    EXPECT_EQ(chat["max_tokens"], 5);
    EXPECT_EQ(chat["temperature"], 0.5);
    EXPECT_EQ(chat["cache_prompt"], false);
    EXPECT_EQ(chat["stream_options"]["x"], 1);
    EXPECT_EQ(chat["messages"][0]["role"], "user");

    f.options.endpoint = Endpoint::completions;
    f.options.ignore_eos = false;
    f.options.model = "other";
    ASSERT_TRUE(run_serve(f.options));
    auto const completion = f.model.bodies().back();
    EXPECT_TRUE(completion["prompt"].is_string());
    EXPECT_FALSE(completion.contains("ignore_eos"));
    EXPECT_FALSE(completion.contains("messages"));
    EXPECT_EQ(completion["model"], "other");
}

TEST(Serve, APromptLengthInTokensIsFoundByAsking) {
    Fixture f;
    f.options.requests = 3;
    f.options.prompt_tokens = 200;
    auto const report = run_serve(f.options);
    ASSERT_TRUE(report) << report.error().message;
    EXPECT_EQ(report->prompt_tokens, 600U);
    EXPECT_NEAR(report->words_per_token, 1.0, 1e-9);
}

TEST(Serve, SharedPrefixesReachTheServer) {
    Fixture f;
    f.options.warmup = 0;
    f.options.prefix_groups = 2;
    f.options.prefix_words = 30;
    ASSERT_TRUE(run_serve(f.options));
    std::map<std::string, int> prefixes;
    for (auto const& body : f.model.bodies()) {
        auto const text = FakeModel::text_of(body);
        std::size_t end = 0;
        for (int i = 0; i < 30; ++i) end = text.find(' ', end) + 1;
        ++prefixes[text.substr(0, end)];
    }
    ASSERT_EQ(prefixes.size(), 2U);
    EXPECT_EQ(prefixes.begin()->second, 6);
}

TEST(Serve, AnOpenLoopSendsEverythingWhateverTheServerDoes) {
    Fixture f;
    f.options.mode = Mode::poisson;
    f.options.rate_per_s = 2000;
    f.options.requests = 50;
    auto const report = run_serve(f.options);
    ASSERT_TRUE(report) << report.error().message;
    EXPECT_EQ(report->completed, 50U);
    EXPECT_GE(report->send_lag_ms_max, 0);
}

TEST(Serve, AnOpenLoopAtItsStreamLimitSaysHowLateItWas) {
    Fixture f;
    f.options.mode = Mode::poisson;
    f.options.rate_per_s = 1e6;
    f.options.requests = 40;
    f.options.streams_max = 1;
    auto const report = run_serve(f.options);
    ASSERT_TRUE(report) << report.error().message;
    EXPECT_EQ(report->completed, 40U);
    EXPECT_EQ(report->streams_peak, 1U);
    EXPECT_GT(report->send_lag_ms_max, 0);
}

struct TempFile {
    std::string path;
    explicit TempFile(std::string const& name, std::string const& content)
        : path((std::filesystem::temp_directory_path() / (std::to_string(::getpid()) + name)).string()) {
        std::ofstream(path) << content;
    }
    ~TempFile() { std::filesystem::remove(path); }
};

TEST(Serve, ATraceIsReplayedWithItsLengths) {
    Fixture f;
    TempFile const trace(
        ".csv",
        "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46.0,40,4\n2023-11-16 18:15:46.01,300,9\n"
        "2023-11-16 18:15:46.02,60,2\n");
    f.options.mode = Mode::replay;
    f.options.trace = trace.path;
    f.options.prompt_tokens_max = 100;
    f.options.output_tokens_max = 8;
    auto const report = run_serve(f.options);
    ASSERT_TRUE(report) << report.error().message;
    EXPECT_EQ(report->completed, 3U);
    EXPECT_EQ(report->output_tokens, 4U + 8U + 2U);
    EXPECT_EQ(report->prompts_cut, 1U);
    EXPECT_EQ(report->outputs_cut, 1U);
    EXPECT_EQ(report->prompt_tokens, 42U + 100U + 62U);
}

TEST(Serve, PromptsFromAFileAreSentInOrderAndTheirTextsKept) {
    Fixture f;
    TempFile const prompts(".txt", "plain words\n\"a \\\"quoted\\\" line\\nand another\"\n");
    f.options.prompts_file = prompts.path;
    f.options.requests = 4;
    f.options.warmup = 0;
    f.options.keep_text = true;
    auto const report = run_serve(f.options);
    ASSERT_TRUE(report) << report.error().message;
    auto const bodies = f.model.bodies();
    ASSERT_EQ(bodies.size(), 4U);
    EXPECT_EQ(FakeModel::text_of(bodies[0]), "plain words");
    EXPECT_EQ(FakeModel::text_of(bodies[1]), "a \"quoted\" line\nand another");
    EXPECT_EQ(FakeModel::text_of(bodies[2]), "plain words");
    auto const json = Json::parse(to_json(*report));
    EXPECT_EQ(json["generated_texts"][3], "w w w w w ");
}

TEST(Serve, FailuresAreCountedByKindAndNeverDropped) {
    FakeModel model;
    std::atomic<int> count{0};
    TestServer const server([&](TestRequest const& request, Peer const& peer) {
        if (request.method == "GET") return model(request, peer);
        switch (count++ % 4) {
            case 0: peer.write("HTTP/1.1 503 No\r\nContent-Length: 4\r\n\r\nbusy"); return After::keep;
            case 1: peer.write(TestServer::kStreamHead); return After::close;
            case 2:
                peer.write(TestServer::kStreamHead);
                peer.write_event(R"({"error":{"message":"lost"}})");
                peer.write_event("[DONE]");
                peer.write_chunk("");
                return After::keep;
            default: return model(request, peer);
        }
    });
    ServeOptions options;
    options.url = server.url();
    options.requests = 16;
    options.warmup = 0;
    options.output_tokens = 3;
    auto const report = run_serve(options);
    ASSERT_TRUE(report) << report.error().message;
    EXPECT_EQ(report->requests, 16U);
    EXPECT_EQ(report->completed, 4U);
    auto const json = Json::parse(to_json(*report));
    EXPECT_EQ(json["failed"], 12);
    EXPECT_EQ(json["failures"]["http_error"]["count"], 4);
    EXPECT_EQ(json["failures"]["http_error"]["example"], "HTTP 503: busy");
    EXPECT_EQ(json["failures"]["disconnected"]["count"], 4);
    EXPECT_EQ(json["failures"]["stream_error"]["count"], 4);
    EXPECT_EQ(report->ttft_ms.count, 4U) << "failed requests have no place among latencies";
    EXPECT_NE(to_text(*report).find("4 x stream_error, e.g.: lost"), std::string::npos);
}

TEST(Serve, TheDetailsSayWhenEachRequestWasSentAnsweredAndRefused) {
    FakeModel model;
    std::atomic<int> count{0};
    TestServer const server([&](TestRequest const& request, Peer const& peer) {
        if (request.method == "GET" || count++ % 3 == 0) return model(request, peer);
        if (count % 3 == 0) {
            peer.write("HTTP/1.1 2");  // and no more
            return After::close;
        }
        peer.write("HTTP/1.1 429 Busy\r\nRetry-After: 7\r\nContent-Length: 4\r\n\r\nfull");
        return After::keep;
    });
    ServeOptions options;
    options.url = server.url();
    options.requests = 6;
    options.warmup = 0;
    options.output_tokens = 3;
    options.detailed = true;
    auto const report = run_serve(options);
    ASSERT_TRUE(report) << report.error().message;
    auto const json = Json::parse(to_json(*report));
    EXPECT_EQ(json["statuses"], Json({200, 429, 0, 200, 429, 0}));
    EXPECT_EQ(json["retry_after_s"], Json({nullptr, 7, nullptr, nullptr, 7, nullptr}));
    EXPECT_EQ(json["sent_times"][0], 0.0);
    for (std::size_t i = 0; i < 6; ++i) {
        auto const sent = json["sent_times"][i].get<double>();
        auto const end = json["end_times"][i].get<double>();
        EXPECT_LE(sent, end);
        EXPECT_EQ(json["head_times"][i].is_null(), i % 3 == 2);
        if (i % 3 == 2) continue;
        EXPECT_LT(sent, json["head_times"][i].get<double>());
        EXPECT_LE(json["head_times"][i].get<double>(), end);
    }
    EXPECT_GE(json["sent_times"][1], json["end_times"][0]) << "one at a time";
}

TEST(Serve, NothingIsSentAfterTheDuration) {
    Fixture f;
    f.options.requests = 100'000;
    f.options.duration_s = 0.05;
    f.options.detailed = true;
    for (auto mode : {Mode::closed, Mode::poisson}) {
        f.options.mode = mode;
        f.options.rate_per_s = 400;
        f.options.output_tokens = 2;
        auto const report = run_serve(f.options);
        ASSERT_TRUE(report) << report.error().message;
        EXPECT_GT(report->requests, 0U);
        EXPECT_LT(report->requests, 100'000U);
        EXPECT_EQ(report->completed, report->requests) << "what was sent in time is waited for";
        // A machine that is busy may be late with one; all of them would take minutes.
        EXPECT_LT(report->results.back().sent - report->begin, std::chrono::seconds(5));
    }
}

TEST(Serve, InterferenceMeasuresTheStreamsAroundTheLongPrompt) {
    Fixture f;
    f.options.mode = Mode::interference;
    f.options.concurrency = 3;
    f.options.rounds = 2;
    f.options.output_tokens = 900'000;
    f.options.long_prompt_tokens = 120;
    auto const report = run_serve(f.options);
    ASSERT_TRUE(report) << report.error().message;
    ASSERT_EQ(report->rounds.size(), 2U);
    for (auto const& round : report->rounds) {
        EXPECT_TRUE(round.valid);
        EXPECT_GT(round.worst_gap_ms, 0);
        EXPECT_GT(round.long_ttft_ms, 0);
        EXPECT_EQ(round.long_prompt_tokens, 120U);
    }
    EXPECT_TRUE(report->failures.empty()) << "the streams cut at the end are no failures";
}

TEST(Serve, AnInterferenceRoundWhoseStreamsEndedEarlyIsInvalid) {
    Fixture f;
    f.options.mode = Mode::interference;
    f.options.rounds = 1;
    f.options.output_tokens = 3;
    f.options.long_prompt_tokens = 120;
    auto const report = run_serve(f.options);
    ASSERT_TRUE(report) << report.error().message;
    EXPECT_FALSE(report->rounds.at(0).valid);
    EXPECT_NE(to_text(*report).find("INVALID"), std::string::npos);
}

TEST(Serve, AServerThatIsNotThereIsAnErrorNotAReport) {
    std::string url;
    {
        TestServer const server([](TestRequest const&, Peer const&) { return After::close; });
        url = server.url();
    }
    ServeOptions options;
    options.url = url;
    options.model = "x";
    auto const report = run_serve(options);
    ASSERT_FALSE(report);
    EXPECT_EQ(report.error().code, Code::unavailable);
    options.ready_timeout_s = 0.05;
    EXPECT_EQ(run_serve(options).error().param, "ready-timeout");
}

TEST(Serve, TheJsonHasTheFieldNamesOfVllmsBenchmark) {
    Fixture f;
    f.options.detailed = true;
    f.options.concurrency = 2;
    auto const report = run_serve(f.options);
    ASSERT_TRUE(report);
    auto const json = Json::parse(to_json(*report));
    for (auto name : {"date",
                      "backend",
                      "model_id",
                      "num_prompts",
                      "request_rate",
                      "max_concurrency",
                      "duration",
                      "completed",
                      "total_input_tokens",
                      "total_output_tokens",
                      "request_throughput",
                      "output_throughput",
                      "total_token_throughput",
                      "mean_ttft_ms",
                      "median_ttft_ms",
                      "std_ttft_ms",
                      "p99_ttft_ms",
                      "mean_tpot_ms",
                      "median_tpot_ms",
                      "p99_tpot_ms",
                      "mean_itl_ms",
                      "median_itl_ms",
                      "p99_itl_ms",
                      "mean_e2el_ms",
                      "p99_e2el_ms",
                      "input_lens",
                      "output_lens",
                      "ttfts",
                      "itls",
                      "errors"}) {
        EXPECT_TRUE(json.contains(name)) << name;
    }
    EXPECT_EQ(json["ttfts"].size(), 12U);
    EXPECT_EQ(json["itls"][0].size(), 4U);
    EXPECT_EQ(json["itl_quantiles_ms"].size(), 201U);
    EXPECT_DOUBLE_EQ(json["itl_quantiles_ms"][200].get<double>(), json["max_itl_ms"].get<double>());
}

TEST(Serve, WithoutUsageEventsAreCountedAndTheReportSaysSo) {
    TestServer const server([](TestRequest const&, Peer const& peer) {
        peer.write(TestServer::kStreamHead);
        for (int i = 0; i < 3; ++i) peer.write_event(R"({"choices":[{"text":"x"}]})");
        peer.write_event("[DONE]");
        peer.write_chunk("");
        return After::keep;
    });
    ServeOptions options;
    options.url = server.url();
    options.model = "m";
    options.endpoint = Endpoint::completions;
    options.requests = 2;
    auto const report = run_serve(options);
    ASSERT_TRUE(report) << report.error().message;
    EXPECT_EQ(report->output_tokens, 6U);
    EXPECT_FALSE(report->tokens_from_usage);
    options.prompt_tokens = 50;
    EXPECT_EQ(run_serve(options).error().param, "prompt-tokens");
}

}  // namespace
}  // namespace hearth::bench

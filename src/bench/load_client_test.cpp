#include "bench/load_client.h"

#include <gtest/gtest.h>

#include <atomic>
#include <future>
#include <numeric>

#include "bench/testing/test_server.h"

namespace hearth::bench {
namespace {

using testing::After;
using testing::Peer;
using testing::TestRequest;
using testing::TestServer;
using namespace std::chrono_literals;

constexpr std::string_view kToken = R"({"choices":[{"delta":{"content":"ab"}}]})";
constexpr std::string_view kUsage = R"({"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2}})";

After answer_two_tokens(TestRequest const&, Peer const& peer) {
    peer.write(TestServer::kStreamHead);
    peer.write_event(kToken);
    peer.write_event(kToken);
    peer.write_event(kUsage);
    peer.write_event("[DONE]");
    peer.write_chunk("");
    return After::keep;
}

std::unique_ptr<LoadClient> client_of(std::string const& url, Duration timeout = 60s) {
    ClientOptions options;
    options.target = parse_url(url).value();
    options.request_timeout = timeout;
    options.keep_text = KeepText::yes;
    auto client = LoadClient::create(std::move(options));
    EXPECT_TRUE(client);
    return std::move(client).value();
}

RequestResult run_one(LoadClient& client, std::string_view body = "{}") {
    auto const index = client.start("/v1/chat/completions", body);
    while (client.active() > 0) client.poll(1s);
    return client.result(index);
}

RequestResult run_one(TestServer const& server, Duration timeout = 60s) {
    auto const client = client_of(server.url(), timeout);
    return run_one(*client);
}

TEST(LoadClient, TimesAndCountsAStream) {
    TestServer const server(answer_two_tokens);
    auto const r = run_one(server);
    EXPECT_EQ(r.outcome, Outcome::completed) << r.problem;
    EXPECT_EQ(r.status, 200);
    EXPECT_EQ(r.chunks, 2U);
    EXPECT_EQ(r.gaps_ms.size(), 1U);
    EXPECT_EQ(r.text, "abab");
    EXPECT_LE(r.sent, r.first);
    EXPECT_LE(r.first, r.last);
    EXPECT_LE(r.last, r.end);
    ASSERT_TRUE(r.usage.has_value());
    EXPECT_EQ(r.usage->completion_tokens, 2U);
}

TEST(LoadClient, SendsWhatItWasGiven) {
    TestRequest seen;
    TestServer const server([&](TestRequest const& request, Peer const& peer) {
        seen = request;
        return answer_two_tokens(request, peer);
    });
    ClientOptions options;
    options.target = parse_url(server.url() + "/prefix").value();
    options.headers = "Authorization: Bearer k\r\n";
    auto const client = LoadClient::create(std::move(options));
    ASSERT_TRUE(client);
    run_one(**client, R"({"a":1})");
    EXPECT_EQ(seen.method, "POST");
    EXPECT_EQ(seen.path, "/prefix/v1/chat/completions");
    EXPECT_EQ(seen.body, R"({"a":1})");
    EXPECT_NE(seen.head.find("\r\nAuthorization: Bearer k\r\n"), std::string::npos);
    EXPECT_NE(seen.head.find("\r\nHost: 127.0.0.1:" + std::to_string(server.port()) + "\r\n"), std::string::npos);
}

TEST(LoadClient, ReadsAStreamThatArrivesByteByByte) {
    TestServer const server([](TestRequest const&, Peer const& peer) {
        std::string bytes(TestServer::kStreamHead);
        auto const event =
            std::string("data: {\"choices\":[{\"delta\":{\"content\":\"h\\u00e9\"}}]}\n\ndata: [DONE]\n\n");
        char size[16];
        std::snprintf(size, sizeof size, "%zx\r\n", event.size());
        bytes += size + event + "\r\n0\r\n\r\n";
        for (auto const& byte : bytes) {
            if (!peer.write({&byte, 1})) break;
        }
        return After::keep;
    });
    auto const r = run_one(server);
    EXPECT_EQ(r.outcome, Outcome::completed) << r.problem;
    EXPECT_EQ(r.chunks, 1U);
    EXPECT_EQ(r.text, "h\xC3\xA9");
}

TEST(LoadClient, EventsThatArriveTogetherHaveNoGapBetweenThem) {
    TestServer const server([](TestRequest const&, Peer const& peer) {
        std::string events;
        for (int i = 0; i < 5; ++i) events += "data: " + std::string(kToken) + "\n\n";
        char size[16];
        std::snprintf(size, sizeof size, "%zx\r\n", events.size());
        // One send: on loopback one read.
        peer.write(std::string(TestServer::kStreamHead) + size + events + "\r\ne\r\ndata: [DONE]\n\n\r\n0\r\n\r\n");
        return After::keep;
    });
    auto const r = run_one(server);
    ASSERT_EQ(r.outcome, Outcome::completed) << r.problem;
    EXPECT_EQ(r.chunks, 5U);
    EXPECT_EQ(r.gaps_ms, (std::vector<float>{0, 0, 0, 0}));
}

TEST(LoadClient, ReusesAConnectionThatTheServerKeeps) {
    TestServer const server(answer_two_tokens);
    auto const client = client_of(server.url());
    for (int i = 0; i < 5; ++i) EXPECT_EQ(run_one(*client).outcome, Outcome::completed);
    EXPECT_EQ(server.connections(), 1);
    EXPECT_EQ(client->reconnects(), 0U);
}

TEST(LoadClient, AKeptConnectionThatTheServerClosedCostsNoRequest) {
    TestServer const server([](TestRequest const& request, Peer const& peer) {
        answer_two_tokens(request, peer);
        return After::close;  // although it said keep-alive
    });
    auto const client = client_of(server.url());
    for (int i = 0; i < 3; ++i) {
        auto const r = run_one(*client);
        EXPECT_EQ(r.outcome, Outcome::completed) << r.problem;
    }
    EXPECT_EQ(server.connections(), 3);
    EXPECT_EQ(client->reconnects(), 2U);
}

TEST(LoadClient, AStatusOtherThan200IsAnHttpErrorWithItsBody) {
    TestServer const server([](TestRequest const&, Peer const& peer) {
        peer.write(
            "HTTP/1.1 429 Too Many Requests\r\nContent-Length: 22\r\nRetry-After: 1\r\n\r\n{\"error\":\"queue full\"}");
        return After::keep;
    });
    auto const r = run_one(server);
    EXPECT_EQ(r.outcome, Outcome::http_error);
    EXPECT_EQ(r.status, 429);
    EXPECT_EQ(r.problem, "HTTP 429: {\"error\":\"queue full\"}");
}

TEST(LoadClient, AnErrorInsideTheStreamIsNotACompletion) {
    TestServer const server([](TestRequest const&, Peer const& peer) {
        peer.write(TestServer::kStreamHead);
        peer.write_event(kToken);
        peer.write_event(R"({"error":{"message":"the engine was lost"}})");
        peer.write_event("[DONE]");
        peer.write_chunk("");
        return After::keep;
    });
    auto const r = run_one(server);
    EXPECT_EQ(r.outcome, Outcome::stream_error);
    EXPECT_EQ(r.problem, "the engine was lost");
    EXPECT_EQ(r.chunks, 1U);
}

TEST(LoadClient, AStreamCutShortIsADisconnect) {
    for (bool const reset : {false, true}) {
        TestServer const server([&](TestRequest const&, Peer const& peer) {
            peer.write(TestServer::kStreamHead);
            peer.write_event(kToken);
            if (reset) peer.reset();
            return After::close;
        });
        auto const r = run_one(server);
        EXPECT_EQ(r.outcome, Outcome::disconnected);
        EXPECT_FALSE(r.problem.empty());
    }
}

TEST(LoadClient, AnEndWithoutDoneIsADisconnect) {
    TestServer const server([](TestRequest const&, Peer const& peer) {
        peer.write(TestServer::kStreamHead);
        peer.write_event(kToken);
        peer.write_chunk("");
        return After::keep;
    });
    EXPECT_EQ(run_one(server).outcome, Outcome::disconnected);
}

TEST(LoadClient, AStreamWithoutATokenIsNotACompletion) {
    TestServer const server([](TestRequest const&, Peer const& peer) {
        peer.write(TestServer::kStreamHead);
        peer.write_event(R"({"choices":[{"delta":{"content":""}}]})");
        peer.write_event("[DONE]");
        peer.write_chunk("");
        return After::keep;
    });
    EXPECT_EQ(run_one(server).outcome, Outcome::no_output);
}

TEST(LoadClient, AStalledStreamEndsAtTheTimeout) {
    TestServer const server([](TestRequest const&, Peer const& peer) {
        peer.write(TestServer::kStreamHead);
        peer.write_event(kToken);
        peer.wait_for_close();
        return After::close;
    });
    auto const r = run_one(server, 100ms);
    EXPECT_EQ(r.outcome, Outcome::timeout);
    EXPECT_GE(r.end - r.sent, 100ms);
    EXPECT_NE(r.problem.find("within 100 ms; 1 events"), std::string::npos) << r.problem;
}

TEST(LoadClient, WaitingCostsNoCpuAlsoWhenNobodyAsksWhatEnded) {
    std::atomic<int> requests{0};
    TestServer const server([&](TestRequest const& request, Peer const& peer) {
        if (requests++ == 0) return answer_two_tokens(request, peer);
        peer.wait_for_close();
        return After::close;
    });
    auto const client = client_of(server.url());
    run_one(*client);
    client->start("/x", "{}");
    auto const start = std::chrono::steady_clock::now();
    client->poll(20ms);
    EXPECT_GE(std::chrono::steady_clock::now() - start, 20ms);
}

TEST(LoadClient, ARefusedConnectionIsReportedAsSuch) {
    std::string url;
    {
        TestServer const server(answer_two_tokens);
        url = server.url();
    }
    auto const client = client_of(url);
    auto const r = run_one(*client);
    EXPECT_EQ(r.outcome, Outcome::connect);
    EXPECT_NE(r.problem.find("refused"), std::string::npos) << r.problem;
}

TEST(LoadClient, AnAnswerThatIsNoHttpIsMalformed) {
    TestServer const server([](TestRequest const&, Peer const& peer) {
        peer.write("220 mail ready\r\n");
        peer.wait_for_close();
        return After::close;
    });
    EXPECT_EQ(run_one(server).outcome, Outcome::malformed);
}

TEST(LoadClient, CancellingClosesTheConnection) {
    std::promise<void> closed;
    TestServer const server([&](TestRequest const&, Peer const& peer) {
        peer.write(TestServer::kStreamHead);
        peer.write_event(kToken);
        peer.wait_for_close();
        closed.set_value();
        return After::close;
    });
    auto const client = client_of(server.url());
    auto const index = client->start("/x", "{}");
    while (client->result(index).chunks == 0) client->poll(1s);
    client->cancel(index);
    EXPECT_EQ(client->active(), 0U);
    EXPECT_EQ(client->result(index).outcome, Outcome::cancelled);
    closed.get_future().wait();
    client->cancel(index);  // again: nothing
    EXPECT_EQ(client->take_ended(), std::vector<std::size_t>{index});
}

TEST(LoadClient, ALongRequestIsSentWhole) {
    std::size_t received = 0;
    TestServer const server([&](TestRequest const& request, Peer const& peer) {
        received = request.body.size();
        return answer_two_tokens(request, peer);
    });
    auto const client = client_of(server.url());
    std::string const body(8U << 20, 'x');
    EXPECT_EQ(run_one(*client, body).outcome, Outcome::completed);
    EXPECT_EQ(received, body.size());
}

TEST(LoadClient, RunsManyStreamsAtOnceAndLosesNone) {
    constexpr std::size_t kStreams = 200;
    std::atomic<std::size_t> waiting{0};
    std::promise<void> all_here;
    auto const gate = all_here.get_future().share();
    TestServer const server([&](TestRequest const& request, Peer const& peer) {
        if (++waiting == kStreams) all_here.set_value();
        gate.wait();  // nobody is answered before everybody has asked
        return answer_two_tokens(request, peer);
    });
    auto const client = client_of(server.url());
    for (std::size_t i = 0; i < kStreams; ++i) client->start("/x", "{}");
    EXPECT_EQ(client->active(), kStreams);
    while (client->active() > 0) client->poll(1s);
    auto const results = client->take_results();
    ASSERT_EQ(results.size(), kStreams);
    for (auto const& r : results) EXPECT_EQ(r.outcome, Outcome::completed) << r.problem;
}

TEST(LoadClient, GapsBeyondTheLimitAreNotKeptAndItSaysSo) {
    TestServer const server(answer_two_tokens);
    ClientOptions options;
    options.target = parse_url(server.url()).value();
    options.gaps_max = 1;
    auto const client = LoadClient::create(std::move(options));
    ASSERT_TRUE(client);
    EXPECT_EQ(run_one(**client).gaps_ms.size(), 1U);
    EXPECT_FALSE((*client)->gaps_cut());
    auto const second = run_one(**client);
    EXPECT_EQ(second.gaps_ms.size(), 0U);
    EXPECT_EQ(second.chunks, 2U);
    EXPECT_TRUE((*client)->gaps_cut());
}

TEST(LoadClient, TooManyStreamsAreRefused) {
    ClientOptions options;
    options.target.host = "127.0.0.1";
    options.streams_max = kStreamsMax + 1;
    auto const client = LoadClient::create(std::move(options));
    ASSERT_FALSE(client);
    EXPECT_EQ(client.error().message, "streams must be 1 to 4096, got 4097");
}

TEST(HttpGet, ReturnsTheBodyOrSaysWhatWentWrong) {
    TestServer const server([](TestRequest const& request, Peer const& peer) {
        if (request.path == "/good") peer.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        if (request.path == "/bad") peer.write("HTTP/1.1 503 Loading\r\nContent-Length: 4\r\n\r\nwait");
        if (request.path == "/stall") peer.wait_for_close();
        return After::close;
    });
    auto const target = parse_url(server.url()).value();
    auto const good = http_get(target, "/good", 60s);
    ASSERT_TRUE(good) << good.error().message;
    EXPECT_EQ(*good, "ok");
    EXPECT_NE(http_get(target, "/bad", 60s).error().message.find("HTTP 503: wait"), std::string::npos);
    EXPECT_NE(http_get(target, "/cut", 60s).error().message.find("cut short"), std::string::npos);
    EXPECT_NE(http_get(target, "/stall", 50ms).error().message.find("no answer in time"), std::string::npos);
}

}  // namespace
}  // namespace hearth::bench

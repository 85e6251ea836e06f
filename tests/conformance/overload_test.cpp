// Many more requests at once than a server takes: everybody gets an answer.
#include <sys/resource.h>

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "testing/http_client.h"
#include "world.h"

namespace hearth::conformance {
namespace {

struct Counts {
    int answered = 0;
    int refused = 0;
};

// `count` requests, all sent before the first answer is read.
Counts storm(World& world, int count, std::string const& body) {
    std::vector<std::unique_ptr<test::HttpClient>> clients;
    for (int i = 0; i < count; ++i) {
        clients.push_back(std::make_unique<test::HttpClient>(world.port()));
        clients.back()->send(test::HttpClient::format("POST", "/v1/completions", body, {}));
    }
    Counts counts;
    for (auto const& client : clients) {
        client->allow(world.patience());
        auto const answer = client->read_answer();
        if (answer.status == 200) {
            ++counts.answered;
            EXPECT_NE(answer.body.find("\"Hello world!\""), std::string::npos) << answer.body;
            continue;
        }
        ++counts.refused;
        EXPECT_EQ(answer.status, 429U) << answer.body;
        EXPECT_GE(std::stoi(answer.header("retry-after")), 1);
    }
    return counts;
}

void expect_healthy(World& world) {
    world.await("inside", 0);
    world.await("running", 0);
    test::HttpClient client(world.port());
    client.send(test::HttpClient::format("GET", "/health", "", {}));
    EXPECT_EQ(client.read_answer().status, 200U);
    auto const after = storm(world, 1, R"({"prompt": "x", "temperature": 0})");
    EXPECT_EQ(after.answered, 1);
}

// Both ends of every connection are in this process.
void allow_descriptors() {
    rlimit limit{};
    ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &limit), 0);
    limit.rlim_cur = limit.rlim_max;
    ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &limit), 0);
    if (limit.rlim_cur < 1200) GTEST_SKIP() << "needs 1200 descriptors, may have " << limit.rlim_cur;
}

class Overload : public testing::Test {
protected:
    void SetUp() override { allow_descriptors(); }
};

Settings settings() {
    auto out = Settings::parse({});
    out.pool.requests_max = 64;
    out.model.sequences_max = 8;
    out.patience = std::chrono::seconds(60);
    return out;
}

TEST_F(Overload, FiveHundredAtOnceAreAnsweredOrRefusedWithAdvice) {
    World world(settings());
    auto const counts = storm(world, 500, R"({"prompt": "x", "temperature": 0})");
    EXPECT_EQ(counts.answered + counts.refused, 500);
    EXPECT_GE(counts.answered, 64);
    expect_healthy(world);
}

TEST_F(Overload, WithADeadlineNobodyWaitsInVain) {
    World world(settings());
    auto const counts = storm(world, 500, R"({"prompt": "x", "temperature": 0, "queue_timeout_ms": 50})");
    EXPECT_EQ(counts.answered + counts.refused, 500);
    expect_healthy(world);
}

TEST_F(Overload, WhileTheModelStandsStillTheQueueFillsAndTheRestIsRefused) {
    World world(settings());
    world.hold();
    std::vector<std::unique_ptr<test::HttpClient>> inside;
    auto const enter = [&](int count, std::string const& body) {
        auto const request = test::HttpClient::format("POST", "/v1/completions", body, {});
        for (int i = 0; i < count; ++i) {
            inside.push_back(std::make_unique<test::HttpClient>(world.port()));
            inside.back()->send(request);
        }
    };
    // An eighth of the queue is left to interactive requests.
    enter(56, R"({"prompt": "x", "temperature": 0})");
    world.await("inside", 56);
    EXPECT_EQ(storm(world, 8, R"({"prompt": "x", "temperature": 0})").refused, 8);
    enter(8, R"({"prompt": "x", "temperature": 0, "priority": "interactive"})");
    world.await("inside", 64);
    EXPECT_EQ(storm(world, 8, R"({"prompt": "x", "temperature": 0, "priority": "interactive"})").refused, 8);
    auto const counts = storm(world, 436, R"({"prompt": "x", "temperature": 0})");
    EXPECT_EQ(counts.refused, 436);
    world.release();
    for (auto const& client : inside) {
        client->allow(world.patience());
        EXPECT_EQ(client->read_answer().status, 200U);
    }
    expect_healthy(world);
}

}  // namespace
}  // namespace hearth::conformance

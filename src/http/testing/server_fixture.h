// ServerTest: a Server on a free port with its loop in a thread of its own, and
// routes that show what happened. Private to http's tests.
#pragma once

#include <gtest/gtest.h>

#include <atomic>
#include <future>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "http/server.h"
#include "net/loop.h"
#include "telemetry/log.h"
#include "telemetry/metrics.h"
#include "testing/http_client.h"

namespace hearth::http {

using test::HttpAnswer;
using test::HttpClient;

// Keeps "level message key=value ..." lines.
class RecordingLog final : public telemetry::Log {
public:
    void write(telemetry::Level level, std::string_view message, telemetry::Fields fields) override;
    bool enabled(telemetry::Level) const override { return true; }
    std::uint64_t dropped() const override { return 0; }

    // Blocks until a line that contains `text` was written, and returns it.
    std::string wait_for(std::string_view text);
    [[nodiscard]] std::vector<std::string> lines() const;

private:
    mutable std::mutex mutex_;
    std::condition_variable written_;
    std::vector<std::string> lines_;
};

class ServerTest : public testing::Test {
protected:
    ServerTest();
    ~ServerTest() override;

    // Starts the server with the standard routes and `more`. Once per test.
    void start(Options options = {}, std::vector<Route> more = {});

    // Runs `work` on the loop's thread and returns its result.
    template <typename Work>
    auto on_loop(Work work) -> decltype(work()) {
        std::packaged_task<decltype(work())()> task(std::move(work));
        auto result = task.get_future();
        loop_->post([&task] { task(); });
        return result.get();
    }

    [[nodiscard]] HttpClient connect(int receive_buffer = 0) const { return HttpClient(port_, receive_buffer); }
    // Runs drain() and hands out its result.
    std::future<bool> drain(Duration grace);
    // The value of a metric's line that starts with `series`, 0 if there is none.
    double metric(std::string const& series);

    // Standard routes: GET /ping -> "pong"; POST /echo (at most 1000 bytes) ->
    // "<body>"; GET /show/{name} and /rest/{tail...} -> the parameter; GET /wait
    // answers "waited" once release() was called, and notes a disconnect.
    void release();
    std::atomic<int> waiting{0};
    std::atomic<int> left{0};
    // Blocks until `count` is at least `value`.
    static void await_count(std::atomic<int> const& count, int value);

    RecordingLog log_;
    telemetry::Registry metrics_;
    std::unique_ptr<net::Loop> loop_;
    std::unique_ptr<net::Signal> released_;
    std::unique_ptr<Server> server_;
    std::uint16_t port_ = 0;

private:
    std::vector<Route> standard_routes();
    net::Task<void> wait_for_release(Exchange& exchange);
    std::thread thread_;
};

net::Task<void> reply(Exchange& exchange, std::string text);

}  // namespace hearth::http

// Streams, clients that leave or stall, and drain.
#include <charconv>

#include "http/testing/server_fixture.h"

namespace hearth::http {
namespace {

int number(std::string_view text) {
    int value = 0;
    std::from_chars(text.data(), text.data() + text.size(), value);
    return value;
}

using namespace std::chrono_literals;

// GET /count/{n}: n events "data: i", then the end. Notes how it ended. Shared
// with the route, which may outlive the test's body.
struct Counter : std::enable_shared_from_this<Counter> {
    std::atomic<int> ended{0};
    std::atomic<int> cancelled{0};
    std::atomic<int> disconnects{0};
    std::atomic<std::uint64_t> bytes{0};
    std::size_t piece = 0;  // pad each event to so many bytes

    Route route() {
        return {Method::get, "/count/{n}", Permission::anyone, RouteLimits{0},
                [self = shared_from_this()](Exchange& exchange) { return self->run(exchange); }};
    }

    net::Task<void> run(Exchange& exchange) {
        exchange.on_disconnect([this] { note(disconnects); });
        StreamHead head;
        head.headers = {{"x-extra", "yes"}};
        Status status = co_await exchange.start_stream(std::move(head));
        int const count = number(exchange.request().parameter("n"));
        for (int i = 0; i < count && status; ++i) {
            std::string event = "data: " + std::to_string(i) + "\n\n";
            if (event.size() < piece) event.resize(piece, '.');
            bytes += event.size();
            status = co_await exchange.write(std::move(event));
        }
        if (!status) {
            EXPECT_EQ(status.error().code, Code::cancelled);
            EXPECT_TRUE(exchange.disconnected());
            note(cancelled);
            co_return;
        }
        co_await exchange.end_stream();
        note(ended);
    }

    static void note(std::atomic<int>& count) {
        ++count;
        count.notify_all();
    }
};

TEST_F(ServerTest, AStreamArrivesChunkByChunkAndTheConnectionGoesOn) {
    auto const counter = std::make_shared<Counter>();
    std::vector<Route> routes;
    routes.push_back(counter->route());
    start({}, std::move(routes));
    HttpClient client = connect();
    for (int round = 0; round < 2; ++round) {
        client.send(HttpClient::format("GET", "/count/3"));
        HttpAnswer const head = client.read_head();
        EXPECT_EQ(head.status, 200U);
        EXPECT_EQ(head.header("content-type"), "text/event-stream");
        EXPECT_EQ(head.header("transfer-encoding"), "chunked");
        EXPECT_EQ(head.header("x-accel-buffering"), "no");
        EXPECT_EQ(head.header("cache-control"), "no-store");
        EXPECT_EQ(head.header("x-extra"), "yes");
        EXPECT_EQ(head.count("content-length"), 0U);
        EXPECT_EQ(client.read_chunk(), "data: 0\n\n");
        EXPECT_EQ(client.read_chunk(), "data: 1\n\n");
        EXPECT_EQ(client.read_chunk(), "data: 2\n\n");
        EXPECT_EQ(client.read_chunk(), std::nullopt);
    }
    EXPECT_EQ(client.get("/ping").body, "pong");
    EXPECT_EQ(counter->ended, 2);
    EXPECT_EQ(counter->disconnects, 0);
    EXPECT_NE(log_.wait_for("path=/count/3").find("bytes=27"), std::string::npos);
}

TEST_F(ServerTest, AnOldClientsStreamEndsWithItsConnection) {
    auto const counter = std::make_shared<Counter>();
    std::vector<Route> routes;
    routes.push_back(counter->route());
    start({}, std::move(routes));
    HttpClient client = connect();
    client.send("GET /count/2 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    HttpAnswer const answer = client.read_answer();
    EXPECT_EQ(answer.header("connection"), "close");
    EXPECT_EQ(answer.count("transfer-encoding"), 0U);
    EXPECT_EQ(answer.body, "data: 0\n\ndata: 1\n\n");
}

TEST_F(ServerTest, HeadOfAStreamIsItsHead) {
    auto const counter = std::make_shared<Counter>();
    std::vector<Route> routes;
    routes.push_back(counter->route());
    start({}, std::move(routes));
    HttpClient client = connect();
    EXPECT_EQ(client.request("HEAD", "/count/3").header("transfer-encoding"), "chunked");
    EXPECT_EQ(client.get("/ping").body, "pong");
}

TEST_F(ServerTest, AManyMegabyteStreamArrivesWholeThroughAFullSocket) {
    auto const counter = std::make_shared<Counter>();
    counter->piece = 10'000;
    std::vector<Route> routes;
    routes.push_back(counter->route());
    Options options;
    options.stream_buffer_max = 64U << 10;
    start(options, std::move(routes));
    HttpClient client = connect();
    client.send(HttpClient::format("GET", "/count/1000"));
    client.read_head();
    for (int i = 0; i < 1000; ++i) {
        auto const chunk = client.read_chunk();
        ASSERT_TRUE(chunk && chunk->starts_with("data: " + std::to_string(i) + "\n")) << i;
        ASSERT_EQ(chunk->size(), 10'000U);
    }
    EXPECT_EQ(client.read_chunk(), std::nullopt);
}

TEST_F(ServerTest, ALargeAnswerArrivesWhole) {
    std::string large(9'000'000, '\0');
    for (std::size_t i = 0; i < large.size(); ++i) large[i] = static_cast<char>('a' + i * i % 23);
    std::vector<Route> routes;
    routes.emplace_back(Method::get, "/large", Permission::anyone, RouteLimits{0},
                        [large](Exchange& exchange) { return reply(exchange, large); });
    start({}, std::move(routes));
    HttpClient client = connect();
    client.send(HttpClient::format("GET", "/large") + HttpClient::format("GET", "/ping"));
    EXPECT_TRUE(client.read_answer().body == large);
    EXPECT_EQ(client.read_answer().body, "pong");
}

TEST_F(ServerTest, AReaderThatTakesNothingIsBoundedAndDropped) {
    auto const counter = std::make_shared<Counter>();
    counter->piece = 10'000;
    std::vector<Route> routes;
    routes.push_back(counter->route());
    Options options;
    options.stream_buffer_max = 64U << 10;
    options.write_timeout = 50ms;
    start(options, std::move(routes));
    HttpClient client = connect(4096);
    client.send(HttpClient::format("GET", "/count/1000000"));
    await_count(counter->cancelled, 1);
    EXPECT_EQ(counter->disconnects, 1);
    EXPECT_EQ(counter->ended, 0);
    // What lay in user space and in both kernel buffers together.
    EXPECT_LT(counter->bytes, 4'000'000U);
    EXPECT_NE(log_.wait_for("path=/count/1000000").find("outcome=stalled"), std::string::npos);
    EXPECT_EQ(metric(R"(hearth_http_rejected_total{reason="write_stalled"})"), 1);
    EXPECT_THROW(
        {
            client.read_head();
            while (client.read_chunk()) {}
        },
        std::runtime_error);
}

TEST_F(ServerTest, AReaderThatNeverTakesAWholeAnswerIsDropped) {
    std::string const large(8'000'000, 'x');
    std::vector<Route> routes;
    routes.emplace_back(Method::get, "/large", Permission::anyone, RouteLimits{0},
                        [large](Exchange& exchange) { return reply(exchange, large); });
    Options options;
    options.write_timeout = 50ms;
    start(options, std::move(routes));
    HttpClient client = connect(4096);
    client.send(HttpClient::format("GET", "/large"));
    EXPECT_NE(log_.wait_for("path=/large").find("outcome=stalled"), std::string::npos);
}

TEST_F(ServerTest, AClientThatLeavesIsNoticedWhileItsHandlerWorks) {
    start();
    int expected = 0;
    for (auto const leave : {&HttpClient::close, &HttpClient::reset, &HttpClient::shut_sending}) {
        HttpClient client = connect();
        client.send(HttpClient::format("GET", "/wait"));
        await_count(waiting, ++expected);
        (client.*leave)();
        await_count(left, expected);
        log_.wait_for("path=/wait status=499");
    }
    EXPECT_EQ(metric(R"(hearth_http_requests_total{route="/wait",method="GET",status="499"})"), 3);
}

TEST_F(ServerTest, RequestsSentAheadDoNotHideThatTheClientLeft) {
    start();
    HttpClient client = connect();
    client.send(HttpClient::format("GET", "/wait") + HttpClient::format("GET", "/ping") + "GET /pi");
    await_count(waiting, 1);
    client.reset();
    await_count(left, 1);
}

TEST_F(ServerTest, AnAnswerStillReachesAClientThatOnlyStoppedSending) {
    start();
    HttpClient client = connect();
    client.send(HttpClient::format("POST", "/echo", "one") + HttpClient::format("POST", "/echo", "two"));
    client.shut_sending();
    EXPECT_EQ(client.read_answer().body, "one");
    EXPECT_EQ(client.read_answer().body, "two");
    EXPECT_TRUE(client.is_closed());
}

net::Task<void> drip(Exchange& exchange, net::Loop& loop, Counter& counter) {
    StreamHead head;
    Status status = co_await exchange.start_stream(std::move(head));
    while (status) {
        status = co_await exchange.write(": ping\n\n");
        co_await loop.sleep(1ms);
    }
    Counter::note(counter.cancelled);
}

TEST_F(ServerTest, AStreamWhoseClientLeftIsCancelledAtItsNextWrite) {
    auto const counter = std::make_shared<Counter>();
    std::vector<Route> routes;
    routes.emplace_back(Method::get, "/drip", Permission::anyone, RouteLimits{0},
                        [this, counter](Exchange& exchange) { return drip(exchange, *loop_, *counter); });
    start({}, std::move(routes));
    for (auto const leave : {&HttpClient::close, &HttpClient::reset}) {
        HttpClient client = connect();
        client.send(HttpClient::format("GET", "/drip"));
        client.read_head();
        client.read_chunk();
        (client.*leave)();
    }
    await_count(counter->cancelled, 2);
    EXPECT_NE(log_.wait_for("path=/drip").find("outcome=client_left"), std::string::npos);
}

TEST_F(ServerTest, DrainLetsWhatRunsFinishAndClosesTheRest) {
    start();
    HttpClient idle = connect();
    idle.get("/ping");
    HttpClient running = connect();
    running.send(HttpClient::format("GET", "/wait"));
    HttpClient receiving = connect();
    receiving.send("GET /pi");
    await_count(waiting, 1);
    idle.send(HttpClient::format("GET", "/ping"));  // a turn of the loop, so that `receiving` is seen
    idle.read_answer();

    auto finished = drain(20s);
    EXPECT_TRUE(idle.is_closed());
    EXPECT_THROW((void)connect(), std::runtime_error);  // nobody listens any more
    EXPECT_EQ(on_loop([&] { return server_->active_exchanges(); }), 1U);
    release();
    HttpAnswer const answer = running.read_answer();
    EXPECT_EQ(answer.body, "waited");
    EXPECT_EQ(answer.header("connection"), "close");
    receiving.send("ng HTTP/1.1\r\nHost: localhost\r\n\r\n");
    EXPECT_EQ(receiving.read_answer().body, "pong");
    EXPECT_TRUE(finished.get());
    EXPECT_EQ(on_loop([&] { return server_->active_exchanges(); }), 0U);
}

TEST_F(ServerTest, DrainAbortsWhatOutlivesItsGrace) {
    start();
    HttpClient running = connect();
    running.send(HttpClient::format("GET", "/wait"));
    await_count(waiting, 1);
    EXPECT_FALSE(drain(10ms).get());
    EXPECT_EQ(left, 1);  // the handler was told and has ended
    EXPECT_EQ(on_loop([&] { return server_->active_exchanges(); }), 0U);
    EXPECT_TRUE(running.is_closed());
}

TEST_F(ServerTest, ManyClientsAreServedAtOnce) {
    auto const counter = std::make_shared<Counter>();
    std::vector<Route> routes;
    routes.push_back(counter->route());
    start({}, std::move(routes));
    std::vector<std::thread> threads;
    std::atomic<int> whole{0};
    for (int t = 0; t < 8; ++t) {
        threads.emplace_back([&] {
            for (int i = 0; i < 20; ++i) {
                HttpClient client = connect();
                if (client.get("/count/50").body.ends_with("data: 49\n\n")) ++whole;
                if (i % 3 == 0) client.reset();
            }
        });
    }
    for (auto& thread : threads) thread.join();
    EXPECT_EQ(whole, 160);
    EXPECT_EQ(on_loop([&] { return server_->active_exchanges(); }), 0U);
}

}  // namespace
}  // namespace hearth::http

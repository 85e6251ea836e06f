// Bodies that a handler reads as a stream.
#include <fcntl.h>
#include <poll.h>

#include <charconv>

#include "http/testing/server_fixture.h"

namespace hearth::http {
namespace {

using namespace std::chrono_literals;

constexpr std::size_t kBodyMax = 80U << 20;
constexpr std::size_t kPieceMax = 64U << 10;

// POST /upload answers with the bytes it read and their sum; POST /early without
// reading any; POST /patient once it was allowed to read. Shared with the routes.
struct Uploads : std::enable_shared_from_this<Uploads> {
    std::atomic<int> begun{0};
    std::atomic<int> ended{0};
    std::atomic<int> code{-1};  // of the error that ended the last one
    std::atomic<bool> all_bounded{true};
    net::Signal* allowed = nullptr;

    void add_to(std::vector<Route>& routes) {
        auto const self = shared_from_this();
        auto const add = [&](std::string_view path, net::Task<void> (Uploads::*run)(Exchange&), std::size_t max) {
            routes.emplace_back(Method::post, path, Permission::administer, RouteLimits{max, BodyMode::stream},
                                [self, run](Exchange& exchange) { return (self.get()->*run)(exchange); });
        };
        add("/upload", &Uploads::count, kBodyMax);
        add("/small", &Uploads::count, 1000);
        add("/early", &Uploads::early, kBodyMax);
        add("/patient", &Uploads::patient, kBodyMax);
    }

    net::Task<void> count(Exchange& exchange) {
        note(begun);
        std::size_t bytes = 0;
        unsigned sum = 0;
        for (;;) {
            auto const piece = co_await exchange.read_body();
            if (!piece) {
                code = static_cast<int>(piece.error().code);
                note(ended);
                co_return;
            }
            if (piece->empty()) break;
            all_bounded = all_bounded && piece->size() <= kPieceMax;
            bytes += piece->size();
            for (char const c : *piece) sum = sum * 31 + static_cast<unsigned char>(c);
        }
        note(ended);
        co_await reply(exchange, std::to_string(bytes) + " " + std::to_string(sum));
    }

    net::Task<void> early(Exchange& exchange) {
        note(begun);
        co_await reply(exchange, "no need");
    }

    net::Task<void> patient(Exchange& exchange) {
        note(begun);
        co_await allowed->wait();
        co_await count(exchange);
    }

    static void note(std::atomic<int>& value) {
        ++value;
        value.notify_all();
    }
};

class UploadTest : public ServerTest {
protected:
    void start_uploads(Options options = {}) {
        uploads->allowed = released_.get();
        std::vector<Route> routes;
        uploads->add_to(routes);
        start(std::move(options), std::move(routes));
    }
    static std::string head(std::string_view path, std::string_view fields) {
        return "POST " + std::string(path) + " HTTP/1.1\r\nHost: localhost\r\n" + std::string(fields) + "\r\n\r\n";
    }
    // What /upload says of these bytes.
    static std::string told(std::string_view bytes) {
        unsigned sum = 0;
        for (char const c : bytes) sum = sum * 31 + static_cast<unsigned char>(c);
        return std::to_string(bytes.size()) + " " + std::to_string(sum);
    }
    static std::string some_bytes(std::size_t count) {
        std::string bytes(count, '\0');
        for (std::size_t i = 0; i < count; ++i) bytes[i] = static_cast<char>(i * i % 251);
        return bytes;
    }
    static std::string chunked(std::string_view bytes, std::size_t piece) {
        std::string out;
        for (std::size_t at = 0; at < bytes.size(); at += piece) {
            auto const part = bytes.substr(at, piece);
            char size[20];
            auto const end = std::to_chars(size, size + sizeof size, part.size(), 16).ptr;
            out.append(size, end).append("\r\n").append(part).append("\r\n");
        }
        return out + "0\r\n\r\n";
    }
    [[nodiscard]] Code ended_by() const { return static_cast<Code>(uploads->code.load()); }

    std::shared_ptr<Uploads> const uploads = std::make_shared<Uploads>();
};

TEST_F(UploadTest, ABodyArrivesPieceByPieceAndTheConnectionGoesOn) {
    start_uploads();
    HttpClient client = connect();
    auto const bytes = some_bytes(5'000'000);
    EXPECT_EQ(client.post("/upload", bytes).body, told(bytes));
    EXPECT_EQ(client.post("/upload", {}, {{"content-length", "0"}}).body, told({}));
    EXPECT_EQ(client.post("/upload", "abc").body, told("abc"));
    EXPECT_EQ(client.get("/ping").body, "pong");
    EXPECT_TRUE(uploads->all_bounded);
}

TEST_F(UploadTest, ChunksArriveJoinedAndWhatFollowsIsTheNextRequest) {
    start_uploads();
    HttpClient client = connect();
    auto const bytes = some_bytes(300'000);
    client.send(head("/upload", "Transfer-Encoding: chunked") + chunked(bytes, 7001) +
                HttpClient::format("GET", "/ping"));
    EXPECT_EQ(client.read_answer().body, told(bytes));
    EXPECT_EQ(client.read_answer().body, "pong");
}

TEST_F(UploadTest, TheLimitHoldsForBothFramings) {
    start_uploads();
    HttpAnswer const told_at_once = connect().post("/small", some_bytes(1001));
    EXPECT_EQ(told_at_once.status, 413U);
    EXPECT_EQ(uploads->begun, 0) << "its length said it";
    HttpClient client = connect();
    client.send(head("/small", "Transfer-Encoding: chunked") + chunked(some_bytes(1000), 100));
    EXPECT_EQ(client.read_answer().status, 200U) << "as many as there may be";
    client.send(head("/small", "Transfer-Encoding: chunked") + chunked(some_bytes(1001), 100));
    HttpAnswer const answer = client.read_answer();
    EXPECT_EQ(answer.status, 413U);
    EXPECT_EQ(answer.body, "413 the request's body is above this route's limit of 1000 bytes [/small]");
    EXPECT_TRUE(client.is_closed());
    EXPECT_EQ(ended_by(), Code::too_large);
    EXPECT_EQ(metric(R"(hearth_http_rejected_total{reason="body_too_large"})"), 2);
}

TEST_F(UploadTest, MalformedChunksAreRefusedAndEndTheConnection) {
    start_uploads();
    HttpClient client = connect();
    client.send(head("/upload", "Transfer-Encoding: chunked") + "3\r\nabc\r\nx\r\n");
    EXPECT_EQ(client.read_answer().status, 400U);
    EXPECT_TRUE(client.is_closed());
    EXPECT_EQ(ended_by(), Code::invalid_argument);
}

TEST_F(UploadTest, AClientThatLeavesWithinItsBodyIsNoticedByTheHandler) {
    start_uploads();
    int expected = 0;
    for (auto const leave : {&HttpClient::close, &HttpClient::reset, &HttpClient::shut_sending}) {
        for (std::string_view const framing : {"Content-Length: 1000000", "Transfer-Encoding: chunked"}) {
            HttpClient client = connect();
            client.send(head("/upload", framing) + "5\r\nab");
            await_count(uploads->begun, ++expected);
            (client.*leave)();
            await_count(uploads->ended, expected);
            EXPECT_EQ(ended_by(), Code::cancelled);
        }
    }
    log_.wait_for("path=/upload status=499");
    EXPECT_EQ(connect().post("/upload", "abc").body, told("abc"));
}

TEST_F(UploadTest, ASilentSenderIsTold) {
    Options options;
    options.body_timeout = 30ms;
    start_uploads(options);
    HttpClient client = connect();
    client.send(head("/upload", "Content-Length: 100") + "only this");
    HttpAnswer const answer = client.read_answer();
    EXPECT_EQ(answer.status, 408U);
    EXPECT_EQ(answer.body,
              "408 the request's body came too slowly: nothing for 30 ms, or less than 8192 bytes a second [/upload]");
    EXPECT_TRUE(client.is_closed());
    EXPECT_EQ(ended_by(), Code::deadline_exceeded);
    EXPECT_EQ(metric(R"(hearth_http_rejected_total{reason="body_timeout"})"), 1);
}

TEST_F(UploadTest, ASenderThatTricklesIsToldAllTheSame) {
    Options options;
    options.body_timeout = 50ms;
    start_uploads(options);
    HttpClient client = connect();
    client.send(head("/upload", "Content-Length: 100000"));
    // A byte at a time for as long as the server listens: each one is progress, none buys more than its share of time.
    for (int i = 0; i < 100'000 && uploads->ended == 0; ++i) {
        client.send_what_is_taken("x");
        pollfd answered{client.fd(), POLLIN, 0};
        if (::poll(&answered, 1, 5) > 0) break;
    }
    EXPECT_EQ(client.read_answer().status, 408U);
}

TEST_F(UploadTest, TheTimeTheHandlerTakesIsNotTheClients) {
    Options options;
    options.body_timeout = 20ms;
    start_uploads(options);
    HttpClient client = connect();
    auto const bytes = some_bytes(100'000);
    client.send(HttpClient::format("POST", "/patient", bytes));
    await_count(uploads->begun, 1);
    auto const until = std::chrono::steady_clock::now() + 40ms;
    while (std::chrono::steady_clock::now() < until) on_loop([] { return 0; });
    release();
    EXPECT_EQ(client.read_answer().body, told(bytes));
}

// As much as the kernel and one buffer of ours take; then nothing for a while.
std::size_t send_until_full(HttpClient const& client, std::string_view bytes) {
    std::size_t sent = 0;
    pollfd room{client.fd(), POLLOUT, 0};
    while (sent < bytes.size() && ::poll(&room, 1, 200) > 0) {
        auto const piece = bytes.substr(sent, 1U << 20);
        auto const count = ::send(client.fd(), piece.data(), piece.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
        if (count > 0) sent += static_cast<std::size_t>(count);
    }
    return sent;
}

TEST_F(UploadTest, AHandlerThatDoesNotReadMakesTheClientWait) {
    start_uploads();
    HttpClient client = connect();
    auto const bytes = some_bytes(kBodyMax - 1);
    client.send(head("/patient", "Content-Length: " + std::to_string(bytes.size())));
    auto const sent = send_until_full(client, bytes);
    EXPECT_LT(sent, 32U << 20) << "the rest waits where it is";
    release();
    client.send(std::string_view(bytes).substr(sent));
    EXPECT_EQ(client.read_answer().body, told(bytes));
}

TEST_F(UploadTest, AnAnswerBeforeTheBodyArrivesAndIsTheLastOne) {
    start_uploads();
    HttpClient client = connect();
    client.send(head("/early", "Content-Length: 500000") + some_bytes(1000));
    HttpAnswer const answer = client.read_answer();
    EXPECT_EQ(answer.body, "no need");
    EXPECT_EQ(answer.header("connection"), "close");
    EXPECT_TRUE(client.is_closed());
    HttpClient empty = connect();
    EXPECT_EQ(empty.post("/early", {}, {{"content-length", "0"}}).header("connection"), "");
    EXPECT_EQ(empty.get("/ping").body, "pong") << "a body that is none was read to its end";
}

TEST_F(UploadTest, AnEarlyAnswerReachesWhoLooksOnlyAfterTheLastByte) {
    start_uploads();
    HttpClient client = connect();
    auto const bytes = some_bytes(24U << 20);
    client.send(head("/early", "Content-Length: " + std::to_string(bytes.size())));
    client.send(bytes);
    EXPECT_EQ(client.read_answer().body, "no need");
}

TEST_F(UploadTest, WhoAsksBeforeSendingIsAnsweredFirst) {
    start_uploads();
    HttpClient client = connect();
    client.send(head("/upload", "Content-Length: 3\r\nExpect: 100-continue"));
    EXPECT_EQ(client.read_head().status, 100U);
    client.send("abc");
    EXPECT_EQ(client.read_answer().body, told("abc"));
    client.send(head("/early", "Content-Length: 3\r\nExpect: 100-continue"));
    EXPECT_EQ(client.read_answer().status, 200U) << "and no 100 before";
    EXPECT_TRUE(client.is_closed());
}

TEST_F(UploadTest, DrainCutsABodyThatOutlivesItsGrace) {
    start_uploads();
    HttpClient client = connect();
    client.send(head("/upload", "Content-Length: 1000") + "abc");
    await_count(uploads->begun, 1);
    EXPECT_FALSE(drain(10ms).get());
    EXPECT_EQ(ended_by(), Code::cancelled);
}

}  // namespace
}  // namespace hearth::http

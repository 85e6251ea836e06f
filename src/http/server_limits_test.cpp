// Limits of time and number, and who may ask: Host, Origin, CORS.
#include "http/testing/server_fixture.h"

namespace hearth::http {
namespace {

using namespace std::chrono_literals;

TEST_F(ServerTest, ASlowHeaderIs408) {
    Options options;
    options.header_timeout = 30ms;
    start(options);
    HttpClient client = connect();
    client.send("GET /ping HT");
    HttpAnswer const answer = client.read_answer();
    EXPECT_EQ(answer.status, 408U);
    EXPECT_EQ(answer.header("connection"), "close");
    EXPECT_EQ(answer.body, "408 the request's header took longer than 30 ms []");
    EXPECT_TRUE(client.is_closed());
    EXPECT_EQ(metric(R"(hearth_http_rejected_total{reason="header_timeout"})"), 1);
}

TEST_F(ServerTest, AHeaderThatTricklesIs408AllTheSame) {
    Options options;
    options.header_timeout = 50ms;
    start(options);
    HttpClient client = connect();
    Instant const start_time = std::chrono::steady_clock::now();
    std::string const head = "GET /ping HTTP/1.1\r\nX: " + std::string(100'000, 'x');
    std::size_t sent = 0;
    // A byte at a time for as long as the server listens: each one is progress, none of it resets the time.
    while (std::chrono::steady_clock::now() - start_time < 60ms && sent < 10'000)
        client.send_what_is_taken(head.substr(sent++, 1));
    EXPECT_EQ(client.read_answer().status, 408U);
}

TEST_F(ServerTest, ASlowBodyIs408) {
    Options options;
    options.body_timeout = 30ms;
    start(options);
    HttpClient client = connect();
    client.send("POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nonly this");
    HttpAnswer const answer = client.read_answer();
    EXPECT_EQ(answer.status, 408U);
    EXPECT_EQ(answer.body, "408 the request's body took longer than 30 ms [/echo]");
    EXPECT_TRUE(client.is_closed());
    EXPECT_EQ(metric(R"(hearth_http_rejected_total{reason="body_timeout"})"), 1);
}

TEST_F(ServerTest, AnIdleConnectionIsClosedWithoutAWord) {
    Options options;
    options.idle_timeout = 30ms;
    start(options);
    EXPECT_TRUE(connect().is_closed());
    HttpClient used = connect();
    used.get("/ping");
    EXPECT_TRUE(used.is_closed());
}

TEST_F(ServerTest, AClientThatLeavesWithinItsRequestIsForgotten) {
    start();
    for (std::string_view const part :
         {"GET /pi", "POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nhalf"}) {
        HttpClient client = connect();
        client.send(part);
        client.shut_sending();
        EXPECT_TRUE(client.is_closed());
        HttpClient other = connect();
        other.send(part);
        other.reset();
    }
    EXPECT_EQ(connect().get("/ping").status, 200U);
}

TEST_F(ServerTest, OneConnectionTooManyReplacesTheLongestIdleOne) {
    Options options;
    options.connections_max = 2;
    start(options);
    HttpClient first = connect();
    EXPECT_EQ(first.get("/ping").status, 200U);
    HttpClient second = connect();
    EXPECT_EQ(second.get("/ping").status, 200U);
    HttpClient third = connect();
    EXPECT_EQ(third.get("/ping").status, 200U);
    EXPECT_TRUE(first.is_closed());
    EXPECT_EQ(second.get("/ping").status, 200U);
}

TEST_F(ServerTest, WhenAllConnectionsAreBusyOneMoreIsTold503) {
    Options options;
    options.connections_max = 2;
    start(options);
    HttpClient first = connect();
    HttpClient second = connect();
    first.send(HttpClient::format("GET", "/wait"));
    second.send(HttpClient::format("GET", "/wait"));
    await_count(waiting, 2);
    for (int i = 0; i < 3; ++i) {
        HttpClient third = connect();
        HttpAnswer const answer = third.get("/ping");
        EXPECT_EQ(answer.status, 503U);
        EXPECT_EQ(answer.header("retry-after"), "1");
        EXPECT_EQ(answer.header("connection"), "close");
        EXPECT_EQ(answer.body, "503 all 2 connections are in use []");
        EXPECT_TRUE(third.is_closed());
    }
    EXPECT_EQ(metric(R"(hearth_http_rejected_total{reason="connections"})"), 3);
    release();
    EXPECT_EQ(first.read_answer().body, "waited");
    EXPECT_EQ(second.read_answer().body, "waited");
    EXPECT_EQ(connect().get("/ping").status, 200U);
}

TEST_F(ServerTest, AForeignHostIsRefusedWithTheWayOut) {
    Options options;
    options.allowed_hosts = {"hearth.example"};
    start(options);
    HttpClient client = connect();
    HttpAnswer const answer = client.get("/ping", {{"Host", "rebound.example:8080"}});
    EXPECT_EQ(answer.status, 403U);
    EXPECT_EQ(answer.body,
              "403 the host 'rebound.example' is not served here; if it should be, allow it with --allowed-host "
              "rebound.example [/ping]");
    for (char const* const host : {"localhost", "127.0.0.1:1", "[::1]:8080", "HEARTH.example:444"}) {
        EXPECT_EQ(client.get("/ping", {{"Host", host}}).status, 200U) << host;
    }
    client.send("GET /ping HTTP/1.0\r\nHost: rebound.example\r\n\r\n");
    EXPECT_EQ(client.read_answer().status, 403U);
    EXPECT_EQ(metric(R"(hearth_http_rejected_total{reason="host"})"), 2);
}

TEST_F(ServerTest, AForeignOriginIsRefusedForEveryMethod) {
    start();
    HttpClient client = connect();
    for (char const* const origin : {"https://evil.example", "null", "http://localhost.evil.example"}) {
        HttpAnswer const answer = client.get("/ping", {{"Origin", origin}});
        EXPECT_EQ(answer.status, 403U);
        EXPECT_EQ(answer.count("access-control-allow-origin"), 0U);
        EXPECT_NE(answer.body.find("--allowed-origin " + std::string(origin)), std::string::npos);
    }
    EXPECT_EQ(client
                  .request("OPTIONS", "/ping", {},
                           {{"Origin", "https://evil.example"}, {"Access-Control-Request-Method", "GET"}})
                  .status,
              403U);
    EXPECT_EQ(client.post("/echo", "x", {{"Origin", "https://evil.example"}}).status, 403U);
    EXPECT_EQ(metric(R"(hearth_http_rejected_total{reason="origin"})"), 5);
}

TEST_F(ServerTest, AHostileHeaderInAMessageIsCutAndValidUtf8) {
    start();
    HttpAnswer const answer = connect().get("/ping", {{"Origin", "http://\xFF" + std::string(5000, 'x')}});
    EXPECT_EQ(answer.status, 403U);
    EXPECT_LT(answer.body.size(), 700U);
    EXPECT_NE(answer.body.find("http://\uFFFDxxx"), std::string::npos);
}

TEST_F(ServerTest, AnAllowedOriginGetsItsHeadersOnEveryAnswer) {
    Options options;
    options.allowed_origins = {"https://app.example"};
    start(options);
    for (char const* const path : {"/ping", "/nowhere", "/show/%zz"}) {
        HttpAnswer const answer = connect().get(path, {{"Origin", "https://app.example"}});
        bool const checked = std::string_view(path) != "/show/%zz";  // refused before
        EXPECT_EQ(answer.header("access-control-allow-origin"), checked ? "https://app.example" : "") << path;
        if (checked) EXPECT_EQ(answer.header("vary"), "origin");
    }
    HttpClient client = connect();
    EXPECT_EQ(client.get("/ping", {{"Origin", "http://localhost:3000"}}).header("access-control-allow-origin"),
              "http://localhost:3000");
    EXPECT_EQ(client.get("/ping").count("access-control-allow-origin"), 0U);
}

TEST_F(ServerTest, APreflightTellsWhatARequestMayCarry) {
    start();
    HttpClient client = connect();
    HttpAnswer answer =
        client.request("OPTIONS", "/echo", {},
                       {{"Origin", "http://localhost:3000"},
                        {"Access-Control-Request-Method", "POST"},
                        {"Access-Control-Request-Headers", "authorization,content-type,x-stainless-lang,x-evil"},
                        {"Access-Control-Request-Private-Network", "true"}});
    EXPECT_EQ(answer.status, 204U);
    EXPECT_EQ(answer.header("access-control-allow-origin"), "http://localhost:3000");
    EXPECT_EQ(answer.header("access-control-allow-methods"), "POST, OPTIONS");
    EXPECT_EQ(answer.header("access-control-allow-headers"), "authorization, content-type, x-stainless-lang");
    EXPECT_EQ(answer.header("access-control-allow-private-network"), "true");
    EXPECT_EQ(answer.header("access-control-max-age"), "600");
    EXPECT_EQ(answer.count("content-length"), 0U);

    answer = client.request("OPTIONS", "/ping");
    EXPECT_EQ(answer.status, 204U);
    EXPECT_EQ(answer.header("allow"), "GET, HEAD, OPTIONS");
    EXPECT_EQ(answer.count("access-control-allow-methods"), 0U);
    EXPECT_EQ(client.request("OPTIONS", "*").status, 204U);
    EXPECT_EQ(client.request("OPTIONS", "/nowhere").status, 404U);
    EXPECT_EQ(client.get("/ping").body, "pong");
}

}  // namespace
}  // namespace hearth::http

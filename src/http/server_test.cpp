#include "http/server.h"

#include <stdexcept>

#include "http/testing/server_fixture.h"

namespace hearth::http {
namespace {

TEST_F(ServerTest, AnswersAndKeepsTheConnection) {
    start();
    HttpClient client = connect();
    for (int i = 0; i < 3; ++i) {
        HttpAnswer const answer = client.get("/ping");
        EXPECT_EQ(answer.status, 200U);
        EXPECT_EQ(answer.version, "HTTP/1.1");
        EXPECT_EQ(answer.body, "pong");
        EXPECT_EQ(answer.header("content-type"), "text/plain");
        EXPECT_EQ(answer.header("content-length"), "4");
        EXPECT_TRUE(answer.header("date").ends_with(" GMT"));
        EXPECT_EQ(answer.count("connection"), 0U);
    }
    EXPECT_EQ(client.post("/echo", "some text").body, "some text");
}

TEST_F(ServerTest, EveryAnswerHasARequestIdTheClientsIfItIsOne) {
    start();
    HttpClient client = connect();
    std::string const first = client.get("/ping").header("x-request-id");
    std::string const second = client.get("/ping").header("x-request-id");
    EXPECT_EQ(first.size(), 28U);
    EXPECT_NE(first, second);
    EXPECT_EQ(client.get("/ping", {{"X-Request-Id", "my.id_1-2"}}).header("x-request-id"), "my.id_1-2");
    EXPECT_EQ(client.get("/nowhere", {{"X-Request-Id", "mine"}}).header("x-request-id"), "mine");
    for (std::string const& bad : {std::string("a b"), std::string("a/b"), std::string(129, 'a'), std::string()}) {
        EXPECT_EQ(client.get("/ping", {{"X-Request-Id", bad}}).header("x-request-id").size(), 28U) << bad;
    }
}

TEST_F(ServerTest, ParametersArriveDecoded) {
    start();
    HttpClient client = connect();
    EXPECT_EQ(client.get("/show/org%2Fname:7b").body, "org/name:7b");
    EXPECT_EQ(client.get("/show/a%20b%C3%BC/?x=1").body, "a b\u00fc");
    EXPECT_EQ(client.get("/rest/org/name%2Ffile").body, "org/name/file");
    EXPECT_EQ(client.get("/ping/").body, "pong");
    EXPECT_EQ(client.get("//ping").body, "pong");
}

TEST_F(ServerTest, AnUnknownPathIs404AndAnUnknownMethod405) {
    start();
    HttpClient client = connect();
    HttpAnswer answer = client.get("/nowhere");
    EXPECT_EQ(answer.status, 404U);
    EXPECT_EQ(answer.body, "404 there is no '/nowhere' here [/nowhere]");
    answer = client.request("DELETE", "/ping");
    EXPECT_EQ(answer.status, 405U);
    EXPECT_EQ(answer.header("allow"), "GET, HEAD");
    EXPECT_EQ(answer.body, "405 '/ping' takes GET, HEAD, not DELETE [/ping]");
    EXPECT_EQ(client.request("BREW", "/echo").header("allow"), "POST");
    EXPECT_EQ(client.request("BREW", "/nowhere").status, 404U);
    EXPECT_EQ(client.get("/ping").body, "pong");  // still the same connection
}

TEST_F(ServerTest, HeadIsGetWithoutTheBody) {
    start();
    HttpClient client = connect();
    HttpAnswer const answer = client.request("HEAD", "/ping");
    EXPECT_EQ(answer.status, 200U);
    EXPECT_EQ(answer.header("content-length"), "4");
    EXPECT_EQ(client.get("/ping").body, "pong");
    EXPECT_EQ(client.request("HEAD", "/nowhere").status, 404U);
    EXPECT_EQ(client.get("/ping").body, "pong");
    EXPECT_EQ(client.request("HEAD", "/echo").status, 405U);
}

TEST_F(ServerTest, RequestsSentAheadAreAnsweredInOrder) {
    start();
    HttpClient client = connect();
    std::string requests;
    for (int i = 0; i < 200; ++i) {
        requests += HttpClient::format("POST", "/echo", "number " + std::to_string(i));
        if (i % 10 == 0) requests += HttpClient::format("GET", "/wait");
    }
    client.send(requests);
    for (int i = 0; i < 200; ++i) {
        EXPECT_EQ(client.read_answer().body, "number " + std::to_string(i));
        if (i % 10 != 0) continue;
        await_count(waiting, i / 10 + 1);
        release();
        EXPECT_EQ(client.read_answer().body, "waited");
    }
    EXPECT_EQ(left, 0);
}

TEST_F(ServerTest, ConnectionHeadersAreObeyed) {
    start();
    HttpClient closing = connect();
    EXPECT_EQ(closing.get("/ping", {{"Connection", "close"}}).header("connection"), "close");
    EXPECT_TRUE(closing.is_closed());

    HttpClient old = connect();
    old.send("GET /ping HTTP/1.0\r\n\r\n");
    EXPECT_EQ(old.read_answer().header("connection"), "close");
    EXPECT_TRUE(old.is_closed());

    HttpClient old_but_kept = connect();
    for (int i = 0; i < 2; ++i) {
        old_but_kept.send("GET /ping HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
        HttpAnswer const answer = old_but_kept.read_answer();
        EXPECT_EQ(answer.body, "pong");
        EXPECT_EQ(answer.header("connection"), "keep-alive");
    }
}

TEST_F(ServerTest, AClientThatWaitsForContinueIsTold) {
    start();
    HttpClient client = connect();
    client.send("POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n");
    EXPECT_EQ(client.read_head().status, 100U);
    client.send("hello");
    EXPECT_EQ(client.read_answer().body, "hello");
    client.send("POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5000\r\nExpect: 100-continue\r\n\r\n");
    EXPECT_EQ(client.read_answer().status, 413U);  // without 100 before it
    EXPECT_TRUE(client.is_closed());

    HttpClient other = connect();
    EXPECT_EQ(other.get("/ping", {{"Expect", "the-unexpected"}}).status, 417U);
}

TEST_F(ServerTest, ChunkedBodiesAreJoined) {
    start();
    HttpClient client = connect();
    std::string const head = "POST /echo HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n";
    client.send(head + "5\r\nhello\r\n1;name=value\r\n \r\n5\r\nworld\r\n0\r\nTrailer: x\r\n\r\n");
    EXPECT_EQ(client.read_answer().body, "hello world");
    client.send(head);
    for (char const c : std::string_view("a\r\n0123456789\r\n0\r\n\r\n")) client.send({&c, 1});
    EXPECT_EQ(client.read_answer().body, "0123456789");
    client.send(head + "0\r\n\r\n");
    EXPECT_EQ(client.read_answer().body, "");
}

net::Task<void> throw_before(Exchange&) {
    throw std::runtime_error("broken on purpose");
    co_return;
}
net::Task<void> throw_inside(Exchange& exchange) {
    StreamHead head;
    Status const started = co_await exchange.start_stream(std::move(head));
    if (!started) co_return;
    Status const written = co_await exchange.write("half");
    if (!written) co_return;
    throw std::runtime_error("broken on purpose");
}
net::Task<void> say_nothing(Exchange&) { co_return; }
net::Task<void> leave_open(Exchange& exchange) {
    StreamHead head;
    Status const started = co_await exchange.start_stream(std::move(head));
    EXPECT_TRUE(started.has_value());
}
net::Task<void> answer_twice(Exchange& exchange) {
    co_await reply(exchange, "one");
    co_await reply(exchange, "two");
}

TEST_F(ServerTest, AHandlerThatFailsIsA500AndAnEntryInTheLog) {
    std::vector<Route> routes;
    routes.emplace_back(Method::get, "/throw", Permission::anyone, RouteLimits{0}, throw_before);
    routes.emplace_back(Method::get, "/nothing", Permission::anyone, RouteLimits{0}, say_nothing);
    start({}, std::move(routes));
    HttpClient client = connect();
    HttpAnswer answer = client.get("/throw", {{"x-request-id", "find-me"}});
    EXPECT_EQ(answer.status, 500U);
    EXPECT_EQ(answer.body.find("on purpose"), std::string::npos);
    EXPECT_NE(log_.wait_for("broken on purpose").find("request_id=find-me"), std::string::npos);
    answer = client.get("/nothing");
    EXPECT_EQ(answer.status, 500U);
    log_.wait_for("returned without an answer");
    EXPECT_EQ(client.get("/ping").body, "pong");
    EXPECT_EQ(metric(R"(hearth_http_requests_total{route="/throw",method="GET",status="500"})"), 1);
}

TEST_F(ServerTest, AHandlerThatFailsInsideAStreamCutsTheConnection) {
    std::vector<Route> routes;
    routes.emplace_back(Method::get, "/throw", Permission::anyone, RouteLimits{0}, throw_inside);
    routes.emplace_back(Method::get, "/open", Permission::anyone, RouteLimits{0}, leave_open);
    routes.emplace_back(Method::get, "/twice", Permission::anyone, RouteLimits{0}, answer_twice);
    start({}, std::move(routes));
    for (char const* path : {"/throw", "/open"}) {
        HttpClient client = connect();
        client.send(HttpClient::format("GET", path));
        EXPECT_THROW(client.read_answer(), std::runtime_error) << path;
        log_.wait_for(std::string("path=") + path + " status=200");
    }
    HttpClient client = connect();
    client.send(HttpClient::format("GET", "/twice"));
    log_.wait_for("a handler answered twice");
    EXPECT_EQ(connect().get("/ping").body, "pong");
}

TEST_F(ServerTest, HeaderValuesOfAHandlerCannotStartALine) {
    std::vector<Route> routes;
    routes.emplace_back(Method::get, "/split", Permission::anyone, RouteLimits{0},
                        [](Exchange& exchange) -> net::Task<void> {
                            Response response;
                            response.status = 201;
                            response.headers = {{"x-model", "a\r\nset-cookie: b"},
                                                {"Content-Length", "99"},
                                                {"Connection", "upgrade"},
                                                {"x-empty", ""}};
                            co_await exchange.send(std::move(response));
                        });
    start({}, std::move(routes));
    HttpAnswer const answer = connect().get("/split");
    EXPECT_EQ(answer.status, 201U);
    EXPECT_EQ(answer.header("x-model"), "a  set-cookie: b");
    EXPECT_EQ(answer.count("set-cookie"), 0U);
    EXPECT_EQ(answer.count("content-length"), 1U);
    EXPECT_EQ(answer.header("content-length"), "0");
    EXPECT_EQ(answer.count("x-empty"), 1U);
}

TEST_F(ServerTest, EveryRequestIsLoggedAndCounted) {
    start();
    HttpClient client = connect();
    client.get("/ping?secret=1", {{"x-request-id", "one"}});
    client.get("/nowhere");
    client.request("BREW", "/ping");
    std::string const line = log_.wait_for("request_id=one");
    EXPECT_TRUE(line.starts_with("info request method=GET path=/ping status=200 bytes=4 ms="));
    EXPECT_NE(line.find("outcome=complete"), std::string::npos);
    EXPECT_NE(line.find("peer=127.0.0.1:"), std::string::npos);
    EXPECT_EQ(line.find("secret"), std::string::npos);
    log_.wait_for("status=405");
    EXPECT_EQ(metric(R"(hearth_http_requests_total{route="/ping",method="GET",status="200"})"), 1);
    EXPECT_EQ(metric(R"(hearth_http_requests_total{route="none",method="GET",status="404"})"), 1);
    EXPECT_EQ(metric(R"(hearth_http_requests_total{route="none",method="other",status="405"})"), 1);
    EXPECT_EQ(metric(R"(hearth_http_request_seconds_count{route="/ping"})"), 1);
    EXPECT_EQ(metric("hearth_http_connections"), 1);
    client.close();
    HttpClient again = connect();
    again.get("/ping");
    EXPECT_EQ(metric("hearth_http_connections"), 1);
}

TEST_F(ServerTest, ServesAConnectedSocketItIsGiven) {
    start();
    int ends[2];
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    on_loop([&] { server_->adopt(ends[0]); });
    std::string const request = HttpClient::format("GET", "/ping", {}, {{"connection", "close"}});
    ASSERT_EQ(::send(ends[1], request.data(), request.size(), 0), static_cast<ssize_t>(request.size()));
    std::string answer(4096, '\0');
    answer.resize(static_cast<std::size_t>(::recv(ends[1], answer.data(), answer.size(), 0)));
    EXPECT_TRUE(answer.starts_with("HTTP/1.1 200 OK\r\n"));
    EXPECT_TRUE(answer.ends_with("\r\n\r\npong"));
    ::close(ends[1]);
    log_.wait_for("peer=local");
    on_loop([&] { server_->adopt(-1); });
    log_.wait_for("could not be taken on");
}

TEST_F(ServerTest, WhatCannotBeServedIsRefusedAtTheStart) {
    start();
    Options options;
    options.port = port_;
    auto const create = [&](Options o, std::vector<Route> routes) {
        return Server::create(*loop_, std::move(o), std::move(routes), {}, log_, metrics_);
    };
    auto taken = create(options, {});
    ASSERT_FALSE(taken.has_value());
    EXPECT_EQ(taken.error().code, Code::io);
    EXPECT_EQ(taken.error().message,
              "cannot listen on 127.0.0.1:" + std::to_string(port_) +
                  ": Address already in use; another program uses this port: stop it, or choose another with --port");
    options.host = "192.0.2.1";
    options.port = 0;
    auto foreign = create(options, {});
    ASSERT_FALSE(foreign.has_value());
    EXPECT_NE(foreign.error().message.find("no such address"), std::string::npos);
    options.host = "no such host";
    EXPECT_FALSE(create(options, {}).has_value());

    std::vector<Route> twice;
    twice.emplace_back(Method::get, "/a", Permission::anyone, RouteLimits{0}, say_nothing);
    twice.emplace_back(Method::get, "/a", Permission::anyone, RouteLimits{0}, say_nothing);
    options.host = "127.0.0.1";
    auto repeated = create(options, std::move(twice));
    ASSERT_FALSE(repeated.has_value());
    EXPECT_EQ(repeated.error().message, "route pattern '/a': GET is declared twice");
    options.allowed_origins = {"https://*.example.com:*"};
    auto never = create(options, {});
    ASSERT_FALSE(never.has_value());
    EXPECT_EQ(never.error().code, Code::invalid_argument);
}

}  // namespace
}  // namespace hearth::http

// What a hostile or broken client may send: strict 4xx, the connection ends, and
// nothing of it is taken for another request.
#include "http/testing/server_fixture.h"

namespace hearth::http {
namespace {

using namespace std::string_view_literals;

// Sends `bytes` and then a request; the statuses of all answers until the server
// closes.
std::vector<unsigned> statuses(HttpClient client, std::string_view bytes) {
    client.send_what_is_taken(bytes);
    client.send_what_is_taken(HttpClient::format("GET", "/ping"));
    client.shut_sending();
    std::vector<unsigned> out;
    try {
        for (;;) out.push_back(client.read_answer().status);
    } catch (std::runtime_error const&) {}
    return out;
}

using Statuses = std::vector<unsigned>;

TEST_F(ServerTest, SmugglingPairsAreRefusedAndEndTheConnection) {
    start();
    std::string const post = "POST /echo HTTP/1.1\r\nHost: localhost\r\n";
    std::string const smuggled = "GET /show/smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n";
    for (std::string const& lines : std::vector<std::string>{
             "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n",
             "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n", "Content-Length: 4\r\nContent-Length: 0\r\n",
             "Content-Length: 0\r\nContent-Length: 0\r\n", "Content-Length: 0, 4\r\n", "Content-Length: +4\r\n",
             "Content-Length: 4 4\r\n", "Content-Length : 4\r\n", "Transfer-Encoding : chunked\r\n",
             "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", "Transfer-Encoding:\r\n chunked\r\n",
             "X: y\rContent-Length: 4\r\n", "X: y\nTransfer-Encoding: chunked\r\n",
             "Transfer-Encoding\x01: chunked\r\n", std::string("X: a\0b\r\n", 8)}) {
        EXPECT_EQ(statuses(connect(), post + lines + "\r\n0\r\n\r\n" + smuggled), Statuses{400}) << lines;
    }
    for (std::string const coding : {"xchunked", "chunked, identity", "gzip, chunked", "chunked;foo"}) {
        EXPECT_EQ(statuses(connect(), post + "Transfer-Encoding: " + coding + "\r\n\r\n0\r\n\r\n" + smuggled),
                  Statuses{501})
            << coding;
    }
    EXPECT_EQ(statuses(connect(), "POST /echo HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + smuggled),
              Statuses{400});
    EXPECT_EQ(metric(R"(hearth_http_rejected_total{reason="bad_request"})"), 20);
}

TEST_F(ServerTest, BadChunksAreRefusedAndEndTheConnection) {
    start();
    std::string const head = "POST /echo HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n";
    for (std::string_view const chunk : {"-2\r\nab\r\n", "0x2\r\nab\r\n", "g\r\n", "\r\n", "2\nab\n0\n\n",
                                         "2\r\nabc\r\n0\r\n\r\n", "2;\x01\r\nab\r\n", "0\r\nno colon\r\n\r\n"}) {
        EXPECT_EQ(statuses(connect(), head + std::string(chunk)), Statuses{400}) << chunk;
    }
    for (std::string_view const size : {"3e9", "7fffffffffffffff", "fffffffffffffffff", "8000000000000000"}) {
        EXPECT_EQ(statuses(connect(), head + std::string(size) + "\r\n"), Statuses{413}) << size;
    }
    // The decoder also stands a client that sends single bytes.
    HttpClient slow = connect();
    for (char const c : head + "3e8\r\n" + std::string(1000, 'x') + "\r\n0\r\nA: b\r\n\r\n") slow.send({&c, 1});
    EXPECT_EQ(slow.read_answer().body, std::string(1000, 'x'));
}

TEST_F(ServerTest, BrokenHeadsAreRefused) {
    start();
    for (std::string_view const bytes :
         {"GET /ping HTTP/1.1\nHost: localhost\n\n"sv, "GET /ping HTTP/1.1\r\nHost: localhost\n\r\n"sv, "\n"sv,
          "\r\n\r\nGET"sv, "GET  /ping HTTP/1.1\r\nHost: localhost\r\n\r\n"sv,
          "GET /ping HTTP/1.1 \r\nHost: localhost\r\n\r\n"sv, "GET /pi ng HTTP/1.1\r\nHost: localhost\r\n\r\n"sv,
          "GET /ping\r\nHost: localhost\r\n\r\n"sv, "GET /ping HTTP/1.1\r\n Host: localhost\r\n\r\n"sv,
          "GET /ping HTTP/1.1\r\nHost: localhost\r\nFold: a\r\n b\r\n\r\n"sv,
          "GET /ping HTTP/1.1\r\nHost: localhost\r\nA: b\0c\r\n\r\n"sv,
          "GET /ping HTTP/1.1\r\nHost: localhost\r\nNo colon\r\n\r\n"sv, "GET /ping HTTP/1.1\r\n\r\n"sv,
          "GET /ping HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n"sv,
          "GET /ping HTTP/1.1\r\nHost: a b\r\n\r\n"sv, "GET /ping HTTP/1.1\r\nHost:\r\n\r\n"sv, "\0\0\0\0"sv,
          "\x80\x80\r\n\r\n"sv, "{\"json\": true}\r\n\r\n"sv}) {
        EXPECT_EQ(statuses(connect(), bytes), Statuses{400}) << bytes;
    }
    EXPECT_EQ(statuses(connect(), "GET /ping HTTP/2.0\r\nHost: localhost\r\n\r\n"), Statuses{505});
    EXPECT_EQ(statuses(connect(), "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), Statuses{505});
    EXPECT_EQ(statuses(connect(), "\r\n"), Statuses{200});  // one empty line is forgiven

    HttpClient tls = connect();
    tls.send("\x16\x03\x01\x02");
    EXPECT_NE(tls.read_answer().body.find("use http://"), std::string::npos);
}

TEST_F(ServerTest, BrokenTargetsAreRefused) {
    start();
    for (std::string_view const target :
         {"/show/%", "/show/%zz", "/show/a%00b", "/show/%0d%0a", "/show/%ff", "/a/../ping", "/%2e%2e/ping", "/ping#x",
          "ping", "localhost:80", "ftp://localhost/ping", "http://user@localhost/ping", "*"}) {
        HttpClient client = connect();
        HttpAnswer const answer = client.get(target);
        EXPECT_EQ(answer.status, 400U) << target;
        EXPECT_TRUE(client.is_closed());
    }
    EXPECT_EQ(connect().get("http://localhost:1234/ping").body, "pong");
    EXPECT_EQ(connect().get("http://evil.example/ping").status, 403U);  // the target's host counts, not the header's
}

TEST_F(ServerTest, WhatIsTooLongIsRefusedBeforeItIsKept) {
    Options options;
    options.header_bytes_max = 16U << 10;
    start(options);
    std::string const head = "GET /ping HTTP/1.1\r\nHost: localhost\r\n";
    std::string many;
    for (int i = 0; i < 100'000; ++i) many += "a:\r\n";
    EXPECT_EQ(statuses(connect(), head + many), Statuses{431});
    many.resize(129 * 4);
    EXPECT_EQ(statuses(connect(), head + many + "\r\n"), Statuses{431});
    EXPECT_EQ(statuses(connect(), head + "X: " + std::string(20'000, 'x') + "\r\n\r\n"), Statuses{431});
    EXPECT_EQ(statuses(connect(), head + "X: " + std::string(15'000, 'x') + "\r\n\r\n"), (Statuses{200, 200}));
    EXPECT_EQ(statuses(connect(), "GET /" + std::string(9'000, 'x') + " HTTP/1.1\r\nHost: localhost\r\n\r\n"),
              Statuses{414});
    EXPECT_EQ(statuses(connect(), "GET /" + std::string(1'000'000, 'x')), Statuses{414});
    EXPECT_EQ(statuses(connect(), std::string(1'000'000, 'x')), Statuses{414});
    EXPECT_EQ(connect().get("/show/" + std::string(8'000, 'x')).body.size(), 8'000U);
}

TEST_F(ServerTest, BodiesAreBoundedByTheirRoute) {
    start();
    EXPECT_EQ(connect().post("/echo", std::string(1000, 'x')).status, 200U);
    HttpClient client = connect();
    HttpAnswer const answer = client.post("/echo", std::string(1001, 'x'));
    EXPECT_EQ(answer.status, 413U);
    EXPECT_EQ(answer.body, "413 the body of 1001 bytes is above this route's limit of 1000 bytes [/echo]");
    EXPECT_EQ(answer.header("connection"), "close");
    EXPECT_TRUE(client.is_closed());
    EXPECT_EQ(connect().request("GET", "/ping", "x").status, 413U);
    EXPECT_EQ(connect().get("/ping", {{"content-length", "0"}}).status, 200U);
    EXPECT_EQ(
        statuses(connect(), "POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 18446744073709551615\r\n\r\n"),
        Statuses{413});
    EXPECT_EQ(
        statuses(connect(), "GET /ping HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        Statuses{413});

    // The answer arrives although a megabyte is on its way: nothing resets under it.
    HttpClient big = connect();
    big.send_what_is_taken(HttpClient::format("POST", "/echo", std::string(1'000'000, 'x')));
    EXPECT_EQ(big.read_answer().status, 413U);
    EXPECT_EQ(metric(R"(hearth_http_rejected_total{reason="body_too_large"})"), 5);
}

TEST_F(ServerTest, AnEarlyRefusalIsNotFollowedByTheBodysBytes) {
    start();
    // The body of a request that is refused must not be read as a request.
    std::string const inner = HttpClient::format("GET", "/show/inner");
    EXPECT_EQ(statuses(connect(), HttpClient::format("POST", "/nowhere", inner)), Statuses{404});
    EXPECT_EQ(statuses(connect(), HttpClient::format("DELETE", "/echo", inner)), Statuses{405});
    EXPECT_EQ(statuses(connect(), HttpClient::format("POST", "/echo", inner, {{"host", "evil.example"}})),
              Statuses{403});
    EXPECT_EQ(statuses(connect(), HttpClient::format("OPTIONS", "/echo", inner)), Statuses{204});
}

}  // namespace
}  // namespace hearth::http

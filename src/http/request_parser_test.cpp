#include "http/request_parser.h"

#include <gtest/gtest.h>

namespace hearth::http {
namespace {

using namespace std::string_view_literals;

unsigned status_of(std::string_view head) {
    auto const parsed = parse_head(head);
    auto const* refusal = std::get_if<Refusal>(&parsed);
    return refusal == nullptr ? 200 : refusal->status;
}

std::string with(std::string_view lines) { return "POST /a HTTP/1.1\r\nHost: x\r\n" + std::string(lines) + "\r\n"; }

TEST(FindHeadEnd, LooksAtEachByteOnce) {
    std::string const head = "GET / HTTP/1.1\r\nHost: x\r\n\r\nrest";
    std::size_t scanned = 0;
    for (std::size_t size = 0; size < head.size() - 4; ++size) {
        EXPECT_EQ(find_head_end(std::string_view(head).substr(0, size), scanned).kind, HeadEnd::Kind::incomplete)
            << size;
    }
    HeadEnd const end = find_head_end(head, scanned);
    EXPECT_EQ(end.kind, HeadEnd::Kind::complete);
    EXPECT_EQ(end.size, head.size() - 4);
}

TEST(FindHeadEnd, StopsAtWhatCanBecomeNoHead) {
    for (std::string_view const bad : {"GET / HTTP/1.1\n"sv, "\n"sv, "A\r\nB\n\r\n"sv, "\x16\x03\x01"sv, "\0"sv}) {
        std::size_t scanned = 0;
        ASSERT_EQ(find_head_end(bad, scanned).kind, HeadEnd::Kind::malformed);
        EXPECT_EQ(status_of(bad), 400U);
    }
}

TEST(RequestParser, ReadsAHead) {
    auto const parsed = parse_head(
        "POST /a?b HTTP/1.1\r\nHost: x:1\r\nX-Two:\tone \r\nx-two: two\r\nContent-Length: 12\r\nX-Empty:\r\n\r\n");
    auto const* head = std::get_if<Head>(&parsed);
    ASSERT_NE(head, nullptr);
    EXPECT_EQ(head->method, "POST");
    EXPECT_EQ(head->target, "/a?b");
    EXPECT_EQ(head->version, Version::http11);
    EXPECT_EQ(head->headers.size(), 5U);
    EXPECT_EQ(head->headers[1], (std::pair<std::string, std::string>("X-Two", "one")));
    EXPECT_EQ(head->header("X-TWO"), "one");
    EXPECT_EQ(head->content_length, 12U);
    EXPECT_TRUE(head->keep_alive);
    EXPECT_TRUE(head->has_body());
    EXPECT_FALSE(head->chunked);
}

TEST(RequestParser, AHeadMustNotBeReadTwoWays) {
    for (std::string_view const bad : {"Content-Length: 1\r\nContent-Length: 1\r\n",
                                       "Content-Length: 1\r\nContent-Length: 2\r\n",
                                       "Content-Length: 1, 1\r\n",
                                       "Content-Length: +1\r\n",
                                       "Content-Length: -1\r\n",
                                       "Content-Length: 0x1\r\n",
                                       "Content-Length: 1 1\r\n",
                                       "Content-Length: 18446744073709551616\r\n",
                                       "Content-Length:\r\n",
                                       "Content-Length: \t\r\n",
                                       "Content-Length: 1.0\r\n",
                                       "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n",
                                       "Transfer-Encoding: chunked\r\nContent-Length: 1\r\n",
                                       "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
                                       "Transfer-Encoding: identity\r\nContent-Length: 1\r\n",
                                       "Host: y\r\n",
                                       "X-Fold: a\r\n b\r\n",
                                       "X-Fold:\r\n\tb\r\n",
                                       " Leading: x\r\n",
                                       "Space : x\r\n",
                                       "Tab\t: x\r\n",
                                       "NoColon\r\n",
                                       ": empty\r\n",
                                       "Ctl: a\x01z\r\n",
                                       "Ctl: a\x7fz\r\n",
                                       "B\xC3\xBC: x\r\n",
                                       "Bare: a\rb\r\n",
                                       "(Paren): x\r\n",
                                       "Connection: close;x y\r\n"}) {
        EXPECT_EQ(status_of(with(bad)), 400U) << bad;
    }
    EXPECT_EQ(status_of(std::string("GET / HTTP/1.1\r\nHost: x\r\nA: b\0c\r\n\r\n", 35)), 400U);
    EXPECT_EQ(status_of("GET / HTTP/1.1\r\n Host: x\r\nHost: x\r\n\r\n"), 400U);
    EXPECT_EQ(status_of("GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"), 400U);
    EXPECT_EQ(status_of("GET / HTTP/1.1\r\n\r\n"), 400U);
}

TEST(RequestParser, OnlyChunkedIsATransferCoding) {
    EXPECT_EQ(status_of(with("Transfer-Encoding: chunked\r\n")), 200U);
    EXPECT_EQ(status_of(with("Transfer-Encoding: Chunked\r\n")), 200U);
    for (std::string_view const other :
         {"gzip, chunked", "chunked, chunked", "identity", "xchunked", "chunked;q=1", "\"chunked\"", ""}) {
        EXPECT_EQ(status_of(with("Transfer-Encoding: " + std::string(other) + "\r\n")), 501U) << other;
    }
}

TEST(RequestParser, ARequestLineHasThreePartsAndOneSpaceBetween) {
    for (std::string_view const bad :
         {"GET  / HTTP/1.1", "GET /  HTTP/1.1", " GET / HTTP/1.1", "GET / HTTP/1.1 ", "GET /", "GET", "G\tT / HTTP/1.1",
          "GET\t/ HTTP/1.1", "GET / /x HTTP/1.1", "/ HTTP/1.1", "G(T / HTTP/1.1", "GET / http/1.1", "GET / HTTP/x.y",
          "GET / HTTP/11", "GET / FTP/1.1"}) {
        EXPECT_EQ(status_of(std::string(bad) + "\r\nHost: x\r\n\r\n"), 400U) << bad;
    }
    for (std::string_view const version : {"HTTP/2.0", "HTTP/0.9", "HTTP/1.2", "HTTP/3.0"}) {
        EXPECT_EQ(status_of("GET / " + std::string(version) + "\r\nHost: x\r\n\r\n"), 505U) << version;
    }
    EXPECT_EQ(status_of("PRI * HTTP/2.0\r\n\r\n"), 505U);
}

TEST(RequestParser, ManyFieldsAre431) {
    std::string lines;
    for (std::size_t i = 0; i < kHeadersMax - 1; ++i) lines += "a:\r\n";
    EXPECT_EQ(status_of(with(lines)), 200U);
    EXPECT_EQ(status_of(with(lines + "a:\r\n")), 431U);
}

// Feeds `body` in pieces of `step` bytes; the joined body or the refusal.
std::variant<std::string, Refusal> read_body(std::string_view lines, std::string_view body, std::size_t limit,
                                             std::size_t step) {
    auto const parsed = parse_head(with(lines));
    BodyReader reader(std::get<Head>(parsed), limit);
    while (!reader.done()) {
        if (body.empty()) return Refusal(0, {}, Error());
        auto const put = reader.put(body.substr(0, step));
        if (auto const* refusal = std::get_if<Refusal>(&put)) return *refusal;
        body.remove_prefix(std::get<std::size_t>(put));
    }
    EXPECT_EQ(body, "NEXT");
    return reader.take();
}

TEST(RequestParser, ChunksCutAnywhereGiveTheSameBody) {
    std::string const body =
        "5\r\nhello\r\n00a;x=\"y\"\r\n0123456789\r\n0;e\r\nTrailer: host\r\nHost: evil\r\n\r\nNEXT";
    for (std::size_t step = 1; step <= body.size(); ++step) {
        auto const read = read_body("Transfer-Encoding: chunked\r\n", body, 15, step);
        auto const* text = std::get_if<std::string>(&read);
        ASSERT_NE(text, nullptr) << step;
        EXPECT_EQ(*text, "hello0123456789");
    }
}

TEST(RequestParser, BadChunksAreRefused) {
    for (std::string_view const bad :
         {"-2\r\nab\r\n", "+2\r\nab\r\n", "0x2\r\nab\r\n", " 2\r\nab\r\n", "g\r\n", "\r\n\r\n", "2\r\nabc\r\n",
          "2\r\nab\n0\r\n\r\n", "2\rab\r\n\r\n", "2;\x01\r\nab\r\n0\r\n\r\n", "2 2\r\nab\r\n", "2\r\nab0\r\n\r\n",
          "2 ;a\r\n", "0\r\n: x\r\n", "0\r\n a: x\r\n", "0\r\na: \x01\r\n", "0\r\n\n", "0\r\na: b\n\r\n",
          "0\r\nbad trailer\r\n\r\n"}) {
        for (std::size_t const step : {1U, 100U}) {
            auto const read = read_body("Transfer-Encoding: chunked\r\n", bad, 100, step);
            auto const* refusal = std::get_if<Refusal>(&read);
            ASSERT_NE(refusal, nullptr) << bad;
            EXPECT_EQ(refusal->status, 400U) << bad << " in pieces of " << step;
        }
    }
}

TEST(RequestParser, WhatChunksCarryBesidesDataIsBounded) {
    auto const status = [](std::string const& body) {
        auto const read = read_body("Transfer-Encoding: chunked\r\n", body, 10, 7);
        auto const* refusal = std::get_if<Refusal>(&read);
        return refusal == nullptr ? 200 : refusal->status;
    };
    EXPECT_EQ(status("1;" + std::string(1000, 'x') + "\r\na\r\n0\r\n\r\nNEXT"), 200U);
    EXPECT_EQ(status("1;" + std::string(1100, 'x')), 400U);
    EXPECT_EQ(status(std::string(1100, '0')), 400U);
    EXPECT_EQ(status("0\r\na:" + std::string(8000, 'x') + "\r\n\r\nNEXT"), 200U);
    std::string trailer = "0\r\n";
    for (int i = 0; i < 3000; ++i) trailer += "a:\r\n";
    EXPECT_EQ(status(trailer), 400U);
}

TEST(RequestParser, TheLimitHoldsForBothFramings) {
    auto const over = [](std::string_view lines, std::string_view body) {
        auto const read = read_body(lines, body, 10, 3);
        auto const* refusal = std::get_if<Refusal>(&read);
        return refusal != nullptr && refusal->status == 413;
    };
    EXPECT_FALSE(over("Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n5\r\nworld\r\n0\r\n\r\nNEXT"));
    EXPECT_TRUE(over("Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n6\r\nworld!\r\n0\r\n\r\n"));
    for (std::string_view const size :
         {"b", "7fffffffffffffff", "ffffffffffffffff", "10000000000000000", "ffffffffffffffff0"}) {
        EXPECT_TRUE(over("Transfer-Encoding: chunked\r\n", size)) << size;
    }
    auto const fits = read_body("Content-Length: 10\r\n", "helloworldNEXT", 10, 3);
    EXPECT_EQ(std::get<std::string>(fits), "helloworld");
}

}  // namespace
}  // namespace hearth::http

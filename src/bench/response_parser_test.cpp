#include "bench/response_parser.h"

#include <gtest/gtest.h>

#include <string>
#include <string_view>

namespace hearth::bench {
namespace {

std::string read_all(ResponseParser& parser, std::string_view input) {
    std::string body;
    for (auto piece = parser.take_body(input); !piece.empty(); piece = parser.take_body(input)) body.append(piece);
    return body;
}

constexpr std::string_view kChunked =
    "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n"
    "5\r\nhello\r\n7;name=value\r\n, world\r\n0\r\nTrailer: x\r\n\r\n";

TEST(ResponseParser, JoinsChunksWhereverTheBytesAreSplit) {
    for (std::size_t cut = 0; cut <= kChunked.size(); ++cut) {
        ResponseParser parser;
        auto body = read_all(parser, kChunked.substr(0, cut));
        body += read_all(parser, kChunked.substr(cut));
        EXPECT_EQ(body, "hello, world") << "split at " << cut;
        EXPECT_TRUE(parser.done());
        EXPECT_TRUE(parser.reusable());
        EXPECT_EQ(parser.status(), 200);
    }
}

TEST(ResponseParser, ReadsAResponseFedByteByByte) {
    ResponseParser parser;
    std::string body;
    for (auto const& byte : kChunked) body += read_all(parser, {&byte, 1});
    EXPECT_EQ(body, "hello, world");
    EXPECT_TRUE(parser.done());
}

TEST(ResponseParser, StopsAtTheContentLengthAndLeavesTheRest) {
    ResponseParser parser;
    std::string_view input = "HTTP/1.1 404 Not Found\r\ncontent-length: 3\r\n\r\nabcdef";
    EXPECT_EQ(parser.take_body(input), "abc");
    EXPECT_TRUE(parser.done());
    EXPECT_EQ(parser.take_body(input), "");
    EXPECT_EQ(input, "def");
    EXPECT_EQ(parser.status(), 404);
}

TEST(ResponseParser, AnEmptyBodyIsDoneAtOnce) {
    for (auto text : {"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "HTTP/1.1 204 No Content\r\n\r\n"}) {
        ResponseParser parser;
        EXPECT_EQ(read_all(parser, text), "");
        EXPECT_TRUE(parser.done());
    }
}

TEST(ResponseParser, ABodyWithoutFramingRunsUntilClose) {
    ResponseParser parser;
    EXPECT_EQ(read_all(parser, "HTTP/1.0 200 OK\r\n\r\nabc"), "abc");
    EXPECT_FALSE(parser.done());
    EXPECT_TRUE(parser.finish());
    EXPECT_FALSE(parser.reusable());
}

TEST(ResponseParser, AnInterimResponseIsSkipped) {
    ResponseParser parser;
    EXPECT_EQ(read_all(parser, "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"), "ok");
    EXPECT_EQ(parser.status(), 200);
}

TEST(ResponseParser, ConnectionCloseIsNotReusable) {
    ResponseParser parser;
    EXPECT_EQ(read_all(parser, "HTTP/1.1 200 OK\r\nConnection: Close\r\nContent-Length: 2\r\n\r\nok"), "ok");
    EXPECT_TRUE(parser.done());
    EXPECT_FALSE(parser.reusable());
}

TEST(ResponseParser, ARefusalSaysWhenToComeAgain) {
    auto const retry_after = [](std::string const& header) {
        ResponseParser parser;
        auto const response = "HTTP/1.1 429 No\r\n" + header + "Content-Length: 0\r\n\r\n";
        std::string_view input = response;
        parser.take_body(input);
        EXPECT_TRUE(parser.done()) << header;
        return parser.retry_after_s();
    };
    EXPECT_EQ(retry_after("retry-after: 12\r\n"), 12U);
    EXPECT_EQ(retry_after(""), std::nullopt);
    EXPECT_EQ(retry_after("Retry-After: Fri, 31 Dec 1999 23:59:59 GMT\r\n"), std::nullopt);
}

TEST(ResponseParser, AConnectionThatEndsInsideABodyIsCutShort) {
    for (auto text : {"", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc",
                      "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"}) {
        ResponseParser parser;
        read_all(parser, text);
        EXPECT_FALSE(parser.finish()) << text;
    }
}

TEST(ResponseParser, WhatIsNoHttpFails) {
    for (auto text :
         {"SSH-2.0-OpenSSH\r\n", "HTTP/2 200\r\n", "HTTP/1.1 2x0 OK\r\n", "HTTP/1.1 200 OK\r\nno colon\r\n",
          "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n",
          "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n",
          "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
          "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\r\n",
          "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nabc\r\n"}) {
        ResponseParser parser;
        read_all(parser, text);
        EXPECT_TRUE(parser.failed()) << text;
        EXPECT_FALSE(parser.problem().empty());
    }
}

TEST(ResponseParser, AHeadBeyondItsLimitFailsWithoutBeingKept) {
    ResponseParser parser;
    read_all(parser, "HTTP/1.1 200 OK\r\n");
    std::string const part(1000, 'a');
    for (std::size_t sent = 0; sent <= ResponseParser::kHeadBytesMax && !parser.failed(); sent += part.size())
        read_all(parser, part);
    EXPECT_TRUE(parser.failed());
}

TEST(ResponseParser, AStreamOfManyChunksNeverReachesTheHeadLimit) {
    ResponseParser parser;
    read_all(parser, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
    std::size_t bytes = 0;
    for (int i = 0; i < 100'000; ++i) bytes += read_all(parser, "1\r\nx\r\n").size();
    EXPECT_EQ(bytes, 100'000U);
    EXPECT_FALSE(parser.failed());
}

}  // namespace
}  // namespace hearth::bench

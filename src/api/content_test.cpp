#include "api/content.h"

#include <gtest/gtest.h>

namespace hearth::api {
namespace {

std::optional<Kind> verdict(http::Headers headers) {
    http::Request request;
    request.headers = std::move(headers);
    auto const problem = check_content(request);
    if (!problem) return std::nullopt;
    return problem->kind;
}

TEST(CheckContent, TakesAnyTypeFromClientsThatAreNoBrowser) {
    EXPECT_EQ(verdict({}), std::nullopt);
    EXPECT_EQ(verdict({{"Content-Type", "application/json"}}), std::nullopt);
    EXPECT_EQ(verdict({{"Content-Type", "application/x-www-form-urlencoded"}}), std::nullopt) << "curl -d without -H";
    EXPECT_EQ(verdict({{"Content-Type", "text/plain"}}), std::nullopt);
}

TEST(CheckContent, AsksWebPagesForAJsonType) {
    http::Headers const page{{"Origin", "http://localhost:3000"}};
    auto const with = [&](std::string type) {
        auto headers = page;
        headers.emplace_back("Content-Type", std::move(type));
        return verdict(headers);
    };
    EXPECT_EQ(verdict(page), Kind::unsupported_media_type);
    EXPECT_EQ(with("text/plain"), Kind::unsupported_media_type);
    EXPECT_EQ(with("text/plain; application/json"), Kind::unsupported_media_type);
    EXPECT_EQ(with("multipart/form-data; boundary=x"), Kind::unsupported_media_type);
    EXPECT_EQ(with("Application/JSON; charset=utf-8"), std::nullopt);
    EXPECT_EQ(with("application/vnd.x+json"), std::nullopt);
}

TEST(CheckContent, RefusesCompressedBodies) {
    EXPECT_EQ(verdict({{"Content-Encoding", "gzip"}}), Kind::unsupported_media_type);
    EXPECT_EQ(verdict({{"content-encoding", "ZSTD"}}), Kind::unsupported_media_type);
    EXPECT_EQ(verdict({{"Content-Encoding", "identity"}}), std::nullopt);
}

}  // namespace
}  // namespace hearth::api

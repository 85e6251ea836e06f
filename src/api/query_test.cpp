#include "api/query.h"

#include <gtest/gtest.h>

namespace hearth::api {
namespace {

TEST(QueryValue, FindsTheFirstOfThatName) {
    EXPECT_EQ(query_value("", "a"), std::nullopt);
    EXPECT_EQ(query_value("a=1&b=2&a=3", "a"), "1");
    EXPECT_EQ(query_value("a=1&b=2", "b"), "2");
    EXPECT_EQ(query_value("a=1&b=2", "c"), std::nullopt);
    EXPECT_EQ(query_value("a", "a"), "");
    EXPECT_EQ(query_value("a=", "a"), "");
    EXPECT_EQ(query_value("a=b=c", "a"), "b=c");
    EXPECT_EQ(query_value("&&a=1", "a"), "1");
}

TEST(QueryValue, Decodes) {
    EXPECT_EQ(query_value("model=a%2Fb%3a1+c", "model"), "a/b:1 c");
    EXPECT_EQ(query_value("%6dodel=x", "model"), "x");
    EXPECT_EQ(query_value("a=100%&b=%g1&c=%4", "a"), "100%");
    EXPECT_EQ(query_value("a=100%&b=%g1&c=%4", "b"), "%g1");
    EXPECT_EQ(query_value("a=100%&b=%g1&c=%4", "c"), "%4");
    EXPECT_EQ(query_value("a=%-1", "a"), "%-1");
}

TEST(QueryNumber, IsWholeAndWithinItsLimits) {
    std::uint64_t out = 7;
    EXPECT_FALSE(read_query_number("a=1", "limit", 1, 100, out));
    EXPECT_EQ(out, 7U) << "absent";
    EXPECT_FALSE(read_query_number("limit=100", "limit", 1, 100, out));
    EXPECT_EQ(out, 100U);
    for (auto const* query : {"limit=0", "limit=101", "limit=", "limit=-1", "limit=1x", "limit=99999999999999999999"}) {
        auto const verdict = read_query_number(query, "limit", 1, 100, out);
        ASSERT_TRUE(verdict) << query;
        EXPECT_EQ(verdict->param, "limit");
        EXPECT_NE(verdict->message.find("from 1 to 100"), std::string::npos) << verdict->message;
    }
    EXPECT_EQ(out, 100U);
}

}  // namespace
}  // namespace hearth::api

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

}  // namespace
}  // namespace hearth::api

#include "api/ollama/times.h"

#include <gtest/gtest.h>

namespace hearth::api::ollama {
namespace {

TEST(Rfc3339, HasAFractionAndUtc) {
    EXPECT_EQ(rfc3339(0), "1970-01-01T00:00:00.000000Z");
    EXPECT_EQ(rfc3339(1'700'000'000'123'456'789), "2023-11-14T22:13:20.123456Z");
    EXPECT_EQ(rfc3339(951'827'696'000'000'000), "2000-02-29T12:34:56.000000Z");
    EXPECT_EQ(rfc3339(-1), "1969-12-31T23:59:59.999999Z");
}

}  // namespace
}  // namespace hearth::api::ollama

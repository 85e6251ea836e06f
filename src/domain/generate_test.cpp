#include "domain/generate.h"

#include <cmath>
#include <limits>

#include <gtest/gtest.h>

namespace hearth::domain {
namespace {

GenerateRequest request() {
    GenerateRequest r;
    r.prompt = TextPrompt{"x"};
    return r;
}

TEST(Validate, TheDefaultsAreValid) { EXPECT_TRUE(validate(request())); }

TEST(Validate, AnErrorNamesTheFieldTheLimitAndTheValue) {
    auto r = request();
    r.choices = 17;
    auto const status = validate(r);
    ASSERT_FALSE(status);
    EXPECT_EQ(status.error(), Error(Code::invalid_argument, "'n' must be between 1 and 16, got 17", "n"));
}

TEST(Validate, FloatsAreComparedAndQuotedAsFloats) {
    auto r = request();
    r.sampling.repeat_penalty = 0.01F;
    EXPECT_TRUE(validate(r)) << "the limit itself";
    r.sampling.top_p = 1.1F;
    EXPECT_EQ(validate(r).error().message, "'top_p' must be between 0 and 1, got 1.1");
    r.sampling.top_p = -std::numeric_limits<float>::infinity();
    EXPECT_EQ(validate(r).error().param, "top_p");
}

TEST(Validate, NumbersThatAreNotNumbersAreRefused) {
    auto r = request();
    r.sampling.temperature = std::numeric_limits<float>::quiet_NaN();
    EXPECT_EQ(validate(r).error().param, "temperature");
    r = request();
    r.sampling.logit_bias = {{1, std::numeric_limits<float>::infinity()}};
    EXPECT_EQ(validate(r).error().param, "logit_bias");
    r.sampling.logit_bias = {{1, -std::numeric_limits<float>::infinity()}};
    EXPECT_TRUE(validate(r));
}

TEST(Validate, EmptyStopsPromptsAndMessagesAreRefused) {
    auto r = request();
    r.stop = {""};
    EXPECT_EQ(validate(r).error().param, "stop");
    r = request();
    r.prompt = ChatPrompt{};
    EXPECT_EQ(validate(r).error().param, "messages");
    r.prompt = ChatPrompt{{{"user", "x"}}, true, std::string(kTemplateBytesMax + 1, 'x')};
    EXPECT_EQ(validate(r).error().param, "template");
    r.prompt = TokenPrompt{};
    EXPECT_EQ(validate(r).error().param, "prompt");
}

TEST(Validate, DeadlinesTenantsAndSaltsHaveLimits) {
    auto r = request();
    r.deadlines = {1, 1, kDeadlineMsMax};
    EXPECT_TRUE(validate(r));
    r.deadlines.queue_ms = 0;
    EXPECT_EQ(validate(r).error().param, "queue_timeout_ms");
    r.deadlines = {std::nullopt, kDeadlineMsMax + 1, std::nullopt};
    EXPECT_EQ(validate(r).error().param, "prefill_timeout_ms");
    r.deadlines = {};
    r.tenant.assign(kTenantBytesMax + 1, 't');
    EXPECT_EQ(validate(r).error().param, "tenant");
    r.tenant.clear();
    r.cache_salt.assign(kCacheSaltBytesMax + 1, 's');
    EXPECT_EQ(validate(r).error().param, "cache_salt");
}

}  // namespace
}  // namespace hearth::domain

#include "domain/context_overflow.h"

#include <gtest/gtest.h>

namespace hearth::domain {
namespace {

TEST(ContextOverflow, ReadsBackTheNumbersItWrote) {
    for (auto const numbers : {ContextOverflow{5000, 4096}, ContextOverflow{0, 0}, ContextOverflow{UINT32_MAX, 1}}) {
        auto const error = context_overflow(numbers);
        EXPECT_EQ(error.code, Code::context_overflow);
        EXPECT_EQ(parse_context_overflow(error), numbers) << error.message;
    }
}

TEST(ContextOverflow, FindsNothingInOtherErrors) {
    auto error = context_overflow({5000, 4096});
    error.code = Code::invalid_argument;
    EXPECT_EQ(parse_context_overflow(error), std::nullopt);
    EXPECT_EQ(parse_context_overflow(Error(Code::context_overflow, "too long")), std::nullopt);
    EXPECT_EQ(parse_context_overflow(Error(Code::context_overflow, context_overflow({1, 2}).message + "x")),
              std::nullopt);
    EXPECT_EQ(parse_context_overflow(
                  Error(Code::context_overflow, "The prompt has 99999999999 tokens, but the context holds 1 tokens")),
              std::nullopt);
}

}  // namespace
}  // namespace hearth::domain

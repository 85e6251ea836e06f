#include "modelfile/parameters.h"

#include <gtest/gtest.h>

namespace hearth::modelfile {
namespace {

TEST(Parameters, BecomeOptionsByTheirTypes) {
    std::vector<Parameter> const parameters{{"temperature", "0.5"}, {"stop", "a"},        {"num_ctx", "4096"},
                                            {"stop", "b\"c"},       {"use_mmap", "true"}, {"temperature", "1"}};
    auto const options = to_options(parameters);
    ASSERT_TRUE(options) << options.error().message;
    EXPECT_EQ(*options, R"({"temperature":1.0,"stop":["a","b\"c"],"num_ctx":4096,"use_mmap":true})");
    auto const back = from_options(*options);
    ASSERT_TRUE(back) << back.error().message;
    std::vector<Parameter> const expected{
        {"temperature", "1"}, {"stop", "a"}, {"stop", "b\"c"}, {"num_ctx", "4096"}, {"use_mmap", "true"}};
    EXPECT_EQ(*back, expected);
    EXPECT_EQ(to_options({}).value(), "");
    EXPECT_TRUE(from_options("")->empty());
}

TEST(Parameters, AreRefusedByNameAndType) {
    auto const refused = [](std::string_view options) {
        auto const read = from_options(options);
        return read ? "accepted" : read.error().message;
    };
    EXPECT_EQ(refused(R"({"warmth":1})"), "unknown parameter 'warmth'");
    EXPECT_EQ(refused(R"({"num_ctx":1.5})"), "parameter 'num_ctx' must be a whole number, got '1.5'");
    EXPECT_EQ(refused(R"({"num_ctx":"1"})"), "parameter 'num_ctx' must be a whole number, got '1'");
    EXPECT_EQ(refused(R"({"use_mmap":1})"), "parameter 'use_mmap' must be true or false, got '1'");
    EXPECT_EQ(refused(R"({"stop":[1]})"), "parameter 'stop' must be a text, got '1'");
    EXPECT_EQ(refused("[]"), "parameters must be a JSON object");
    EXPECT_FALSE(to_options(std::vector<Parameter>{{"top_k", "40x"}}));
    EXPECT_FALSE(to_options(std::vector<Parameter>{{"top_p", "nan"}}));
    EXPECT_FALSE(to_options(std::vector<Parameter>(kParametersMax + 1, {"stop", "x"})));
}

TEST(Parameters, OfTheSameNameAreReplaced) {
    EXPECT_EQ(merge_options(R"({"stop":["a","b"],"top_k":1})", R"({"stop":["c"],"seed":7})").value(),
              R"({"top_k":1,"stop":["c"],"seed":7})");
    EXPECT_EQ(merge_options("", "").value(), "");
}

TEST(Parameters, AreShownInColumns) {
    std::vector<Parameter> const parameters{{"stop", "</s>"}, {"num_ctx", "4096"}};
    EXPECT_EQ(describe(parameters), "stop                           \"</s>\"\nnum_ctx                        4096");
}

}  // namespace
}  // namespace hearth::modelfile

#include "convert/model_card.h"

#include <gtest/gtest.h>

namespace hearth::convert {
namespace {

using Texts = std::vector<std::string>;

TEST(ModelCard, ReadsScalarsBlocksAndFlows) {
    auto const card = parse_model_card(
        "---\nlanguage:\n- en\n- \"no\"\nlicense: apache-2.0 # free\ntags: [a, 'b c']\r\nname: \"X: y\"\n\n---\nbody: "
        "no\n");
    EXPECT_EQ(card.list("language"), (Texts{"en", "no"}));
    EXPECT_EQ(card.scalar("license"), "apache-2.0");
    EXPECT_EQ(card.list("license"), Texts{"apache-2.0"});
    EXPECT_EQ(card.list("tags"), (Texts{"a", "b c"}));
    EXPECT_EQ(card.scalar("name"), "X: y");
    EXPECT_EQ(card.scalar("tags"), "");
    EXPECT_EQ(card.scalar("body"), "");
}

TEST(ModelCard, PassesOverWhatItDoesNotKnow) {
    auto const card = parse_model_card(
        "---\nmodel-index:\n- name: x\n  results: []\nwidget:\n  text: y\ndescription: >\n  folded\n  lines\nlicense: "
        "mit\nanchor: &a b\n"
        "empty:\nnothing: null\n---\n");
    EXPECT_EQ(card.scalar("license"), "mit");
    for (auto const* key : {"model-index", "widget", "description", "anchor", "empty", "nothing", "text", "results"})
        EXPECT_TRUE(card.list(key).empty()) << key;
}

TEST(ModelCard, NeedsFrontMatterThatIsClosed) {
    for (auto const* text : {"", "# Title\nlicense: mit\n", "---\nlicense: mit\n", "--- \nlicense: mit\n---\n"})
        EXPECT_TRUE(parse_model_card(text).values.empty()) << text;
}

TEST(ModelCard, BoundsTheNumberOfValues) {
    std::string text = "---\ntags:\n";
    for (std::size_t i = 0; i < 3 * kModelCardValuesMax; ++i) text += "- x\n";
    EXPECT_TRUE(parse_model_card(text + "---\n").values.empty());
}

}  // namespace
}  // namespace hearth::convert

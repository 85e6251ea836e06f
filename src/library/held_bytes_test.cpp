#include "library/held_bytes.h"

#include <fstream>

#include <gtest/gtest.h>

#include "testing/temporary_folder.h"

namespace hearth::library {
namespace {

TEST(HeldBytes, OneAtATimeGetsThem) {
    HeldBytes held([](std::string const&) { return std::vector<std::string>(); });
    EXPECT_TRUE(held.begin("a"));
    EXPECT_FALSE(held.begin("a"));
    EXPECT_TRUE(held.begin("b")) << "others are none of its business";
    held.end("a", "");
    EXPECT_TRUE(held.begin("a")) << "they did not come";
}

TEST(HeldBytes, KnowsWhatCameBeforeTheCatalogDoes) {
    hearth::testing::TemporaryFolder folder;
    std::ofstream(folder / "came") << "x";
    std::ofstream(folder / "old") << "x";
    HeldBytes held([&](std::string const& sha256) {
        return sha256 == "old" ? std::vector<std::string>{folder / "gone", folder / "old"} : std::vector<std::string>();
    });
    EXPECT_EQ(held.find("a"), std::nullopt);
    EXPECT_TRUE(held.begin("a"));
    held.end("a", folder / "came");
    EXPECT_EQ(held.find("a"), folder / "came");
    EXPECT_EQ(held.find("old"), folder / "old") << "and what that says, where it is still there";
    std::filesystem::remove(folder / "came");
    EXPECT_EQ(held.find("a"), std::nullopt);
    for (std::size_t i = 0; i < kBroughtMax; ++i) held.end("other", folder / "old");
    std::ofstream(folder / "came") << "x";
    EXPECT_EQ(held.find("a"), std::nullopt) << "that is long ago";
}

}  // namespace
}  // namespace hearth::library

#include "catalog/imported.h"

#include <fstream>

#include <gtest/gtest.h>

#include "testing/temporary_folder.h"

namespace hearth::catalog {
namespace {

TEST(Imported, IsWhatWasSetLast) {
    hearth::testing::TemporaryFolder data;
    using Folders = std::vector<std::string>;
    EXPECT_EQ(imported_folders(data.path()), Folders());
    EXPECT_EQ(imported_folders(""), Folders());
    auto const deeper = data / "not/there";
    ASSERT_TRUE(set_imported_folders(deeper, {"/a b", "/c"}));
    EXPECT_EQ(imported_folders(deeper), (Folders{"/a b", "/c"}));
    ASSERT_TRUE(set_imported_folders(deeper, {}));
    EXPECT_EQ(imported_folders(deeper), Folders());
}

TEST(Imported, RefusesWhatIsNoPathAndTooMany) {
    hearth::testing::TemporaryFolder data;
    for (auto const& bad : {std::string("relative"), std::string("/two\nlines"), std::string(5000, '/'), std::string()})
        EXPECT_EQ(set_imported_folders(data.path(), {bad}).error().code, Code::invalid_argument);
    std::vector<std::string> many(kImportedMax + 1, "/a");
    EXPECT_EQ(set_imported_folders(data.path(), many).error().code, Code::too_large);
    // What somebody wrote by hand.
    std::ofstream(data / "folders") << "/ok\nrelative\n\n/last";
    EXPECT_EQ(imported_folders(data.path()), (std::vector<std::string>{"/ok", "/last"}));
}

}  // namespace
}  // namespace hearth::catalog

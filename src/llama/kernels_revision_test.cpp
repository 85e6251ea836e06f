#include "llama/kernels_revision.h"

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <string>

#include <gtest/gtest.h>

#include "digest/sha256.h"

namespace hearth::llama {
namespace {

namespace fs = std::filesystem;

// No file of that folder is left out, whatever it is called.
TEST(KernelsRevision, IsThatOfEverySourceThereIs) {
    char const* const tree = std::getenv("HEARTH_SOURCE_DIR");
    if (tree == nullptr) GTEST_SKIP() << "HEARTH_SOURCE_DIR names no source tree";
    std::map<std::string, std::string> digests;
    for (auto const& file : fs::directory_iterator(fs::path(tree) / "src/llama/kernels")) {
        auto const name = file.path().filename().string();
        if (name.ends_with("_test.cpp")) continue;
        std::ifstream bytes(file.path(), std::ios::binary);
        digests[name] = digest::sha256_hex(std::string(std::istreambuf_iterator<char>(bytes), {}));
    }
    ASSERT_FALSE(digests.empty());
    std::string all;
    for (auto const& [name, digest] : digests) all += name + " " + digest + "\n";
    EXPECT_EQ(kernels_revision(), digest::sha256_hex(all));
}

}  // namespace
}  // namespace hearth::llama

// TemporaryFolder: an empty folder for one test, gone with everything in it.
//
// Threads: one.
#pragma once

#include <unistd.h>

#include <filesystem>
#include <string>

#include "base/assert.h"

namespace hearth::testing {

class TemporaryFolder {
public:
    TemporaryFolder() {
        auto pattern = (std::filesystem::temp_directory_path() / "hearth-test-XXXXXX").string();
        HEARTH_ASSERT(::mkdtemp(pattern.data()) != nullptr, "a test can make a folder");
        path_ = pattern;
    }
    ~TemporaryFolder() {
        std::error_code ignored;
        std::filesystem::remove_all(path_, ignored);
    }
    TemporaryFolder(TemporaryFolder const&) = delete;
    TemporaryFolder& operator=(TemporaryFolder const&) = delete;

    [[nodiscard]] std::string path() const { return path_.string(); }
    [[nodiscard]] std::string operator/(std::string const& name) const { return (path_ / name).string(); }

private:
    std::filesystem::path path_;
};

}  // namespace hearth::testing

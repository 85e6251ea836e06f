// Elsewhere: a folder on another file system than a given one, gone with everything in it.
#pragma once

#include <sys/stat.h>

#include <cstdlib>
#include <filesystem>
#include <string>
#include <system_error>

namespace hearth::library::testing {

class Elsewhere {
public:
    explicit Elsewhere(std::string const& than) {
        struct ::stat here{}, there{};
        for (std::string const parent : {"/dev/shm", "/var/tmp"}) {
            if (::stat(than.c_str(), &here) != 0 || ::stat(parent.c_str(), &there) != 0) continue;
            auto made = parent + "/hearth-test-XXXXXX";
            if (here.st_dev == there.st_dev || ::mkdtemp(made.data()) == nullptr) continue;
            path_ = made;
            return;
        }
    }
    ~Elsewhere() {
        std::error_code ignored;
        if (there()) std::filesystem::remove_all(path_, ignored);
    }
    Elsewhere(Elsewhere const&) = delete;
    Elsewhere& operator=(Elsewhere const&) = delete;

    // False where there is one file system.
    [[nodiscard]] bool there() const { return !path_.empty(); }
    [[nodiscard]] std::string operator/(std::string const& name) const { return (path_ / name).string(); }

private:
    std::filesystem::path path_;
};

}  // namespace hearth::library::testing

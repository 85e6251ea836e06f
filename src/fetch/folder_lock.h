// FolderLock: one process at a time changes which models a folder holds.
//
// Several servers may use one models folder, each with a data folder of its own. Who puts a
// model's files into place, replaces or deletes them holds this lock meanwhile, so that a model
// never has one server's definition and another one's weights. A pull holds it while it settles
// what its model is called (sources/claim.h); downloads need it not: each has a lock on its own
// partial file.
//
// It is a lock of the system's (flock) on the folder itself: nothing is written, and a process
// that dies lets it go. On file systems that have none there is none, as without this class.
//
// Threads:   any; it waits by sleeping.
// Ownership: held until it is destroyed.
// Errors:    `unavailable` when another process holds it for longer than `patience`; `io` for a
//            folder that cannot be opened.
#pragma once

#include <chrono>
#include <string>
#include <utility>

#include "base/result.h"

namespace hearth::fetch {

// Weights are copied under the lock where there are no links at all.
inline constexpr std::chrono::milliseconds kFolderPatience = std::chrono::seconds(30);

class FolderLock {
public:
    [[nodiscard]] static Result<FolderLock> take(std::string const& folder,
                                                 std::chrono::milliseconds patience = kFolderPatience);
    FolderLock(FolderLock&& other) noexcept : fd_(std::exchange(other.fd_, -1)), excludes_(other.excludes_) {}
    FolderLock& operator=(FolderLock&&) = delete;
    ~FolderLock();

    // False where the file system has no locks.
    [[nodiscard]] bool excludes() const { return excludes_; }

private:
    explicit FolderLock(int fd) : fd_(fd) {}
    int fd_;
    bool excludes_ = true;
};

}  // namespace hearth::fetch

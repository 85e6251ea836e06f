// WriterLock: the one process that may write a database.
//
// An exclusive lock (flock) on a file beside it, released when the process ends
// however it does. The file holds the process id, for the other one's message,
// and is never removed: removing a lock file is a race.
//
// Threads: any. Errors: `unavailable` when another holds it, `io`.
#pragma once

#include <memory>
#include <string>

#include "base/result.h"

namespace hearth::store {

class WriterLock {
public:
    // `path` of the database; the lock is `path` + ".lock".
    [[nodiscard]] static Result<std::unique_ptr<WriterLock>> take(std::string const& path);
    ~WriterLock();
    WriterLock(WriterLock const&) = delete;
    WriterLock& operator=(WriterLock const&) = delete;

private:
    explicit WriterLock(int fd) : fd_(fd) {}
    int const fd_;
};

}  // namespace hearth::store

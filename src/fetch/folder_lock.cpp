#include "fetch/folder_lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <thread>

#include <fmt/format.h>

namespace hearth::fetch {
namespace {

constexpr std::chrono::milliseconds kPoll{5};

}  // namespace

Result<FolderLock> FolderLock::take(std::string const& folder, std::chrono::milliseconds patience) {
    int const fd = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return Error(Code::io, fmt::format("cannot open the folder '{}': {}", folder, std::strerror(errno)), folder);
    FolderLock lock(fd);
    auto const until = std::chrono::steady_clock::now() + patience;
    while (::flock(fd, LOCK_EX | LOCK_NB) != 0) {
        if (errno == EINTR) continue;
        if (errno != EWOULDBLOCK) {  // there are no such locks here
            lock.excludes_ = false;
            break;
        }
        if (std::chrono::steady_clock::now() >= until)
            return Error(Code::unavailable,
                         fmt::format("another process changes the models in '{}', and did so for {} ms", folder,
                                     patience.count()),
                         folder);
        std::this_thread::sleep_for(kPoll);
    }
    return lock;
}

// And with the descriptor goes the lock.
FolderLock::~FolderLock() {
    if (fd_ >= 0) ::close(fd_);
}

}  // namespace hearth::fetch

#include "store/writer_lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string_view>

#include <fmt/format.h>

namespace hearth::store {
namespace {

constexpr mode_t kFileMode = 0600;

std::string holder_of(int fd) {
    char text[32];
    auto const count = ::pread(fd, text, sizeof text, 0);
    std::string_view const digits(text, count > 0 ? static_cast<std::size_t>(count) : 0);
    auto const pid = digits.substr(0, digits.find_first_not_of("0123456789"));
    return pid.empty() ? "another process" : fmt::format("process {}", pid);
}

}  // namespace

Result<std::unique_ptr<WriterLock>> WriterLock::take(std::string const& path) {
    auto const name = path + ".lock";
    int const fd = ::open(name.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, kFileMode);
    if (fd < 0) return Error(Code::io, fmt::format("cannot open '{}': {}", name, std::strerror(errno)), path);
    std::unique_ptr<WriterLock> lock(new WriterLock(fd));  // NOLINT(modernize-make-unique): private constructor
    int failed = 0;
    do failed = ::flock(fd, LOCK_EX | LOCK_NB);
    while (failed != 0 && errno == EINTR);
    if (failed != 0 && errno == EWOULDBLOCK) {
        return Error(Code::unavailable,
                     fmt::format("'{}' is written by {}; one process at a time can, stop that one or use it", path,
                                 holder_of(fd)),
                     path);
    }
    if (failed != 0) return Error(Code::io, fmt::format("cannot lock '{}': {}", name, std::strerror(errno)), path);
    // For the message only: a disk that is full keeps nobody from the lock.
    auto const pid = fmt::format("{}\n", ::getpid());
    if (::ftruncate(fd, 0) == 0) [[maybe_unused]]
        auto const written = ::pwrite(fd, pid.data(), pid.size(), 0);
    return lock;
}

WriterLock::~WriterLock() { ::close(fd_); }

}  // namespace hearth::store

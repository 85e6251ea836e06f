#include "library/disk.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>
#include <vector>

#include <fmt/format.h>

namespace hearth::library {
namespace {

constexpr std::size_t kPieceBytes = std::size_t{4} << 20;
constexpr ::mode_t kForEverybody = 0644;

class Descriptor {
public:
    explicit Descriptor(int fd) : fd_(fd) {}
    ~Descriptor() {
        if (fd_ >= 0) ::close(fd_);
    }
    Descriptor(Descriptor const&) = delete;
    Descriptor& operator=(Descriptor const&) = delete;
    [[nodiscard]] int get() const { return fd_; }
    [[nodiscard]] int close() { return ::close(std::exchange(fd_, -1)); }

private:
    int fd_;
};

Status write_all(int fd, std::string_view bytes, std::string const& path) {
    while (!bytes.empty()) {
        auto const count = ::write(fd, bytes.data(), bytes.size());
        if (count < 0 && errno == EINTR) continue;
        if (count < 0) return disk_error("write", path);
        bytes.remove_prefix(static_cast<std::size_t>(count));
    }
    return ok();
}

}  // namespace

Error disk_error(std::string_view what, std::string const& path) {
    auto const code = errno == ENOSPC || errno == EDQUOT ? Code::exhausted : Code::io;
    return {code, fmt::format("cannot {} '{}': {}", what, path, std::strerror(errno)), path};
}

Error without_folder(Error error, std::string const& folder) {
    for (auto at = error.message.find(folder); at != std::string::npos; at = error.message.find(folder, at))
        error.message.replace(at, std::min(folder.size() + 1, error.message.size() - at), "");
    return error;
}

Status copy_file(std::string const& from, std::string const& to, std::function<bool(std::uint64_t done)> const& watch) {
    Descriptor const in(::open(from.c_str(), O_RDONLY | O_CLOEXEC));
    if (in.get() < 0) return disk_error("open", from);
    Descriptor out(::open(to.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, kForEverybody));
    if (out.get() < 0) return disk_error("make", to);
    if (::fchmod(out.get(), kForEverybody) != 0) return disk_error("open up", to);  // whatever the umask is
    std::vector<char> piece(kPieceBytes);
    for (std::uint64_t done = 0;;) {
        if (!watch(done)) return Error(Code::cancelled, "nobody waits for the model any more");
        auto const count = ::read(in.get(), piece.data(), piece.size());
        if (count < 0 && errno == EINTR) continue;
        if (count < 0) return disk_error("read", from);
        if (count == 0) break;
        HEARTH_CHECK(write_all(out.get(), {piece.data(), static_cast<std::size_t>(count)}, to));
        done += static_cast<std::uint64_t>(count);
    }
    if (::fsync(out.get()) != 0) return disk_error("write", to);
    return out.close() == 0 ? ok() : Status(disk_error("close", to));
}

}  // namespace hearth::library

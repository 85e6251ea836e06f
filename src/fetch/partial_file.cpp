#include "fetch/partial_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <thread>
#include <utility>

#include <fmt/format.h>

#include "base/assert.h"
#include "digest/sha256.h"
#include "fetch/whole_file.h"

namespace hearth::fetch {
namespace {

constexpr mode_t kPrivate = 0600;
constexpr mode_t kPublished = 0644;
constexpr std::size_t kStateBytesMax = 256U << 10;
constexpr std::size_t kEtagBytesMax = 1024;
constexpr std::string_view kFirstLine = "hearth-partial 1";
constexpr int kOpenTries = 16;
constexpr int kWriterTries = 2000;  // ten seconds
constexpr std::chrono::milliseconds kWriterPoll{5};
constexpr char const* kUnfinished = ".new";

Error system_error(std::string_view step, std::string const& path) {
    int const why = errno;
    bool const full = why == ENOSPC || why == EDQUOT;
    auto const code = full ? Code::exhausted : why == EFBIG ? Code::too_large : Code::io;
    return {code, fmt::format("cannot {} '{}': {}", step, path, std::strerror(why)), "disk"};
}

std::string folder_of(std::string const& path) {
    auto const folder = std::filesystem::path(path).parent_path().string();
    return folder.empty() ? "." : folder;
}

Status write_at(int fd, std::uint64_t offset, std::span<std::byte const> bytes, std::string const& path) {
    while (!bytes.empty()) {
        auto const count = ::pwrite(fd, bytes.data(), bytes.size(), static_cast<off_t>(offset));
        if (count < 0 && errno == EINTR) continue;
        if (count < 0) return system_error("write", path);
        bytes = bytes.subspan(static_cast<std::size_t>(count));
        offset += static_cast<std::uint64_t>(count);
    }
    return ok();
}

bool is_plain_text(std::string_view text) {
    return std::ranges::all_of(text, [](char c) { return c >= ' ' && c < 0x7f; });
}

// Takes "NAME VALUE\n" off `text`.
Result<std::string_view> take_line(std::string_view& text, std::string_view name) {
    auto const end = text.find('\n');
    auto const line = text.substr(0, end);
    bool const good = end != std::string_view::npos && line.size() > name.size() && line.starts_with(name) &&
                      line[name.size()] == ' ';
    if (!good) return Error(Code::corrupt, fmt::format("the state has no line '{}' where it belongs", name));
    text.remove_prefix(end + 1);
    return line.substr(name.size() + 1);
}

Result<std::uint64_t> parse_number(std::string_view text) {
    std::uint64_t value = 0;
    auto const [end, failed] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (failed != std::errc{} || end != text.data() + text.size() || value > INT64_MAX)
        return Error(Code::corrupt, "the state holds a number that is none");
    return value;
}

// Whether `path` still leads to the file that was opened there.
bool is_named(int fd, std::string const& path) {
    struct stat opened{}, named{};
    return ::fstat(fd, &opened) == 0 && ::lstat(path.c_str(), &named) == 0 && named.st_ino == opened.st_ino &&
           named.st_dev == opened.st_dev && S_ISREG(opened.st_mode);
}

// Several may write one file at once, servers on one models folder for instance: this is nobody
// else's until it is closed.
Result<int> open_alone(std::string const& path) {
    for (int i = 0; i < kWriterTries; ++i) {
        int const fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, kPrivate);
        if (fd < 0) return system_error("create", path);
        bool const busy = ::flock(fd, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK;
        // Between open and lock its last owner may have renamed it.
        if (!busy && is_named(fd, path) && ::ftruncate(fd, 0) == 0) return fd;
        ::close(fd);
        if (busy) std::this_thread::sleep_for(kWriterPoll);
    }
    return Error(Code::unavailable, fmt::format("'{}' is written by others all the time", path));
}

}  // namespace

std::string render_state(PartialState const& state) {
    auto text = fmt::format("{}\nsize {}\netag {}\nsha256 {}\n", kFirstLine, state.size,
                            state.etag.empty() ? "-" : state.etag, state.sha256.empty() ? "-" : state.sha256);
    for (auto const& [begin, end] : state.done.pieces()) text += fmt::format("done {} {}\n", begin, end);
    return text + "end .\n";
}

Result<PartialState> parse_state(std::string_view text) {
    PartialState state;
    if (!text.starts_with(kFirstLine) || text.size() <= kFirstLine.size() || text[kFirstLine.size()] != '\n')
        return Error(Code::corrupt, "the state is of another version");
    text.remove_prefix(kFirstLine.size() + 1);
    HEARTH_TRY(auto const size, take_line(text, "size"));
    HEARTH_TRY(state.size, parse_number(size));
    HEARTH_TRY(auto const etag, take_line(text, "etag"));
    if (etag.size() > kEtagBytesMax || !is_plain_text(etag)) return Error(Code::corrupt, "the state's ETag is none");
    if (etag != "-") state.etag = etag;
    HEARTH_TRY(auto const sha256, take_line(text, "sha256"));
    if (sha256 != "-" && !digest::is_sha256(sha256)) return Error(Code::corrupt, "the state's SHA-256 is none");
    if (sha256 != "-") state.sha256 = sha256;
    std::uint64_t last = 0;
    while (text != "end .\n") {
        HEARTH_TRY(auto const range, take_line(text, "done"));
        auto const space = range.find(' ');
        if (space == std::string_view::npos) return Error(Code::corrupt, "the state holds half a range");
        HEARTH_TRY(auto const begin, parse_number(range.substr(0, space)));
        HEARTH_TRY(auto const end, parse_number(range.substr(space + 1)));
        if (begin >= end || end > state.size || begin < last)
            return Error(Code::corrupt, fmt::format("the state's range {} to {} is not possible", begin, end));
        last = end;
        state.done.add({begin, end});
    }
    return state;
}

Result<std::unique_ptr<PartialFile>> PartialFile::open(std::string path) { return open_with(std::move(path), O_CREAT); }

Result<std::unique_ptr<PartialFile>> PartialFile::open_existing(std::string path) {
    return open_with(std::move(path), 0);
}

Result<std::unique_ptr<PartialFile>> PartialFile::open_with(std::string path, int create) {
    auto const partial = path + ".partial";
    for (int i = 0; i < kOpenTries; ++i) {
        // O_NOFOLLOW: a link here would let others choose what is written to.
        int const fd = ::open(partial.c_str(), O_RDWR | create | O_CLOEXEC | O_NOFOLLOW, kPrivate);
        if (fd < 0) return system_error(create != 0 ? "create" : "open", partial);
        std::unique_ptr<PartialFile> file(new PartialFile(path, fd));
        if (::flock(fd, LOCK_EX | LOCK_NB) != 0) {
            if (errno != EWOULDBLOCK) return system_error("lock", partial);
            return Error(Code::unavailable, fmt::format("another process is downloading '{}'", path));
        }
        // Between open and lock its last owner may have renamed or removed it.
        struct stat opened{}, named{};
        if (::fstat(fd, &opened) != 0) return system_error("look at", partial);
        bool const same =
            ::lstat(partial.c_str(), &named) == 0 && named.st_ino == opened.st_ino && named.st_dev == opened.st_dev;
        if (same && !S_ISREG(opened.st_mode)) return Error(Code::io, fmt::format("'{}' is no plain file", partial));
        if (!same) continue;
        file->direct_fd_ = ::open(partial.c_str(), O_WRONLY | O_DIRECT | O_CLOEXEC | O_NOFOLLOW);
        return file;
    }
    return Error(Code::unavailable, fmt::format("'{}' changes all the time", partial));
}

bool PartialFile::is_held(std::string const& path) {
    auto const partial = path + ".partial";
    int const fd = ::open(partial.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0) return false;
    // Shared: who opens it meanwhile waits a moment at most.
    bool const held = ::flock(fd, LOCK_SH | LOCK_NB) != 0 && errno == EWOULDBLOCK;
    ::close(fd);
    return held;
}

PartialFile::~PartialFile() {
    if (direct_fd_ >= 0) ::close(direct_fd_);
    if (fd_ >= 0) ::close(fd_);  // and with it goes the lock
}

// What a process that was killed while saving leaves.
std::string PartialFile::unfinished_state() const { return state() + kUnfinished; }

std::optional<PartialState> PartialFile::load() const {
    int const fd = ::open(state().c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0) return std::nullopt;
    std::string text(kStateBytesMax + 1, '\0');
    auto const count = ::pread(fd, text.data(), text.size(), 0);
    ::close(fd);
    if (count < 0 || static_cast<std::size_t>(count) > kStateBytesMax) return std::nullopt;
    text.resize(static_cast<std::size_t>(count));
    auto parsed = parse_state(text);
    struct stat info{};
    bool const fits = parsed && ::fstat(fd_, &info) == 0 && static_cast<std::uint64_t>(info.st_size) == parsed->size;
    if (!fits) return std::nullopt;
    return std::move(*parsed);
}

Status PartialFile::clear() {
    ::unlink(unfinished_state().c_str());
    // The state goes first: it must not speak for bytes that come later.
    if (::unlink(state().c_str()) == 0) {
        HEARTH_CHECK(sync_folder_of(path_));
    } else if (errno != ENOENT) {
        return system_error("remove", state());
    }
    if (::ftruncate(fd_, 0) != 0) return system_error("empty", partial());
    return ok();
}

Status PartialFile::reserve(std::uint64_t size) {
    struct stat info{};
    if (::fstat(fd_, &info) != 0) return system_error("look at", partial());
    constexpr std::uint64_t kBlock = 512;  // unit of st_blocks
    auto const has = static_cast<std::uint64_t>(info.st_blocks) * kBlock;
    auto const needed = size > has ? size - has : 0;
    HEARTH_TRY(auto const free, free_bytes(path_));
    if (needed > free)
        return Error(Code::exhausted,
                     fmt::format("no room for '{}': {} more bytes are needed, {} are free in {}", path_, needed, free,
                                 folder_of(path_)),
                     "disk");
    if (size == 0) return ok();
    if (::fallocate(fd_, 0, 0, static_cast<off_t>(size)) != 0) {
        if (errno != EOPNOTSUPP && errno != ENOSYS) return system_error("make room for", partial());
        if (::ftruncate(fd_, static_cast<off_t>(size)) != 0) return system_error("make room for", partial());
    }
    return ok();
}

Status PartialFile::write(std::uint64_t offset, std::span<std::span<std::byte const> const> parts) {
    HEARTH_TRY(bool const written, write_direct(offset, parts));
    if (written) return ok();
    for (auto const part : parts) {
        HEARTH_CHECK(write_at(fd_, offset, part, partial()));
        offset += part.size();
    }
    return ok();
}

Result<bool> PartialFile::write_direct(std::uint64_t offset, std::span<std::span<std::byte const> const> parts) {
    HEARTH_ASSERT(parts.size() <= kPartsMax, "one call writes so many parts");
    if (direct_fd_ < 0 || offset % kBlockBytes != 0) return false;
    std::array<iovec, kPartsMax> vectors{};
    std::size_t total = 0;
    for (std::size_t i = 0; i < parts.size(); ++i) {
        auto const at = reinterpret_cast<std::uintptr_t>(parts[i].data());
        if (at % kBlockBytes != 0 || parts[i].size() % kBlockBytes != 0) return false;
        // pwritev() only reads what it is given.
        vectors[i] = {const_cast<std::byte*>(parts[i].data()), parts[i].size()};
        total += parts[i].size();
    }
    ssize_t count = 0;
    do count = ::pwritev(direct_fd_, vectors.data(), static_cast<int>(parts.size()), static_cast<off_t>(offset));
    while (count < 0 && errno == EINTR);
    if (count >= 0) return static_cast<std::size_t>(count) == total;  // a part of it is written again through the cache
    if (errno != EINVAL && errno != EOPNOTSUPP) return system_error("write", partial());
    ::close(std::exchange(direct_fd_, -1));
    return false;
}

Status PartialFile::read(std::uint64_t offset, std::span<std::byte> into) const {
    while (!into.empty()) {
        auto const count = ::pread(fd_, into.data(), into.size(), static_cast<off_t>(offset));
        if (count < 0 && errno == EINTR) continue;
        if (count < 0) return system_error("read", partial());
        if (count == 0) return Error(Code::io, fmt::format("'{}' ends at {}: somebody cut it", partial(), offset));
        into = into.subspan(static_cast<std::size_t>(count));
        offset += static_cast<std::uint64_t>(count);
    }
    return ok();
}

// A hint: what fails here is told by sync(). Only with this one flag does the call leave that to it.
void PartialFile::begin_sync(ByteRange range) const {
    static_cast<void>(::sync_file_range(fd_, static_cast<off64_t>(range.begin), static_cast<off64_t>(range.size()),
                                        SYNC_FILE_RANGE_WRITE));
}

Status PartialFile::sync() const {
    if (::fdatasync(fd_) != 0) return system_error("sync", partial());
    return ok();
}

Status PartialFile::save(PartialState const& state) const {
    HEARTH_CHECK(sync());
    return write_whole(this->state(), render_state(state));
}

Status PartialFile::publish(std::uint64_t size) {
    if (::ftruncate(fd_, static_cast<off_t>(size)) != 0) return system_error("cut", partial());
    if (::fchmod(fd_, kPublished) != 0) return system_error("open up", partial());
    if (::fsync(fd_) != 0) return system_error("sync", partial());
    if (::rename(partial().c_str(), path_.c_str()) != 0) return system_error("rename to", path_);
    HEARTH_CHECK(sync_folder_of(path_));
    ::unlink(state().c_str());  // alone it means nothing: load() wants bytes of its size
    ::unlink(unfinished_state().c_str());
    return ok();
}

void PartialFile::discard() {
    ::unlink(unfinished_state().c_str());
    ::unlink(state().c_str());
    ::unlink(partial().c_str());
}

Result<std::uint64_t> free_bytes(std::string const& path) {
    struct statvfs info{};
    auto const folder = folder_of(path);
    if (::statvfs(folder.c_str(), &info) != 0) return system_error("ask for the room in", folder);
    return static_cast<std::uint64_t>(info.f_bavail) * static_cast<std::uint64_t>(info.f_frsize);
}

Status sync_folder_of(std::string const& path) {
    auto const folder = folder_of(path);
    int const fd = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return system_error("open", folder);
    bool const synced = ::fsync(fd) == 0 || errno == EINVAL;  // some file systems cannot
    auto const result = synced ? ok() : Status(system_error("sync", folder));
    ::close(fd);
    return result;
}

Status write_whole(std::string const& path, std::string_view text, Readers readers) {
    auto const temporary = path + kUnfinished;
    HEARTH_TRY(int const fd, open_alone(temporary));
    auto written = write_at(fd, 0, std::as_bytes(std::span(text)), temporary);
    bool const open_up = written && readers == Readers::everybody;
    if (open_up && ::fchmod(fd, kPublished) != 0) written = system_error("open up", temporary);
    if (written && ::fdatasync(fd) != 0) written = system_error("sync", temporary);
    if (written && ::rename(temporary.c_str(), path.c_str()) != 0) written = system_error("rename to", path);
    if (!written) ::unlink(temporary.c_str());
    ::close(fd);  // synced already
    return written ? sync_folder_of(path) : written;
}

// A writer holds its lock until the file has its name; one that opened it and came too late for the lock sees that
// the file has gone, and makes another one.
bool remove_unfinished(std::string const& path) {
    auto const temporary = path + kUnfinished;
    int const fd = ::open(temporary.c_str(), O_WRONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0) return false;
    bool const gone =
        ::flock(fd, LOCK_EX | LOCK_NB) == 0 && is_named(fd, temporary) && ::unlink(temporary.c_str()) == 0;
    ::close(fd);
    return gone;
}

}  // namespace hearth::fetch

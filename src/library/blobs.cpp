#include "library/blobs.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <functional>
#include <span>
#include <system_error>
#include <utility>

#include <fmt/format.h>

#include "digest/sha256.h"

namespace hearth::library {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kEntriesMax = 100'000;  // of a folder that are looked at
constexpr std::string_view kStaging = ".making-";
constexpr std::string_view kPartial = ".part";
constexpr std::string_view kPrefix = "sha256-";

Error io_error(std::string_view what, std::string const& path) {
    auto const code = errno == ENOSPC || errno == EDQUOT ? Code::exhausted : Code::io;
    return {code, fmt::format("cannot {} '{}': {}", what, path, std::strerror(errno)), path};
}

Status make_folder(std::string const& path) {
    std::error_code failed;
    fs::create_directories(fs::path(path).parent_path(), failed);
    if (::mkdir(path.c_str(), 0700) == 0 || errno == EEXIST) return ok();
    return io_error("make the folder", path);
}

Status sync_folder(std::string const& path) {
    int const fd = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return io_error("open", path);
    int const failed = ::fsync(fd);
    auto const error = failed == 0 ? Error() : io_error("sync", path);
    ::close(fd);
    return failed == 0 ? ok() : Status(error);
}

void for_each_entry(std::string const& folder, std::function<void(fs::directory_entry const&)> const& visit) {
    std::error_code failed;
    std::size_t seen = 0;
    for (fs::directory_iterator entry(folder, failed), end; !failed && entry != end && seen < kEntriesMax;
         entry.increment(failed), ++seen)
        visit(*entry);
}

// Nobody holds its lock: who made it is gone.
bool is_left_behind(std::string const& path) {
    int const fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0) return false;
    bool const free = ::flock(fd, LOCK_EX | LOCK_NB) == 0;
    ::close(fd);
    return free;
}

bool is_blob_name(std::string_view name) {
    return name.starts_with(kPrefix) && digest::is_sha256(name.substr(kPrefix.size()));
}

std::chrono::system_clock::time_point used(struct ::stat const& file) {
    return std::chrono::system_clock::time_point(std::chrono::duration_cast<std::chrono::system_clock::duration>(
        std::chrono::seconds(file.st_mtim.tv_sec) + std::chrono::nanoseconds(file.st_mtim.tv_nsec)));
}

}  // namespace

Result<std::string> parse_digest(std::string_view text) {
    bool const prefixed = text.starts_with("sha256:") || text.starts_with(kPrefix);
    if (!prefixed || !digest::is_sha256(text.substr(kPrefix.size())))
        return Error(Code::invalid_argument,
                     "invalid digest format: it must be sha256: and 64 hexadecimal digits in lower case", "digest");
    return std::string(text.substr(kPrefix.size()));
}

struct BlobUpload::File {
    std::string folder, partial, target, hex;
    std::uint64_t bytes = 0, bytes_max = 0;
    int fd = -1;
    digest::Sha256 hash;

    File() = default;
    File(File const&) = delete;
    File& operator=(File const&) = delete;
    ~File() {
        if (!partial.empty()) ::unlink(partial.c_str());
        if (fd >= 0) ::close(fd);
    }
};

BlobUpload::BlobUpload(std::unique_ptr<File> file) : file_(std::move(file)) {}
BlobUpload::~BlobUpload() = default;

Status BlobUpload::append(std::string_view bytes) {
    auto& file = *file_;
    if (bytes.size() > file.bytes_max - file.bytes)
        return Error(Code::too_large, fmt::format("a blob may have {} bytes at most", file.bytes_max));
    file.hash.add(std::as_bytes(std::span(bytes)));
    file.bytes += bytes.size();
    while (!bytes.empty()) {
        auto const count = ::write(file.fd, bytes.data(), bytes.size());
        if (count < 0 && errno == EINTR) continue;
        if (count < 0) return io_error("write", file.partial);
        bytes.remove_prefix(static_cast<std::size_t>(count));
    }
    return ok();
}

Status BlobUpload::finish() {
    auto& file = *file_;
    auto const got = file.hash.finish();
    if (got != file.hex)
        return Error(Code::corrupt,
                     fmt::format("digest mismatch, expected \"sha256:{}\", got \"sha256:{}\"", file.hex, got),
                     "digest");
    // What was reserved and not filled is given back.
    if (::ftruncate(file.fd, static_cast<::off_t>(file.bytes)) != 0) return io_error("cut", file.partial);
    if (::fsync(file.fd) != 0) return io_error("sync", file.partial);
    if (::rename(file.partial.c_str(), file.target.c_str()) != 0) return io_error("name", file.target);
    file.partial.clear();
    return sync_folder(file.folder);
}

std::string BlobStore::path(std::string const& hex) const {
    return fmt::format("{}/{}{}", options_.folder, kPrefix, hex);
}

bool BlobStore::has(std::string const& hex) const {
    struct ::stat file{};
    return ::lstat(path(hex).c_str(), &file) == 0 && S_ISREG(file.st_mode);
}

Status BlobStore::make_room(std::optional<std::uint64_t> bytes) const {
    if (bytes.value_or(0) > options_.bytes_max)
        return Error(Code::too_large,
                     fmt::format("a blob of {} bytes, there may be {} at most", *bytes, options_.bytes_max));
    std::size_t count = 0;
    for_each_entry(options_.folder, [&](auto const&) { ++count; });
    if (count >= options_.blobs_max)
        return Error(Code::overloaded, fmt::format("{} files were uploaded and not used yet, the limit is {}", count,
                                                   options_.blobs_max));
    std::error_code failed;
    auto const space = fs::space(options_.folder, failed);
    if (failed) return Error(Code::io, fmt::format("cannot look at '{}': {}", options_.folder, failed.message()));
    auto const needed = bytes.value_or(0) + options_.bytes_spare;
    if (space.available < needed)
        return Error(Code::exhausted,
                     fmt::format("no room on the disk: {} bytes are needed and {} to spare, {} are free",
                                 bytes.value_or(0), options_.bytes_spare, space.available));
    return ok();
}

Result<std::unique_ptr<BlobUpload>> BlobStore::begin(std::string const& hex, std::optional<std::uint64_t> bytes) const {
    if (has(hex)) return std::unique_ptr<BlobUpload>();
    HEARTH_CHECK(make_folder(options_.folder));
    HEARTH_CHECK(make_room(bytes));
    auto file = std::make_unique<BlobUpload::File>();
    file->folder = options_.folder;
    file->target = path(hex);
    file->hex = hex;
    file->bytes_max = options_.bytes_max;
    auto name = fmt::format("{}/.{}{}.XXXXXX{}", options_.folder, kPrefix, hex, kPartial);
    file->fd = ::mkostemps(name.data(), static_cast<int>(kPartial.size()), O_CLOEXEC);
    if (file->fd < 0) return io_error("make a file in", options_.folder);
    file->partial = name;
    if (::flock(file->fd, LOCK_EX | LOCK_NB) != 0) return io_error("lock", name);
    // Better known now than after an hour; file systems that cannot reserve tell when they are full.
    bool const reserved = !bytes || *bytes == 0 ||
                          ::fallocate(file->fd, FALLOC_FL_KEEP_SIZE, 0, static_cast<::off_t>(*bytes)) == 0 ||
                          errno == EOPNOTSUPP || errno == ENOSYS;
    if (!reserved) return io_error("reserve room in", options_.folder);
    return std::unique_ptr<BlobUpload>(new BlobUpload(std::move(file)));  // NOLINT(modernize-make-unique): private
}

Status BlobStore::link(std::string const& hex, std::string const& path_wanted) const {
    auto const blob = path(hex);
    if (::link(blob.c_str(), path_wanted.c_str()) != 0) {
        if (errno != ENOENT) return io_error("link", blob);
        return Error(Code::not_found, fmt::format("blob \"sha256:{}\" not found: it was not uploaded", hex), "files");
    }
    static_cast<void>(::utimensat(AT_FDCWD, blob.c_str(), nullptr, 0));
    return ok();
}

void BlobStore::tidy(std::chrono::system_clock::time_point now) const {
    StagingFolder::remove_stale(options_.folder);
    for_each_entry(options_.folder, [&](fs::directory_entry const& entry) {
        auto const name = entry.path().filename().string();
        auto const path = entry.path().string();
        struct ::stat file{};
        if (::lstat(path.c_str(), &file) != 0 || !S_ISREG(file.st_mode)) return;
        bool const partial = name.starts_with(".") && name.ends_with(kPartial);
        bool const unused = is_blob_name(name) && now - used(file) > options_.unused_max;
        if (unused || (partial && is_left_behind(path))) ::unlink(path.c_str());
    });
}

Result<StagingFolder> StagingFolder::create(std::string const& parent) {
    HEARTH_CHECK(make_folder(parent));
    auto path = fmt::format("{}/{}XXXXXX", parent, kStaging);
    if (::mkdtemp(path.data()) == nullptr) return io_error("make a folder in", parent);
    int const lock = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    StagingFolder made(path, lock);
    if (lock < 0 || ::flock(lock, LOCK_EX | LOCK_NB) != 0) return io_error("lock", path);
    return made;
}

StagingFolder::StagingFolder(StagingFolder&& other) noexcept
    : path_(std::exchange(other.path_, {})), lock_(std::exchange(other.lock_, -1)) {}

StagingFolder::~StagingFolder() {
    std::error_code ignored;
    if (!path_.empty()) fs::remove_all(path_, ignored);
    if (lock_ >= 0) ::close(lock_);
}

void StagingFolder::remove_stale(std::string const& parent) {
    for_each_entry(parent, [](fs::directory_entry const& entry) {
        std::error_code failed;
        bool const staging =
            entry.path().filename().string().starts_with(kStaging) && fs::is_directory(entry.symlink_status(failed));
        if (staging && is_left_behind(entry.path().string())) fs::remove_all(entry.path(), failed);
    });
}

}  // namespace hearth::library

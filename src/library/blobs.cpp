#include "library/blobs.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <span>
#include <system_error>
#include <utility>

#include <fmt/format.h>

#include "digest/sha256.h"
#include "fetch/whole_file.h"
#include "library/disk.h"

namespace hearth::library {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kEntriesMax = 100'000;  // of a folder that are looked at
constexpr std::string_view kStaging = ".making-";
constexpr std::string_view kPartial = ".part";
constexpr std::string_view kPrefix = "sha256-";
constexpr ::mode_t kForEverybody = 0644;
constexpr std::uint64_t kLookBytes = std::uint64_t{64} << 20;
constexpr int kMakeTries = 16;

Status make_folder(std::string const& path) {
    std::error_code failed;
    fs::create_directories(fs::path(path).parent_path(), failed);
    if (::mkdir(path.c_str(), 0700) == 0 || errno == EEXIST) return ok();
    return disk_error("make the folder", path);
}

void for_each_entry(std::string const& folder, std::function<void(fs::directory_entry const&)> const& visit) {
    std::error_code failed;
    std::size_t seen = 0;
    for (fs::directory_iterator entry(folder, failed), end; !failed && entry != end && seen < kEntriesMax;
         entry.increment(failed), ++seen)
        visit(*entry);
}

Result<std::uint64_t> ask_disk(std::string const& folder) {
    std::error_code failed;
    auto const space = fs::space(folder, failed);
    if (failed) return Error(Code::io, fmt::format("cannot look at '{}': {}", folder, failed.message()));
    return static_cast<std::uint64_t>(space.available);
}

// The name still means what is open: nobody removed it, or put something else there.
bool is_at(int fd, std::string const& path) {
    struct ::stat opened{}, named{};
    return ::fstat(fd, &opened) == 0 && ::lstat(path.c_str(), &named) == 0 && opened.st_ino == named.st_ino &&
           opened.st_dev == named.st_dev;
}

// Where nobody holds its lock, who made it is gone, or did not come to lock it yet: then
// that one finds it locked, or gone, and makes another one.
void remove_if_left_behind(std::string const& path) {
    int const fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0) return;
    std::error_code failed;
    if (::flock(fd, LOCK_EX | LOCK_NB) == 0 && is_at(fd, path)) fs::remove_all(path, failed);
    ::close(fd);
}

enum class Locked : std::uint8_t { yes, no_more };

// What was just made, against tidy() of whatever process; `no_more`: that was quicker. On a file system
// without such locks tidy() gets none either, and so takes nothing.
Locked lock_made(int fd, std::string const& path) {
    if (::flock(fd, LOCK_EX | LOCK_NB) != 0) return errno == EWOULDBLOCK ? Locked::no_more : Locked::yes;
    return is_at(fd, path) ? Locked::yes : Locked::no_more;
}

Error never_locked(std::string const& folder) {
    return {Code::unavailable, fmt::format("somebody tidies '{}' all the time: tried {} times", folder, kMakeTries)};
}

bool is_blob_name(std::string_view name) {
    return name.starts_with(kPrefix) && digest::is_sha256(name.substr(kPrefix.size()));
}

std::chrono::system_clock::time_point time_of(::timespec const& time) {
    return std::chrono::system_clock::time_point(std::chrono::duration_cast<std::chrono::system_clock::duration>(
        std::chrono::seconds(time.tv_sec) + std::chrono::nanoseconds(time.tv_nsec)));
}

std::chrono::system_clock::time_point used(struct ::stat const& file) {
    return std::max(time_of(file.st_atim), time_of(file.st_mtim));
}

// Its time of access alone: models that were made of it are the same file, and by another
// time of change they would be other ones.
void touch(std::string const& path) {
    ::timespec const times[2] = {{.tv_sec = 0, .tv_nsec = UTIME_NOW}, {.tv_sec = 0, .tv_nsec = UTIME_OMIT}};
    static_cast<void>(::utimensat(AT_FDCWD, path.c_str(), times, AT_SYMLINK_NOFOLLOW));
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
    std::string partial, target, hex;
    std::uint64_t bytes = 0, bytes_max = 0;
    // Of one whose size nobody said: when the room is looked at again, and how much is to be left.
    std::uint64_t look_at_bytes = UINT64_MAX, bytes_spare = 0;
    std::function<Result<std::uint64_t>()> free_bytes;
    int fd = -1;
    digest::Sha256 hash;

    [[nodiscard]] Status look_at_room();

    File() = default;
    File(File const&) = delete;
    File& operator=(File const&) = delete;
    ~File() {
        if (!partial.empty()) ::unlink(partial.c_str());
        if (fd >= 0) ::close(fd);
    }
};

Status BlobUpload::File::look_at_room() {
    HEARTH_TRY(auto const free, free_bytes());
    if (free < bytes_spare)
        return Error(Code::exhausted, fmt::format("no room on the disk after {} bytes: {} are to be left, {} are free",
                                                  bytes, bytes_spare, free));
    look_at_bytes = bytes + kLookBytes;
    return ok();
}

BlobUpload::BlobUpload(std::unique_ptr<File> file) : file_(std::move(file)) {}
BlobUpload::~BlobUpload() = default;

Status BlobUpload::append(std::string_view bytes) {
    auto& file = *file_;
    if (bytes.size() > file.bytes_max - file.bytes)
        return Error(Code::too_large, fmt::format("a blob may have {} bytes at most", file.bytes_max));
    if (file.bytes >= file.look_at_bytes) HEARTH_CHECK(file.look_at_room());
    file.hash.add(std::as_bytes(std::span(bytes)));
    file.bytes += bytes.size();
    while (!bytes.empty()) {
        auto const count = ::write(file.fd, bytes.data(), bytes.size());
        if (count < 0 && errno == EINTR) continue;
        if (count < 0) return disk_error("write", file.partial);
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
    if (::ftruncate(file.fd, static_cast<::off_t>(file.bytes)) != 0) return disk_error("cut", file.partial);
    // Models that are made of it are this file; until then its folder is the user's alone.
    if (::fchmod(file.fd, kForEverybody) != 0) return disk_error("open up", file.partial);
    if (::fsync(file.fd) != 0) return disk_error("sync", file.partial);
    if (::rename(file.partial.c_str(), file.target.c_str()) != 0) return disk_error("name", file.target);
    file.partial.clear();
    return fetch::sync_folder_of(file.target);
}

BlobStore::BlobStore(Options options)
    : options_(std::move(options)),
      free_bytes_([ask = options_.free_bytes ? options_.free_bytes : ask_disk, folder = options_.folder] {
          return ask(folder);
      }) {}

std::string BlobStore::path(std::string const& hex) const {
    return fmt::format("{}/{}{}", options_.folder, kPrefix, hex);
}

bool BlobStore::has(std::string const& hex) const {
    auto const blob = path(hex);
    struct ::stat file{};
    if (::lstat(blob.c_str(), &file) != 0 || !S_ISREG(file.st_mode)) return false;
    // Who asks is about to use it.
    touch(blob);
    return true;
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
    HEARTH_TRY(auto const free, free_bytes_());
    auto const needed = bytes.value_or(0) + options_.bytes_spare;
    if (free < needed)
        return Error(Code::exhausted,
                     fmt::format("no room on the disk: {} bytes are needed and {} to spare, {} are free",
                                 bytes.value_or(0), options_.bytes_spare, free));
    return ok();
}

Result<std::unique_ptr<BlobUpload::File>> BlobStore::make_file(std::string const& hex) const {
    for (int i = 0; i < kMakeTries; ++i) {
        auto file = std::make_unique<BlobUpload::File>();
        file->target = path(hex);
        file->hex = hex;
        file->bytes_max = options_.bytes_max;
        file->bytes_spare = options_.bytes_spare;
        file->free_bytes = free_bytes_;
        auto name = fmt::format("{}/.{}{}.XXXXXX{}", options_.folder, kPrefix, hex, kPartial);
        file->fd = ::mkostemps(name.data(), static_cast<int>(kPartial.size()), O_CLOEXEC);
        if (file->fd < 0) return disk_error("make a file in", options_.folder);
        file->partial = name;
        if (lock_made(file->fd, name) == Locked::yes) return file;
    }
    return never_locked(options_.folder);
}

Result<std::unique_ptr<BlobUpload>> BlobStore::begin(std::string const& hex, std::optional<std::uint64_t> bytes) const {
    if (has(hex)) return std::unique_ptr<BlobUpload>();
    HEARTH_CHECK(make_folder(options_.folder));
    HEARTH_CHECK(make_room(bytes));
    HEARTH_TRY(auto file, make_file(hex));
    if (!bytes) file->look_at_bytes = kLookBytes;
    // Better known now than after an hour; file systems that cannot reserve tell when they are full.
    bool const reserved = !bytes || *bytes == 0 ||
                          ::fallocate(file->fd, FALLOC_FL_KEEP_SIZE, 0, static_cast<::off_t>(*bytes)) == 0 ||
                          errno == EOPNOTSUPP || errno == ENOSYS;
    if (!reserved) return disk_error("reserve room in", options_.folder);
    return std::unique_ptr<BlobUpload>(new BlobUpload(std::move(file)));  // NOLINT(modernize-make-unique): private
}

Status BlobStore::link(std::string const& hex, std::string const& path_wanted) const {
    auto const blob = path(hex);
    if (::link(blob.c_str(), path_wanted.c_str()) != 0) {
        if (errno != ENOENT) return disk_error("link", blob);
        return Error(Code::not_found, fmt::format("blob \"sha256:{}\" not found: it was not uploaded", hex), "files");
    }
    touch(blob);
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
        if (unused) ::unlink(path.c_str());
        else if (partial) remove_if_left_behind(path);
    });
}

Result<StagingFolder> StagingFolder::create(std::string const& parent) {
    HEARTH_CHECK(make_folder(parent));
    for (int i = 0; i < kMakeTries; ++i) {
        auto path = fmt::format("{}/{}XXXXXX", parent, kStaging);
        if (::mkdtemp(path.data()) == nullptr) return disk_error("make a folder in", parent);
        int const lock = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (lock < 0 && errno == ENOENT) continue;
        StagingFolder made(path, lock);
        if (lock < 0) return disk_error("open", path);
        if (lock_made(lock, path) == Locked::yes) return made;
    }
    return never_locked(parent);
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
        if (staging) remove_if_left_behind(entry.path().string());
    });
}

}  // namespace hearth::library

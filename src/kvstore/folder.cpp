#include "kvstore/folder.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <ctime>
#include <utility>

#include <fmt/format.h>

namespace hearth::kvstore {
namespace {

constexpr mode_t kFolderMode = 0700;
constexpr mode_t kFileMode = 0600;

Error system_error(std::string const& step, std::string const& name) {
    int const why = errno;
    return {why == ENOENT ? Code::not_found : Code::io,
            fmt::format("cannot {} '{}': {}", step, name, std::strerror(why))};
}

constexpr std::int64_t kWriteNsMax = 3'600'000'000'000;  // no write takes an hour
constexpr int kOpenTries = 8;

struct Opened {
    bool shared = false;
    std::int64_t abandoned_ns = 0;
};

class Descriptor {
public:
    explicit Descriptor(int fd) : fd_(fd) {}
    ~Descriptor() {
        if (fd_ >= 0) ::close(fd_);
    }
    Descriptor(Descriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
    Descriptor(Descriptor const&) = delete;
    Descriptor& operator=(Descriptor const&) = delete;
    Descriptor& operator=(Descriptor&&) = delete;
    [[nodiscard]] int get() const { return fd_; }
    // Some file systems say only here that the data did not fit.
    [[nodiscard]] bool close() { return ::close(std::exchange(fd_, -1)) == 0; }

private:
    int fd_;
};

Status write_all(int fd, std::span<std::byte const> data, std::string const& name) {
    while (!data.empty()) {
        auto const count = ::write(fd, data.data(), data.size());
        if (count < 0 && errno == EINTR) continue;
        if (count < 0) return system_error("write", name);
        data = data.subspan(static_cast<std::size_t>(count));
    }
    return ok();
}

Status make_folders(std::string const& path) {
    for (std::size_t at = path.find('/', 1);; at = path.find('/', at + 1)) {
        auto const part = path.substr(0, at);
        if (::mkdir(part.c_str(), kFolderMode) != 0 && errno != EEXIST) return system_error("make the folder", part);
        if (at == std::string::npos) return ok();
    }
}

class PosixFolder final : public SystemFolder {
public:
    PosixFolder(Descriptor descriptor, std::string path, Opened opened)
        : folder_(std::move(descriptor)), path_(std::move(path)), opened_(opened) {}

    [[nodiscard]] int fd() const override { return folder_.get(); }
    [[nodiscard]] bool is_shared() const override { return opened_.shared; }
    [[nodiscard]] std::int64_t abandoned_ns() const override { return opened_.abandoned_ns; }

    Result<std::vector<File>> list(std::size_t files_max) override {
        // Own descriptor: a folder is read through a position.
        int const copy = ::openat(fd(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        DIR* const entries = copy < 0 ? nullptr : ::fdopendir(copy);
        if (entries == nullptr) {
            auto error = system_error("read the folder", path_);
            if (copy >= 0) ::close(copy);
            return error;
        }
        std::vector<File> files;
        while (files.size() < files_max) {
            dirent const* const entry = ::readdir(entries);
            if (entry == nullptr) break;
            struct stat info{};
            if (::fstatat(fd(), entry->d_name, &info, AT_SYMLINK_NOFOLLOW) != 0 || !S_ISREG(info.st_mode)) continue;
            files.push_back({entry->d_name, static_cast<std::uint64_t>(info.st_size),
                             std::int64_t{info.st_mtim.tv_sec} * 1'000'000'000 + info.st_mtim.tv_nsec});
        }
        ::closedir(entries);
        return files;
    }

    Status read(std::string const& name, std::uint64_t offset, std::span<std::byte> out) override {
        Descriptor const file(::openat(fd(), name.c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC));
        if (file.get() < 0) return system_error("open", name);
        while (!out.empty()) {
            auto const count = ::pread(file.get(), out.data(), out.size(), static_cast<off_t>(offset));
            if (count < 0 && errno == EINTR) continue;
            if (count < 0) return system_error("read", name);
            if (count == 0) return Error(Code::corrupt, fmt::format("'{}' ends {} bytes early", name, out.size()));
            out = out.subspan(static_cast<std::size_t>(count));
            offset += static_cast<std::uint64_t>(count);
        }
        return ok();
    }

    Status write(std::string const& name, std::span<std::span<std::byte const> const> parts) override {
        Descriptor file(::openat(fd(), name.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, kFileMode));
        if (file.get() < 0) return system_error("make", name);
        for (auto const part : parts) HEARTH_CHECK(write_all(file.get(), part, name));
        if (::fsync(file.get()) != 0) return system_error("flush", name);
        if (!file.close()) return system_error("close", name);
        return ok();
    }

    Status rename(std::string const& from, std::string const& to) override {
        if (::renameat(fd(), from.c_str(), fd(), to.c_str()) != 0) return system_error("rename", from);
        if (::fsync(fd()) != 0) return system_error("flush the folder", path_);
        return ok();
    }

    Status remove(std::string const& name) override {
        if (::unlinkat(fd(), name.c_str(), 0) != 0) return system_error("remove", name);
        return ok();
    }

    Status touch(std::string const& name) override {
        Descriptor const file(::openat(fd(), name.c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC));
        if (file.get() < 0 || ::futimens(file.get(), nullptr) != 0) return system_error("touch", name);
        return ok();
    }

private:
    Descriptor const folder_;
    std::string const path_;
    Opened const opened_;
};

// The shared lock. Who gets the exclusive one before it was alone.
Opened lock(int fd) {
    bool const alone = ::flock(fd, LOCK_EX | LOCK_NB) == 0;
    timespec now{};
    ::clock_gettime(CLOCK_REALTIME, &now);  // the fine one: no file has a later time
    std::int64_t const now_ns = std::int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
    while (::flock(fd, LOCK_SH) != 0 && errno == EINTR) {}
    return {!alone, alone ? now_ns : now_ns - kWriteNsMax};
}

bool is_still_there(int fd) {
    struct stat info{};
    return ::fstat(fd, &info) == 0 && info.st_nlink > 0;
}

}  // namespace

Result<std::unique_ptr<SystemFolder>> SystemFolder::open(std::string const& path) {
    for (int i = 0; i < kOpenTries; ++i) {
        HEARTH_CHECK(make_folders(path));
        Descriptor folder(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
        if (folder.get() < 0) return system_error("open the folder", path);
        struct stat info{};
        if (::fstat(folder.get(), &info) != 0) return system_error("look at", path);
        if (info.st_uid != ::geteuid() || (info.st_mode & (S_IWGRP | S_IWOTH)) != 0)
            return Error(Code::io,
                         fmt::format("the folder '{}' could be written by others than its user ({}, mode {:o})", path,
                                     info.st_uid, info.st_mode & 07777U));
        auto const opened = lock(folder.get());
        // Whoever trims folders may have removed it before it was locked.
        if (is_still_there(folder.get()))
            return std::unique_ptr<SystemFolder>(std::make_unique<PosixFolder>(std::move(folder), path, opened));
    }
    return Error(Code::io, fmt::format("the folder '{}' is removed as often as it is made", path));
}

}  // namespace hearth::kvstore

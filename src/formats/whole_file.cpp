#include "formats/whole_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <system_error>
#include <utility>

#include <fmt/format.h>

#include "models/gguf.h"

namespace hearth::formats {
namespace {

constexpr std::size_t kFolderEntriesMax = 100'000;  // looked at for leftovers

Error io_error(std::string const& path, std::string_view what) {
    return Error(Code::io, fmt::format("{}: {}: {}", path, what, std::strerror(errno)), path);
}

Error exists(std::string const& path) {
    return Error(Code::invalid_argument, fmt::format("{}: exists already", path), path);
}

Status check_absent(std::string const& path) {
    std::error_code failed;
    if (std::filesystem::symlink_status(path, failed).type() == std::filesystem::file_type::not_found) return ok();
    return exists(path);
}

// What a killed process left beside the target. Best effort: what cannot be looked at stays.
void remove_leftovers(std::filesystem::path const& folder, std::string const& prefix) {
    std::error_code failed;
    std::size_t seen = 0;
    for (std::filesystem::directory_iterator entry(folder, failed), end;
         !failed && entry != end && seen < kFolderEntriesMax; entry.increment(failed), ++seen) {
        auto const name = entry->path().filename().string();
        if (!name.starts_with(prefix) || !name.ends_with(".part")) continue;
        int const fd = ::open(entry->path().c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
        if (fd < 0) continue;
        if (::flock(fd, LOCK_EX | LOCK_NB) == 0) ::unlink(entry->path().c_str());
        ::close(fd);
    }
}

}  // namespace

struct WholeFile::File {
    Options options;
    std::filesystem::path folder;
    std::string temporary;  // empty once it has its name or is gone
    int fd = -1;

    File() = default;
    File(File const&) = delete;
    File& operator=(File const&) = delete;
    ~File() {
        if (!temporary.empty()) ::unlink(temporary.c_str());
        if (fd >= 0) ::close(fd);
    }

    Status open();
    Status rename_to_target();
    [[nodiscard]] Status sync_folder() const;
};

Status WholeFile::File::open() {
    std::filesystem::path const target(options.path);
    folder = target.has_parent_path() ? target.parent_path() : std::filesystem::path(".");
    if (options.existing == Existing::refuse) HEARTH_CHECK(check_absent(options.path));
    auto const prefix = "." + target.filename().string() + ".";
    remove_leftovers(folder, prefix);
    auto name = (folder / (prefix + "XXXXXX.part")).string();
    fd = ::mkostemps(name.data(), 5, O_CLOEXEC);
    if (fd < 0) return io_error(options.path, "cannot be written here");
    temporary = name;
    if (::flock(fd, LOCK_EX | LOCK_NB) != 0) return io_error(temporary, "cannot be locked");
    return ok();
}

Status WholeFile::File::rename_to_target() {
    if (options.existing == Existing::replace) {
        if (::rename(temporary.c_str(), options.path.c_str()) != 0) return io_error(options.path, "cannot be replaced");
    } else if (::renameat2(AT_FDCWD, temporary.c_str(), AT_FDCWD, options.path.c_str(), RENAME_NOREPLACE) != 0) {
        if (errno == EEXIST) return exists(options.path);
        // A file system without that flag: link() refuses an existing name as well.
        if (::link(temporary.c_str(), options.path.c_str()) != 0)
            return io_error(options.path, "cannot be given its name");
        return ok();  // the other name goes with this object
    }
    temporary.clear();
    return ok();
}

Status WholeFile::File::sync_folder() const {
    int const folder_fd = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (folder_fd < 0) return io_error(folder.string(), "cannot be opened");
    int const failed = ::fsync(folder_fd);
    auto const error = failed != 0 ? io_error(folder.string(), "cannot be synchronised") : Error();
    ::close(folder_fd);
    if (failed != 0) return error;
    return ok();
}

WholeFile::WholeFile(std::unique_ptr<File> file) : file_(std::move(file)) {}
WholeFile::~WholeFile() = default;
WholeFile::WholeFile(WholeFile&&) noexcept = default;

Result<WholeFile> WholeFile::create(Options options) {
    auto file = std::make_unique<File>();
    file->options = std::move(options);
    HEARTH_CHECK(file->open());
    return WholeFile(std::move(file));
}

int WholeFile::fd() const { return file_->fd; }
std::string const& WholeFile::temporary() const { return file_->temporary; }
std::string const& WholeFile::path() const { return file_->options.path; }

Status WholeFile::reserve(std::uint64_t bytes) {
    if (::fallocate(file_->fd, 0, 0, static_cast<::off_t>(bytes)) == 0) return ok();
    if (errno == EOPNOTSUPP || errno == ENOSYS) return ok();
    return io_error(file_->options.path, fmt::format("no room for {} bytes", bytes));
}

Status WholeFile::rename_target(std::string const& name) {
    auto const path =
        std::filesystem::path(file_->options.path).has_parent_path() ? (file_->folder / name).string() : name;
    if (file_->options.existing == Existing::refuse) HEARTH_CHECK(check_absent(path));
    file_->options.path = path;
    return ok();
}

Status WholeFile::finish() {
    auto& file = *file_;
    auto const read = models::read_gguf(file.temporary);
    if (!read) {
        return Error(read.error().code == Code::io ? Code::io : Code::unsupported,
                     fmt::format("the model was made, but it would not be served: {}", read.error().message),
                     file.options.path);
    }
    if (::fchmod(file.fd, static_cast<::mode_t>(file.options.mode)) != 0)
        return io_error(file.temporary, "its mode cannot be set");
    if (::fsync(file.fd) != 0) return io_error(file.options.path, "cannot be written to the disk");
    HEARTH_CHECK(file.rename_to_target());
    return file.sync_folder();
}

}  // namespace hearth::formats

#include "kvstore/folders.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <optional>
#include <string_view>
#include <vector>

#include <fmt/format.h>

#include "kvstore/segment_file.h"

namespace hearth::kvstore {
namespace {

constexpr std::size_t kNameDigits = 32;
constexpr std::size_t kFilesMax = 1U << 18;  // of one folder

struct ModelFolder {
    std::string name;
    std::vector<std::string> files;
    std::uint64_t bytes = 0;
    std::int64_t used_ns = 0;  // since 1970, the latest of any file
};

class OpenFolder {
public:
    OpenFolder(int at, char const* name) : fd_(::openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)) {}
    ~OpenFolder() {
        if (fd_ >= 0) ::close(fd_);
    }
    OpenFolder(OpenFolder const&) = delete;
    OpenFolder& operator=(OpenFolder const&) = delete;
    [[nodiscard]] int fd() const { return fd_; }

    // The names in it, without . and ..
    [[nodiscard]] std::vector<std::string> names(std::size_t most) const {
        std::vector<std::string> names;
        int const copy = ::openat(fd_, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        DIR* const entries = copy < 0 ? nullptr : ::fdopendir(copy);
        if (entries == nullptr) {
            if (copy >= 0) ::close(copy);
            return names;
        }
        while (names.size() < most) {
            dirent const* const entry = ::readdir(entries);
            if (entry == nullptr) break;
            std::string_view const name = entry->d_name;
            if (name != "." && name != "..") names.emplace_back(name);
        }
        ::closedir(entries);
        return names;
    }

private:
    int fd_;
};

bool is_model_folder(std::string_view name) {
    return name.size() == kNameDigits &&
           std::ranges::all_of(name, [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
}

std::int64_t modified_ns(struct stat const& info) {
    return std::int64_t{info.st_mtim.tv_sec} * 1'000'000'000 + info.st_mtim.tv_nsec;
}

std::optional<ModelFolder> look_at(int parent, std::string const& name) {
    OpenFolder const folder(parent, name.c_str());
    struct stat info{};
    if (folder.fd() < 0 || ::fstat(folder.fd(), &info) != 0 || info.st_uid != ::geteuid()) return std::nullopt;
    ModelFolder found{.name = name, .files = {}, .bytes = 0, .used_ns = modified_ns(info)};
    SegmentFormat const format("", {});
    for (auto& file : folder.names(kFilesMax)) {
        if (format.whose(file) == SegmentFormat::Whose::none) continue;
        if (::fstatat(folder.fd(), file.c_str(), &info, AT_SYMLINK_NOFOLLOW) != 0 || !S_ISREG(info.st_mode)) continue;
        found.bytes += static_cast<std::uint64_t>(info.st_size);
        found.used_ns = std::max(found.used_ns, modified_ns(info));
        found.files.push_back(std::move(file));
    }
    return found;
}

// False when a process has it open, or came while it was looked at.
bool remove(int parent, ModelFolder const& model) {
    OpenFolder const folder(parent, model.name.c_str());
    if (folder.fd() < 0 || ::flock(folder.fd(), LOCK_EX | LOCK_NB) != 0) return false;
    for (auto const& file : model.files) ::unlinkat(folder.fd(), file.c_str(), 0);
    ::unlinkat(parent, model.name.c_str(), AT_REMOVEDIR);  // fails while something of others is in it
    return true;
}

}  // namespace

Result<Trimmed> trim_folders(std::string const& path, std::uint64_t bytes_max) {
    OpenFolder const root(AT_FDCWD, path.c_str());
    if (root.fd() < 0)
        return Error(Code::io, fmt::format("cannot open the folder '{}': {}", path, std::strerror(errno)));
    Trimmed trimmed;
    std::vector<ModelFolder> folders;
    for (auto const& name : root.names(kFoldersMax)) {
        if (!is_model_folder(name)) continue;
        auto folder = look_at(root.fd(), name);
        if (!folder) continue;
        trimmed.bytes_before += folder->bytes;
        folders.push_back(*std::move(folder));
    }
    trimmed.bytes_after = trimmed.bytes_before;
    std::ranges::sort(folders, {}, &ModelFolder::used_ns);
    for (auto const& folder : folders) {
        if (trimmed.bytes_after <= bytes_max) break;
        if (!remove(root.fd(), folder)) continue;
        trimmed.bytes_after -= folder.bytes;
        ++trimmed.folders;
    }
    return trimmed;
}

}  // namespace hearth::kvstore

#include "formats/source_digest.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <span>
#include <string_view>
#include <system_error>
#include <vector>

#include <fmt/format.h>

#include "digest/sha256.h"
#include "formats/source.h"
#include "models/gguf.h"

namespace hearth::formats {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kFilesMax = 4096;
constexpr std::string_view kMemoFormat = "hearth-source-1";

Error io_error(std::string const& path, std::string_view what) {
    return Error(errno == ENOENT ? Code::not_found : Code::io,
                 fmt::format("{}: {}: {}", path, what, std::strerror(errno)), path);
}

// Those that conversion may read: see docs/formats-and-conversion.md.
bool is_read(fs::path const& path) {
    constexpr std::array<std::string_view, 5> kEndings{".json", ".safetensors", ".model", ".jinja", ".md"};
    return std::ranges::find(kEndings, path.extension().string()) != kEndings.end();
}

Result<std::vector<std::string>> files_of(std::string const& source) {
    std::vector<std::string> files;
    if (!is_folder(source)) {
        auto const split = models::parse_split_name(source);
        if (!split) return std::vector<std::string>{source};
        for (std::uint32_t number = 1; number <= split->count && number <= models::kGgufSplitsMax; ++number)
            files.push_back(models::split_path(split->prefix, number, split->count));
        return files;
    }
    std::error_code failed;
    for (fs::recursive_directory_iterator entry(source, failed), end; !failed && entry != end;
         entry.increment(failed)) {
        std::error_code broken;
        if (!entry->is_regular_file(broken) || !is_read(entry->path())) continue;
        files.push_back(entry->path().string());
        if (files.size() > kFilesMax) {
            return Error(Code::too_large, fmt::format("{}: has more than {} files", source, kFilesMax), source);
        }
    }
    if (failed) return Error(Code::io, fmt::format("{}: {}", source, failed.message()), source);
    std::ranges::sort(files);
    return files;
}

// What tells that a file changed.
Result<std::string> stamp_of(std::vector<std::string> const& files) {
    std::string stamp;
    for (auto const& path : files) {
        struct ::stat info{};
        if (::stat(path.c_str(), &info) != 0) return io_error(path, "cannot be looked at");
        stamp += fmt::format("{} {} {} {} {}.{} {}.{}\n", path, info.st_dev, info.st_ino, info.st_size,
                             info.st_mtim.tv_sec, info.st_mtim.tv_nsec, info.st_ctim.tv_sec, info.st_ctim.tv_nsec);
    }
    return digest::sha256_hex(stamp);
}

Result<std::string> compute(std::string const& source, std::vector<std::string> const& files,
                            std::function<bool()> const& stop) {
    bool const folder = is_folder(source);
    if (!folder && files.size() == 1) return digest::sha256_of_file(files.front(), stop);
    std::error_code failed;
    auto const base = folder ? fs::path(source) : fs::path(source).parent_path();
    std::string list = folder ? fs::canonical(source, failed).filename().string() + "\n" : std::string();
    for (auto const& path : files) {
        HEARTH_TRY(auto const sum, digest::sha256_of_file(path, stop));
        list += fmt::format("{} {}\n", fs::path(path).lexically_relative(base).string(), sum);
    }
    return digest::sha256_hex(list);
}

}  // namespace

Status write_small_file(std::string const& path, std::string const& bytes) {
    auto name = path + ".XXXXXX.new";
    int const fd = ::mkostemps(name.data(), 4, O_CLOEXEC);
    if (fd < 0) return io_error(path, "cannot be written");
    bool const written = ::write(fd, bytes.data(), bytes.size()) == static_cast<::ssize_t>(bytes.size());
    bool const named = written && ::fsync(fd) == 0 && ::rename(name.c_str(), path.c_str()) == 0;
    auto const error = named ? Error() : io_error(path, "cannot be written");
    ::close(fd);
    if (named) return ok();
    ::unlink(name.c_str());
    return error;
}

Result<std::string> source_digest(std::string const& source, std::string const& memo_folder,
                                  std::function<bool()> const& stop) {
    HEARTH_TRY(auto const files, files_of(source));
    HEARTH_TRY(auto const stamp, stamp_of(files));
    std::error_code failed;
    auto const memo =
        fmt::format("{}/{}.source", memo_folder, digest::sha256_hex(fs::weakly_canonical(source, failed).string()));
    std::string format;
    std::string stamp_then;
    std::string digest;
    if (std::ifstream(memo) >> format >> stamp_then >> digest;
        format == kMemoFormat && stamp_then == stamp && digest::is_sha256(digest))
        return digest;
    HEARTH_TRY(digest, compute(source, files, stop));
    HEARTH_TRY(auto const stamp_now, stamp_of(files));
    if (stamp_now != stamp) return Error(Code::io, fmt::format("{}: changed while it was read", source), source);
    HEARTH_CHECK(write_small_file(memo, fmt::format("{} {} {}\n", kMemoFormat, stamp, digest)));
    return digest;
}

}  // namespace hearth::formats

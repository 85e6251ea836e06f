#include "convert/gguf_output.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <system_error>
#include <utility>

#include <fmt/format.h>

#include "base/assert.h"
#include "base/bytes.h"
#include "models/gguf.h"

namespace hearth::convert {
namespace {

constexpr std::uint64_t kAlignment = models::kGgufAlignmentMin;
constexpr std::uint32_t kVersion = 3;
constexpr std::size_t kFolderEntriesMax = 100'000;  // looked at for leftovers

std::uint64_t padded(std::uint64_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

Error io_error(std::string const& path, std::string_view what) {
    return Error(Code::io, fmt::format("{}: {}: {}", path, what, std::strerror(errno)), path);
}

std::string encode_header(Metadata const& metadata, std::span<OutputTensor const> tensors) {
    ByteWriter out;
    out.write_bytes("GGUF");
    out.write(kVersion);
    out.write(std::uint64_t{tensors.size()});
    out.write(std::uint64_t{metadata.size()});
    out.write_bytes(metadata.encode());
    std::uint64_t offset = 0;
    for (auto const& tensor : tensors) {
        out.write(std::uint64_t{tensor.name.size()});
        out.write_bytes(tensor.name);
        out.write(static_cast<std::uint32_t>(tensor.shape.size()));
        for (auto dimension = tensor.shape.rbegin(); dimension != tensor.shape.rend(); ++dimension)
            out.write(*dimension);
        out.write(ggml_type_of(tensor.type));
        out.write(offset);
        offset += padded(tensor.bytes());
    }
    auto bytes = std::move(out).take();
    bytes.resize(padded(bytes.size()));
    return bytes;
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

std::uint64_t OutputTensor::bytes() const {
    std::uint64_t bytes = element_bytes(type);
    for (auto const dimension : shape) bytes *= dimension;
    return bytes;
}

struct GgufOutput::File {
    Options options;
    std::filesystem::path folder;
    std::string temporary;  // empty once it has its name or is gone
    int fd = -1;
    std::vector<std::uint64_t> tensors;  // bytes of each
    std::size_t current = 0;
    std::uint64_t written = 0;  // of the current tensor
    std::uint64_t total = 0;

    File() = default;
    File(File const&) = delete;
    File& operator=(File const&) = delete;
    ~File() {
        if (!temporary.empty()) ::unlink(temporary.c_str());
        if (fd >= 0) ::close(fd);
    }

    Status open();
    Status put(std::span<std::byte const> bytes) const;
    Status rename_to_target();
    Status sync_folder() const;
};

Status GgufOutput::File::open() {
    std::filesystem::path const target(options.path);
    folder = target.has_parent_path() ? target.parent_path() : std::filesystem::path(".");
    std::error_code failed;
    if (options.existing == Existing::refuse &&
        std::filesystem::symlink_status(target, failed).type() != std::filesystem::file_type::not_found)
        return Error(Code::invalid_argument, fmt::format("{}: exists already", options.path), options.path);
    auto const prefix = "." + target.filename().string() + ".";
    remove_leftovers(folder, prefix);
    auto name = (folder / (prefix + "XXXXXX.part")).string();
    fd = ::mkostemps(name.data(), 5, O_CLOEXEC);
    if (fd < 0) return io_error(options.path, "cannot be written here");
    temporary = name;
    if (::flock(fd, LOCK_EX | LOCK_NB) != 0) return io_error(temporary, "cannot be locked");
    return ok();
}

Status GgufOutput::File::put(std::span<std::byte const> bytes) const {
    while (!bytes.empty()) {
        auto const done = ::write(fd, bytes.data(), bytes.size());
        if (done < 0 && errno == EINTR) continue;
        if (done < 0) return io_error(options.path, "cannot be written");
        bytes = bytes.subspan(static_cast<std::size_t>(done));
    }
    return ok();
}

Status GgufOutput::File::rename_to_target() {
    if (options.existing == Existing::replace) {
        if (::rename(temporary.c_str(), options.path.c_str()) != 0) return io_error(options.path, "cannot be replaced");
    } else if (::renameat2(AT_FDCWD, temporary.c_str(), AT_FDCWD, options.path.c_str(), RENAME_NOREPLACE) != 0) {
        if (errno == EEXIST)
            return Error(Code::invalid_argument, fmt::format("{}: exists already", options.path), options.path);
        // A file system without that flag: link() refuses an existing name as well.
        if (::link(temporary.c_str(), options.path.c_str()) != 0)
            return io_error(options.path, "cannot be given its name");
        return ok();  // the other name goes with this object
    }
    temporary.clear();
    return ok();
}

Status GgufOutput::File::sync_folder() const {
    int const folder_fd = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (folder_fd < 0) return io_error(folder.string(), "cannot be opened");
    int const failed = ::fsync(folder_fd);
    auto const error = failed != 0 ? io_error(folder.string(), "cannot be synchronised") : Error();
    ::close(folder_fd);
    if (failed != 0) return error;
    return ok();
}

GgufOutput::GgufOutput(std::unique_ptr<File> file) : file_(std::move(file)) {}
GgufOutput::~GgufOutput() = default;
GgufOutput::GgufOutput(GgufOutput&&) noexcept = default;

Result<GgufOutput> GgufOutput::create(Options options, Metadata const& metadata,
                                      std::span<OutputTensor const> tensors) {
    auto file = std::make_unique<File>();
    file->options = std::move(options);
    HEARTH_CHECK(file->open());
    auto const header = encode_header(metadata, tensors);
    file->total = header.size();
    for (auto const& tensor : tensors) {
        file->tensors.push_back(tensor.bytes());
        file->total += padded(tensor.bytes());
    }
    // A full disk is better known now than after an hour. Not every file system can reserve.
    if (::fallocate(file->fd, 0, 0, static_cast<::off_t>(file->total)) != 0 && errno != EOPNOTSUPP && errno != ENOSYS)
        return io_error(file->options.path, fmt::format("no room for {} bytes", file->total));
    HEARTH_CHECK(file->put(std::as_bytes(std::span(header))));
    return GgufOutput(std::move(file));
}

Status GgufOutput::write(std::span<std::byte const> bytes) {
    auto& file = *file_;
    HEARTH_ASSERT(file.current < file.tensors.size(), "there is a tensor to write");
    auto const whole = file.tensors[file.current];
    HEARTH_ASSERT(bytes.size() <= whole - file.written, "no more than the tensor's bytes");
    HEARTH_CHECK(file.put(bytes));
    file.written += bytes.size();
    if (file.written < whole) return ok();
    constexpr std::array<std::byte, kAlignment> kZeros{};
    HEARTH_CHECK(file.put(std::span(kZeros).first(padded(whole) - whole)));
    ++file.current;
    file.written = 0;
    return ok();
}

Status GgufOutput::finish() {
    auto& file = *file_;
    HEARTH_ASSERT(file.current == file.tensors.size(), "every tensor is complete");
    auto const read = models::read_gguf(file.temporary);
    if (!read) {
        return Error(
            read.error().code == Code::io ? Code::io : Code::unsupported,
            fmt::format("the model was converted, but the result would not be served: {}", read.error().message),
            file.options.path);
    }
    if (::fchmod(file.fd, static_cast<::mode_t>(file.options.mode)) != 0)
        return io_error(file.temporary, "its mode cannot be set");
    if (::fsync(file.fd) != 0) return io_error(file.options.path, "cannot be written to the disk");
    HEARTH_CHECK(file.rename_to_target());
    return file.sync_folder();
}

std::uint64_t GgufOutput::file_bytes() const { return file_->total; }

}  // namespace hearth::convert

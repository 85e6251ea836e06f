#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <limits>
#include <memory>
#include <set>
#include <utility>

#include <fmt/format.h>

#include "base/assert.h"
#include "models/adapter.h"
#include "models/descriptor.h"
#include "models/gguf.h"
#include "models/gguf_header.h"

namespace hearth::models {
namespace {

constexpr std::uint64_t kFirstRead = 256U << 10;
constexpr std::uint64_t kFileBytesMax = std::numeric_limits<std::int64_t>::max();

class SpanSource final : public HeaderSource {
public:
    SpanSource(std::span<std::byte const> data, std::string path) : data_(data), path_(std::move(path)) {}
    Status extend(std::uint64_t end) override {
        return corrupt_at(path_, data_.size(),
                          fmt::format("the header reaches byte {}, but no more of the file was given", end));
    }
    [[nodiscard]] std::span<std::byte const> bytes() const override { return data_; }

private:
    std::span<std::byte const> data_;
    std::string const path_;
};

// Doubles what it holds, so that a header of n bytes costs less than 4n of
// reading and copying. Memory is not zeroed first: it is overwritten at once.
class FileSource final : public HeaderSource {
public:
    FileSource(int fd, std::uint64_t file_bytes, std::string const& path)
        : fd_(fd), file_bytes_(file_bytes), path_(path) {}

    Status extend(std::uint64_t end) override {
        auto const limit = std::min(file_bytes_, kGgufHeaderMax);
        auto const capacity = std::min(limit, std::max({end, size_ * 2, kFirstRead}));
        auto grown = std::make_unique_for_overwrite<std::byte[]>(capacity);
        if (size_ > 0) std::memcpy(grown.get(), data_.get(), size_);
        data_ = std::move(grown);
        while (size_ < capacity) {
            auto const got = ::pread(fd_, data_.get() + size_, capacity - size_, static_cast<::off_t>(size_));
            if (got < 0 && errno == EINTR) continue;
            if (got < 0)
                return Error(Code::io, fmt::format("{}: cannot read byte {}: {}", path_, size_, std::strerror(errno)),
                             path_);
            if (got == 0) {
                return Error(
                    Code::io,
                    fmt::format("{}: the file ended at byte {} while being read, {} expected: it is being changed",
                                path_, size_, file_bytes_),
                    path_);
            }
            size_ += static_cast<std::uint64_t>(got);
        }
        return ok();
    }
    [[nodiscard]] std::span<std::byte const> bytes() const override { return {data_.get(), size_}; }

private:
    int const fd_;
    std::uint64_t const file_bytes_;
    std::string const& path_;
    std::unique_ptr<std::byte[]> data_;
    std::uint64_t size_ = 0;
};

// Digits only; 0 if they are no number of at most five digits.
std::uint32_t split_number(std::string_view digits) {
    std::uint32_t value = 0;
    if (digits.size() != 5) return 0;
    auto const [end, failed] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
    return failed == std::errc{} && end == digits.data() + digits.size() ? value : 0;
}

Error no_member(GgufFile const& file, std::string_view why) {
    return Error(Code::corrupt, fmt::format("{}: {}", file.path, why), file.path);
}

// One split against its name and the first split.
Status check_member(GgufFile const& file, GgufFile const& first, std::uint32_t index, std::uint32_t count) {
    auto const number = file.number("split.no");
    auto const declared = file.number("split.count");
    if (!number || !declared) return no_member(file, "named as a split, but it lacks split.no or split.count");
    if (*number != index) return no_member(file, fmt::format("split.no is {}, but its name says {}", *number, index));
    if (*declared != count)
        return no_member(file, fmt::format("split.count is {}, but its name says {}", *declared, count));
    auto const total = file.number("split.tensors.count");
    if (total && total != first.number("split.tensors.count")) {
        return no_member(file, fmt::format("split.tensors.count is {}, but the first split says otherwise", *total));
    }
    auto const architecture = file.text("general.architecture");
    if (!architecture.empty() && architecture != first.text("general.architecture")) {
        return no_member(file, fmt::format("general.architecture is '{}', but the first split says '{}'", architecture,
                                           first.text("general.architecture")));
    }
    return ok();
}

Status check_together(std::vector<GgufFile> const& files) {
    std::set<std::string_view> names;
    std::uint64_t tensors = 0;
    auto const count = static_cast<std::uint32_t>(files.size());
    for (std::uint32_t i = 0; i < count; ++i) {
        HEARTH_CHECK(check_member(files[i], files[0], i, count));
        for (auto const& tensor : files[i].tensors) {
            if (!names.insert(tensor.name).second) {
                return no_member(files[i], fmt::format("tensor {} is in an earlier split too", quoted(tensor.name)));
            }
        }
        tensors += files[i].tensors.size();
    }
    auto const total = files[0].number("split.tensors.count");
    if (!total) return no_member(files[0], "split.tensors.count is missing");
    if (*total != tensors)
        return no_member(files[0],
                         fmt::format("split.tensors.count is {}, but the splits hold {} tensors", *total, tensors));
    return ok();
}

Result<std::vector<GgufFile>> read_splits(SplitName const& name) {
    std::vector<GgufFile> files;
    for (std::uint32_t i = 1; i <= name.count; ++i) {
        auto file = read_gguf(split_path(name.prefix, i, name.count));
        if (!file) {
            auto& error = file.error();
            if (error.code == Code::not_found)
                error.message += fmt::format(": split {} of {} is missing", i, name.count);
            return std::move(error);
        }
        files.push_back(std::move(file).value());
    }
    HEARTH_CHECK(check_together(files));
    return files;
}

}  // namespace

std::optional<std::uint64_t> GgufFile::number(std::string_view key) const {
    auto const found = metadata.find(key);
    if (found == metadata.end()) return std::nullopt;
    if (auto const* value = std::get_if<std::uint64_t>(&found->second)) return *value;
    if (auto const* value = std::get_if<std::int64_t>(&found->second); value != nullptr && *value >= 0) {
        return static_cast<std::uint64_t>(*value);
    }
    return std::nullopt;
}

std::string GgufFile::text(std::string_view key) const {
    auto const found = metadata.find(key);
    if (found == metadata.end()) return {};
    auto const* value = std::get_if<std::string>(&found->second);
    return value == nullptr ? std::string() : *value;
}

GgufArray const* GgufFile::array(std::string_view key) const {
    auto const found = metadata.find(key);
    return found == metadata.end() ? nullptr : std::get_if<GgufArray>(&found->second);
}

Result<GgufFile> validate(HeaderSource& source, std::uint64_t file_bytes, std::string path) {
    if (file_bytes > kFileBytesMax) {
        return Error(Code::too_large,
                     fmt::format("{}: {} bytes; a file has at most {}", path, file_bytes, kFileBytesMax), path);
    }
    HEARTH_TRY(auto header, parse_header(source, file_bytes, std::move(path)));
    if (is_adapter(header.file)) {
        HEARTH_CHECK(check_adapter_header(header));
        return std::move(header.file);
    }
    HEARTH_CHECK(check_hyperparameters(header));
    HEARTH_CHECK(check_vocabulary(header));
    return std::move(header.file);
}

Result<GgufFile> parse_gguf(std::span<std::byte const> header, std::uint64_t file_bytes, std::string path) {
    HEARTH_ASSERT(header.size() <= file_bytes, "a header is no longer than its file");
    SpanSource source(header, path);
    return validate(source, file_bytes, std::move(path));
}

Result<GgufFile> read_gguf(std::string const& path) {
    // Opening a FIFO would wait for a writer without O_NONBLOCK.
    Descriptor const file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
    if (file.get() < 0) {
        auto const code = errno == ENOENT || errno == ENOTDIR ? Code::not_found : Code::io;
        return Error(code, fmt::format("{}: cannot open it: {}", path, std::strerror(errno)), path);
    }
    struct ::stat status{};
    if (::fstat(file.get(), &status) != 0)
        return Error(Code::io, fmt::format("{}: {}", path, std::strerror(errno)), path);
    if (!S_ISREG(status.st_mode)) {
        return Error(
            Code::io,
            fmt::format("{}: {}, not a model file", path, S_ISDIR(status.st_mode) ? "a folder" : "not a regular file"),
            path);
    }
    auto const bytes = static_cast<std::uint64_t>(status.st_size);
    FileSource source(file.get(), bytes, path);
    return validate(source, bytes, path);
}

std::optional<SplitName> parse_split_name(std::string_view path) {
    constexpr std::string_view kTail = "-00001-of-00001.gguf";
    if (path.size() <= kTail.size()) return std::nullopt;
    auto const tail = path.substr(path.size() - kTail.size());
    auto const prefix = path.substr(0, path.size() - kTail.size());
    if (tail[0] != '-' || tail.substr(6, 4) != "-of-" || tail.substr(15) != ".gguf" || prefix.ends_with('/'))
        return std::nullopt;
    auto const number = split_number(tail.substr(1, 5));
    auto const count = split_number(tail.substr(10, 5));
    if (number < 1 || number > count) return std::nullopt;
    return SplitName{std::string(prefix), number, count};
}

std::string split_path(std::string_view prefix, std::uint32_t number, std::uint32_t count) {
    return fmt::format("{}-{:05}-of-{:05}.gguf", prefix, number, count);
}

Result<std::vector<GgufFile>> read_gguf_model(std::string const& path) {
    auto const name = parse_split_name(path);
    if (name && name->count > kGgufSplitsMax) {
        return Error(Code::too_large,
                     fmt::format("{}: {} splits; at most {} are allowed", path, name->count, kGgufSplitsMax), path);
    }
    std::vector<GgufFile> files;
    if (name && name->count > 1) {
        HEARTH_TRY(files, read_splits(*name));
    } else {
        HEARTH_TRY(auto file, read_gguf(path));
        auto const count = file.number("split.count").value_or(1);
        if (count > 1) {
            return no_member(
                file,
                fmt::format("one of {} splits, but its name does not end in -00001-of-{:05}.gguf: rename it as it was "
                            "published, beside the others",
                            count, count));
        }
        files.push_back(std::move(file));
    }
    if (is_adapter(files[0]))
        return Error(Code::unsupported,
                     fmt::format("{}: an adapter, not a model; it is served on top of its base", path), path);
    auto const any =
        std::any_of(files.begin(), files.end(), [](GgufFile const& file) { return !file.tensors.empty(); });
    if (!any) return no_member(files[0], "it holds no tensors: a vocabulary, not a model");
    return files;
}

}  // namespace hearth::models

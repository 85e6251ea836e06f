// The files of a model in safetensors: opening, agreement of index and shards, reading.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <map>
#include <memory>
#include <set>
#include <utility>

#include <fmt/format.h>

#include "base/assert.h"
#include "models/descriptor.h"
#include "models/safetensors.h"
#include "models/safetensors_header.h"

namespace hearth::models {
namespace {

constexpr auto kIndexName = "model.safetensors.index.json";
constexpr auto kSingleName = "model.safetensors";

Error io_error(std::string const& path, std::string_view what) {
    return Error(Code::io, fmt::format("{}: {}: {}", path, what, std::strerror(errno)), path);
}

Status read_at(int fd, std::uint64_t offset, std::span<std::byte> out, std::string const& path) {
    std::size_t done = 0;
    while (done < out.size()) {
        auto const got = ::pread(fd, out.data() + done, out.size() - done, static_cast<::off_t>(offset + done));
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return io_error(path, fmt::format("cannot read byte {}", offset + done));
        if (got == 0) {
            return Error(Code::io,
                         fmt::format("{}: ended at byte {} while being read, {} more expected: it is being changed",
                                     path, offset + done, out.size() - done),
                         path);
        }
        done += static_cast<std::size_t>(got);
    }
    return ok();
}

struct OpenFile {
    std::unique_ptr<Descriptor> descriptor;
    struct ::stat stat{};
};

Result<OpenFile> open_file(std::string const& path) {
    OpenFile file;
    // O_NONBLOCK: a FIFO in the folder must not hang the open; it is refused below.
    file.descriptor = std::make_unique<Descriptor>(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
    if (file.descriptor->get() < 0 && errno == ENOENT)
        return Error(Code::not_found, fmt::format("{}: there is no such file", path), path);
    if (file.descriptor->get() < 0) return io_error(path, "cannot be opened");
    if (::fstat(file.descriptor->get(), &file.stat) != 0) return io_error(path, "cannot be examined");
    if (!S_ISREG(file.stat.st_mode)) return Error(Code::io, fmt::format("{}: no regular file", path), path);
    return file;
}

Result<std::string> read_index(std::string const& path) {
    HEARTH_TRY(auto const file, open_file(path));
    auto const bytes = static_cast<std::uint64_t>(file.stat.st_size);
    if (bytes > kSafetensorsHeaderMax) {
        return Error(Code::too_large,
                     fmt::format("{}: {} bytes; at most {} are read", path, bytes, kSafetensorsHeaderMax), path);
    }
    std::string text(bytes, '\0');
    HEARTH_CHECK(read_at(file.descriptor->get(), 0, std::as_writable_bytes(std::span(text)), path));
    return text;
}

// Every tensor of the index is in the file it names, and no file has others.
Status check_agreement(std::vector<SafetensorsIndexEntry> const& index, std::vector<std::string> const& files,
                       std::span<SafetensorsTensor const> tensors, std::string const& path) {
    std::map<std::string_view, std::string_view> where;
    for (auto const& entry : index) where.emplace(entry.tensor, entry.file);
    for (auto const& tensor : tensors) {
        auto const found = where.find(tensor.name);
        if (found == where.end() || found->second != files[tensor.shard]) {
            return Error(Code::corrupt,
                         fmt::format("{}: tensor \"{}\" is in {}, but the index says {}", path, tensor.name,
                                     files[tensor.shard], found == where.end() ? "nothing of it" : found->second),
                         path);
        }
        where.erase(found);
    }
    if (where.empty()) return ok();
    return Error(Code::corrupt,
                 fmt::format("{}: {} tensors are in no file, among them \"{}\", said to be in {}", path, where.size(),
                             where.begin()->first, where.begin()->second),
                 path);
}

}  // namespace

struct SafetensorsModel::Shard {
    std::string path;
    OpenFile file;
};

SafetensorsModel::SafetensorsModel() = default;
SafetensorsModel::~SafetensorsModel() = default;
SafetensorsModel::SafetensorsModel(SafetensorsModel&&) noexcept = default;
SafetensorsModel& SafetensorsModel::operator=(SafetensorsModel&&) noexcept = default;

Result<SafetensorsModel> SafetensorsModel::open(std::string const& folder) {
    SafetensorsModel model;
    auto const index_path = folder + "/" + kIndexName;
    auto text = read_index(index_path);
    if (!text && text.error().code != Code::not_found) return text.error();
    if (!text) {
        auto const added = model.add_shard(folder + "/" + kSingleName);
        if (!added && added.error().code == Code::not_found) {
            return Error(Code::not_found,
                         fmt::format("{}: neither {} nor {} is in the folder", folder, kSingleName, kIndexName),
                         folder);
        }
        HEARTH_CHECK(added);
        return model;
    }
    HEARTH_TRY(auto const index, parse_safetensors_index(*std::move(text), index_path));
    std::set<std::string> names;
    for (auto const& entry : index) names.insert(entry.file);
    if (names.size() > kSafetensorsShardsMax) {
        return Error(Code::too_large,
                     fmt::format("{}: {} shards; at most {} are read", index_path, names.size(), kSafetensorsShardsMax),
                     index_path);
    }
    std::vector<std::string> const files(names.begin(), names.end());
    for (auto const& file : files) HEARTH_CHECK(model.add_shard(fmt::format("{}/{}", folder, file)));
    HEARTH_CHECK(check_agreement(index, files, model.tensors_, index_path));
    return model;
}

Result<SafetensorsModel> SafetensorsModel::open_file(std::string const& path) {
    SafetensorsModel model;
    HEARTH_CHECK(model.add_shard(path));
    return model;
}

Status SafetensorsModel::add_shard(std::string const& path) {
    HEARTH_TRY(auto file, models::open_file(path));  // the member hides it
    auto const file_bytes = static_cast<std::uint64_t>(file.stat.st_size);
    auto const fd = file.descriptor->get();
    std::vector<std::byte> head(std::min<std::uint64_t>(file_bytes, sizeof(std::uint64_t)));
    HEARTH_CHECK(read_at(fd, 0, head, path));
    HEARTH_TRY(auto const end, safetensors_header_end(head, file_bytes, path));
    head.resize(end);
    HEARTH_CHECK(read_at(fd, 0, head, path));
    HEARTH_TRY(auto tensors, parse_safetensors(head, file_bytes, path));
    for (auto& tensor : tensors) {
        tensor.shard = static_cast<std::uint32_t>(shards_.size());
        tensors_.push_back(std::move(tensor));
    }
    shards_.push_back({path, std::move(file)});
    return ok();
}

Status SafetensorsModel::read(SafetensorsTensor const& tensor, std::uint64_t offset, std::span<std::byte> out) const {
    HEARTH_ASSERT(offset <= tensor.bytes && out.size() <= tensor.bytes - offset, "a read lies within its tensor");
    auto const& shard = shards_[tensor.shard];
    return read_at(shard.file.descriptor->get(), tensor.offset + offset, out, shard.path);
}

std::uint64_t count_parameters(SafetensorsModel const& model) {
    constexpr std::uint64_t kPackedInWord = 8;  // of four bits, in the 32 of a word
    std::uint64_t total = 0;
    for (auto const& tensor : model.tensors()) {
        if (tensor.name.ends_with(".qweight")) total += tensor.elements() * kPackedInWord;
        else if (!tensor.name.ends_with(".qzeros") && !tensor.name.ends_with(".g_idx")) total += tensor.elements();
    }
    return total;
}

Status SafetensorsModel::unchanged() const {
    for (auto const& shard : shards_) {
        struct ::stat now{};
        if (::fstat(shard.file.descriptor->get(), &now) != 0) return io_error(shard.path, "cannot be examined");
        auto const& then = shard.file.stat;
        if (now.st_size != then.st_size || now.st_mtim.tv_sec != then.st_mtim.tv_sec ||
            now.st_mtim.tv_nsec != then.st_mtim.tv_nsec)
            return Error(Code::io, fmt::format("{}: changed while it was read", shard.path), shard.path);
    }
    return ok();
}

}  // namespace hearth::models

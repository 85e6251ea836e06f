#include "llama/weight_pages.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <ggml-backend.h>
#include <gguf.h>
#include <llama-ext.h>
#include <llama-model.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <set>
#include <string_view>
#include <system_error>
#include <thread>
#include <utility>

namespace hearth::llama {

namespace {

class Descriptor {
public:
    Descriptor() = default;
    explicit Descriptor(int fd) : fd_(fd) {}
    ~Descriptor() {
        if (fd_ >= 0) ::close(fd_);
    }
    Descriptor(Descriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
    Descriptor& operator=(Descriptor&& other) noexcept {
        std::swap(fd_, other.fd_);
        return *this;
    }
    [[nodiscard]] int get() const { return fd_; }

private:
    int fd_ = -1;
};

class Mapping {
public:
    Mapping(int fd, std::size_t bytes) : bytes_(bytes), data_(::mmap(nullptr, bytes, PROT_READ, MAP_SHARED, fd, 0)) {}
    ~Mapping() {
        if (data_ != MAP_FAILED) ::munmap(data_, bytes_);
    }
    Mapping(Mapping const&) = delete;
    Mapping& operator=(Mapping const&) = delete;
    [[nodiscard]] std::byte const* data() const {
        return data_ == MAP_FAILED ? nullptr : static_cast<std::byte const*>(data_);
    }

private:
    std::size_t bytes_;
    void* data_;
};

struct CloseGguf {
    void operator()(gguf_context* context) const { gguf_free(context); }
};
using Header = std::unique_ptr<gguf_context, CloseGguf>;

// Null if it cannot be read.
Header read_header(int fd) {
    int const copy = ::fcntl(fd, F_DUPFD_CLOEXEC, 0);
    std::FILE* const file = copy < 0 ? nullptr : ::fdopen(copy, "rb");
    if (file == nullptr) {
        if (copy >= 0) ::close(copy);
        return nullptr;
    }
    Header header;
    if (std::fseek(file, 0, SEEK_SET) == 0)
        header.reset(gguf_init_from_file_ptr(file, {.no_alloc = true, .ctx = nullptr}));
    std::fclose(file);
    return header;
}

std::span<std::byte> memory_of(ggml_backend_buffer_t buffer) {
    return {static_cast<std::byte*>(ggml_backend_buffer_get_base(buffer)), ggml_backend_buffer_get_size(buffer)};
}

enum class Edge : std::uint8_t { inward, outward };

// Whole pages; beyond the edges of a mapped file's part lies more of that file.
void drop(std::span<std::byte> memory, Edge edge) {
    auto const page = static_cast<std::uintptr_t>(::sysconf(_SC_PAGESIZE));
    auto const down = [page](std::uintptr_t at) { return at & ~(page - 1); };
    auto const up = [&](std::uintptr_t at) { return down(at + page - 1); };
    auto const begin = reinterpret_cast<std::uintptr_t>(memory.data());
    auto const end = begin + memory.size();
    auto const first = edge == Edge::inward ? up(begin) : down(begin);
    auto const last = edge == Edge::inward ? down(end) : up(end);
    auto const shift = static_cast<std::ptrdiff_t>(first) - static_cast<std::ptrdiff_t>(begin);
    if (first < last) ::madvise(memory.data() + shift, last - first, MADV_DONTNEED);
}

}  // namespace

struct WeightPages::File {
    std::string path;
    Descriptor fd;
    struct stat as_loaded{};

    // Nobody wrote to it since.
    [[nodiscard]] bool is_same() const {
        struct stat now{};
        return fd.get() >= 0 && ::fstat(fd.get(), &now) == 0 && now.st_size == as_loaded.st_size &&
               now.st_mtim.tv_sec == as_loaded.st_mtim.tv_sec && now.st_mtim.tv_nsec == as_loaded.st_mtim.tv_nsec;
    }
};

struct WeightPages::Packed {
    ggml_tensor* tensor = nullptr;
    std::size_t file = 0;
    std::size_t offset = 0;
};

WeightPages::WeightPages() = default;
WeightPages::~WeightPages() = default;
WeightPages::WeightPages(WeightPages&&) noexcept = default;
WeightPages& WeightPages::operator=(WeightPages&&) noexcept = default;

WeightPages WeightPages::open(std::vector<std::string> const& paths) {
    WeightPages pages;
    for (auto const& path : paths) {
        File file{path, Descriptor(::open(path.c_str(), O_RDONLY | O_CLOEXEC)), {}};
        if (file.fd.get() >= 0) ::fstat(file.fd.get(), &file.as_loaded);
        pages.files_.push_back(std::move(file));
    }
    return pages;
}

void WeightPages::attach(llama_model const& model) {
    std::set<ggml_backend_buffer_t> seen;
    std::vector<std::span<std::byte>> used;
    for (auto const& [name, tensor] : llama_internal_get_tensor_map(&model)) {
        auto* const buffer = tensor->buffer;
        if (buffer == nullptr) continue;
        bool const packed = !ggml_backend_buffer_is_host(buffer);
        bool const mapped = std::string_view(ggml_backend_buffer_name(buffer)) == "CPU_Mapped";
        if (packed) packed_.push_back({tensor, 0, 0});
        if (mapped) {
            shared_bytes_ += ggml_nbytes(tensor);
            used.emplace_back(static_cast<std::byte*>(tensor->data), ggml_nbytes(tensor));
        }
        if (!seen.insert(buffer).second) continue;
        if (packed) memory_.push_back(memory_of(buffer));
        if (mapped) mapped_.push_back(memory_of(buffer));
    }
    if (packed_.empty()) files_.clear();  // the mapping is all it takes
    else drop_unused(std::move(used));
}

// What upstream packed has been read through the mapping, too, and is not looked at there again.
void WeightPages::drop_unused(std::vector<std::span<std::byte>> used) const {
    std::ranges::sort(used, {}, [](auto part) { return part.data(); });
    for (auto const memory : mapped_) {
        auto* at = memory.data();
        auto* const end = at + memory.size();
        for (auto const part : used) {
            if (part.data() < at || part.data() >= end) continue;
            drop({at, part.data()}, Edge::inward);
            at = part.data() + part.size();
        }
        drop({at, end}, Edge::inward);
    }
}

std::size_t WeightPages::packed() const { return packed_.size(); }

Status WeightPages::check() {
    if (!found_) HEARTH_CHECK(find_packed());
    found_ = true;
    return ok();
}

Status WeightPages::find_packed() {
    auto const unsupported = [](std::string const& path, char const* why) {
        return Error(Code::unsupported,
                     fmt::format("the weights packed from {} cannot be packed again: {}", path, why));
    };
    std::vector<Header> headers;
    for (auto const& file : files_) {
        // A file that took the place of this one while it was loaded would be another.
        struct stat named{};
        bool const in_place = ::stat(file.path.c_str(), &named) == 0 && named.st_ino == file.as_loaded.st_ino &&
                              named.st_dev == file.as_loaded.st_dev;
        if (!in_place || !file.is_same()) return unsupported(file.path, "it has changed");
        headers.push_back(read_header(file.fd.get()));
        if (headers.back() == nullptr) return unsupported(file.path, "its header cannot be read again");
    }
    for (auto& [tensor, file, offset] : packed_) {
        std::int64_t id = -1;
        for (file = 0; file < headers.size(); ++file) {
            id = gguf_find_tensor(headers[file].get(), ggml_get_name(tensor));
            if (id >= 0) break;
        }
        if (id < 0) return unsupported(ggml_get_name(tensor), "no file has it");
        auto const* header = headers[file].get();
        offset = gguf_get_data_offset(header) + gguf_get_tensor_offset(header, id);
        bool const fits = gguf_get_tensor_type(header, id) == tensor->type &&
                          gguf_get_tensor_size(header, id) == ggml_nbytes(tensor) &&
                          offset + ggml_nbytes(tensor) <= static_cast<std::size_t>(files_[file].as_loaded.st_size);
        if (!fits) return unsupported(files_[file].path, "a tensor has another shape there");
    }
    return ok();
}

void WeightPages::give_back() {
    for (auto const memory : mapped_) drop(memory, Edge::outward);
    for (auto const memory : memory_) drop(memory, Edge::inward);
}

Status WeightPages::take_again(std::uint32_t threads) {
    std::vector<std::unique_ptr<Mapping>> mappings;
    for (auto const& file : files_) {
        if (!file.is_same())
            return Error(Code::corrupt, fmt::format("{} is not what it was when it was loaded", file.path), "path");
        mappings.push_back(std::make_unique<Mapping>(file.fd.get(), static_cast<std::size_t>(file.as_loaded.st_size)));
        if (mappings.back()->data() == nullptr)
            return Error(Code::overloaded, fmt::format("cannot map {}: {}", file.path, std::strerror(errno)), "path");
    }
    std::atomic<std::size_t> next = 0;
    auto const pack = [&] {
        for (auto i = next.fetch_add(1); i < packed_.size(); i = next.fetch_add(1)) {
            auto const& [tensor, file, offset] = packed_[i];
            ggml_backend_tensor_set(tensor, mappings[file]->data() + offset, 0, ggml_nbytes(tensor));
        }
    };
    // Where the system refuses more threads those that there are do it.
    std::vector<std::jthread> helpers;
    auto const start_helper = [&] {
        try {
            helpers.emplace_back(pack);
            return true;
        } catch (std::system_error const&) {
            return false;
        }
    };
    auto const wanted = std::min<std::size_t>(threads, packed_.size());
    while (helpers.size() + 1 < wanted && start_helper()) {}
    pack();
    return ok();
}

}  // namespace hearth::llama

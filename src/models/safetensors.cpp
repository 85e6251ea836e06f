#include "models/safetensors.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <limits>
#include <optional>
#include <tuple>
#include <utility>

#include <fmt/format.h>

#include "base/assert.h"
#include "json/json.h"
#include "models/gguf_header.h"
#include "models/safetensors_header.h"

namespace hearth::models {
namespace {

constexpr std::uint64_t kLengthBytes = 8;

struct TypeName {
    std::string_view name;
    std::uint64_t bytes;
};
// In the order of SafetensorsType.
constexpr std::array<TypeName, 15> kTypes{{{"F64", 8},
                                           {"F32", 4},
                                           {"F16", 2},
                                           {"BF16", 2},
                                           {"I64", 8},
                                           {"I32", 4},
                                           {"I16", 2},
                                           {"I8", 1},
                                           {"U64", 8},
                                           {"U32", 4},
                                           {"U16", 2},
                                           {"U8", 1},
                                           {"BOOL", 1},
                                           {"F8_E4M3", 1},
                                           {"F8_E5M2", 1}}};

std::optional<SafetensorsType> type_named(std::string_view name) {
    for (std::size_t i = 0; i < kTypes.size(); ++i) {
        if (kTypes[i].name == name) return static_cast<SafetensorsType>(i);
    }
    return std::nullopt;
}

std::optional<std::uint64_t> unsigned_of(std::optional<json::View> value) {
    auto const number = value ? value->integer() : std::nullopt;
    if (!number || *number < 0) return std::nullopt;
    return static_cast<std::uint64_t>(*number);
}

// Nothing if the product passes 2^64.
std::optional<std::uint64_t> product(std::vector<std::uint64_t> const& shape, std::uint64_t factor) {
    for (auto const dimension : shape) {
        if (dimension != 0 && factor > std::numeric_limits<std::uint64_t>::max() / dimension) return std::nullopt;
        factor *= dimension;
    }
    return factor;
}

class HeaderParser {
public:
    HeaderParser(std::string const& path, std::uint64_t data_offset, std::uint64_t data_bytes)
        : path_(path), data_offset_(data_offset), data_bytes_(data_bytes) {}

    Result<std::vector<SafetensorsTensor>> parse(json::View root) {
        if (!root.is(json::Kind::object)) return corrupt("the header is no object");
        if (root.size() > kSafetensorsTensorsMax + 1) {
            return Error(Code::too_large,
                         fmt::format("{}: {} tensors; at most {} are read", path_, root.size(), kSafetensorsTensorsMax),
                         path_);
        }
        for (auto const [name, value] : root.members()) {
            if (name == "__metadata__") {
                HEARTH_CHECK(check_metadata(value));
            } else {
                HEARTH_TRY(auto tensor, parse_tensor(name, value));
                tensors_.push_back(std::move(tensor));
            }
        }
        HEARTH_CHECK(check_extents());
        std::sort(tensors_.begin(), tensors_.end(), [](auto const& a, auto const& b) { return a.name < b.name; });
        return std::move(tensors_);
    }

private:
    [[nodiscard]] Error corrupt(std::string_view what) const {
        return Error(Code::corrupt, fmt::format("{}: {}", path_, what), path_);
    }
    [[nodiscard]] Error corrupt(std::string_view name, std::string_view what) const {
        return corrupt(fmt::format("tensor {}: {}", quoted(name), what));
    }

    [[nodiscard]] Status check_metadata(json::View value) const {
        if (!value.is(json::Kind::object)) return corrupt("__metadata__ is no object");
        for (auto const [name, text] : value.members()) {
            if (!text.is(json::Kind::string))
                return corrupt(fmt::format("__metadata__.{} is {}, not a string", quoted(name), describe(text.kind())));
        }
        return ok();
    }

    [[nodiscard]] Result<SafetensorsTensor> parse_tensor(std::string_view name, json::View value) const {
        if (name.empty() || name.size() > kSafetensorsNameMax || name.find('\0') != std::string_view::npos) {
            return corrupt(name, fmt::format("a name is 1 to {} bytes without NUL, this one has {}",
                                             kSafetensorsNameMax, name.size()));
        }
        for (auto const member : value.members()) {
            if (member.name != "dtype" && member.name != "shape" && member.name != "data_offsets")
                return corrupt(name, fmt::format("unknown field {}", quoted(member.name)));
        }
        auto const type_value = value.find("dtype");
        auto const type_name = type_value ? type_value->text() : std::nullopt;
        if (!type_name) return corrupt(name, "no dtype");
        auto const type = type_named(*type_name);
        if (!type) {
            return Error(Code::unsupported,
                         fmt::format("{}: tensor {}: type {} is not known", path_, quoted(name), quoted(*type_name)),
                         path_);
        }
        SafetensorsTensor tensor;
        tensor.name = name;
        tensor.type = *type;
        HEARTH_CHECK(parse_shape(value, tensor));
        HEARTH_CHECK(parse_extent(value, tensor));
        return tensor;
    }

    [[nodiscard]] Status parse_shape(json::View value, SafetensorsTensor& tensor) const {
        auto const shape = value.find("shape");
        if (!shape || !shape->is(json::Kind::array)) return corrupt(tensor.name, "no shape");
        if (shape->size() > kSafetensorsDimensionsMax) {
            return corrupt(tensor.name,
                           fmt::format("{} dimensions; at most {} are read", shape->size(), kSafetensorsDimensionsMax));
        }
        for (auto const element : shape->elements()) {
            auto const dimension = unsigned_of(element);
            if (!dimension) return corrupt(tensor.name, "a dimension is no whole number from 0 on");
            tensor.shape.push_back(*dimension);
        }
        return ok();
    }

    [[nodiscard]] Status parse_extent(json::View value, SafetensorsTensor& tensor) const {
        auto const extent = value.find("data_offsets");
        if (!extent || !extent->is(json::Kind::array) || extent->size() != 2)
            return corrupt(tensor.name, "data_offsets are not two numbers");
        auto element = extent->elements().begin();
        auto const begin = unsigned_of(*element);
        auto const end = unsigned_of(*++element);
        if (!begin || !end || *begin > *end || *end > data_bytes_) {
            return corrupt(tensor.name, fmt::format("its data_offsets do not lie in order within the {} bytes of data",
                                                    data_bytes_));
        }
        auto const bytes = product(tensor.shape, element_bytes(tensor.type));
        if (!bytes) return corrupt(tensor.name, "its shape has more than 2^64 bytes");
        if (*bytes != *end - *begin) {
            return corrupt(tensor.name, fmt::format("its shape needs {} bytes of {}, its data_offsets hold {}", *bytes,
                                                    to_string(tensor.type), *end - *begin));
        }
        tensor.offset = data_offset_ + *begin;
        tensor.bytes = *bytes;
        return ok();
    }

    Status check_extents() {
        std::sort(tensors_.begin(), tensors_.end(), [](auto const& a, auto const& b) {
            return std::tie(a.offset, a.bytes) < std::tie(b.offset, b.bytes);
        });
        auto end = data_offset_;
        for (auto const& tensor : tensors_) {
            if (tensor.offset < end) return corrupt(tensor.name, fmt::format("overlaps another before byte {}", end));
            if (tensor.offset > end) {
                return corrupt(tensor.name, fmt::format("{} bytes before it belong to no tensor", tensor.offset - end));
            }
            end += tensor.bytes;
        }
        if (end != data_offset_ + data_bytes_)
            return corrupt(fmt::format("{} bytes at its end belong to no tensor", data_offset_ + data_bytes_ - end));
        return ok();
    }

    std::string const& path_;
    std::uint64_t const data_offset_;
    std::uint64_t const data_bytes_;
    std::vector<SafetensorsTensor> tensors_;
};

// A tensor of two dimensions is 13 values. What 16 MiB of nothing but brackets would cost is bounded to 24 MiB.
json::Limits header_limits() {
    return {.bytes = kSafetensorsHeaderMax, .values = kSafetensorsTensorsMax * 16, .depth = 4};
}

}  // namespace

std::string_view to_string(SafetensorsType type) noexcept { return kTypes[static_cast<std::size_t>(type)].name; }

std::uint64_t element_bytes(SafetensorsType type) noexcept { return kTypes[static_cast<std::size_t>(type)].bytes; }

Result<std::uint64_t> safetensors_header_end(std::span<std::byte const> head, std::uint64_t file_bytes,
                                             std::string const& path) {
    if (file_bytes < kLengthBytes || head.size() < kLengthBytes) {
        return Error(
            Code::corrupt,
            fmt::format("{}: {} bytes are no safetensors file; it begins with 8 bytes of length", path, file_bytes),
            path);
    }
    std::uint64_t length = 0;
    std::memcpy(&length, head.data(), sizeof(length));
    if (length > kSafetensorsHeaderMax) {
        return Error(Code::too_large,
                     fmt::format("{}: a header of {} bytes; at most {} are read", path, length, kSafetensorsHeaderMax),
                     path);
    }
    if (length < 2 || length > file_bytes - kLengthBytes) {
        return Error(Code::corrupt,
                     fmt::format("{}: a header of {} bytes does not fit into a file of {}", path, length, file_bytes),
                     path);
    }
    return kLengthBytes + length;
}

Result<std::vector<SafetensorsTensor>> parse_safetensors(std::span<std::byte const> head, std::uint64_t file_bytes,
                                                         std::string const& path) {
    HEARTH_ASSERT(head.size() <= file_bytes, "no more bytes than the file has");
    HEARTH_TRY(auto const end, safetensors_header_end(head, file_bytes, path));
    if (head.size() < end) {
        return Error(
            Code::corrupt,
            fmt::format("{}: the header reaches byte {}, but only {} bytes were given", path, end, head.size()), path);
    }
    std::string text(reinterpret_cast<char const*>(head.data()) + kLengthBytes, end - kLengthBytes);
    // The format lets writers pad the header with spaces in order to align the data, and its JSON begins at once.
    if (text.front() != '{')
        return Error(Code::corrupt, fmt::format("{}: the header does not begin with {{", path), path);
    HEARTH_TRY(auto const document, json::Document::parse(std::move(text), header_limits(), path));
    return HeaderParser(path, end, file_bytes - end).parse(document.root());
}

Result<std::vector<SafetensorsIndexEntry>> parse_safetensors_index(std::string text, std::string const& path) {
    auto const corrupt = [&](std::string_view what) {
        return Error(Code::corrupt, fmt::format("{}: {}", path, what), path);
    };
    HEARTH_TRY(auto const document, json::Document::parse(std::move(text), header_limits(), path));
    auto const map = document.root().find("weight_map");
    if (!map || !map->is(json::Kind::object)) return corrupt("no weight_map");
    if (map->size() > kSafetensorsTensorsMax) {
        return Error(Code::too_large,
                     fmt::format("{}: {} tensors; at most {} are read", path, map->size(), kSafetensorsTensorsMax),
                     path);
    }
    std::vector<SafetensorsIndexEntry> entries;
    entries.reserve(map->size());
    for (auto const [tensor, value] : map->members()) {
        auto const file = value.text().value_or("");
        // A file of the folder itself: nothing that walks out of it, and nothing hidden.
        if (file.size() > 255 || !file.ends_with(".safetensors") || file.starts_with('.') ||
            file.find_first_of(std::string_view("/\\\0", 3)) != std::string_view::npos)
            return corrupt(fmt::format("tensor {} is said to be in {}, which is no file beside the index",
                                       quoted(tensor), quoted(file)));
        entries.push_back({std::string(tensor), std::string(file)});
    }
    return entries;
}

}  // namespace hearth::models

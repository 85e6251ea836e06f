#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <optional>
#include <utility>

#include <fmt/format.h>

#include "base/utf8.h"
#include "models/ggml_types.h"
#include "models/gguf_header.h"
#include "models/text_set.h"

namespace hearth::models {
namespace {

constexpr std::uint64_t kFixedBytes = 24;      // magic, version, two counts
constexpr std::uint64_t kPairBytesMin = 14;    // key length, one byte of key, type, one byte of value
constexpr std::uint64_t kTensorBytesMin = 33;  // name length, one byte, dimension count, one dimension, type, offset
constexpr std::uint32_t kDimensionsMax = 4;
constexpr std::uint64_t kElementsMax = 1ULL << 62;  // fits upstream's int64_t

constexpr std::array<std::uint64_t, kGgufTypeCount> kTypeBytes = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
constexpr std::array<std::string_view, kGgufTypeCount> kTypeNames = {
    "u8", "i8", "u16", "i16", "u32", "i32", "f32", "bool", "string", "array", "u64", "i64", "f64"};

// Reads forward through the source. The first failure sticks; every read
// afterwards gives zero values, so callers check failed() where they must stop.
class Cursor {
public:
    Cursor(HeaderSource& source, std::uint64_t file_bytes, std::string const& path)
        : source_(source), bytes_(source.bytes()), file_bytes_(file_bytes), path_(path) {}

    [[nodiscard]] std::uint64_t position() const { return position_; }
    [[nodiscard]] std::uint64_t left() const { return file_bytes_ - position_; }
    [[nodiscard]] bool failed() const { return error_.has_value(); }
    [[nodiscard]] Error take_error() { return std::move(*error_); }

    bool fail(std::uint64_t offset, std::string_view what) {
        if (!error_) error_ = corrupt_at(path_, offset, what);
        return false;
    }

    // Makes `count` bytes from here on readable.
    bool need(std::uint64_t count, std::string_view what) {
        return !failed() && count <= bytes_.size() - position_ ? true : extend(count, what);
    }

    template <typename T>
    T read(std::string_view what) {
        T value{};
        if (!need(sizeof(T), what)) return value;
        std::memcpy(&value, bytes_.data() + position_, sizeof(T));
        position_ += sizeof(T);
        return value;
    }

    // A u64 length and that many bytes. Valid until the next read.
    std::string_view read_string(std::string_view what, std::uint64_t length_max) {
        auto const length = read<std::uint64_t>(what);
        if (failed() || (length > length_max && !too_long(what, length, length_max)) || !need(length, what)) return {};
        std::string_view const text(reinterpret_cast<char const*>(bytes_.data() + position_), length);
        position_ += length;
        return text;
    }

    // The same for an element of an array that nobody looks at yet.
    bool skip_string(std::string_view what, std::uint64_t length_max) {
        std::uint64_t length = 0;
        auto const here = bytes_.size() - position_;
        if (here >= sizeof(length)) {
            std::memcpy(&length, bytes_.data() + position_, sizeof(length));
            if (length <= length_max && length <= here - sizeof(length)) {
                position_ += sizeof(length) + length;
                return true;
            }
        }
        read_string(what, length_max);
        return !failed();
    }

    bool skip(std::uint64_t count, std::string_view what) {
        if (!need(count, what)) return false;
        position_ += count;
        return true;
    }

    [[nodiscard]] std::byte const* at(std::uint64_t offset) const { return bytes_.data() + offset; }

private:
    // Apart from the paths that every string takes: a header has a million.
    bool extend(std::uint64_t count, std::string_view what);
    bool too_long(std::string_view what, std::uint64_t length, std::uint64_t length_max);

    HeaderSource& source_;
    std::span<std::byte const> bytes_;  // at most file_bytes_
    std::uint64_t const file_bytes_;
    std::string const& path_;
    std::uint64_t position_ = 0;
    std::optional<Error> error_;
};

bool Cursor::extend(std::uint64_t count, std::string_view what) {
    if (failed()) return false;
    if (count > left()) {
        return fail(position_, fmt::format("{} needs {} bytes, but the file has {} left", what, count, left()));
    }
    auto const end = position_ + count;
    if (end > kGgufHeaderMax) {
        return fail(position_, fmt::format("{} ends at byte {}, but a header may have at most {} bytes", what, end,
                                           kGgufHeaderMax));
    }
    if (auto extended = source_.extend(end); !extended) {
        error_ = std::move(extended).error();
        return false;
    }
    bytes_ = source_.bytes();
    return true;
}

bool Cursor::too_long(std::string_view what, std::uint64_t length, std::uint64_t length_max) {
    return fail(position_ - sizeof(length),
                fmt::format("{} claims {} bytes; at most {} are allowed", what, length, length_max));
}

bool has_control_characters(std::string_view text) {
    return std::any_of(text.begin(), text.end(),
                       [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; });
}

class Parser {
public:
    Parser(HeaderSource& source, std::uint64_t file_bytes, GgufHeader& out)
        : cursor_(source, file_bytes, out.file.path), out_(out), file_(out.file) {}

    Status run() {
        if (preamble() && pairs() && alignment() && tensors() && extents()) return ok();
        return cursor_.take_error();
    }

private:
    bool preamble();
    bool magic();
    bool version();
    bool pairs();
    bool key(std::string& name);
    bool repeated(std::string const& name, std::uint64_t at, std::uint64_t first);
    bool value(std::string const& name, GgufType type);
    bool scalar(std::string const& name, GgufType type, GgufValue& value);
    bool array(std::string const& name, GgufValue& value);
    bool string_elements(std::string const& name, GgufArray& array);
    bool bool_elements(std::string const& name, GgufArray const& array);
    void keep_numbers(GgufArray& array);
    std::optional<GgufType> type_id(std::string const& name);
    bool alignment();
    bool tensors();
    bool tensor(GgufTensor& tensor);
    bool tensor_name(GgufTensor& tensor);
    bool dimensions(GgufTensor& tensor, std::uint64_t& elements);
    bool tensor_bytes(GgufTensor& tensor, std::uint64_t elements);
    bool extents();
    bool gap(GgufTensor const& tensor, std::uint64_t expected, std::uint64_t at);

    Cursor cursor_;
    GgufHeader& out_;
    GgufFile& file_;
    std::uint64_t pair_count_ = 0;
    std::uint64_t tensor_count_ = 0;
    std::vector<std::uint64_t> tensor_places_;  // byte of each tensor's info
};

bool Parser::magic() {
    auto const bytes = cursor_.read<std::array<char, 4>>("the magic");
    if (cursor_.failed()) return false;
    std::string_view const text(bytes.data(), bytes.size());
    if (text == "GGUF") return true;
    std::string_view kind;
    if (text == "lmgg" || text == "fmgg" || text == "tjgg" || text == "algg")
        kind = " (an old GGML format; convert it to GGUF)";
    if (text.starts_with("PK")) kind = " (a ZIP or PyTorch archive)";
    if (text == "vers") kind = " (a Git LFS pointer; the real file was not downloaded)";
    if (text.starts_with("<")) kind = " (looks like HTML or XML)";
    return cursor_.fail(0, fmt::format("not a GGUF file: begins with {}, not \"GGUF\"{}", quoted(text), kind));
}

bool Parser::version() {
    auto const at = cursor_.position();
    file_.version = cursor_.read<std::uint32_t>("the version");
    if (cursor_.failed()) return false;
    if (file_.version == 2 || file_.version == 3) return true;
    auto const swapped = __builtin_bswap32(file_.version);
    if (swapped >= 1 && swapped <= 0xffff) {
        return cursor_.fail(
            at, fmt::format("a big-endian GGUF file (version {}); only little-endian files are supported", swapped));
    }
    if (file_.version == 1)
        return cursor_.fail(at, "GGUF version 1 has 32-bit sizes and is no longer supported; convert it again");
    return cursor_.fail(at, fmt::format("GGUF version {} is unknown; versions 2 and 3 are supported", file_.version));
}

bool Parser::preamble() {
    if (!magic() || !version()) return false;
    if (!cursor_.need(kFixedBytes - cursor_.position(), "the header")) return false;
    auto const at = cursor_.position();
    tensor_count_ = cursor_.read<std::uint64_t>("the tensor count");
    pair_count_ = cursor_.read<std::uint64_t>("the metadata count");
    auto const check = [&](std::string_view what, std::uint64_t where, std::uint64_t count, std::uint64_t max,
                           std::uint64_t each) {
        if (count > max)
            return cursor_.fail(where, fmt::format("claims {} {}; at most {} are allowed", count, what, max));
        if (count > cursor_.left() / each) {
            return cursor_.fail(where, fmt::format("claims {} {} of at least {} bytes, but the file has {} bytes left",
                                                   count, what, each, cursor_.left()));
        }
        return true;
    };
    return check("tensors", at, tensor_count_, kGgufTensorsMax, kTensorBytesMin) &&
           check("metadata pairs", at + 8, pair_count_, kGgufMetadataMax, kPairBytesMin);
}

bool Parser::key(std::string& name) {
    auto const at = cursor_.position();
    auto const text = cursor_.read_string("a metadata key", kGgufKeyMax);
    if (cursor_.failed()) return false;
    if (text.empty()) return cursor_.fail(at, "a metadata key is empty");
    // Upstream compares keys as C strings: with a NUL inside, two keys could
    // look different to us and equal to it.
    auto const plain = [](char c) { return c > 0x20 && c < 0x7f; };
    if (!std::all_of(text.begin(), text.end(), plain)) {
        return cursor_.fail(at, fmt::format("metadata key {} holds bytes other than printable ASCII", quoted(text)));
    }
    name = text;
    return true;
}

std::optional<GgufType> Parser::type_id(std::string const& name) {
    auto const at = cursor_.position();
    auto const id = cursor_.read<std::uint32_t>("a value type");
    if (cursor_.failed()) return std::nullopt;
    if (id >= kGgufTypeCount) {
        cursor_.fail(at,
                     fmt::format("{} has value type {}; types 0 to {} exist", quoted(name), id, kGgufTypeCount - 1));
        return std::nullopt;
    }
    return static_cast<GgufType>(id);
}

bool Parser::pairs() {
    std::string name;
    for (std::uint64_t i = 0; i < pair_count_; ++i) {
        auto const at = cursor_.position();
        if (!key(name)) return false;
        auto const [place, added] = out_.places.try_emplace(name, KeyPlace{GgufType::u8, at});
        if (!added) return repeated(name, at, place->second.offset);
        auto const type = type_id(name);
        if (!type) return false;
        place->second.type = *type;
        if (!value(name, *type)) return false;
    }
    return true;
}

bool Parser::repeated(std::string const& name, std::uint64_t at, std::uint64_t first) {
    return cursor_.fail(at, fmt::format("metadata key {} appears twice (first at byte {})", quoted(name), first));
}

bool Parser::value(std::string const& name, GgufType type) {
    auto& value = file_.metadata[name];
    return type == GgufType::array ? array(name, value) : scalar(name, type, value);
}

bool Parser::scalar(std::string const& name, GgufType type, GgufValue& value) {
    auto const at = cursor_.position();
    switch (type) {
        case GgufType::u8: value = std::uint64_t{cursor_.read<std::uint8_t>(name)}; break;
        case GgufType::i8: value = std::int64_t{cursor_.read<std::int8_t>(name)}; break;
        case GgufType::u16: value = std::uint64_t{cursor_.read<std::uint16_t>(name)}; break;
        case GgufType::i16: value = std::int64_t{cursor_.read<std::int16_t>(name)}; break;
        case GgufType::u32: value = std::uint64_t{cursor_.read<std::uint32_t>(name)}; break;
        case GgufType::i32: value = std::int64_t{cursor_.read<std::int32_t>(name)}; break;
        case GgufType::u64: value = cursor_.read<std::uint64_t>(name); break;
        case GgufType::i64: value = cursor_.read<std::int64_t>(name); break;
        case GgufType::f32: value = double{cursor_.read<float>(name)}; break;
        case GgufType::f64: value = cursor_.read<double>(name); break;
        case GgufType::boolean: {
            auto const byte = cursor_.read<std::uint8_t>(name);
            if (byte > 1)
                return cursor_.fail(at, fmt::format("{} is a bool with value {}; 0 and 1 exist", quoted(name), byte));
            value = byte == 1;
            break;
        }
        case GgufType::string: {
            auto const max = name.starts_with("tokenizer.chat_template") ? kGgufChatTemplateMax : kGgufStringMax;
            auto const text = cursor_.read_string(name, max);
            if (cursor_.failed()) return false;
            if (!is_valid_utf8(text)) return cursor_.fail(at, fmt::format("{} is not valid UTF-8", quoted(name)));
            // Upstream reads it as a C string: what follows a NUL would be invisible to it.
            if (text.find('\0') != std::string_view::npos)
                return cursor_.fail(at, fmt::format("{} holds a NUL byte", quoted(name)));
            value = std::string(text);
            break;
        }
        case GgufType::array: return cursor_.fail(at, "unreachable: arrays are read elsewhere");
    }
    return !cursor_.failed();
}

bool Parser::array(std::string const& name, GgufValue& value) {
    auto const at = cursor_.position();
    auto const element = type_id(name);
    if (!element) return false;
    if (*element == GgufType::array) {
        return cursor_.fail(
            at, fmt::format("{} is an array of arrays; no model needs one and the engine refuses them", quoted(name)));
    }
    GgufArray array;
    array.element = *element;
    array.count = cursor_.read<std::uint64_t>(name);
    if (cursor_.failed()) return false;
    array.offset = cursor_.position();
    auto const each = *element == GgufType::string ? 8 : kTypeBytes[static_cast<std::size_t>(*element)];
    if (array.count > cursor_.left() / each) {
        return cursor_.fail(at + 4,
                            fmt::format("{} claims {} elements of at least {} bytes, but the file has {} bytes left",
                                        quoted(name), array.count, each, cursor_.left()));
    }
    if (*element == GgufType::string) {
        if (!string_elements(name, array)) return false;
    } else if (!cursor_.skip(array.count * each, name)) {
        return false;
    }
    array.bytes = cursor_.position() - array.offset;
    if (*element == GgufType::boolean && !bool_elements(name, array)) return false;
    if (array.count <= kGgufNumbersMax) keep_numbers(array);
    value = std::move(array);
    return true;
}

bool Parser::string_elements(std::string const& name, GgufArray& array) {
    auto const max = name.starts_with("tokenizer.ggml.") ? kGgufTokenMax : kGgufStringMax;
    for (std::uint64_t i = 0; i < array.count; ++i) {
        if (!cursor_.skip_string(name, max)) return false;
    }
    return true;
}

bool Parser::bool_elements(std::string const& name, GgufArray const& array) {
    for (std::uint64_t i = 0; i < array.count; ++i) {
        auto const byte = std::to_integer<std::uint8_t>(*cursor_.at(array.offset + i));
        if (byte > 1) {
            return cursor_.fail(array.offset + i,
                                fmt::format("{} holds a bool with value {}; 0 and 1 exist", quoted(name), byte));
        }
    }
    return true;
}

void Parser::keep_numbers(GgufArray& array) {
    auto const copy = [&]<typename T>(T) {
        array.numbers.reserve(array.count);
        for (std::uint64_t i = 0; i < array.count; ++i) {
            T element{};
            std::memcpy(&element, cursor_.at(array.offset + i * sizeof(T)), sizeof(T));
            array.numbers.push_back(static_cast<std::int64_t>(element));
        }
    };
    switch (array.element) {
        case GgufType::u8:
        case GgufType::boolean: return copy(std::uint8_t{});
        case GgufType::i8: return copy(std::int8_t{});
        case GgufType::u16: return copy(std::uint16_t{});
        case GgufType::i16: return copy(std::int16_t{});
        case GgufType::u32: return copy(std::uint32_t{});
        case GgufType::i32: return copy(std::int32_t{});
        case GgufType::i64: return copy(std::int64_t{});
        default: return;  // u64 may not fit; the rest are no integers
    }
}

bool Parser::alignment() {
    auto const place = out_.places.find("general.alignment");
    if (place == out_.places.end()) return true;
    auto const [type, offset] = place->second;
    if (type != GgufType::u32) {
        return cursor_.fail(offset, fmt::format("general.alignment has type {}; it must be u32", to_string(type)));
    }
    file_.alignment = std::get<std::uint64_t>(file_.metadata.at("general.alignment"));
    if (!std::has_single_bit(file_.alignment) || file_.alignment < kGgufAlignmentMin ||
        file_.alignment > kGgufAlignmentMax) {
        return cursor_.fail(offset, fmt::format("general.alignment is {}; it must be a power of two from {} to {}",
                                                file_.alignment, kGgufAlignmentMin, kGgufAlignmentMax));
    }
    return true;
}

bool Parser::tensors() {
    TextSet names(tensor_count_);
    file_.tensors.reserve(tensor_count_);  // keeps the views in `names` valid; bounded by the file's size
    tensor_places_.reserve(tensor_count_);
    for (std::uint64_t i = 0; i < tensor_count_; ++i) {
        tensor_places_.push_back(cursor_.position());
        auto& added = file_.tensors.emplace_back();
        if (!tensor(added)) return false;
        if (names.add(added.name)) {
            return cursor_.fail(tensor_places_.back(), fmt::format("tensor {} appears twice", quoted(added.name)));
        }
    }
    return true;
}

bool Parser::tensor(GgufTensor& tensor) {
    std::uint64_t elements = 1;
    if (!tensor_name(tensor) || !dimensions(tensor, elements) || !tensor_bytes(tensor, elements)) return false;
    tensor.offset = cursor_.read<std::uint64_t>("a tensor's offset");
    return !cursor_.failed();
}

bool Parser::tensor_name(GgufTensor& tensor) {
    auto const at = cursor_.position();
    auto const name = cursor_.read_string("a tensor's name", kGgufTensorNameMax);
    if (cursor_.failed()) return false;
    if (name.empty()) return cursor_.fail(at, "a tensor's name is empty");
    if (has_control_characters(name) || !is_valid_utf8(name)) {
        return cursor_.fail(at,
                            fmt::format("tensor name {} holds control characters or is not valid UTF-8", quoted(name)));
    }
    tensor.name = name;
    return true;
}

bool Parser::dimensions(GgufTensor& tensor, std::uint64_t& elements) {
    auto at = cursor_.position();
    auto const count = cursor_.read<std::uint32_t>("a tensor's dimension count");
    if (cursor_.failed()) return false;
    if (count < 1 || count > kDimensionsMax) {
        return cursor_.fail(at, fmt::format("tensor {} has {} dimensions; 1 to {} are allowed", quoted(tensor.name),
                                            count, kDimensionsMax));
    }
    tensor.dimensions.reserve(count);
    for (std::uint32_t i = 0; i < count; ++i) {
        at = cursor_.position();
        auto const dimension = cursor_.read<std::uint64_t>("a tensor's dimension");
        if (cursor_.failed()) return false;
        if (dimension < 1 || dimension > kGgufDimensionMax) {
            return cursor_.fail(at, fmt::format("tensor {} has dimension {} of {}; 1 to {} are allowed",
                                                quoted(tensor.name), i, dimension, kGgufDimensionMax));
        }
        if (dimension > kElementsMax / elements) {
            return cursor_.fail(at,
                                fmt::format("tensor {} has more than {} elements", quoted(tensor.name), kElementsMax));
        }
        elements *= dimension;
        tensor.dimensions.push_back(dimension);
    }
    return true;
}

bool Parser::tensor_bytes(GgufTensor& tensor, std::uint64_t elements) {
    auto const at = cursor_.position();
    tensor.type = cursor_.read<std::uint32_t>("a tensor's type");
    if (cursor_.failed()) return false;
    auto const type = ggml_type(tensor.type);
    if (type.name.empty())
        return cursor_.fail(at, fmt::format("tensor {} has unknown type {}", quoted(tensor.name), tensor.type));
    if (type.block_elements == 0) {
        return cursor_.fail(
            at, fmt::format("tensor {} has type {} ({}), which was removed from the format; convert the model again",
                            quoted(tensor.name), tensor.type, type.name));
    }
    if (tensor.dimensions[0] % type.block_elements != 0) {
        return cursor_.fail(
            at, fmt::format("tensor {} has rows of {} elements, not a multiple of the {} in a block of type {}",
                            quoted(tensor.name), tensor.dimensions[0], type.block_elements, type.name));
    }
    auto const blocks = elements / type.block_elements;
    if (__builtin_mul_overflow(blocks, std::uint64_t{type.block_bytes}, &tensor.bytes)) {
        return cursor_.fail(at, fmt::format("tensor {} of {} elements of type {} has a size beyond 64 bits",
                                            quoted(tensor.name), elements, type.name));
    }
    return true;
}

bool Parser::gap(GgufTensor const& tensor, std::uint64_t expected, std::uint64_t at) {
    if (tensor.offset % file_.alignment != 0) {
        return cursor_.fail(at, fmt::format("tensor {} has offset {}, not a multiple of the alignment {}",
                                            quoted(tensor.name), tensor.offset, file_.alignment));
    }
    return cursor_.fail(
        at, fmt::format("tensor {} has offset {}, but the tensors before it end at {}: it {}", quoted(tensor.name),
                        tensor.offset, expected, tensor.offset < expected ? "overlaps them" : "leaves a gap"));
}

// Tensors must follow one another in the order of their infos, each padded to
// the alignment: the only layout that upstream accepts.
bool Parser::extents() {
    auto const header_end = cursor_.position();
    file_.data_offset = header_end;
    // Positions are at most kGgufHeaderMax here, alignments 1 MiB: no overflow.
    if (!file_.tensors.empty())
        file_.data_offset = (header_end + file_.alignment - 1) / file_.alignment * file_.alignment;
    std::uint64_t expected = 0;  // from data_offset; at most file_bytes + alignment
    for (std::size_t i = 0; i < file_.tensors.size(); ++i) {
        auto const& tensor = file_.tensors[i];
        auto const at = tensor_places_[i];
        if (tensor.offset != expected) return gap(tensor, expected, at);
        auto const start = file_.data_offset + tensor.offset;
        if (start > file_.file_bytes || tensor.bytes > file_.file_bytes - start) {
            return cursor_.fail(at,
                                fmt::format("tensor {} takes bytes {} to {} + {}, but the file has {}: it is truncated",
                                            quoted(tensor.name), start, start, tensor.bytes, file_.file_bytes));
        }
        expected += (tensor.bytes + file_.alignment - 1) / file_.alignment * file_.alignment;
    }
    auto const end = file_.data_offset + expected;
    auto const slack = file_.tensors.empty() ? file_.alignment : 0;
    if (file_.file_bytes > end + slack) {
        return cursor_.fail(end, fmt::format("{} bytes follow the last tensor; the header does not account for them",
                                             file_.file_bytes - end));
    }
    return true;
}

}  // namespace

std::string_view to_string(GgufType type) noexcept { return kTypeNames[static_cast<std::size_t>(type)]; }

Error corrupt_at(std::string const& path, std::uint64_t offset, std::string_view what) {
    return Error(Code::corrupt, fmt::format("{}: byte {}: {}", path, offset, what), path);
}

std::string quoted(std::string_view text) {
    constexpr std::size_t kShown = 64;
    std::string out = "'";
    for (char const c : text.substr(0, kShown)) {
        auto const byte = static_cast<unsigned char>(c);
        if (byte < 0x20 || byte >= 0x7f) {
            fmt::format_to(std::back_inserter(out), "\\x{:02x}", byte);
        } else {
            out += c;
        }
    }
    out += text.size() > kShown ? "...'" : "'";
    return out;
}

Result<GgufHeader> parse_header(HeaderSource& source, std::uint64_t file_bytes, std::string path) {
    GgufHeader header;
    header.file.path = std::move(path);
    header.file.file_bytes = file_bytes;
    HEARTH_CHECK(Parser(source, file_bytes, header).run());
    header.bytes = source.bytes();
    return header;
}

}  // namespace hearth::models

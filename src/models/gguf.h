// GGUF: our own strict reader and validator.
//
// It runs before upstream code sees a file, in milliseconds (metadata only; the
// tensor data is never read), and refuses what upstream would abort on or read
// out of bounds: every count is checked against the bytes left, sizes are
// 64-bit and checked for overflow, tensors lie inside the file, aligned, without
// overlap or gap, with sane dimensions and known types; strings are bounded and
// keys unique; the keys that upstream trusts have the type, range and agreement
// it asserts; splits agree with one another. docs/formats/gguf-rules.md lists
// every rule with its reason.
//
// The header is read with pread into memory of at most kGgufHeaderMax bytes,
// never mapped, so a file that shrinks meanwhile is an error, not a SIGBUS.
//
// Format: the GGUF specification, version 2 and 3, little-endian.
// Threads: none; pure functions over a read-only file.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/result.h"

namespace hearth::models {

inline constexpr std::uint64_t kGgufMetadataMax = 1U << 16;      // key/value pairs
inline constexpr std::uint64_t kGgufTensorsMax = 1U << 17;
inline constexpr std::uint64_t kGgufHeaderMax = 128U << 20;      // bytes before the tensor data
inline constexpr std::uint64_t kGgufKeyMax = 65535;              // bytes; the specification's limit
inline constexpr std::uint64_t kGgufStringMax = 16U << 20;       // bytes of one string
inline constexpr std::uint64_t kGgufTensorNameMax = 63;          // bytes; upstream keeps 64 with the NUL
inline constexpr std::uint64_t kGgufDimensionMax = 1ULL << 40;
inline constexpr std::uint64_t kGgufAlignmentMin = 32;           // upstream maps tensors in place and asserts this
inline constexpr std::uint64_t kGgufAlignmentMax = 1U << 20;
inline constexpr std::uint64_t kGgufVocabularyMax = 1U << 21;    // tokens
inline constexpr std::uint64_t kGgufTokenMax = 1U << 16;         // bytes of one token
inline constexpr std::uint64_t kGgufChatTemplateMax = 1U << 20;  // bytes
inline constexpr std::uint64_t kGgufNumbersMax = 1024;           // integer arrays up to this length are kept
inline constexpr std::uint32_t kGgufSplitsMax = 1024;

enum class GgufType : std::uint32_t { u8, i8, u16, i16, u32, i32, f32, boolean, string, array, u64, i64, f64 };
inline constexpr std::uint32_t kGgufTypeCount = 13;

[[nodiscard]] std::string_view to_string(GgufType) noexcept;

// An array's content stays in the file, except short arrays of integers or
// booleans (head counts per layer and the like).
struct GgufArray {
    GgufType element{};
    std::uint64_t count = 0;
    std::uint64_t offset = 0;  // of the first element, from the start of the file
    std::uint64_t bytes = 0;
    std::vector<std::int64_t> numbers;
};
using GgufValue = std::variant<std::uint64_t, std::int64_t, double, bool, std::string, GgufArray>;

struct GgufTensor {
    std::string name;
    std::vector<std::uint64_t> dimensions;  // 1..4
    std::uint32_t type = 0;                 // ggml type id
    std::uint64_t offset = 0;               // from the start of the tensor data
    std::uint64_t bytes = 0;
};

struct GgufFile {
    std::string path;
    std::uint32_t version = 0;
    std::uint64_t file_bytes = 0;
    std::uint64_t data_offset = 0;
    std::uint64_t alignment = 32;
    std::map<std::string, GgufValue, std::less<>> metadata;
    std::vector<GgufTensor> tensors;
    std::vector<std::string> warnings;  // served, but worth knowing

    [[nodiscard]] std::optional<std::uint64_t> number(std::string_view key) const;  // any integer type, non-negative
    [[nodiscard]] std::string text(std::string_view key) const;                     // empty if absent
    [[nodiscard]] GgufArray const* array(std::string_view key) const;               // null if absent
};

// Reads and validates one file's header. `corrupt` says what is wrong and at
// which byte; `io`, `not_found` for the file itself. `param` is the path.
[[nodiscard]] Result<GgufFile> read_gguf(std::string const& path);

// The same over bytes in memory; `file_bytes` is the size the file claims to have.
// REQUIRES: header.size() <= file_bytes
[[nodiscard]] Result<GgufFile> parse_gguf(std::span<std::byte const> header, std::uint64_t file_bytes,
                                          std::string path);

// Name of a ggml type id ("Q4_1"), empty if unknown or no longer supported.
[[nodiscard]] std::string_view ggml_type_name(std::uint32_t type);

// All files of a model in order: `path` alone, or every split of
// "<name>-00001-of-000NN.gguf", whichever of them `path` is. Validates each and
// that they belong together.
[[nodiscard]] Result<std::vector<GgufFile>> read_gguf_model(std::string const& path);

// "<name>-00002-of-00003.gguf": what a split's file name says. `prefix` keeps the folder.
struct SplitName {
    std::string prefix;
    std::uint32_t number = 0;  // from 1
    std::uint32_t count = 0;
};
[[nodiscard]] std::optional<SplitName> parse_split_name(std::string_view path);
[[nodiscard]] std::string split_path(std::string_view prefix, std::uint32_t number, std::uint32_t count);

}  // namespace hearth::models

// GGUF: our own strict reader and validator.
//
// It runs before upstream code sees a file, in milliseconds (metadata only; the
// tensor data is never read), and refuses what upstream would abort on or read
// out of bounds: every count is checked against the bytes left, sizes are
// 64-bit and checked for overflow, tensors lie inside the file, aligned, without
// overlap, with sane dimensions and known types; strings are bounded and keys
// unique; arrays nest at most twice; splits agree with one another.
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

inline constexpr std::uint64_t kGgufMetadataMax = 1U << 16;     // key/value pairs
inline constexpr std::uint64_t kGgufTensorsMax = 1U << 17;
inline constexpr std::uint64_t kGgufStringMax = 16U << 20;      // bytes of one string
inline constexpr std::uint64_t kGgufHeaderMax = 512U << 20;     // bytes before the tensor data
inline constexpr std::uint32_t kGgufSplitsMax = 1024;

enum class GgufType : std::uint32_t { u8, i8, u16, i16, u32, i32, f32, boolean, string, array, u64, i64, f64 };

struct GgufArray {
    GgufType element{};
    std::uint64_t count = 0;
    std::vector<std::string> strings;  // filled for string arrays only when asked for
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

    [[nodiscard]] std::optional<std::uint64_t> number(std::string_view key) const;  // any integer type, non-negative
    [[nodiscard]] std::string text(std::string_view key) const;                     // empty if absent
};

// Reads and validates one file's header. `corrupt` says what is wrong and at
// which byte; `io`, `not_found` for the file itself.
[[nodiscard]] Result<GgufFile> read_gguf(std::string const& path);

// The same over bytes in memory; `file_bytes` is the size the file claims to have.
[[nodiscard]] Result<GgufFile> parse_gguf(std::span<std::byte const> header, std::uint64_t file_bytes, std::string path);

// Name of a ggml type id ("Q4_1"), empty if unknown.
[[nodiscard]] std::string_view ggml_type_name(std::uint32_t type);

// All files of a model: `path` alone, or every split of "<name>-00001-of-000NN.gguf".
// Validates each and that they belong together.
[[nodiscard]] Result<std::vector<GgufFile>> read_gguf_model(std::string const& path);

}  // namespace hearth::models

// The parser's product before the rules have looked at it: the file's values
// plus what only the validator needs (exact types, byte places, raw bytes).
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>

#include "base/result.h"
#include "models/gguf.h"

namespace hearth::models {

// Bytes from the start of a file, read as far as the parser asks for.
class HeaderSource {
public:
    virtual ~HeaderSource() = default;

    // Makes at least the first `end` bytes available. Invalidates spans handed
    // out before. REQUIRES: end <= the file's size
    virtual Status extend(std::uint64_t end) = 0;
    [[nodiscard]] virtual std::span<std::byte const> bytes() const = 0;
};

struct KeyPlace {
    GgufType type{};           // of the value; GgufType::array for arrays
    std::uint64_t offset = 0;  // of the key/value pair
};

struct GgufHeader {
    GgufFile file;
    std::map<std::string, KeyPlace, std::less<>> places;
    std::span<std::byte const> bytes;  // of the source; everything before the tensor data
};

// "PATH: byte OFFSET: WHAT", code `corrupt`.
[[nodiscard]] Error corrupt_at(std::string const& path, std::uint64_t offset, std::string_view what);

// A name or key of the file, shortened and made printable for a message.
[[nodiscard]] std::string quoted(std::string_view text);

// The format: counts, types, strings, tensor infos, extents.
[[nodiscard]] Result<GgufHeader> parse_header(HeaderSource& source, std::uint64_t file_bytes, std::string path);

// The meaning: what the engine trusts. Both may add to header.file.warnings.
[[nodiscard]] Status check_hyperparameters(GgufHeader& header);
[[nodiscard]] Status check_vocabulary(GgufHeader& header);

// The same of a file whose general.type is `adapter` (adapter.cpp).
[[nodiscard]] Status check_adapter_header(GgufHeader& header);

// parse_header and the checks.
[[nodiscard]] Result<GgufFile> validate(HeaderSource& source, std::uint64_t file_bytes, std::string path);

}  // namespace hearth::models

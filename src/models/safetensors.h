// safetensors: our own strict reader, of one file or of a folder of shards.
//
// A file is 8 bytes with the length of its header, the header (JSON), and the
// tensors' bytes. Checked before anything is believed: the header's length and
// every offset against the file's size, type times shape against the extent,
// in 64 bits with overflow refused; the extents cover the data without overlap
// and without a gap, so that nothing can hide between tensors; names are
// unique; dimensions, tensors and names are bounded. The names in an index
// cannot leave the folder, and index and shards must agree on every tensor.
//
// Data is read with pread, a piece at a time, into memory of the caller; no
// file is ever mapped, so one that shrinks meanwhile is an error, not a SIGBUS.
//
// Format: github.com/huggingface/safetensors, README.md, "Format"; its own
// reader allows headers of 100 MB, this one 16 MiB.
// Threads: none; parse functions are pure, read() may be called by any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace hearth::models {

inline constexpr std::uint64_t kSafetensorsHeaderMax = 16U << 20;  // bytes of JSON, of an index too
inline constexpr std::uint64_t kSafetensorsTensorsMax = 1U << 16;  // of all shards together
inline constexpr std::uint64_t kSafetensorsNameMax = 512;          // bytes
inline constexpr std::uint64_t kSafetensorsDimensionsMax = 8;
inline constexpr std::uint64_t kSafetensorsShardsMax = 256;  // each costs a descriptor while the model is open

enum class SafetensorsType : std::uint8_t {
    f64,
    f32,
    f16,
    bf16,
    i64,
    i32,
    i16,
    i8,
    u64,
    u32,
    u16,
    u8,
    boolean,
    f8_e4m3,
    f8_e5m2
};

// As files spell it ("BF16").
[[nodiscard]] std::string_view to_string(SafetensorsType) noexcept;
[[nodiscard]] std::uint64_t element_bytes(SafetensorsType) noexcept;

struct SafetensorsTensor {
    std::string name;
    SafetensorsType type{};
    std::vector<std::uint64_t> shape;  // outermost first; empty for a single number
    std::uint64_t offset = 0;          // from the start of its file
    std::uint64_t bytes = 0;
    std::uint32_t shard = 0;

    [[nodiscard]] std::uint64_t elements() const { return bytes / element_bytes(type); }
};

// One file's tensors in the order of their names. `head` is the file from its
// start, at least to the end of the header; `file_bytes` its whole size.
// `corrupt` says what is wrong, `too_large` which limit was passed, and
// `unsupported` which type of number is unknown. `path` is for messages.
// REQUIRES: head.size() <= file_bytes
[[nodiscard]] Result<std::vector<SafetensorsTensor>> parse_safetensors(std::span<std::byte const> head,
                                                                       std::uint64_t file_bytes,
                                                                       std::string const& path);

// An index's tensors and the file each is in, in the order of the index.
struct SafetensorsIndexEntry {
    std::string tensor;
    std::string file;
};
[[nodiscard]] Result<std::vector<SafetensorsIndexEntry>> parse_safetensors_index(std::string text,
                                                                                 std::string const& path);

// The tensors of a folder: of the shards that model.safetensors.index.json
// names, else of model.safetensors. Its files stay open.
class SafetensorsModel {
public:
    [[nodiscard]] static Result<SafetensorsModel> open(std::string const& folder);
    // Of this file alone.
    [[nodiscard]] static Result<SafetensorsModel> open_file(std::string const& path);

    ~SafetensorsModel();
    SafetensorsModel(SafetensorsModel&&) noexcept;
    SafetensorsModel& operator=(SafetensorsModel&&) noexcept;

    // Shard by shard in the order of file names, in each by tensor name.
    [[nodiscard]] std::span<SafetensorsTensor const> tensors() const { return tensors_; }

    // Fills `out` with the tensor's bytes from `offset` on. `io` if the file
    // cannot be read or has become shorter.
    // REQUIRES: offset + out.size() <= tensor.bytes
    [[nodiscard]] Status read(SafetensorsTensor const& tensor, std::uint64_t offset, std::span<std::byte> out) const;

    // Fails with `io` if a file changed since open(), by size or time.
    [[nodiscard]] Status unchanged() const;

private:
    struct Shard;
    SafetensorsModel();
    Status add_shard(std::string const& path);

    std::vector<Shard> shards_;
    std::vector<SafetensorsTensor> tensors_;
};

// Numbers in its weights; eight to a word of a GPTQ or AWQ matrix.
[[nodiscard]] std::uint64_t count_parameters(SafetensorsModel const& model);

}  // namespace hearth::models

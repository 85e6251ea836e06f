// GgufOutput: writes one GGUF file from its first byte to its last into a
// descriptor of the caller's, who sees to its name and to the disk.
//
// Threads: one. Ownership: the descriptor stays the caller's and outlives this.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "convert/elements.h"
#include "convert/metadata.h"

namespace hearth::convert {

enum class Storage : std::uint8_t {
    elements,  // of OutputTensor::type
    q4_1       // blocks of 32 numbers along the last dimension
};

struct OutputTensor {
    std::string name;
    std::vector<std::uint64_t> shape;  // outermost first
    ElementType type{};
    Storage storage = Storage::elements;

    [[nodiscard]] std::uint64_t elements() const;
    [[nodiscard]] std::uint64_t bytes() const;
};

class GgufOutput {
public:
    // Writes everything before the tensors' data. `io` says what the system refused.
    [[nodiscard]] static Result<GgufOutput> create(int fd, Metadata const& metadata,
                                                   std::span<OutputTensor const> tensors);

    // Bytes of the file that create() would begin.
    [[nodiscard]] static std::uint64_t file_bytes(Metadata const& metadata, std::span<OutputTensor const> tensors);

    // The next bytes of the current tensor. One that is complete is padded, and
    // the next one becomes current.
    // REQUIRES: no more bytes than the current tensor lacks
    [[nodiscard]] Status write(std::span<std::byte const> bytes);

    // Whether every tensor is.
    [[nodiscard]] bool complete() const { return current_ == tensors_.size(); }

private:
    explicit GgufOutput(int fd) : fd_(fd) {}
    [[nodiscard]] Status put(std::span<std::byte const> bytes) const;

    int fd_;
    std::vector<std::uint64_t> tensors_;  // bytes of each
    std::size_t current_ = 0;
    std::uint64_t written_ = 0;  // of the current tensor
};

}  // namespace hearth::convert

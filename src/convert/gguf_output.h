// GgufOutput: writes one GGUF file from its first byte to its last, whole or
// not at all.
//
// The bytes go to a private file beside the target (".NAME.XXXXXX.part", mode
// 0600). finish() has our own validator read it, then fsync, rename, fsync of
// the folder: the target's name never stands for half a file. Dropped before
// that, or after a failure, the file is removed. What a killed process left is
// removed when the next one writes the same target; a lock tells it from the
// file of one that still works.
//
// Threads: one. Ownership: owns the open file until finish().
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "convert/elements.h"
#include "convert/metadata.h"

namespace hearth::convert {

enum class Existing : std::uint8_t { refuse, replace };

struct OutputTensor {
    std::string name;
    std::vector<std::uint64_t> shape;  // outermost first
    ElementType type{};

    [[nodiscard]] std::uint64_t bytes() const;
};

class GgufOutput {
public:
    struct Options {
        std::string path;
        Existing existing = Existing::refuse;
        unsigned mode = 0644;  // of the finished file
    };

    // Opens the file, reserves the room for all of it and writes everything
    // before the tensors' data. `io` says what the system refused, `invalid_argument` that
    // the target exists.
    [[nodiscard]] static Result<GgufOutput> create(Options options, Metadata const& metadata,
                                                   std::span<OutputTensor const> tensors);

    ~GgufOutput();
    GgufOutput(GgufOutput&&) noexcept;
    GgufOutput& operator=(GgufOutput&&) = delete;

    // The next bytes of the current tensor. One that is complete is padded, and
    // the next one becomes current.
    // REQUIRES: no more bytes than the current tensor lacks
    [[nodiscard]] Status write(std::span<std::byte const> bytes);

    // Gives the file its name. REQUIRES: every tensor is complete
    [[nodiscard]] Status finish();

    // Of the whole file.
    [[nodiscard]] std::uint64_t file_bytes() const;

private:
    struct File;
    explicit GgufOutput(std::unique_ptr<File> file);

    std::unique_ptr<File> file_;
};

}  // namespace hearth::convert

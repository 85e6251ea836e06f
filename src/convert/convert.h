// convert(): a Hugging Face folder becomes one GGUF file.
//
// Reads config.json, tokenizer.json and their kin, and model.safetensors or its
// shards; writes what upstream's converter would write, byte by byte for the
// models it is compared on. Weights pass through in pieces: peak memory does
// not grow with the model, only with its vocabulary and its largest head, or its
// largest matrix where those are packed (packed.h).
//
// Threads: the caller's, until it is done; `planned` and `watch` are called on it.
// Nothing is kept. That the output appears whole or not at all is the caller's
// doing (formats/make.h).
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "base/result.h"
#include "convert/elements.h"

namespace hearth::convert {

// Of the buffers that weights pass through, each. The rows of one head are the
// least that can be put into another order, and may need more.
inline constexpr std::uint64_t kChunkBytes = 4U << 20;
inline constexpr std::uint64_t kHeadBytesMax = 256U << 20;

struct Options {
    std::string folder;
    int output = -1;                  // a descriptor, written from where it stands
    std::optional<ElementType> type;  // of matrices; absent: as the first one in the folder, f16 for f32
};

struct Progress {
    std::uint64_t tensors_done = 0;
    std::uint64_t tensors = 0;
    std::uint64_t bytes_done = 0;  // of weights written
    std::uint64_t bytes = 0;
};

struct Report {
    std::string architecture;
    std::string type;  // "f16", "q4_1" ...: what most of the weights are
    std::uint64_t tensors = 0;
    std::uint64_t parameters = 0;
    std::uint64_t file_bytes = 0;
};

// Called once, when all is known but nothing written; an error ends the conversion with it.
using Planned = std::function<Status(Report const&)>;

// Called after each piece; false stops.
using Watch = std::function<bool(Progress const&)>;

// `cancelled` when `watch` said so; `unsupported` for models and tokenizers that
// are not converted, `corrupt`, `too_large`, `io` and `not_found` for their files.
[[nodiscard]] Result<Report> convert(Options const& options, Planned const& planned, Watch const& watch);

}  // namespace hearth::convert

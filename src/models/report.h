// Report: what `hearth check` says of a model file, and which file a name means.
//
// Threads: none; pure functions over read-only files.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"
#include "models/gguf.h"

namespace hearth::models {

struct CheckReport {
    std::string path;
    bool valid = false;
    bool adapter = false;                // a LoRA adapter, no model
    std::vector<std::string> problems;   // why it is refused; empty when valid
    std::vector<std::string> warnings;   // served, but worth knowing
    std::uint64_t file_bytes = 0;        // of all files
    std::uint32_t files = 1;             // splits
    std::uint32_t gguf_version = 0;
    std::string architecture, name, quantization, tokenizer, license;
    std::uint64_t parameters = 0;
    std::uint64_t context_train = 0, embedding = 0, layers = 0, heads = 0, kv_heads = 0,
                  vocabulary = 0;  // heads: of the largest layer
    std::uint64_t tensors = 0;
    std::vector<std::pair<std::string, std::uint64_t>> tensor_types;  // type name, count; most frequent first
    bool chat_template = false;
    std::string chat_template_sha256;    // hex
    double elapsed_ms = 0;
};

// Of files that read_gguf_model() read; `path` and `elapsed_ms` stay empty.
// REQUIRES: files is not empty
[[nodiscard]] CheckReport describe_model(std::vector<GgufFile> const& files);

// Never fails: an unreadable file is a report with a problem.
[[nodiscard]] CheckReport check_model(std::string const& path);

// The same, and an adapter (adapter.h) is valid, too.
[[nodiscard]] CheckReport check_any(std::string const& path);

// One line of UTF-8 without control characters: what a file says must not drive a terminal.
[[nodiscard]] std::string printable(std::string_view text);

// Lines for a terminal; metadata is made printable.
[[nodiscard]] std::string render_text(CheckReport const& report);

// Which file `--model` means: a path, or a name looked up as NAME, NAME.gguf or
// the first of its splits in `folders`, in that order, case-insensitive where
// no name matches exactly. A later split gives the first one. `not_found` lists
// what there is, `invalid_argument` is an ambiguous or empty name.
[[nodiscard]] Result<std::string> resolve_model(std::string const& name_or_path,
                                                std::vector<std::string> const& folders);

// Id for clients: the file name without folder, ".gguf" and split suffix, a model's name
// with '/' as names::from_file_stem() reads it.
[[nodiscard]] std::string model_id(std::string const& path);

}  // namespace hearth::models

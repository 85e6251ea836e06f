// make(): one GGUF file out of a Hugging Face folder or of another GGUF file.
//
// The work is done by a process of its own, `hearth maker`, which enters its
// sandbox before it opens what it reads: it can read the source's files and write
// the one output, nothing else. What it makes is read by our own validator here
// before it gets its name. A maker that is killed, crashes or says what it should
// not ends in an error, and the output is absent.
//
// Threads: each call uses the caller's thread until it is done, and the maker dies
// with that thread; any number at once. `watch` is called on it, at least ten
// times a second.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "base/result.h"
#include "formats/form.h"
#include "formats/whole_file.h"

namespace hearth::formats {

// How a maker is started: this program, and the environment it gets.
struct Workshop {
    std::string executable;
    std::vector<std::string> environment;  // "KEY=value"
    std::uint32_t threads = 1;             // that quantising may use
};

struct Order {
    std::string source;  // a folder with config.json, or a GGUF file: the only one, or any of its splits
    std::string base{};  // of a folder with a LoRA adapter: the GGUF file of its model; else empty
    std::string output;  // empty: NAME-TYPE.gguf in the current folder
    Form form;           // of a folder: F32, F16, BF16 or none are only converted; of a file: not none
    Existing existing = Existing::refuse;
    unsigned mode = 0644;  // of the file
};

enum class Stage : std::uint8_t { converting, quantizing };
[[nodiscard]] std::string_view to_string(Stage) noexcept;

struct Progress {
    Stage stage{};
    std::uint64_t tensors_done = 0;
    std::uint64_t tensors = 0;
    std::uint64_t bytes_done = 0;  // of weights: written when converting, read when quantising
    std::uint64_t bytes = 0;
};

// False stops, and nothing is left behind.
using Watch = std::function<bool(Progress const&)>;

struct Made {
    std::string output;
    std::string architecture;
    std::string type;  // "F16", "Q4_1" ...
    std::uint64_t tensors = 0;
    std::uint64_t parameters = 0;
    std::uint64_t file_bytes = 0;
    std::string isolation;  // the maker's sandbox, in words
};

// `cancelled` when `watch` said so; `not_found`, `corrupt`, `unsupported` and
// `too_large` for the source, `invalid_argument` for an output that exists, `io`
// for the system, `internal` for a maker that ended without a word.
[[nodiscard]] Result<Made> make(Order const& order, Workshop const& workshop, Watch const& watch);

}  // namespace hearth::formats

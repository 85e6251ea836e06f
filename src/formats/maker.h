// The inside of a maker process: what `hearth maker` does. Nobody calls it by hand.
//
// It enters its sandbox first: the source's files can be read, and the output, a
// file that is there already, can be written; what it says goes over one pipe
// (maker_lines.h). It dies with the thread that started it.
//
// Threads: call once, from main(), before other threads start.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"

namespace hearth::formats {

inline constexpr int kReportFd = 3;  // the pipe's end in the maker
inline constexpr int kOutputFd = 4;  // the output's, for converting

// What make() passes after "maker".
struct MakerTask {
    std::string source;
    std::string output;            // quantising: its path
    std::string type;              // converting: f32, f16, bf16 or auto; quantising: empty
    std::string base{};            // converting an adapter: the GGUF file of its model; else empty
    std::uint32_t file_type = 0;   // quantising
    std::uint32_t threads = 1;     // quantising
    bool operator==(MakerTask const&) const = default;
};
[[nodiscard]] std::vector<std::string> maker_arguments(MakerTask const& task);
// `invalid_argument` for anything else.
[[nodiscard]] Result<MakerTask> parse_maker_arguments(std::vector<std::string> const& arguments);

// Does the task and reports; the process's exit status. 0 only after the line `done`.
[[nodiscard]] int run_maker(MakerTask const& task);

}  // namespace hearth::formats

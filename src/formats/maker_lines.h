// What a maker tells the process that started it: lines on a pipe.
//
//   plan ARCHITECTURE TYPE TENSORS PARAMETERS BYTES   once; BYTES of the output, 0 if not known before
//   at TENSORS_DONE TENSORS BYTES_DONE BYTES          any number
//   done ISOLATION                                    the last line of a maker that succeeded
//   failed CODE MESSAGE                               the last line of one that did not
//
// A maker reads files from elsewhere, so what it says is parsed as strictly: a
// line of another shape, or longer than kLineMax, is refused.
//
// Threads: none; pure functions.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <variant>

#include "base/result.h"

namespace hearth::formats {

inline constexpr std::size_t kLineMax = 4096;  // bytes, its end included

struct PlanLine {
    std::string architecture;  // [A-Za-z0-9._-]{1,64}
    std::string type;          // the same
    std::uint64_t tensors = 0;
    std::uint64_t parameters = 0;
    std::uint64_t file_bytes = 0;
    bool operator==(PlanLine const&) const = default;
};
struct AtLine {
    std::uint64_t tensors_done = 0;
    std::uint64_t tensors = 0;
    std::uint64_t bytes_done = 0;
    std::uint64_t bytes = 0;
    bool operator==(AtLine const&) const = default;
};
struct DoneLine {
    std::string isolation;
    bool operator==(DoneLine const&) const = default;
};
using MakerLine = std::variant<PlanLine, AtLine, DoneLine, Error>;

// With the line's end. What is too long or would break the line is cut or replaced.
[[nodiscard]] std::string render_line(MakerLine const& line);

// Without the line's end. `corrupt` for what is no line of a maker.
[[nodiscard]] Result<MakerLine> parse_line(std::string_view line);

}  // namespace hearth::formats

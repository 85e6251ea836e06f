// Line: one log event as the bytes of one line.
//
// Private to telemetry. No state, no I/O.
#pragma once

#include <chrono>
#include <string>
#include <string_view>

#include "telemetry/log.h"

namespace hearth::telemetry {

inline constexpr std::size_t kTextBytesMax = 8U << 10;

// Replaces `out` by the line, newline included.
void format_line(LogOptions const& options, std::chrono::system_clock::time_point when, Level level,
                 std::string_view message, Fields fields, std::string& out);

// Appends `text` between double quotes with JSON escapes; see log.h for what
// happens to bytes that are no UTF-8 and to long texts.
void append_quoted(std::string_view text, std::string& out);

}  // namespace hearth::telemetry

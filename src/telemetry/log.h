// Log: structured lines, JSON or for people, to stderr or a file.
//
// log.info("worker ready", {{"model", id}, {"ms", 41.0}});
// Never prompt or answer text. Values that look like secrets are the caller's
// duty to leave out. One event is one line, whatever the values hold:
//
//   2026-01-31T12:00:00.123Z info  worker ready model=smollm2 ms=41 note="a b"
//   {"ts":"2026-01-31T12:00:00.123Z","level":"info","msg":"worker ready","model":"smollm2","ms":41,"note":"a b"}
//
// Control characters are escaped in both formats, bytes that are no UTF-8
// become U+FFFD, a text above 8 KiB is cut and ends with "…".
//
// Threads: all methods from any thread; a line is written whole. A destination
// that stops taking bytes (full disk, a pipe nobody reads) drops lines, counts
// them and says so once it works again; it never blocks or ends the server.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <memory>
#include <string>
#include <string_view>
#include <type_traits>
#include <variant>

#include "base/result.h"

namespace hearth::telemetry {

enum class Level : std::uint8_t { debug, info, warning, error };
enum class Format : std::uint8_t { human, json };

struct Field {
    std::string_view key;
    std::variant<std::string_view, std::int64_t, std::uint64_t, double, bool> value;
    Field(std::string_view k, std::string_view v) : key(k), value(v) {}
    Field(std::string_view k, std::string const& v) : key(k), value(std::string_view(v)) {}
    Field(std::string_view k, char const* v) : key(k), value(std::string_view(v)) {}
    Field(std::string_view k, bool v) : key(k), value(v) {}
    Field(std::string_view k, double v) : key(k), value(v) {}
    template <typename T>
        requires(std::is_integral_v<T> && !std::is_same_v<T, bool>)
    Field(std::string_view k, T v) : key(k) {
        if constexpr (std::is_signed_v<T>) value = static_cast<std::int64_t>(v);
        else value = static_cast<std::uint64_t>(v);
    }
};
using Fields = std::initializer_list<Field>;

struct LogOptions {
    Level level = Level::info;
    Format format = Format::human;
    std::string file;                        // empty: `fd`
    int fd = 2;                              // stays open and belongs to the caller
    bool color = false;                      // human format only: the level's name in colour
    std::uint64_t file_bytes_max = 64U << 20;  // at this size `file` becomes `file`.1 and a new one starts; 0: never
};

[[nodiscard]] std::string_view to_string(Level) noexcept;

class Log {
public:
    // Fails with `io` when the file cannot be opened.
    [[nodiscard]] static Result<std::unique_ptr<Log>> create(LogOptions options);
    virtual ~Log() = default;

    // The keys ts, level and msg are taken. REQUIRES: keys are of [A-Za-z0-9_.]
    virtual void write(Level level, std::string_view message, Fields fields) = 0;
    [[nodiscard]] virtual bool enabled(Level level) const = 0;
    [[nodiscard]] virtual std::uint64_t dropped() const = 0;  // lines lost so far

    void debug(std::string_view message, Fields fields = {}) { write(Level::debug, message, fields); }
    void info(std::string_view message, Fields fields = {}) { write(Level::info, message, fields); }
    void warning(std::string_view message, Fields fields = {}) { write(Level::warning, message, fields); }
    void error(std::string_view message, Fields fields = {}) { write(Level::error, message, fields); }
};

// A log that keeps nothing, for tests.
[[nodiscard]] std::unique_ptr<Log> make_null_log();

}  // namespace hearth::telemetry

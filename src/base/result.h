// Result<T>: a value of type T, or the Error that says why there is none.
//
// Every fallible Hearth function returns one. Exceptions mean a bug or an
// exhausted machine and end the request or the process; they are never used
// for an outcome the caller is expected to handle.
//
// The spelling follows std::expected so that it can replace this type once the
// toolchain has it.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>

namespace hearth {

// Stable across releases: each API dialect maps a code to a status in exactly
// one table. Numbers travel in worker frames: append, never renumber.
enum class Code : std::uint8_t {
    invalid_argument = 0,   // the caller sent something no retry can fix
    not_found = 1,          // no such model, file, route
    overloaded = 2,         // a bounded queue is full; retry later
    cancelled = 3,          // the caller left or asked to stop
    deadline_exceeded = 4,  // a time limit passed
    internal = 5,           // a bug or a failed invariant of ours
    unsupported = 6,        // valid, but Hearth or the model cannot do it
    context_overflow = 7,   // prompt (+ output) does not fit the model's context
    unavailable = 8,        // loading, draining or between restarts; retry later
    engine_lost = 9,        // the worker process died or hung
    corrupt = 10,           // a file or frame breaks its format
    io = 11,                // the operating system refused
    too_large = 12,         // a stated size limit was passed
    exhausted = 13,         // it takes more memory than there may be used, or more of a disk than is free
};
inline constexpr std::uint8_t kCodeCount = 14;

[[nodiscard]] std::string_view to_string(Code) noexcept;

struct Error {
    Code code = Code::internal;
    std::string message;  // For a person, quoting limit and value; never parsed by a program.
    std::string param;    // The offending field or path, empty if none.

    Error() = default;
    Error(Code c, std::string m, std::string p = {}) : code(c), message(std::move(m)), param(std::move(p)) {}
    bool operator==(Error const&) const = default;
};

template <typename T>
class [[nodiscard]] Result {
public:
    Result()
        requires std::is_default_constructible_v<T>
    = default;  // Asio needs one for awaitables
    Result(T value) : state_(std::in_place_index<0>, std::move(value)) {}
    Result(Error error) : state_(std::in_place_index<1>, std::move(error)) {}

    [[nodiscard]] bool has_value() const noexcept { return state_.index() == 0; }
    explicit operator bool() const noexcept { return has_value(); }

    // REQUIRES: has_value()
    [[nodiscard]] T& value() & { return std::get<0>(state_); }
    [[nodiscard]] T const& value() const& { return std::get<0>(state_); }
    [[nodiscard]] T&& value() && { return std::get<0>(std::move(state_)); }
    [[nodiscard]] T& operator*() & { return value(); }
    [[nodiscard]] T const& operator*() const& { return value(); }
    [[nodiscard]] T&& operator*() && { return std::move(*this).value(); }
    [[nodiscard]] T* operator->() { return &value(); }
    [[nodiscard]] T const* operator->() const { return &value(); }

    // REQUIRES: !has_value()
    [[nodiscard]] Error& error() & { return std::get<1>(state_); }
    [[nodiscard]] Error const& error() const& { return std::get<1>(state_); }
    [[nodiscard]] Error&& error() && { return std::get<1>(std::move(state_)); }

private:
    std::variant<T, Error> state_;
};

using Status = Result<std::monostate>;
inline Status ok() { return std::monostate{}; }

}  // namespace hearth

#define HEARTH_CONCAT_(a, b) a##b
#define HEARTH_CONCAT(a, b) HEARTH_CONCAT_(a, b)
#define HEARTH_TRY_(tmp, ret, decl, expr)             \
    auto tmp = (expr);                                \
    if (!tmp.has_value()) ret std::move(tmp).error(); \
    decl = std::move(tmp).value()
// HEARTH_TRY(auto x, f());     — in a function: returns f()'s error, or binds its value.
// HEARTH_CO_TRY(auto x, f());  — the same in a coroutine.
// HEARTH_CHECK(f());           — returns f()'s error, drops its value.
#define HEARTH_TRY(decl, expr) HEARTH_TRY_(HEARTH_CONCAT(try_, __LINE__), return, decl, expr)
#define HEARTH_CO_TRY(decl, expr) HEARTH_TRY_(HEARTH_CONCAT(try_, __LINE__), co_return, decl, expr)
#define HEARTH_CHECK(expr)                                           \
    do {                                                             \
        auto status_ = (expr);                                       \
        if (!status_.has_value()) return std::move(status_).error(); \
    } while (false)

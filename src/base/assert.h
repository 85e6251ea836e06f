// HEARTH_ASSERT(condition, "what must hold"): a broken invariant ends the
// process with file, line and text, in release builds too. Never for input: bad
// input is an Error.
#pragma once

namespace hearth::detail {
[[noreturn]] void assertion_failed(char const* file, int line, char const* condition, char const* what) noexcept;
}

#define HEARTH_ASSERT(condition, what)                                                \
    do {                                                                              \
        if (!(condition)) [[unlikely]]                                                \
            ::hearth::detail::assertion_failed(__FILE__, __LINE__, #condition, what); \
    } while (false)

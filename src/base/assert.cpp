#include "base/assert.h"

#include <cstdio>
#include <cstdlib>

namespace hearth::detail {

void assertion_failed(char const* file, int line, char const* condition, char const* what) noexcept {
    std::fprintf(stderr, "%s:%d: assertion failed: %s (%s)\n", file, line, condition, what);
    std::abort();
}

}  // namespace hearth::detail

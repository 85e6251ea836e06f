#include "base/result.h"

namespace hearth {

std::string_view to_string(Code code) noexcept {
    switch (code) {
        case Code::invalid_argument: return "invalid_argument";
        case Code::not_found: return "not_found";
        case Code::overloaded: return "overloaded";
        case Code::cancelled: return "cancelled";
        case Code::deadline_exceeded: return "deadline_exceeded";
        case Code::internal: return "internal";
        case Code::unsupported: return "unsupported";
        case Code::context_overflow: return "context_overflow";
        case Code::unavailable: return "unavailable";
        case Code::engine_lost: return "engine_lost";
        case Code::corrupt: return "corrupt";
        case Code::io: return "io";
        case Code::too_large: return "too_large";
        case Code::exhausted: return "exhausted";
    }
    return "internal";
}

}  // namespace hearth

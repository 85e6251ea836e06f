// Refusal: why the server answers a request itself instead of its handler.
// Private to http.
#pragma once

#include <string_view>

#include "http/server.h"

namespace hearth::http {

struct Refusal {
    unsigned status = 0;
    std::string_view reason;  // label of hearth_http_rejected_total; empty: not counted
    Error error;
    Headers headers;

    Refusal() = default;
    Refusal(unsigned s, std::string_view r, Error e, Headers h = {})
        : status(s), reason(r), error(std::move(e)), headers(std::move(h)) {}
};

}  // namespace hearth::http

#include "api/token_logprob.h"

#include <cmath>

namespace hearth::api {

float finite_logprob(float logprob) {
    constexpr float kImpossible = -9999.0F;
    return std::isfinite(logprob) ? logprob : kImpossible;
}

void write_token_logprob(JsonWriter& json, domain::TokenLogprob const& token) {
    json.key("token").string(token.bytes);
    json.key("logprob").number(finite_logprob(token.logprob));
    json.key("bytes").begin_array();
    for (char const c : token.bytes) json.number(static_cast<unsigned>(static_cast<unsigned char>(c)));
    json.end_array();
}

}  // namespace hearth::api

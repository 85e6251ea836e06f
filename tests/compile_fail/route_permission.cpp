// A route that does not say who may call it does not compile.
#include "http/server.h"

namespace hearth::http {

Handler handler();

Route declared() { return Route(Method::get, "/v1/models", Permission::infer, RouteLimits{0}, handler()); }

Route forgotten() {
    return Route(Method::get, "/v1/models", RouteLimits{0}, handler());  // expected-error {{no matching constructor}}
}

Route left_empty() {
    return Route(Method::get, "/v1/models", {}, RouteLimits{0}, handler());  // expected-error {{is ambiguous}}
}

Route a_number() {
    return Route(Method::get, "/v1/models", 1, RouteLimits{0}, handler());  // expected-error {{deleted constructor}}
}

Route defaulted() {
    return Route{};  // expected-error {{no matching constructor}}
}

}  // namespace hearth::http

#include "api/tenant.h"

#include <algorithm>
#include <string_view>
#include <utility>

#include <fmt/format.h>

#include "base/utf8.h"
#include "domain/generate.h"

namespace hearth::api {
namespace {

bool equal_ignoring_case(std::string_view a, std::string_view b) {
    auto const lower = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; };
    return std::ranges::equal(a, b, {}, lower, lower);
}

}  // namespace

std::variant<std::string, Problem> tenant_of(Options const& options, http::Request const& request) {
    if (options.tenant_header.empty()) return std::string();
    std::string const* tenant = nullptr;
    for (auto const& [name, value] : request.headers) {
        if (!equal_ignoring_case(name, options.tenant_header)) continue;
        if (tenant != nullptr) {
            return make_problem(Kind::invalid_value,
                                fmt::format("The header '{}' must be sent at most once.", options.tenant_header),
                                options.tenant_header);
        }
        tenant = &value;
    }
    if (tenant == nullptr) return std::string();
    if (tenant->size() > domain::kTenantBytesMax || !is_valid_utf8(*tenant)) {
        return make_problem(Kind::invalid_value,
                            fmt::format("The header '{}' must hold at most {} bytes of UTF-8, it has {} bytes.",
                                        options.tenant_header, domain::kTenantBytesMax, tenant->size()),
                            options.tenant_header);
    }
    return *tenant;
}

}  // namespace hearth::api

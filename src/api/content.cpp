#include "api/content.h"

#include <algorithm>
#include <string>
#include <string_view>
#include <utility>

#include <fmt/format.h>

#include "base/ascii.h"

namespace hearth::api {
namespace {

// The type without parameters and spaces around it.
std::string media_type(std::string_view header) {
    auto type = header.substr(0, header.find(';'));
    auto const first = type.find_first_not_of(" \t");
    if (first == std::string_view::npos) return {};
    type = type.substr(first, type.find_last_not_of(" \t") - first + 1);
    return ascii_lower(type);
}

Problem unsupported_media(std::string message) {
    return make_problem(Kind::unsupported_media_type, std::move(message));
}

}  // namespace

std::optional<Problem> check_content(http::Request const& request) {
    auto const encoding = ascii_lower(request.header("Content-Encoding"));
    if (!encoding.empty() && encoding != "identity")
        return unsupported_media(fmt::format("Content-Encoding '{}' is not supported.", encoding.substr(0, 64)));
    if (request.header("Origin").empty()) return std::nullopt;
    auto const type = media_type(request.header("Content-Type"));
    if (type == "application/json" || (type.starts_with("application/") && type.ends_with("+json")))
        return std::nullopt;
    return unsupported_media(
        fmt::format("A web page must send Content-Type: application/json, got '{}'.", type.substr(0, 64)));
}

}  // namespace hearth::api

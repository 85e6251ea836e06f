// The bodies of chat and text completions: whatever the bytes, parse_request()
// yields a Call that passes validation or a Problem that renders as JSON.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>
#include <variant>

#include "api/errors.h"
#include "api/json_document.h"
#include "api/openai/request.h"
#include "domain/generate.h"

namespace {

using namespace hearth;

void check(bool holds) {
    if (!holds) std::abort();
}

void check(api::Problem const& problem) {
    check(problem.kind != api::Kind::server_error);
    check(!problem.message.empty());
    auto const body = api::error_body(problem, "fuzz");
    auto const document = api::JsonDocument::parse(body);
    check(document.has_value());
    check(document->root().find("error").has_value());
}

void check(api::openai::Call const& call) {
    check(!call.generations.empty());
    check(call.echoes.empty() || call.echoes.size() == call.generations.size());
    for (auto const& generation : call.generations) check(domain::validate(generation).has_value());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size) {
    std::string_view const body(reinterpret_cast<char const*>(data), size);
    for (auto const surface : {api::openai::Surface::chat, api::openai::Surface::text}) {
        auto const parsed = api::openai::parse_request(surface, body);
        std::visit([](auto const& outcome) { check(outcome); }, parsed);
    }
    return 0;
}

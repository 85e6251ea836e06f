// The bodies of /api/chat and /api/generate: whatever the bytes, parse_request()
// yields a Call that passes validation or a Problem that renders as JSON.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>
#include <variant>

#include "api/json_document.h"
#include "api/ollama/errors.h"
#include "api/ollama/request.h"
#include "domain/generate.h"

namespace {

using namespace hearth;
using namespace hearth::api;

void check(bool holds) {
    if (!holds) std::abort();
}

void check(Problem const& problem) {
    check(problem.kind != Kind::server_error);
    check(!problem.message.empty());
    auto const document = JsonDocument::parse(ollama::error_body(problem));
    check(document.has_value());
    auto const error = document->root().find("error");
    check(error && error->kind() == JsonKind::string && !error->as_string().empty());
}

void check(ollama::Call call) {
    check(domain::validate(call.request).has_value());
    // A model without a template and with little context is the one that refuses most.
    domain::ModelInfo info;
    info.context_request = 512;
    info.context_train = 4096;
    if (auto const problem = ollama::settle(call, info)) check(*problem);
    else check(domain::validate(call.request).has_value());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size) {
    std::string_view const body(reinterpret_cast<char const*>(data), size);
    for (auto const surface : {ollama::Surface::chat, ollama::Surface::generate})
        std::visit([](auto&& parsed) { check(parsed); }, ollama::parse_request(surface, body));
    return 0;
}

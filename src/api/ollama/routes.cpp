#include "api/ollama/routes.h"

#include <string_view>
#include <utility>

#include "api/json_writer.h"
#include "api/ollama/blobs.h"
#include "api/ollama/completions.h"
#include "api/ollama/create.h"
#include "api/ollama/embed.h"
#include "api/ollama/models.h"
#include "api/ollama/pull.h"
#include "library/blobs.h"

namespace hearth::api::ollama {
namespace {

using http::Method;
using http::Permission;

// Whose API this is compatible with: clients compare it with the oldest version they can talk to.
constexpr std::string_view kVersion = "0.21.2";

net::Task<void> running(Services&, http::Exchange& exchange) {
    http::Response response;
    response.content_type = "text/plain; charset=utf-8";
    response.body = "Ollama is running";  // what clients look for, word for word
    co_await exchange.send(std::move(response));
}

net::Task<void> version(Services& services, http::Exchange& exchange) {
    http::Response response;
    JsonWriter json(response.body);
    json.begin_object().key("version").string(kVersion).key("hearth").string(services.options.version).end_object();
    co_await exchange.send(std::move(response));
}

net::Task<void> chat(Services& services, http::Exchange& exchange) {
    return complete(services, Surface::chat, exchange);
}

net::Task<void> generate(Services& services, http::Exchange& exchange) {
    return complete(services, Surface::generate, exchange);
}

net::Task<void> embed(Services& services, http::Exchange& exchange) {
    return compute_vectors(services, Surface::embed, exchange);
}

net::Task<void> embeddings(Services& services, http::Exchange& exchange) {
    return compute_vectors(services, Surface::embeddings, exchange);
}

}  // namespace

std::vector<http::Route> routes(Services& services) {
    using Serve = net::Task<void> (*)(Services&, http::Exchange&);
    http::RouteLimits const none{0};
    http::RouteLimits const body{services.options.body_max};
    http::RouteLimits const file{library::kBlobBytesMax, http::BodyMode::stream};
    auto const to = [&](Serve serve) -> http::Handler {
        return [&services, serve](http::Exchange& exchange) { return serve(services, exchange); };
    };
    // clang-format off
    return {
        {Method::get,  "/",                   Permission::anyone,     none, to(running)},
        {Method::get,  "/api/version",        Permission::anyone,     none, to(version)},
        {Method::get,  "/api/tags",           Permission::infer,      none, to(list_models)},
        {Method::get,  "/api/ps",             Permission::infer,      none, to(list_loaded)},
        {Method::post, "/api/show",           Permission::infer,      body, to(show_model)},
        {Method::post, "/api/chat",           Permission::infer,      body, to(chat)},
        {Method::post, "/api/generate",       Permission::infer,      body, to(generate)},
        {Method::post, "/api/embed",          Permission::infer,      body, to(embed)},
        {Method::post, "/api/embeddings",     Permission::infer,      body, to(embeddings)},
        {Method::post, "/api/pull",           Permission::administer, body, to(pull_model)},
        {Method::post, "/api/push",           Permission::administer, body, to(push_model)},
        {Method::post, "/api/create",         Permission::administer, body, to(create_model)},
        {Method::post, "/api/copy",           Permission::administer, body, to(copy_model)},
        {Method::del,  "/api/delete",         Permission::administer, body, to(delete_model)},
        {Method::head, "/api/blobs/{digest}", Permission::administer, none, to(find_blob)},
        {Method::post, "/api/blobs/{digest}", Permission::administer, file, to(upload_blob)},
    };
    // clang-format on
}

}  // namespace hearth::api::ollama

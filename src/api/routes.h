// The HTTP API: every route Hearth serves, in one table.
//
// routes() wires handlers to the pool below; it starts nothing. Handlers run as
// coroutines on the loop's thread.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/clock.h"
#include "domain/generate.h"
#include "http/server.h"
#include "net/loop.h"
#include "serving/pool.h"

namespace hearth::library {
class Library;
}

namespace hearth::models {
class FactsReader;
}

namespace hearth::telemetry {
class Log;
class Registry;
}  // namespace hearth::telemetry

namespace hearth::api {

class CallList;

struct Options {
    // From the last byte of a request to the last of its answer. What it waits for counts: a model that is loaded,
    // and one that is made first, for which Library::open() itself waits library::Options::reshape_patience.
    Duration request_timeout = std::chrono::seconds(120);
    Duration ping_interval = std::chrono::seconds(15);  // silence of a stream before an SSE comment
    Duration status_interval = std::chrono::seconds(1);  // the same before a status in Ollama's dialect
    std::size_t body_max = 32U << 20;  // bytes of a request body
    domain::Deadlines deadlines;  // of requests that name none
    std::string tenant_header;  // whose value is the caller's tenant; empty: all are one
    bool slots = true;  // GET /slots answers
    std::string version;
    std::string build;  // part of system_fingerprint
    std::int64_t started_unix = 0;  // when the process started, for /metrics
};

// What the handlers work with. All references and callables outlive the server.
struct Services {
    net::Loop& loop;
    serving::Pool& pool;
    telemetry::Log& log;
    telemetry::Registry& metrics;
    Clock const& clock;
    Options options;
    std::function<std::int64_t()> unix_seconds;  // wall clock
    std::function<std::string()> random_suffix;  // of ids: at least 20 of [A-Za-z0-9], unique
    std::function<bool()> draining;  // the server takes no new work
    std::shared_ptr<CallList> calls{};  // what is inside; routes() makes it
    std::function<std::int64_t()> unix_ns{};  // wall clock; routes() makes it of unix_seconds if it is not given
    models::FactsReader* facts = nullptr;  // of model files; null: nothing but what workers say is told of a model
    library::Library* library =
        nullptr;  // all models that can be served; null: the pool's, and none is got, moved or removed
};

// REQUIRES: `services` outlives the routes; its callables are set
[[nodiscard]] std::vector<http::Route> routes(Services& services);

// Errors that the HTTP server finds itself, in the shape of the path's dialect:
// Ollama's below /api, except for our own /api/v1, and OpenAI's elsewhere.
[[nodiscard]] http::Response render_error(http::Request const& request, unsigned status, Error const& error);

}  // namespace hearth::api

#include "api/native/calls.h"

#include <string>
#include <utility>
#include <variant>

#include <fmt/format.h>

#include "api/answer.h"
#include "api/calls.h"
#include "api/json_writer.h"
#include "api/tenant.h"

namespace hearth::api::native {
namespace {

std::string_view state_of(CallList::Entry const& entry) {
    if (entry.progress.cancelled) return "ending";
    return entry.progress.started < entry.info.generations.size() ? "waiting" : "running";
}

void write_call(JsonWriter& json, Services const& services, CallList::Entry const& entry) {
    auto const& info = entry.info;
    auto const& progress = entry.progress;
    auto const source = entry.source.lock();
    auto const waiting = source ? source->waiting() : serving::Waiting{};
    json.begin_object();
    json.key("id").string(info.answer_id).key("request_id").string(info.request_id);
    json.key("model").string(info.model).key("path").string(info.path);
    json.key("class").string(domain::to_string(info.priority)).key("state").string(state_of(entry));
    if (!services.options.tenant_header.empty()) json.key("tenant").string(info.tenant);
    json.key("ahead").number(waiting.ahead).key("predicted_wait_s");
    if (waiting.seconds) json.number(*waiting.seconds);
    else json.null();
    json.key("age_ms").number(static_cast<std::uint64_t>(to_ms(services.clock.now() - info.arrived)));
    json.key("stream").boolean(info.stream).key("choices").number(info.choices * info.generations.size());
    json.key("prompt_tokens").number(progress.prompt_tokens).key("cached_tokens").number(progress.cached_tokens);
    json.key("generated_tokens").number(progress.generated_tokens).end_object();
}

}  // namespace

net::Task<void> list_calls(Services& services, http::Exchange& exchange) {
    auto tenant = tenant_of(services.options, exchange.request());
    if (auto* problem = std::get_if<Problem>(&tenant)) {
        co_await send_problem(services, exchange, std::move(*problem));
        co_return;
    }
    http::Response response;
    JsonWriter json(response.body);
    json.begin_object().key("requests").begin_array();
    services.calls->for_each([&](CallList::Entry const& entry) {
        if (entry.info.tenant == std::get<std::string>(tenant)) write_call(json, services, entry);
    });
    json.end_array().end_object();
    co_await exchange.send(std::move(response));
}

net::Task<void> cancel_call(Services& services, http::Exchange& exchange) {
    auto tenant = tenant_of(services.options, exchange.request());
    if (auto* problem = std::get_if<Problem>(&tenant)) {
        co_await send_problem(services, exchange, std::move(*problem));
        co_return;
    }
    std::string const id(exchange.request().parameter("id"));
    bool const found = services.calls->cancel(id, std::get<std::string>(tenant));
    if (!found) {
        auto problem =
            make_problem(Kind::request_not_found, fmt::format("No request '{}' is inside.", id.substr(0, 128)), "id");
        co_await send_problem(services, exchange, std::move(problem));
        co_return;
    }
    http::Response response;
    response.status = 204;
    response.content_type.clear();
    co_await exchange.send(std::move(response));
}

}  // namespace hearth::api::native

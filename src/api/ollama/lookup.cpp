#include "api/ollama/lookup.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include <fmt/format.h>

#include "api/library.h"
#include "api/ollama/errors.h"
#include "api/ollama/status_lines.h"
#include "names/names.h"
#include "telemetry/log.h"

namespace hearth::api::ollama {
namespace {

// How often a request that needs a model looks whether it is loaded: at first, and in the end.
constexpr auto kPollMin = std::chrono::milliseconds(2);
constexpr auto kPollMax = std::chrono::milliseconds(50);

bool means(std::string_view wanted, serving::ModelStatus const& model) {
    auto const same = [&](std::string const& name) { return names::is_same_name(name, wanted); };
    return same(model.id) || std::ranges::any_of(model.aliases, same);
}

bool there(serving::ModelStatus const& model, Stage stage) {
    return stage == Stage::ready ? model.state == serving::ModelState::ready : model.info.has_value();
}

// Why there is nothing to wait for.
std::optional<Problem> why_never(Services const& services, serving::ModelStatus const& model) {
    using enum serving::ModelState;
    if (services.draining())
        return make_problem(Kind::shutting_down, "the server is shutting down and takes no new requests");
    if (model.state == damaged) return make_problem(Kind::model_damaged, model.problem);
    // What never was ready and starts again may never be: that is an error now, not after a long wait.
    bool const hopeless = model.state == restarting && !model.info;
    if (model.state != failed && model.state != stopped && !hopeless) return std::nullopt;
    auto problem = make_problem(Kind::model_unavailable, fmt::format("model '{}' could not be loaded", model.id));
    problem.internal = model.problem;
    return problem;
}

Problem too_late(Services const& services, std::string const& id) {
    return make_problem(Kind::request_timeout, fmt::format("model '{}' was not loaded within {:.3g} s", id,
                                                           to_ms(services.options.request_timeout) / 1000));
}

}  // namespace

std::optional<serving::ModelStatus> find_model(serving::Pool const& pool, std::string_view wanted) {
    if (wanted.empty()) return std::nullopt;
    if (auto status = pool.status(wanted)) return *std::move(status);
    for (auto& model : pool.models())
        if (means(wanted, model)) return std::move(model);
    return std::nullopt;
}

net::Task<Result<library::Known>> find_known(Services& services, std::string wanted) {
    if (services.library == nullptr) {
        auto const found = find_model(services.pool, wanted);
        if (found) wanted = found->id;
    }
    return known_model(services, std::move(wanted));
}

net::Task<std::variant<serving::ModelStatus, Problem>> open(Services& services, std::string wanted,
                                                            library::Onlooker* onlooker) {
    auto id = wanted;
    if (services.library != nullptr) {
        auto const opened = co_await open_model(services, wanted, onlooker);
        if (!opened && opened.error().code != Code::not_found) co_return opening_problem(opened.error());
        if (!opened) co_return model_not_found(wanted);
        id = *opened;
    }
    auto status = find_model(services.pool, id);
    if (!status) co_return model_not_found(wanted);
    co_return *std::move(status);
}

net::Task<Verdict> let_go(Services& services, std::string wanted, Verdict refusal) {
    auto const known = co_await find_known(services, wanted);
    if (!known) {
        bool const unknown = known.error().code == Code::not_found;
        co_return unknown ? model_not_found(wanted) : library_problem(known.error());
    }
    if (refusal) co_return refusal;
    // What has left the pool since is gone, too.
    if (known->status) static_cast<void>(services.pool.unload(known->status->id));
    co_return std::nullopt;
}

std::string display_name(std::string const& id) {
    auto const name = names::parse_model_name(id);
    return name ? names::short_name(*name) : id;
}

net::Task<std::variant<serving::ModelStatus, Problem>> wait_for_model(Services& services, http::Exchange& exchange,
                                                                      std::string id, Wait wait) {
    auto const deadline = wait.arrived + services.options.request_timeout;
    if (auto const warm = services.pool.warm(id, wait.keep_alive); !warm && warm.error().code == Code::exhausted)
        co_return to_problem(warm.error());
    Duration poll = kPollMin;
    for (;;) {
        auto const status = services.pool.status(id);
        if (!status) co_return model_not_found(id);
        if (there(*status, wait.stage)) co_return *status;
        if (auto problem = why_never(services, *status)) co_return *std::move(problem);
        if (services.clock.now() >= deadline) co_return too_late(services, id);
        if (exchange.disconnected()) co_return make_problem(Kind::request_cancelled, "the client left");
        // Who has left is seen with the next look.
        if (wait.lines != nullptr) static_cast<void>(co_await wait.lines->see_loading(*status));
        co_await services.loop.sleep(poll);
        poll = std::min<Duration>(2 * poll, kPollMax);
    }
}

void log_unknown(Services& services, http::Request const& request, std::string const& fields,
                 std::string const& options) {
    if (!options.empty())
        services.log.warning("unknown options ignored", {{"request_id", request.id}, {"options", options}});
    if (!fields.empty()) services.log.debug("unknown fields ignored", {{"request_id", request.id}, {"fields", fields}});
}

Problem refused(Services const& services, std::string const& model, Error const& error) {
    auto problem = to_problem(error);
    bool const again = problem.kind == Kind::overloaded || problem.kind == Kind::model_unavailable;
    if (again) problem.retry_after_s = services.pool.retry_after_s(model);
    if (problem.kind == Kind::queue_timeout)
        problem.retry_after_s = services.pool.predicted_wait_s(model, domain::Priority::normal);
    if (error.code == Code::unavailable && services.draining())
        problem = make_problem(Kind::shutting_down, "the server is shutting down and takes no new requests");
    return problem;
}

}  // namespace hearth::api::ollama

#include "api/ollama/lookup.h"

#include <chrono>
#include <memory>
#include <utility>

#include <fmt/format.h>

#include "api/ollama/errors.h"
#include "models/names.h"

namespace hearth::api::ollama {
namespace {

// How often a request that needs a model looks whether it is loaded.
constexpr auto kPoll = std::chrono::milliseconds(5);

bool means(models::ModelName const& wanted, std::string const& id) {
    auto const name = models::parse_model_name(id);
    return name && *name == wanted;
}

bool means(models::ModelName const& wanted, serving::ModelStatus const& model) {
    if (means(wanted, model.id)) return true;
    for (auto const& alias : model.aliases)
        if (means(wanted, alias)) return true;
    return false;
}

// What the reader's thread says, carried over to the loop.
struct Answered {
    explicit Answered(net::Loop& loop) : signal(loop) {}
    net::Signal signal;
    models::FactsPointer facts;
};

}  // namespace

std::optional<serving::ModelStatus> find_model(serving::Pool const& pool, std::string_view wanted) {
    if (wanted.empty()) return std::nullopt;
    if (auto status = pool.status(wanted)) return *std::move(status);
    auto const name = models::parse_model_name(wanted);
    if (!name) return std::nullopt;
    for (auto& model : pool.models())
        if (means(*name, model)) return std::move(model);
    return std::nullopt;
}

std::string display_name(std::string const& id) {
    auto const name = models::parse_model_name(id);
    return name ? models::short_name(*name) : id;
}

net::Task<std::variant<serving::ModelStatus, Problem>> wait_for_model(Services& services, std::string id, Stage stage) {
    auto const deadline = services.clock.now() + services.options.request_timeout;
    for (;;) {
        auto const status = services.pool.status(id);
        if (!status) co_return model_not_found(id);
        using enum serving::ModelState;
        bool const there = stage == Stage::ready ? status->state == ready : status->info.has_value();
        if (there) co_return *status;
        if (services.draining()) {
            co_return make_problem(Kind::shutting_down, "the server is shutting down and takes no new requests");
        }
        // What never was ready and starts again may never be: that is an error now, not after a long wait.
        bool const broken =
            status->state == failed || status->state == stopped || (status->state == restarting && !status->info);
        if (broken) {
            auto problem = make_problem(Kind::model_unavailable, fmt::format("model '{}' could not be loaded", id));
            problem.internal = status->problem;
            co_return problem;
        }
        if (services.clock.now() >= deadline) {
            co_return make_problem(Kind::request_timeout, fmt::format("model '{}' was not loaded within {:.3g} s", id,
                                                                      to_ms(services.options.request_timeout) / 1000));
        }
        co_await services.loop.sleep(kPoll);
    }
}

net::Task<models::FactsPointer> facts_of(Services& services, std::string path, models::FactsReader::Depth depth,
                                         Duration patience) {
    if (services.facts == nullptr || path.empty()) co_return nullptr;
    auto const answered = std::make_shared<Answered>(services.loop);
    // The loop's things are let go on the loop's thread, whoever gives up first.
    services.facts->read(std::move(path), depth,
                         [&loop = services.loop, held = answered](Result<models::FactsPointer> facts) mutable {
                             loop.post([facts = facts ? *facts : nullptr, held = std::move(held)] {
                                 held->facts = facts;
                                 held->signal.notify();
                             });
                         });
    static_cast<void>(co_await answered->signal.wait_for(patience));
    co_return answered->facts;
}

}  // namespace hearth::api::ollama

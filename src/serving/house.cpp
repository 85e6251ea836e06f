#include "serving/house.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include <fmt/format.h>

#include "serving/residency.h"
#include "telemetry/log.h"
#include "telemetry/metrics.h"

namespace hearth::serving {
namespace {

// How often it is looked whether a model that is to take a name over is ready: at first, and in the end.
constexpr Duration kPollMin = std::chrono::milliseconds(2);
constexpr Duration kPollMax = std::chrono::milliseconds(50);

// Caches get what models leave of the budget, in equal parts.
void share_out_caches(House& house, std::span<std::shared_ptr<Model> const> models) {
    auto const budget = house.env.options.memory_bytes;
    auto const used = house.used();
    auto const there = std::ranges::count_if(models, [](auto const& model) { return is_there(model->resident()); });
    std::optional<std::uint64_t> limit;  // as configured
    if (budget != 0) limit = (budget - std::min(used, budget)) / static_cast<std::uint64_t>(std::max<long>(there, 1));
    if (house.pressure != Pressure::none) limit = 0;
    for (auto const& model : models) model->limit_cache(limit);
}

// Who is removed or lost its name is closed when nothing is inside any more, and forgotten when it is over.
void see_off(House& house) {
    for (auto const& model : house.all())
        if (model->to_close()) model->close([changed = house.changed] { changed->notify(); });
    std::erase_if(house.retired, [](auto const& model) { return model->over(); });
    std::erase_if(house.models, [](auto const& model) {
        if (!model->retiring() || !model->over()) return false;
        model->forget_metrics();
        return true;
    });
}

// Under pressure nobody idle stays but who is pinned.
void relieve(House& house, std::span<Resident> residents) {
    if (house.pressure != Pressure::high) return;
    for (auto& resident : residents) {
        if (resident.state != Resident::State::ready || resident.busy || resident.pinned) continue;
        resident.keep_alive = Duration::zero();
        house.relieved.add();
    }
}

// Until when nothing is to be done if nothing happens.
std::optional<Instant> tend(House& house) {
    see_off(house);
    auto const models = house.all();
    std::vector<Resident> residents;
    residents.reserve(models.size());
    for (auto const& model : models) residents.push_back(model->resident());
    relieve(house, residents);
    auto const plan = plan_residency(residents, house.env.options.memory_bytes, house.env.clock.now());
    for (auto const i : plan.let_go) models[i]->let_go();
    for (auto const i : plan.drain) models[i]->drain_for_others();
    for (auto const i : plan.load) models[i]->load();
    share_out_caches(house, models);
    return plan.again;
}

// Why a model that was to take a name over does not.
std::optional<Error> why_not(Model const& incoming, bool late) {
    auto const status = incoming.status();
    bool const over = status.state == ModelState::failed || status.state == ModelState::stopped;
    bool const hopeless = status.state == ModelState::restarting;
    if (!over && !hopeless && !late) return std::nullopt;
    auto why = late && status.problem.empty() ? std::string("it was not loaded in time") : status.problem;
    return Error(Code::unavailable,
                 fmt::format("model '{}' keeps its file, {} was not loaded: {}", status.id, status.path, why));
}

// What is the name's, not the file's.
void inherit(ModelSpec& spec, ModelSpec const& from) {
    spec.id = from.id;
    spec.aliases = from.aliases;
    spec.variants = from.variants;
    spec.tenant_weights = from.tenant_weights;
    spec.public_prefixes = from.public_prefixes;
    spec.lazy = from.lazy;
    spec.pinned = from.pinned;
    spec.keep_alive = from.keep_alive;
}

void retire(House& house, std::vector<std::shared_ptr<Model>>& from, std::shared_ptr<Model> const& model) {
    std::erase(from, model);
    model->lose_name();
    house.retired.push_back(model);
    house.changed->notify();
}

}  // namespace

House::House(Model::Environment environment)
    : env(std::move(environment)),
      changed(env.residency),
      relieved(env.metrics.counter("hearth_models_relieved_total", "Models let go because memory was short")) {}

std::vector<std::shared_ptr<Model>> House::all() const {
    auto out = models;
    out.insert(out.end(), arriving.begin(), arriving.end());
    out.insert(out.end(), retired.begin(), retired.end());
    return out;
}

std::shared_ptr<Model> House::find(std::string_view name) const {
    for (auto const& model : models) {
        auto const& spec = model->spec();
        bool const own = spec.id == name || std::ranges::find(spec.aliases, name) != spec.aliases.end();
        if (own || std::ranges::find(spec.variants, name, &Variant::id) != spec.variants.end()) return model;
    }
    return nullptr;
}

Status House::check_budget(std::string const& id, std::uint64_t cost) const {
    auto const budget = env.options.memory_bytes;
    if (budget == 0 || cost <= budget) return ok();
    return Error(Code::exhausted,
                 fmt::format("model '{}' takes {} bytes of memory, the limit for all models is {}", id, cost, budget),
                 "model");
}

std::uint64_t House::used() const {
    std::uint64_t sum = 0;
    for (auto const& model : all()) {
        auto const resident = model->resident();
        sum += is_there(resident) ? resident.cost : 0;
    }
    return sum;
}

net::Task<void> keep_house(std::shared_ptr<House> house) {
    while (!house->gone) {
        auto const again = tend(*house);
        if (again) co_await house->changed->wait_for(*again - house->env.clock.now());
        else co_await house->changed->wait();
    }
}

net::Task<Status> swap_model(std::shared_ptr<House> house, std::string name, ModelSpec spec, Duration timeout) {
    auto const old = house->find(name);
    if (!old || old->retiring()) co_return Error(Code::not_found, fmt::format("there is no model '{}'", name), "model");
    inherit(spec, old->spec());
    bool const busy =
        std::ranges::any_of(house->arriving, [&](auto const& each) { return each->spec().id == spec.id; });
    if (busy) co_return Error(Code::overloaded, fmt::format("model '{}' is being swapped already", spec.id), "model");
    auto const beside = is_there(old->resident()) ? old->cost() : 0;
    if (auto fits = house->check_budget(spec.id, spec.memory_bytes + beside); !fits) co_return fits;

    auto const incoming = std::make_shared<Model>(house->env, std::move(spec), old->status().created_unix);
    house->arriving.push_back(incoming);
    incoming->start(Model::Place::beside);
    Instant const deadline = house->env.clock.now() + timeout;
    std::optional<Error> problem;
    for (Duration poll = kPollMin; incoming->state() != ModelState::ready; poll = std::min(2 * poll, kPollMax)) {
        problem = why_not(*incoming, house->env.clock.now() >= deadline);
        if (problem) break;
        co_await house->env.loop.sleep(poll);
        if (house->gone) co_return Error(Code::unavailable, "the server is shutting down");
    }
    auto const place = std::ranges::find(house->models, old);
    if (!problem && (place == house->models.end() || old->retiring()))
        problem = Error(Code::not_found, fmt::format("model '{}' went meanwhile", incoming->spec().id), "model");
    if (problem) {
        retire(*house, house->arriving, incoming);
        co_return *std::move(problem);
    }
    std::erase(house->arriving, incoming);
    *place = incoming;
    old->lose_name();
    house->retired.push_back(old);
    incoming->take_name();
    house->changed->notify();
    house->env.log.info("model swapped",
                        {{"model", incoming->spec().id}, {"from", old->spec().path}, {"to", incoming->spec().path}});
    co_return ok();
}

}  // namespace hearth::serving

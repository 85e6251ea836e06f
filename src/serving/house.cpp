#include "serving/house.h"

#include <algorithm>
#include <chrono>
#include <optional>
#include <span>
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
void share_out_caches(House& house, std::span<std::shared_ptr<Instances> const> models) {
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

// Swaps are made room for one after the other and before whoever else waits; meanwhile both ends of
// a swap stay, who is to hand its name over, or requests for the name would wait, and who is to get it.
// In any other order two that wait for each other's room would wait for ever.
void arrange_swaps(House const& house, std::span<std::shared_ptr<Instances> const> models,
                   std::span<Resident> residents) {
    if (house.arriving.empty()) return;
    auto const& next = house.arriving.front();
    for (std::size_t i = 0; i < models.size(); ++i) {
        bool const arrives = std::ranges::find(house.arriving, models[i]) != house.arriving.end();
        auto& wanted = residents[i].wanted_since;
        if (arrives && wanted) wanted = models[i] == next ? std::optional(Instant{}) : std::nullopt;
        if (arrives || models[i]->spec().id == next->spec().id) residents[i].pinned = true;
    }
}

// One model goes, and what that gives is looked at before the next one does.
void relieve(House& house, std::span<Resident> residents) {
    if (!house.one_is_to_go) return;
    bool const one_goes = std::ranges::find(residents, Resident::State::leaving, &Resident::state) != residents.end();
    auto const victim = one_goes ? std::nullopt : least_valuable(residents, house.env.clock.now());
    if (victim) {
        residents[*victim].keep_alive = Duration::zero();
        house.relieved.add();
    }
    if (victim || one_goes) house.one_is_to_go = false;
}

bool is_waited_for(Resident const& resident) {
    bool const away = resident.state == Resident::State::cold || resident.state == Resident::State::parked;
    return away && resident.wanted_since;
}

// Who drains makes room for somebody; who waited may have left, or found room elsewhere.
void keep_who_need_not_go(std::span<std::shared_ptr<Instances> const> models, std::span<Resident> residents) {
    if (std::ranges::any_of(residents, is_waited_for)) return;
    for (std::size_t i = 0; i < models.size(); ++i) {
        if (residents[i].state != Resident::State::draining) continue;
        models[i]->stay();
        residents[i] = models[i]->resident();
    }
}

// What failed for a reason that may have passed is tried again where nobody has to make room for that, nor waits for
// the same room. When the next one may be.
std::optional<Instant> try_failed_again(House const& house) {
    auto const is_waiting = [](auto const& model) { return is_waited_for(model->resident()); };
    if (std::ranges::any_of(house.all(), is_waiting)) return std::nullopt;
    auto const budget = house.env.options.memory_bytes;
    std::optional<Instant> next;
    for (auto const& model : house.models) {
        auto const at = model->retry_at();
        if (at && *at > house.env.clock.now()) next = next ? std::min(*next, *at) : at;
        else if (at && (budget == 0 || house.used() + model->retry_cost() <= budget)) model->retry();
    }
    return next;
}

// Until when nothing is to be done if nothing happens.
std::optional<Instant> tend(House& house) {
    see_off(house);
    auto const models = house.all();
    for (auto const& model : models) model->keep_together(house.env.options.memory_bytes);
    auto const retry = try_failed_again(house);
    std::vector<Resident> residents;
    residents.reserve(models.size());
    for (auto const& model : models) residents.push_back(model->resident());
    arrange_swaps(house, models, residents);
    keep_who_need_not_go(models, residents);
    relieve(house, residents);
    // What parked models keep is given up as caches are.
    auto const parked_max = house.pressure == Pressure::none ? house.env.options.parked_max : 0;
    auto const plan = plan_residency(residents, house.env.options.memory_bytes, house.env.clock.now(), parked_max);
    for (auto const i : plan.let_go) models[i]->let_go();
    for (auto const i : plan.park) models[i]->park();
    for (auto const i : plan.drain) models[i]->drain_for_others();
    for (auto const i : plan.load) models[i]->load();
    share_out_caches(house, models);
    return retry && plan.again ? std::min(*retry, *plan.again) : retry ? retry : plan.again;
}

// Why a model that was to take a name over does not.
std::optional<Error> why_not(Instances const& incoming, bool late) {
    auto const status = incoming.status();
    auto const state = incoming.last_state();
    if (late && state == ModelState::cold)
        return Error(Code::exhausted,
                     fmt::format("model '{}' keeps its file, {} was not loaded: it takes {} bytes of memory, and room "
                                 "for them was not made in time",
                                 status.id, status.path, status.memory_bytes),
                     "model");
    bool const over = state == ModelState::failed || state == ModelState::stopped;
    bool const hopeless = state == ModelState::restarting;
    if (!over && !hopeless && !late) return std::nullopt;
    auto why = late && status.problem.empty() ? std::string("it was not loaded in time") : status.problem;
    return Error(Code::unavailable,
                 fmt::format("model '{}' keeps its file, {} was not loaded: {}", status.id, status.path, why));
}

// What is the name's, not the file's. The adapters that a model brings along are the file's,
// and models that had joined are of the old one.
Status inherit(ModelSpec& spec, ModelSpec const& from) {
    for (auto& variant : spec.variants) variant.id = from.id;  // there is its own, if any
    for (auto const& variant : from.variants) {
        if (variant.joined || variant.id == from.id) continue;
        spec.variants.push_back(variant);
        spec.adapter_bytes += variant.bytes;
        if (spec.memory_bytes != 0) spec.memory_bytes += variant.bytes;
    }
    if (spec.variants.size() > domain::kAdapterSetsMax)
        return Error(Code::invalid_argument, fmt::format("model '{}' would be the base of {} names, the limit is {}",
                                                         from.id, spec.variants.size(), domain::kAdapterSetsMax));
    spec.id = from.id;
    spec.aliases = from.aliases;
    spec.tenant_weights = from.tenant_weights;
    spec.public_prefixes = from.public_prefixes;
    spec.instances = from.instances;
    if (from.instances > 1) {
        spec.threads = from.threads;
        spec.cache_memory_bytes = from.cache_memory_bytes;
    }
    spec.lazy = from.lazy;
    spec.pinned = from.pinned;
    spec.keep_alive = from.keep_alive;
    return ok();
}

// The one by that name which joined the model's worker; null: it is no such name.
Variant const* joined_as(ModelSpec const& spec, std::string_view name) {
    auto const is_it = [&](Variant const& each) { return each.id == name && each.joined && !each.gone; };
    auto const found = std::ranges::find_if(spec.variants, is_it);
    return found == spec.variants.end() ? nullptr : &*found;
}

// As if it had a worker of its own.
ModelSpec alone(ModelSpec host, Variant const& variant) {
    host.id = variant.id;
    host.pinned = variant.pinned;
    host.keep_alive = variant.keep_alive;
    host.aliases.clear();
    host.variants.clear();
    host.lazy = true;
    return host;
}

// Whom the new one has the name from: it is let go, or, if that joined it, goes on under its own.
void hand_over(House& house, std::shared_ptr<Instances> const& old, std::shared_ptr<Instances> const& incoming) {
    auto const& name = incoming->spec().id;
    std::erase(house.arriving, incoming);
    if (name != old->spec().id) {
        old->part(name);
        house.models.push_back(incoming);
    } else {
        *std::ranges::find(house.models, old) = incoming;
        old->lose_name();
        house.retired.push_back(old);
    }
    incoming->take_name();
    house.changed->notify();
}

void retire(House& house, std::vector<std::shared_ptr<Instances>>& from, std::shared_ptr<Instances> const& model) {
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

std::vector<std::shared_ptr<Instances>> House::all() const {
    auto out = models;
    out.insert(out.end(), arriving.begin(), arriving.end());
    out.insert(out.end(), retired.begin(), retired.end());
    return out;
}

std::shared_ptr<Instances> House::find(std::string_view name) const {
    for (auto const& model : models) {
        auto const& spec = model->spec();
        bool const own = spec.id == name || std::ranges::find(spec.aliases, name) != spec.aliases.end();
        auto const is_called = [&](Variant const& variant) { return variant.id == name && !variant.gone; };
        if (own || std::ranges::any_of(spec.variants, is_called)) return model;
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

std::uint64_t need_of(ModelSpec const& spec) {
    auto const shared = std::min(spec.shared_bytes, spec.memory_bytes);
    return (spec.memory_bytes - shared) * spec.instances + shared;
}

Status House::check_room_beside(Instances const& old, ModelSpec const& spec) const {
    auto const budget = env.options.memory_bytes;
    std::uint64_t stays = 0;
    for (auto const& model : all()) {
        auto const resident = model->resident();
        bool const goes = model.get() != &old && !resident.pinned;
        stays += goes ? 0 : charge(resident);
    }
    if (budget == 0 || stays + need_of(spec) <= budget) return ok();
    return Error(Code::exhausted,
                 fmt::format("model '{}' takes {} bytes of memory beside {} that stay meanwhile, the limit for all "
                             "models is {}",
                             spec.id, need_of(spec), stays, budget),
                 "model");
}

std::uint64_t House::used() const {
    std::uint64_t sum = 0;
    for (auto const& model : all()) sum += charge(model->resident());
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
    auto const& named = old->spec();
    auto const* const joined = joined_as(named, name);
    bool const of_adapters = std::ranges::find(named.variants, name, &Variant::id) != named.variants.end();
    if (of_adapters && joined == nullptr && name != named.id)
        co_return Error(Code::invalid_argument,
                        fmt::format("'{}' is '{}' with adapters; swap '{}'", name, named.id, named.id), "model");
    if (auto inherited = inherit(spec, joined == nullptr ? named : alone(named, *joined)); !inherited)
        co_return inherited;
    bool const busy =
        std::ranges::any_of(house->arriving, [&](auto const& each) { return each->spec().id == spec.id; });
    if (busy) co_return Error(Code::overloaded, fmt::format("model '{}' is being swapped already", spec.id), "model");
    if (auto fits = house->check_room_beside(*old, spec); !fits) co_return fits;

    auto const incoming = std::make_shared<Instances>(house->env, spec, old->status().created_unix);
    house->arriving.push_back(incoming);
    incoming->start(Model::Place::beside);
    Instant const deadline = house->env.clock.now() + timeout;
    std::optional<Error> problem;
    // All of its instances: the present ones go as soon as it has the name.
    for (Duration poll = kPollMin; incoming->last_state() != ModelState::ready; poll = std::min(2 * poll, kPollMax)) {
        problem = why_not(*incoming, house->env.clock.now() >= deadline);
        // Who has the name may have been loaded since.
        auto const fits = house->check_room_beside(*old, incoming->spec());
        bool const waits = incoming->resident().state == Resident::State::cold;
        if (!problem && !fits && waits) problem = fits.error();
        if (problem) break;
        co_await house->env.loop.sleep(poll);
        if (house->gone) co_return Error(Code::unavailable, "the server is shutting down");
    }
    auto const& id = incoming->spec().id;
    bool const there = house->find(id) == old && (id == old->spec().id || joined_as(old->spec(), id) != nullptr);
    if (!problem && (!there || old->retiring()))
        problem = Error(Code::not_found, fmt::format("model '{}' went meanwhile", id), "model");
    if (problem) {
        incoming->unload();  // nobody makes room for it any more
        retire(*house, house->arriving, incoming);
        co_return *std::move(problem);
    }
    hand_over(*house, old, incoming);
    house->env.log.info("model swapped", {{"model", id}, {"from", old->spec().path}, {"to", incoming->spec().path}});
    co_return ok();
}

}  // namespace hearth::serving

#include "serving/instances.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <utility>

namespace hearth::serving {
namespace {

using State = Resident::State;

// More that the one that knows the prompt may have inside than the least loaded: one for each
// beginning it was given, and no more than these.
constexpr std::size_t kSurplusMax = 4;

// The nearer to being ready, the smaller.
int distance(ModelState state) {
    constexpr std::array kNearest{
        ModelState::ready,      ModelState::loading, ModelState::starting, ModelState::parked,  ModelState::unloading,
        ModelState::restarting, ModelState::cold,    ModelState::damaged,  ModelState::stopped, ModelState::failed};
    return static_cast<int>(std::ranges::find(kNearest, state) - kNearest.begin());
}

// What waits to be loaded or is on its way says what all of them are to whoever decides; those that
// restart or failed say nothing while there are others that serve, or go.
State state_of(std::span<Resident const> residents) {
    auto const any = [&](State state) {
        return std::ranges::find(residents, state, &Resident::state) != residents.end();
    };
    for (auto const state : {State::loading, State::leaving, State::parking, State::draining, State::ready,
                             State::restarting, State::parked, State::cold})
        if (any(state)) return state;
    return State::failed;
}

std::uint64_t held(Resident const& resident, State state) {
    // To be loaded all of them are wanted.
    bool const whole = state == State::cold || state == State::parked;
    return whole && resident.state != State::failed ? resident.cost : charge(resident);
}

// Absent: for ever.
std::optional<Duration> longer(std::optional<Duration> a, std::optional<Duration> b) {
    return a && b ? std::optional(std::max(*a, *b)) : std::nullopt;
}

std::optional<Instant> earliest(std::optional<Instant> a, std::optional<Instant> b) {
    return a && b ? std::min(*a, *b) : a ? a : b;
}

bool has_failed(std::shared_ptr<Model> const& model) { return model->state() == ModelState::failed; }

InstanceStatus as_instance(ModelStatus const& status) {
    return {status.state,    status.pid,          status.inside,        status.waiting,
            status.restarts, status.memory_bytes, status.resident_bytes};
}

void add_stats(domain::EngineStats& sum, domain::EngineStats const& more) {
    sum.running += more.running;
    sum.waiting += more.waiting;
    sum.kv_used += more.kv_used;
    sum.kv_cached += more.kv_cached;
    sum.kv_cells += more.kv_cells;
}

void add(ModelStatus& sum, ModelStatus const& more) {
    if (distance(more.state) < distance(sum.state)) {
        sum.state = more.state;
        sum.pid = more.pid;
    }
    sum.progress = std::max(sum.progress, more.progress);
    if (more.load_left_s) sum.load_left_s = std::min(sum.load_left_s.value_or(*more.load_left_s), *more.load_left_s);
    if (!sum.info) sum.info = more.info;
    if (sum.problem.empty()) sum.problem = more.problem;
    add_stats(sum.stats, more.stats);
    sum.inside += more.inside;
    sum.waiting += more.waiting;
    for (std::size_t i = 0; i < sum.waiting_by_class.size(); ++i) sum.waiting_by_class[i] += more.waiting_by_class[i];
    sum.requests_max += more.requests_max;
    sum.restarts += more.restarts;
    sum.awaited = sum.awaited && more.awaited;
    sum.estimated_bytes += more.estimated_bytes;
    sum.resident_bytes += more.resident_bytes;
    if (!sum.idle_left) sum.idle_left = more.idle_left;
}

}  // namespace

Instances::Instances(Model::Environment const& environment, ModelSpec const& spec, std::int64_t created_unix) {
    for (std::uint32_t number = 1; number <= std::max(spec.instances, 1U); ++number)
        models_.push_back(std::make_shared<Model>(environment, spec, created_unix, number));
}

// --- all of them ---

void Instances::start(Model::Place place) {
    for (auto const& model : models_) model->start(place);
}
void Instances::take_name() {
    for (auto const& model : models_) model->take_name();
}
void Instances::lose_name() {
    for (auto const& model : models_) model->lose_name();
}
void Instances::warm() {
    bool const none = std::ranges::all_of(models_, has_failed);
    for (auto const& model : models_) {
        if (none && model->retry_is_due()) model->try_again();
        if (model->state() != ModelState::ready && !has_failed(model)) model->warm();
    }
}
void Instances::load() {
    for (auto const& model : models_) {
        auto const state = model->resident().state;
        if (state == State::cold || state == State::parked) model->load();
    }
}
void Instances::let_go() {
    for (auto const& model : models_) {
        if (model->state() == ModelState::ready || model->state() == ModelState::parked) model->let_go();
        else model->stand_down();
    }
}
void Instances::park() {
    for (auto const& model : models_) {
        if (model->state() == ModelState::ready) model->park();
        else model->stand_down();
    }
}
void Instances::drain_for_others() {
    for (auto const& model : models_) model->drain_for_others();
}
void Instances::stay() {
    auto const stays = [](std::shared_ptr<Model> const& model) {
        return has_failed(model) || model->drains_for_others();
    };
    if (!std::ranges::all_of(models_, stays)) return;
    for (auto const& model : models_)
        if (!has_failed(model)) model->stay();
}
void Instances::keep_together(std::uint64_t budget) {
    if (models_.size() == 1) return;
    bool const one_goes = std::ranges::any_of(models_, [](std::shared_ptr<Model> const& model) {
        auto const state = model->resident().state;
        return model->drains() || state == State::cold || state == State::parked;
    });
    if (!one_goes) return;
    for (auto const& model : models_) {
        model->drain_for_others();
        model->stand_down();
    }
    auto const whole = resident();
    bool const all_away = whole.state == State::cold || whole.state == State::parked;
    if (!all_away || !whole.wanted_since) return;
    for (auto const& model : models_)
        if (has_failed(model) && (budget == 0 || cost() + beside(*model) <= budget)) model->try_again();
}
void Instances::keep(Duration keep_alive) {
    for (auto const& model : models_) model->keep(keep_alive);
}
void Instances::limit_cache(std::optional<std::uint64_t> bytes) {
    if (bytes) bytes = *bytes / models_.size();
    for (auto const& model : models_) model->limit_cache(bytes);
}
void Instances::unload() {
    for (auto const& model : models_) model->unload();
}
bool Instances::has_place_for(Variant const& variant) const {
    return std::ranges::all_of(models_, [&](auto const& model) { return model->has_place_for(variant); });
}
void Instances::join(Variant const& variant) {
    for (auto const& model : models_) model->join(variant);
}
void Instances::part(std::string_view id) {
    for (auto const& model : models_) model->part(id);
}
void Instances::suspend(Error const& why) {
    for (auto const& model : models_) model->suspend(why);
}
void Instances::resume() {
    for (auto const& model : models_) model->resume();
}
void Instances::retire() {
    for (auto const& model : models_) model->retire();
}
void Instances::close(std::function<void()> const& over) {
    for (auto const& model : models_) model->close(over);
}
void Instances::kill() {
    for (auto const& model : models_) model->kill();
}
void Instances::forget_metrics() {
    for (auto const& model : models_) model->forget_metrics();
}
void Instances::abandon() {
    for (auto const& model : models_) model->abandon();
}

// --- one that failed ---

std::shared_ptr<Model> Instances::to_retry() const {
    bool const served = std::ranges::any_of(models_, [](auto const& model) { return model->takes_requests(); });
    bool const missing = std::ranges::all_of(models_, has_failed) && !spec().lazy;
    if (retiring() || (!served && !missing)) return nullptr;
    std::shared_ptr<Model> first;
    for (auto const& model : models_)
        if (model->retry_at() && (!first || *model->retry_at() < *first->retry_at())) first = model;
    return first;
}

std::optional<Instant> Instances::retry_at() const {
    auto const model = to_retry();
    return model ? model->retry_at() : std::nullopt;
}

std::uint64_t Instances::retry_cost() const {
    auto const model = to_retry();
    if (!model) return 0;
    bool const alone = std::ranges::all_of(models_, has_failed);
    return alone ? model->cost() : beside(*model);
}

// It is not left cold: beside those that serve that would be a reason for all to go.
void Instances::retry() {
    if (auto const model = to_retry(); model && model->try_again()) model->load();
}

// --- as one ---

// What they share is charged to the first of those that have it.
Resident Instances::resident() const {
    if (models_.size() == 1) return first().resident();
    std::vector<Resident> residents;
    residents.reserve(models_.size());
    for (auto const& model : models_) residents.push_back(model->resident());
    Resident out;
    out.state = state_of(residents);
    out.pinned = residents.front().pinned;
    out.keep_alive = Duration::zero();
    bool can_park = true;
    auto const shared = shared_bytes();
    std::uint64_t sharing = 0;
    for (auto const& each : residents) {
        if (each.state == State::failed) continue;
        auto const bytes = held(each, out.state);
        out.cost += bytes;
        sharing += bytes == each.cost && bytes > shared ? 1 : 0;
        bool const away = each.state == State::cold && out.state == State::parked;
        out.parked_cost += away ? 0 : each.parked_cost;
        can_park = can_park && (each.parked_cost != 0 || away);
        // They are loaded side by side: what each took has the others' part in it, and the file is read once.
        out.reload_cost = std::max(out.reload_cost, each.reload_cost);
        out.busy = out.busy || each.busy;
        out.wanted_since = earliest(out.wanted_since, each.wanted_since);
        out.used = std::max(out.used, each.used);
        out.ready = std::max(out.ready, each.ready);
        out.keep_alive = longer(out.keep_alive, each.keep_alive);
    }
    if (sharing > 1) out.cost -= (sharing - 1) * shared;
    if (!can_park) out.parked_cost = 0;
    return out;
}

std::uint64_t Instances::cost() const {
    bool const none = std::ranges::all_of(models_, has_failed);
    std::uint64_t sum = 0;
    std::uint64_t count = 0;
    for (auto const& model : models_) {
        if (has_failed(model) && !none) continue;
        sum += model->cost();
        ++count;
    }
    auto const shared = (count - 1) * shared_bytes();
    return sum - std::min(sum, shared);
}

std::uint64_t Instances::beside(Model const& model) const {
    auto const bytes = model.cost();
    return bytes - std::min(bytes, shared_bytes());
}

std::uint64_t Instances::shared_bytes() const {
    std::optional<std::uint64_t> most;
    for (auto const& model : models_)
        if (auto const bytes = model->shared_bytes()) most = std::max(most.value_or(0), *bytes);
    return most.value_or(spec().shared_bytes);
}

ModelState Instances::state() const {
    auto const nearest = std::ranges::min_element(
        models_, {}, [](std::shared_ptr<Model> const& model) { return distance(model->state()); });
    return (*nearest)->state();
}

ModelState Instances::last_state() const {
    auto const farthest = std::ranges::max_element(
        models_, {}, [](std::shared_ptr<Model> const& model) { return distance(model->state()); });
    return (*farthest)->state();
}

ModelStatus Instances::status(std::uint32_t adapters) const {
    auto out = first().status(adapters);
    if (models_.size() == 1) return out;
    out.instances.push_back(as_instance(out));
    for (std::size_t i = 1; i < models_.size(); ++i) {
        auto const more = models_[i]->status(set_of(*models_[i], adapters));
        add(out, more);
        out.instances.push_back(as_instance(more));
    }
    if (out.state != ModelState::loading) out.load_left_s.reset();  // one of them serves already
    if (out.base.empty()) {
        auto const now = charge(resident());
        out.memory_bytes = now != 0 ? now : cost();
    }
    return out;
}

std::uint32_t Instances::retry_after_s() const {
    bool const none = std::ranges::all_of(models_, has_failed);
    std::optional<std::uint32_t> least;
    for (auto const& model : models_) {
        if (has_failed(model) && !none) continue;
        auto const after = model->retry_after_s();
        least = std::min(least.value_or(after), after);
    }
    return least.value_or(1);
}

std::optional<std::uint32_t> Instances::predicted_wait_s(domain::Priority priority) const {
    std::optional<std::uint32_t> least;
    for (auto const& model : models_) {
        auto const wait = model->predicted_wait_s(priority);
        if (wait) least = std::min(least.value_or(*wait), *wait);
    }
    return least;
}

bool Instances::over() const {
    return std::ranges::all_of(models_, [](auto const& model) { return model->over(); });
}

bool Instances::to_close() const {
    return std::ranges::all_of(models_, [](auto const& model) { return model->to_close(); });
}

std::uint32_t Instances::set_of(Model const& model, std::uint32_t set) const {
    return set == 0 || &model == &first() ? set : adapters_of(model.spec(), first().spec().variants[set - 1].id);
}

// Where none is ready, the nearest to it. One that drains is to be loaded again.
std::uint32_t Instances::choose(std::span<std::uint64_t const> beginnings,
                                domain::GenerateRequest const& request) const {
    auto const rank = [this](std::size_t i) {
        auto const& model = *models_[i];
        auto const state = model.state() == ModelState::ready ? ModelState::parked : model.state();
        return std::pair(model.takes_requests() ? -1 : distance(state), model.inside());
    };
    std::size_t best = 0;
    for (std::size_t i = 1; i < models_.size(); ++i)
        if (rank(i) < rank(best)) best = i;
    auto const known = routes_.find(beginnings);
    if (!known || known->worker == best) return static_cast<std::uint32_t>(best);
    auto const& knows = *models_[known->worker];
    auto const surplus = std::min(known->beginnings, kSurplusMax);
    bool const no_more = knows.inside() <= models_[best]->inside() + surplus;
    bool const takes = knows.takes_requests() && no_more && knows.has_room_for(request);
    return takes ? known->worker : static_cast<std::uint32_t>(best);
}

Result<std::unique_ptr<Generation>> Instances::submit(RequestId id, domain::GenerateRequest request) {
    std::uint32_t chosen = 0;
    std::vector<std::uint64_t> beginnings;
    if (models_.size() > 1) {
        beginnings = beginnings_of(request);
        chosen = choose(beginnings, request);
    }
    request.adapters = set_of(*models_[chosen], request.adapters);
    auto const keep_alive = request.keep_alive;
    HEARTH_TRY(auto flight, models_[chosen]->submit(id, std::move(request)));
    if (keep_alive && models_.size() > 1) keep(*keep_alive);
    routes_.note(beginnings, chosen);
    return make_generation(std::move(flight), models_[chosen]);
}

// After a wait only the models are touched, which are held.
net::Task<std::vector<EngineView>> Instances::engine_views(std::shared_ptr<Instances> self, Duration timeout) {
    auto const models = self->models_;
    bool const none =
        std::ranges::none_of(models, [](auto const& model) { return model->state() == ModelState::ready; });
    std::vector<std::pair<std::uint32_t, std::uint64_t>> asked;  // who, and what
    for (std::uint32_t i = 0; i < models.size(); ++i)
        if (models[i]->state() == ModelState::ready || (none && i == 0)) asked.emplace_back(i, models[i]->ask_report());
    auto const deadline = std::chrono::steady_clock::now() + timeout;
    std::vector<EngineView> views;
    for (auto const& [instance, question] : asked) {
        auto const& model = models[instance];
        auto view = co_await Model::engine_view(model, question, deadline - std::chrono::steady_clock::now());
        view.instance = instance;
        views.push_back(std::move(view));
    }
    co_return views;
}

}  // namespace hearth::serving

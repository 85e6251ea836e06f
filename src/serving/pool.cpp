#include "serving/pool.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include <fmt/format.h>

#include "serving/house.h"
#include "serving/model.h"

namespace hearth::serving {
namespace {

// After grace: a killed process is gone almost at once, a thread when its step ends.
constexpr Duration kKillWait = std::chrono::seconds(2);

std::int64_t unix_now() {
    return std::chrono::duration_cast<std::chrono::seconds>(std::chrono::system_clock::now().time_since_epoch())
        .count();
}

std::vector<std::string> names_of(ModelSpec const& spec) {
    auto names = spec.aliases;
    names.push_back(spec.id);
    for (auto const& variant : spec.variants)
        if (variant.id != spec.id && !variant.gone) names.push_back(variant.id);
    return names;
}

// Not there, and nothing is wrong with it.
bool is_away(ModelState state) {
    return state == ModelState::cold || state == ModelState::unloading || state == ModelState::parked;
}

// How long its worker is to stay after a request for that name which does not say so; absent: as before. Where names
// differ in that, the last one asked for decides.
std::optional<Duration> stay_of(ModelSpec const& spec, std::string_view name) {
    auto const differs = [&](Variant const& each) { return each.joined && each.keep_alive != spec.keep_alive; };
    if (std::ranges::none_of(spec.variants, differs)) return std::nullopt;
    auto const set = adapters_of(spec, name);
    auto const& own = set != 0 && spec.variants[set - 1].joined ? spec.variants[set - 1].keep_alive : spec.keep_alive;
    return own.value_or(Duration(-1));
}

class PoolOfWorkers final : public Pool {
public:
    explicit PoolOfWorkers(Model::Environment environment)
        : env_(std::move(environment)),
          over_(std::make_shared<net::Signal>(env_.loop)),
          house_(std::make_shared<House>(env_)),
          models_(house_->models) {
        env_.loop.spawn(keep_house(house_));
    }
    ~PoolOfWorkers() override {
        house_->gone = true;
        for (auto const& model : house_->all()) model->abandon();
        house_->changed->notify();
    }
    PoolOfWorkers(PoolOfWorkers const&) = delete;
    PoolOfWorkers& operator=(PoolOfWorkers const&) = delete;

    Status add(ModelSpec spec) override {
        if (draining_) return Error(Code::unavailable, "the server is shutting down");
        if (spec.id.empty()) return Error(Code::invalid_argument, "a model needs a name", "id");
        if (spec.variants.size() > domain::kAdapterSetsMax)
            return Error(Code::invalid_argument,
                         fmt::format("model '{}' has {} names with adapters, the limit is {}", spec.id,
                                     spec.variants.size(), domain::kAdapterSetsMax),
                         "id");
        if (spec.instances == 0 || spec.instances > kInstancesMax)
            return Error(Code::invalid_argument,
                         fmt::format("model '{}' is to have {} instances, the limit is {}", spec.id, spec.instances,
                                     kInstancesMax),
                         "instances");
        auto const names = names_of(spec);
        for (auto const& name : names) {
            if (std::ranges::count(names, name) > 1)
                return Error(Code::invalid_argument, fmt::format("model '{}' has the name '{}' twice", spec.id, name),
                             "id");
            if (house_->find(name) != nullptr)
                return Error(Code::invalid_argument, fmt::format("two models have the name '{}'", name), "id");
        }
        if (!spec.lazy) HEARTH_CHECK(house_->check_budget(spec.id, need_of(spec)));
        models_.push_back(std::make_shared<Instances>(env_, spec, unix_now()));
        models_.back()->start(Model::Place::named);
        return ok();
    }

    Status join(std::string_view base, ModelSpec const& spec) override {
        if (draining_) return Error(Code::unavailable, "the server is shutting down");
        HEARTH_TRY(auto const model, staying(base));
        auto const& host = model->spec();
        bool const one_set = spec.variants.size() == 1 && spec.variants.front().id == spec.id;
        bool const plain = spec.variants.empty();
        if ((!one_set && !plain) || !spec.aliases.empty() || !can_share_worker(host, spec))
            return Error(Code::unsupported,
                         fmt::format("model '{}' needs another worker than '{}' has", spec.id, host.id), "id");
        if (house_->find(spec.id) != nullptr)
            return Error(Code::invalid_argument, fmt::format("two models have the name '{}'", spec.id), "id");
        auto variant = plain ? Variant{spec.id, {}, spec.definition} : spec.variants.front();
        if (!model->has_place_for(variant))
            return Error(Code::exhausted,
                         fmt::format("model '{}' has {} names besides its own, which is the limit", host.id,
                                     host.variants.size()),
                         "id");
        variant.joined = true;
        variant.pinned = spec.pinned;
        variant.keep_alive = spec.keep_alive;
        HEARTH_CHECK(house_->check_budget(host.id, model->cost() + variant.bytes * host.instances));
        model->join(variant);
        return ok();
    }

    Status remove(std::string_view id) override {
        if (id.empty()) return Error(Code::invalid_argument, "which model is to be removed is not said", "id");
        if (auto const host = house_->find(id)) {
            auto const set = adapters_of(host->spec(), id);
            bool const joined = set != 0 && host->spec().variants[set - 1].joined;
            if (joined) host->part(id);
            if (joined) return ok();
        }
        auto const model = std::ranges::find_if(models_, [&](auto const& each) { return each->spec().id == id; });
        if (model == models_.end()) return missing(id);
        (*model)->retire();
        return ok();
    }

    Result<std::unique_ptr<Generation>> submit(domain::GenerateRequest request) override {
        if (draining_) return Error(Code::unavailable, "the server is shutting down");
        auto const model = staying(request.model);
        if (!model) return model.error();
        auto const& spec = (*model)->spec();
        if (!request.keep_alive) request.keep_alive = stay_of(spec, request.model);
        request.adapters = worn_by(spec, request.model);
        request.model = spec.id;
        HEARTH_CHECK(house_->check_budget(request.model, (*model)->cost()));
        return (*model)->submit(++last_id_, std::move(request));
    }

    Status warm(std::string_view name, std::optional<Duration> keep_alive) override {
        if (draining_) return Error(Code::unavailable, "the server is shutting down");
        HEARTH_TRY(auto const model, staying(name));
        if (auto const why = model->suspended()) return *why;
        HEARTH_CHECK(house_->check_budget(model->spec().id, model->cost()));
        if (keep_alive) model->keep(*keep_alive);
        if (is_away(model->state()) || model->state() == ModelState::failed) model->warm();
        return ok();
    }

    Status unload(std::string_view name) override {
        HEARTH_TRY(auto const model, named(name));
        model->unload();
        return ok();
    }

    Status suspend(std::string_view name, Error why) override {
        HEARTH_TRY(auto const model, named(name));
        model->suspend(why);
        return ok();
    }

    Status resume(std::string_view name) override {
        HEARTH_TRY(auto const model, named(name));
        model->resume();
        return ok();
    }

    Result<ModelStatus> status(std::string_view name) const override {
        HEARTH_TRY(auto const model, named(name));
        return model->status(adapters_of(model->spec(), name));
    }

    std::vector<ModelStatus> models() const override {
        std::vector<ModelStatus> out;
        out.reserve(models_.size());
        for (auto const& model : models_) {
            auto const& spec = model->spec();
            auto const own = adapters_of(spec, spec.id);
            out.push_back(model->status(own));
            for (std::uint32_t set = 1; set <= spec.variants.size(); ++set)
                if (set != own && !spec.variants[set - 1].gone) out.push_back(model->status(set));
        }
        return out;
    }

    PoolMemory memory() const override { return {env_.options.memory_bytes, house_->used(), house_->pressure}; }

    void relieve(Pressure pressure) override {
        bool const changed = std::exchange(house_->pressure, pressure) != pressure;
        house_->one_is_to_go = pressure == Pressure::high;
        if (changed || house_->one_is_to_go) house_->changed->notify();
    }

    net::Task<Status> swap(std::string name, ModelSpec spec, Duration timeout) override {
        if (draining_) co_return Error(Code::unavailable, "the server is shutting down");
        auto swapped = co_await swap_model(house_, std::move(name), std::move(spec), timeout);
        co_return swapped;
    }

    std::uint32_t retry_after_s(std::string_view name) const override {
        auto const model = named(name);
        return model ? (*model)->retry_after_s() : 1;
    }

    std::optional<std::uint32_t> predicted_wait_s(std::string_view name, domain::Priority priority) const override {
        auto const model = named(name);
        return model ? (*model)->predicted_wait_s(priority) : std::nullopt;
    }

    net::Task<Result<std::vector<EngineView>>> engine_views(std::string name, Duration timeout) override {
        auto const model = named(name);
        if (!model) co_return model.error();
        auto const& found = *model;
        auto views = co_await found->engine_views(found, timeout);
        co_return views;
    }

    bool ready() const override {
        return std::ranges::all_of(models_, [](auto const& model) {
            auto const state = model->state();
            bool const away = is_away(state) && !model->status().awaited;
            return model->retiring() || state == ModelState::ready || away;
        });
    }

    void drain() override { draining_ = true; }

    net::Task<void> stop(Duration grace) override {
        draining_ = true;
        for (auto const& model : house_->all()) {
            model->close([over = over_] { over->notify(); });
        }
        Instant const begin = env_.clock.now();
        bool killed = false;
        while (!all_over()) {
            Duration const spent = env_.clock.now() - begin;
            if (spent >= grace && !std::exchange(killed, true)) {
                for (auto const& model : house_->all()) model->kill();
            }
            Duration const limit = killed ? grace + kKillWait : grace;
            if (killed && spent >= limit) break;
            co_await over_->wait_for(limit - spent);
        }
    }

private:
    [[nodiscard]] bool all_over() const {
        return std::ranges::all_of(house_->all(), [](auto const& model) { return model->over(); });
    }

    [[nodiscard]] Result<std::shared_ptr<Instances>> named(std::string_view name) const {
        auto const first = std::ranges::find_if(models_, [](auto const& model) { return !model->retiring(); });
        auto model = name.empty() && first != models_.end() ? *first : house_->find(name);
        if (model) return model;
        return missing(name);
    }

    // The same for who wants something computed.
    [[nodiscard]] Result<std::shared_ptr<Instances>> staying(std::string_view name) const {
        HEARTH_TRY(auto model, named(name));
        if (!model->retiring()) return model;
        return Error(Code::not_found, fmt::format("model '{}' is being removed", model->spec().id), "model");
    }

    [[nodiscard]] Error missing(std::string_view name) const {
        std::string known;
        for (auto const& each : models_) known += (known.empty() ? "'" : ", '") + each->spec().id + "'";
        return {Code::not_found,
                fmt::format("there is no model '{}'; this server has {}", name, known.empty() ? "none" : known),
                "model"};
    }

    Model::Environment const env_;
    std::shared_ptr<net::Signal> const over_;  // a model's worker is gone, after close()
    std::shared_ptr<House> const house_;
    std::vector<std::shared_ptr<Instances>>& models_;  // the house's
    RequestId last_id_ = 0;
    bool draining_ = false;
};

}  // namespace

std::string_view to_string(ModelState state) noexcept {
    switch (state) {
        case ModelState::starting: return "starting";
        case ModelState::loading: return "loading";
        case ModelState::ready: return "ready";
        case ModelState::restarting: return "restarting";
        case ModelState::failed: return "failed";
        case ModelState::stopped: return "stopped";
        case ModelState::cold: return "cold";
        case ModelState::unloading: return "unloading";
        case ModelState::damaged: return "damaged";
        case ModelState::parked: return "parked";
    }
    return "unknown";
}

std::string_view to_string(Pressure pressure) noexcept {
    switch (pressure) {
        case Pressure::none: return "none";
        case Pressure::some: return "some";
        case Pressure::high: return "high";
    }
    return "unknown";
}

std::unique_ptr<Pool> Pool::create(net::Loop& loop, PoolOptions options, Launcher& launcher, Clock const& clock,
                                   telemetry::Log& log, telemetry::Registry& metrics) {
    return std::make_unique<PoolOfWorkers>(
        Model::Environment{loop, options, launcher, clock, log, metrics, std::make_shared<net::Signal>(loop)});
}

}  // namespace hearth::serving

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
        if (variant.id != spec.id) names.push_back(variant.id);
    return names;
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
        auto const names = names_of(spec);
        for (auto const& name : names) {
            if (std::ranges::count(names, name) > 1)
                return Error(Code::invalid_argument, fmt::format("model '{}' has the name '{}' twice", spec.id, name),
                             "id");
            if (house_->find(name) != nullptr)
                return Error(Code::invalid_argument, fmt::format("two models have the name '{}'", name), "id");
        }
        if (!spec.lazy) HEARTH_CHECK(house_->check_budget(spec.id, spec.memory_bytes));
        models_.push_back(std::make_shared<Model>(env_, std::move(spec), unix_now()));
        models_.back()->start(Model::Place::named);
        return ok();
    }

    Status remove(std::string_view id) override {
        if (id.empty()) return Error(Code::invalid_argument, "which model is to be removed is not said", "id");
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
        request.adapters = adapters_of(spec, request.model);
        request.model = spec.id;
        HEARTH_CHECK(house_->check_budget(request.model, (*model)->cost()));
        HEARTH_TRY(auto flight, (*model)->submit(++last_id_, std::move(request)));
        return make_generation(std::move(flight), *model);
    }

    Status warm(std::string_view name, std::optional<Duration> keep_alive) override {
        if (draining_) return Error(Code::unavailable, "the server is shutting down");
        HEARTH_TRY(auto const model, staying(name));
        if (auto const why = model->suspended()) return *why;
        HEARTH_CHECK(house_->check_budget(model->spec().id, model->cost()));
        if (keep_alive) model->keep(*keep_alive);
        if (model->state() == ModelState::cold || model->state() == ModelState::unloading) model->want();
        return ok();
    }

    Status unload(std::string_view name) override {
        HEARTH_TRY(auto const model, named(name));
        model->unload();
        return ok();
    }

    Status suspend(std::string_view name, Error why) override {
        HEARTH_TRY(auto const model, named(name));
        model->suspend(std::move(why));
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
                if (set != own) out.push_back(model->status(set));
        }
        return out;
    }

    PoolMemory memory() const override { return {env_.options.memory_bytes, house_->used(), house_->pressure}; }

    void relieve(Pressure pressure) override {
        if (std::exchange(house_->pressure, pressure) != pressure) house_->changed->notify();
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

    net::Task<EngineView> engine_view(std::string name, Duration timeout) override {
        auto const model = named(name);
        if (!model) co_return EngineView{};
        auto const& found = *model;
        auto view = co_await found->engine_view(found, timeout);
        co_return view;
    }

    bool ready() const override {
        return std::ranges::all_of(models_, [](auto const& model) {
            auto const state = model->state();
            bool const away = state == ModelState::cold || state == ModelState::unloading;
            return model->retiring() || state == ModelState::ready || (away && !model->status().awaited);
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

    [[nodiscard]] Result<std::shared_ptr<Model>> named(std::string_view name) const {
        auto const first = std::ranges::find_if(models_, [](auto const& model) { return !model->retiring(); });
        auto model = name.empty() && first != models_.end() ? *first : house_->find(name);
        if (model) return model;
        return missing(name);
    }

    // The same for who wants something computed.
    [[nodiscard]] Result<std::shared_ptr<Model>> staying(std::string_view name) const {
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
    std::vector<std::shared_ptr<Model>>& models_;  // the house's
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

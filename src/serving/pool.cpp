#include "serving/pool.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include <fmt/format.h>

#include "serving/model.h"
#include "serving/residency.h"

namespace hearth::serving {
namespace {

// After grace: a killed process is gone almost at once, a thread when its step ends.
constexpr Duration kKillWait = std::chrono::seconds(2);

std::int64_t unix_now() {
    return std::chrono::duration_cast<std::chrono::seconds>(std::chrono::system_clock::now().time_since_epoch())
        .count();
}

// The models, shared with the coroutine that keeps house among them.
struct House {
    explicit House(std::shared_ptr<net::Signal> signal) : changed(std::move(signal)) {}
    std::shared_ptr<net::Signal> const changed;
    std::vector<std::shared_ptr<Model>> models;
    bool gone = false;  // the pool is
};

// Those that are removed: closed when nothing is inside any more, forgotten when they are over.
void sweep(House& house) {
    for (auto const& model : house.models)
        if (model->to_close()) model->close([changed = house.changed] { changed->notify(); });
    std::erase_if(house.models, [](auto const& model) {
        if (!model->retiring() || !model->over()) return false;
        model->forget_metrics();
        return true;
    });
}

// Until when nothing is to be done if nothing happens.
std::optional<Instant> tend(House& house, std::uint64_t budget, Instant now) {
    std::vector<Resident> residents;
    residents.reserve(house.models.size());
    for (auto const& model : house.models) residents.push_back(model->resident());
    auto const plan = plan_residency(residents, budget, now);
    for (auto const i : plan.let_go) house.models[i]->let_go();
    for (auto const i : plan.drain) house.models[i]->drain_for_others();
    for (auto const i : plan.load) house.models[i]->load();
    return plan.again;
}

net::Task<void> keep_house(std::shared_ptr<House> house, std::uint64_t budget, Clock const& clock) {
    while (!house->gone) {
        auto const now = clock.now();
        sweep(*house);
        if (auto const again = tend(*house, budget, now)) co_await house->changed->wait_for(*again - now);
        else co_await house->changed->wait();
    }
}

class PoolOfWorkers final : public Pool {
public:
    explicit PoolOfWorkers(Model::Environment environment)
        : env_(std::move(environment)),
          over_(std::make_shared<net::Signal>(env_.loop)),
          house_(std::make_shared<House>(env_.residency)),
          models_(house_->models) {
        env_.loop.spawn(keep_house(house_, env_.options.memory_bytes, env_.clock));
    }
    ~PoolOfWorkers() override {
        house_->gone = true;
        for (auto const& model : models_) model->abandon();
        house_->changed->notify();
    }
    PoolOfWorkers(PoolOfWorkers const&) = delete;
    PoolOfWorkers& operator=(PoolOfWorkers const&) = delete;

    Status add(ModelSpec spec) override {
        if (draining_) return Error(Code::unavailable, "the server is shutting down");
        if (spec.id.empty()) return Error(Code::invalid_argument, "a model needs a name", "id");
        auto names = spec.aliases;
        names.push_back(spec.id);
        for (auto const& name : names) {
            if (find(name) != nullptr)
                return Error(Code::invalid_argument, fmt::format("two models have the name '{}'", name), "id");
        }
        if (!spec.lazy) HEARTH_CHECK(check_budget(spec.id, spec.memory_bytes));
        models_.push_back(std::make_shared<Model>(env_, std::move(spec), unix_now()));
        models_.back()->start();
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
        request.model = (*model)->spec().id;
        HEARTH_CHECK(check_budget(request.model, (*model)->cost()));
        HEARTH_TRY(auto flight, (*model)->submit(++last_id_, std::move(request)));
        return make_generation(std::move(flight), *model);
    }

    Status warm(std::string_view name, std::optional<Duration> keep_alive) override {
        if (draining_) return Error(Code::unavailable, "the server is shutting down");
        HEARTH_TRY(auto const model, staying(name));
        HEARTH_CHECK(check_budget(model->spec().id, model->cost()));
        if (keep_alive) model->keep(*keep_alive);
        if (model->state() == ModelState::cold || model->state() == ModelState::unloading) model->want();
        return ok();
    }

    Status unload(std::string_view name) override {
        HEARTH_TRY(auto const model, named(name));
        model->unload();
        return ok();
    }

    Result<ModelStatus> status(std::string_view name) const override {
        HEARTH_TRY(auto const model, named(name));
        return model->status();
    }

    std::vector<ModelStatus> models() const override {
        std::vector<ModelStatus> out;
        out.reserve(models_.size());
        for (auto const& model : models_) out.push_back(model->status());
        return out;
    }

    PoolMemory memory() const override {
        PoolMemory out{env_.options.memory_bytes, 0};
        for (auto const& model : models_) {
            auto const resident = model->resident();
            out.used_bytes += is_there(resident) ? resident.cost : 0;
        }
        return out;
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
        for (auto const& model : models_) {
            model->close([over = over_] { over->notify(); });
        }
        Instant const begin = env_.clock.now();
        bool killed = false;
        while (!all_over()) {
            Duration const spent = env_.clock.now() - begin;
            if (spent >= grace && !std::exchange(killed, true)) {
                for (auto const& model : models_) model->kill();
            }
            Duration const limit = killed ? grace + kKillWait : grace;
            if (killed && spent >= limit) break;
            co_await over_->wait_for(limit - spent);
        }
    }

private:
    [[nodiscard]] Status check_budget(std::string const& id, std::uint64_t cost) const {
        auto const budget = env_.options.memory_bytes;
        if (budget == 0 || cost <= budget) return ok();
        return Error(
            Code::exhausted,
            fmt::format("model '{}' takes {} bytes of memory, the limit for all models is {}", id, cost, budget),
            "model");
    }

    [[nodiscard]] bool all_over() const {
        return std::ranges::all_of(models_, [](auto const& model) { return model->over(); });
    }

    [[nodiscard]] std::shared_ptr<Model> find(std::string_view name) const {
        for (auto const& model : models_) {
            auto const& spec = model->spec();
            if (spec.id == name || std::ranges::find(spec.aliases, name) != spec.aliases.end()) return model;
        }
        return nullptr;
    }

    [[nodiscard]] Result<std::shared_ptr<Model>> named(std::string_view name) const {
        auto const first = std::ranges::find_if(models_, [](auto const& model) { return !model->retiring(); });
        auto model = name.empty() && first != models_.end() ? *first : find(name);
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
    }
    return "unknown";
}

std::unique_ptr<Pool> Pool::create(net::Loop& loop, PoolOptions options, Launcher& launcher, Clock const& clock,
                                   telemetry::Log& log, telemetry::Registry& metrics) {
    return std::make_unique<PoolOfWorkers>(
        Model::Environment{loop, options, launcher, clock, log, metrics, std::make_shared<net::Signal>(loop)});
}

}  // namespace hearth::serving

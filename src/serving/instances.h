// Instances: the workers of one model, as one model. Most have one.
//
// They serve the same names from the same file, whose pages they share. Each is a
// Model of its own, with its own queue, cache of prefixes, supervision and restarts:
// what one loses the others do not notice. A request goes to the one that was given
// most of its prompt before (prefix_routes.h), where that would take it and has not much
// more inside than the least loaded of those that are ready, to which it goes else. There
// it stays.
//
// Whoever decides about memory sees one model: instances are loaded, parked, drained,
// let go, suspended and removed together. What happens to one alone (it crashes while all
// drain, it drains since another model joined while the others had no worker) happens to
// all as soon as that is looked at: keep_together(). One that has no worker at the moment,
// or failed, is in nobody's way: the others serve, and go, without it.
//
// Threads: the loop's. Private to serving.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "serving/model.h"
#include "serving/prefix_routes.h"

namespace hearth::serving {

class Instances {
public:
    // As many as the spec says.
    Instances(Model::Environment const& environment, ModelSpec const& spec, std::int64_t created_unix);
    Instances(Instances const&) = delete;
    Instances& operator=(Instances const&) = delete;

    // --- of all of them: see Model ---
    void start(Model::Place place);
    void take_name();
    void lose_name();
    // Where all failed, those that may be tried again are.
    void warm();
    void load();
    void let_go();
    void park();
    void drain_for_others();
    // Nobody waits for their room any more.
    void stay();
    // Where one drains or is away, those that are ready drain, and those that lost their workers are not started
    // again: all go, and are loaded together, if somebody asked one of them. Those that failed are tried again with
    // them where all would fit into the budget.
    void keep_together(std::uint64_t budget);
    void keep(Duration keep_alive);
    // In equal parts.
    void limit_cache(std::optional<std::uint64_t> bytes);
    void unload();
    [[nodiscard]] bool has_place_for(Variant const& variant) const;
    void join(Variant const& variant);
    void part(std::string_view id);
    void suspend(Error const& why);
    void resume();
    void retire();
    void close(std::function<void()> const& over);
    void kill();
    void forget_metrics();
    void abandon();

    // --- one that failed, and is to be there although nobody asks for it: others serve, or they are not lazy ---
    // Since when it may be tried again; absent: there is none.
    [[nodiscard]] std::optional<Instant> retry_at() const;
    // What that takes.
    [[nodiscard]] std::uint64_t retry_cost() const;
    void retry();

    // --- as one ---
    [[nodiscard]] Resident resident() const;
    // When they are loaded; what they share counts once, and those that failed do not while there are others.
    [[nodiscard]] std::uint64_t cost() const;
    [[nodiscard]] ModelSpec const& spec() const { return first().spec(); }
    [[nodiscard]] ModelStatus status(std::uint32_t adapters = 0) const;
    // Of the one that is nearest to being ready.
    [[nodiscard]] ModelState state() const;
    // Of the one that is farthest from it.
    [[nodiscard]] ModelState last_state() const;
    [[nodiscard]] std::optional<Error> const& suspended() const { return first().suspended(); }
    // Of the one where it is least, of those that did not fail if there are any.
    [[nodiscard]] std::uint32_t retry_after_s() const;
    [[nodiscard]] std::optional<std::uint32_t> predicted_wait_s(domain::Priority priority) const;
    [[nodiscard]] bool over() const;
    [[nodiscard]] bool retiring() const { return first().retiring(); }
    [[nodiscard]] bool to_close() const;

    // Fails as Model::submit() does of the one it is for.
    [[nodiscard]] Result<std::unique_ptr<Generation>> submit(RequestId id, domain::GenerateRequest request);
    // Of those that are ready, or of the first. `self` keeps them meanwhile.
    net::Task<std::vector<EngineView>> engine_views(std::shared_ptr<Instances> self, Duration timeout);

private:
    [[nodiscard]] Model const& first() const { return *models_.front(); }
    // The number that the first one's set of adapters has with another: names that are gone are forgotten by each
    // in its own time.
    [[nodiscard]] std::uint32_t set_of(Model const& model, std::uint32_t set) const;
    // What they share, as any of them told, or is thought to be.
    [[nodiscard]] std::uint64_t shared_bytes() const;
    // What it takes beside another one that is loaded.
    [[nodiscard]] std::uint64_t beside(Model const& model) const;
    // The one that was to be tried again first.
    [[nodiscard]] std::shared_ptr<Model> to_retry() const;
    [[nodiscard]] std::uint32_t choose(std::span<std::uint64_t const> beginnings,
                                       domain::GenerateRequest const& request) const;

    std::vector<std::shared_ptr<Model>> models_;
    PrefixRoutes routes_;  // by index
};

}  // namespace hearth::serving

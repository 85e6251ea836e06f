// Models that are damaged and whole again, and what is remembered of how models are used.
#include <algorithm>
#include <chrono>
#include <filesystem>
#include <system_error>
#include <utility>

#include <fmt/format.h>

#include "library/library_impl.h"
#include "telemetry/log.h"
#include "telemetry/metrics.h"

namespace hearth::library {
namespace {

std::int64_t today() {
    return std::chrono::duration_cast<std::chrono::days>(std::chrono::system_clock::now().time_since_epoch()).count();
}

// They decide what is preloaded, no more: what a full disk loses is no harm.
void count(Keeper::Desk& desk, std::map<std::string, std::uint64_t> const& uses) {
    auto const catalog = desk.catalog();
    if (catalog && desk.writes()) static_cast<void>((*catalog)->count_uses(uses, today()));
}

}  // namespace

std::string canonical(std::string const& path) {
    std::error_code failed;
    auto const real = std::filesystem::canonical(path, failed);
    return failed ? path : real.string();
}

// --- damage ------------------------------------------------------------------

void Library::Impl::suspend_damaged() {
    for (auto const& status : pool.models()) {
        auto const at = std::ranges::find(shelf->files, origin_of(status));
        if (at == shelf->files.end()) continue;
        auto const& model = shelf->models[static_cast<std::size_t>(at - shelf->files.begin())];
        bool const suspended = status.state == serving::ModelState::damaged;
        if (!model->damage().empty()) static_cast<void>(pool.suspend(status.id, damaged(*model)));
        else if (suspended && !model->unsettled()) static_cast<void>(pool.resume(status.id));
        // Nobody opens what --model gave.
        bool const used = status.state == serving::ModelState::ready;
        if (used && given_files.contains(status.id) && read_at_first_use.insert(status.id).second) read_quietly(*model);
    }
}

void Library::Impl::tell_damage() {
    std::set<std::string> now;
    for (auto const& model : shelf->models) {
        bool const known = damaged_names.contains(model->name);
        // What is read at the moment is as it was told.
        if (model->damage().empty() && !(known && model->unsettled())) continue;
        now.insert(model->name);
        if (known) continue;
        log.error("model is damaged", {{"model", model->name},
                                       {"file", model->files.front().path},
                                       {"problem", model->damage()},
                                       {"restored", is_restorable(*model)}});
        if (options.metrics != nullptr)
            options.metrics->counter("hearth_models_found_damaged_total", "Models found to be damaged").add();
    }
    for (auto const& name : damaged_names) {
        if (now.contains(name) || !on_shelf(name)) continue;
        log.info("model is whole again", {{"model", name}});
        if (options.metrics != nullptr)
            options.metrics->counter("hearth_models_whole_again_total", "Damaged models that are whole again").add();
    }
    damaged_names = std::move(now);
    if (options.metrics != nullptr)
        options.metrics->gauge("hearth_models_damaged", "Models that are not served because they are damaged")
            .set(static_cast<double>(damaged_names.size()));
}

// Once it was read it is not read again before it changes.
void Library::Impl::read_quietly(catalog::Model const& model) const {
    bool const unread =
        std::ranges::find(model.files, catalog::Soundness::unread, &catalog::ModelFile::soundness) != model.files.end();
    if (!unread) return;
    static_cast<void>(keeper->post([name = model.name](Keeper::Desk& desk) {
        auto const queue = desk.jobs();
        if (!desk.writes() || !queue) return;
        // What a full queue refuses is read at the next first use.
        static_cast<void>((*queue)->enqueue({std::string(kReadKind), name, to_payload(KeepWish{name, false})}));
    }));
}

// --- uses --------------------------------------------------------------------

void Library::Impl::write_uses_down() {
    if (uses.empty()) return;
    auto const posted = keeper->post([counted = uses](Keeper::Desk& desk) { count(desk, counted); });
    if (posted) uses.clear();
}

net::Task<void> Library::write_down() {
    auto& impl = *impl_;
    if (impl.uses.empty()) co_return;
    auto const work = [counted = std::exchange(impl.uses, {})](Keeper::Desk& desk) -> Result<bool> {
        count(desk, counted);
        return true;
    };
    static_cast<void>(co_await impl.ask<bool>(work));
}

net::Task<Result<std::vector<std::string>>> Library::most_used(std::size_t limit) {
    return impl_->ask<std::vector<std::string>>([limit](Keeper::Desk& desk) -> Result<std::vector<std::string>> {
        HEARTH_TRY(auto* const catalog, desk.catalog());
        return catalog->most_used(today() - kUsedDays, limit);
    });
}

}  // namespace hearth::library

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

}  // namespace

std::string canonical(std::string const& path) {
    std::error_code failed;
    auto const real = std::filesystem::canonical(path, failed);
    return failed ? path : real.string();
}

// What requests for it are told, and what can be done.
Error damaged(catalog::Model const& model) {
    auto help = std::string("put the right file there, and it is served again");
    if (is_restorable(model))
        help = fmt::format("it is fetched again from {}: see /api/v1/jobs?kind=restore", model.source);
    else if (model.layout == catalog::Layout::ollama) help = fmt::format("`ollama pull {}` gets it again", model.name);
    else if (model.layout == catalog::Layout::hugging_face)
        help = "delete it from Hugging Face's cache and download it again";
    return {Code::unavailable, fmt::format("model '{}' is damaged: {}; {}", model.name, model.damage(), help),
            std::string(kDamaged)};
}

Error being_read(catalog::Model const& model) {
    return {Code::unavailable,
            fmt::format("the file of model '{}' changed, though its bytes are recorded, and is being read; ask again "
                        "in a moment",
                        model.name),
            std::string(kDamaged)};
}

// --- damage ------------------------------------------------------------------

void Library::Impl::suspend_damaged() {
    for (auto const& status : pool.models()) {
        auto const at = std::ranges::find(shelf->files, canonical(status.path));
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
        static_cast<void>((*queue)->enqueue({std::string(kVerifyKind), name, to_payload(KeepWish{name, false})}));
    }));
}

// --- uses --------------------------------------------------------------------

void Library::Impl::write_uses_down() {
    if (uses.empty()) return;
    auto const posted = keeper->post([counted = uses](Keeper::Desk& desk) {
        auto const catalog = desk.catalog();
        if (!catalog || !desk.writes()) return;
        // They decide what is preloaded, no more: what a full disk loses is no harm.
        static_cast<void>((*catalog)->count_uses(counted, today()));
    });
    if (posted) uses.clear();
}

net::Task<Result<std::vector<std::string>>> Library::most_used(std::size_t limit) {
    return impl_->ask<std::vector<std::string>>([limit](Keeper::Desk& desk) -> Result<std::vector<std::string>> {
        HEARTH_TRY(auto* const catalog, desk.catalog());
        return catalog->most_used(today() - kUsedDays, limit);
    });
}

net::Task<Status> Library::remember_swap(std::string name, std::string from, std::string to) {
    auto const work = [name, from = canonical(from), to = canonical(to)](Keeper::Desk& desk) -> Result<bool> {
        HEARTH_TRY(auto* const catalog, desk.catalog());
        if (!desk.writes()) return Error(Code::unavailable, "another process keeps the catalog of models");
        HEARTH_CHECK(catalog->remember_swap(name, from, to));
        return true;
    };
    auto const done = co_await impl_->ask<bool>(work);
    co_return to_status(done);
}

}  // namespace hearth::library

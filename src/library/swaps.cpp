// Names that are moved to another file: what may take one over, and how it is served.
#include <algorithm>
#include <chrono>
#include <filesystem>
#include <system_error>
#include <utility>

#include <fmt/format.h>

#include "library/changes.h"
#include "library/library_impl.h"
#include "models/report.h"
#include "telemetry/log.h"

namespace hearth::library {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kPathMax = 4096;  // bytes, the system's own

// Links are resolved as far as there is something: what is refused is refused whether it is there or not.
std::string resolved(std::string const& path) {
    std::error_code failed;
    auto const absolute = fs::absolute(path, failed);
    auto const real = failed ? absolute : fs::weakly_canonical(absolute, failed);
    return failed ? absolute.lexically_normal().string() : real.string();
}

Status check_path(std::string const& path) {
    bool const fits = !path.empty() && path.size() <= kPathMax && path.find('\0') == std::string::npos;
    if (fits) return ok();
    return Error(Code::invalid_argument,
                 fmt::format("a path has 1 to {} bytes and none that is zero, this one has {}", kPathMax, path.size()),
                 "path");
}

Status check_servable(catalog::Model const& model) {
    if (!model.damage().empty()) return damaged(model);
    if (model.unsettled()) return being_read(model);
    if (model.problem.empty()) return ok();
    return Error(Code::unsupported, fmt::format("model '{}' cannot be served: {}", model.name, model.problem), "model");
}

// All it goes by.
std::vector<std::string> all_names_of(Known const& known) {
    std::vector<std::string> names{known.name};
    if (known.status) names.insert(names.end(), known.status->aliases.begin(), known.status->aliases.end());
    if (!known.model) return names;
    auto const more = names_of(*known.model);
    names.insert(names.end(), more.begin(), more.end());
    return names;
}

// What cannot be served was named by the caller.
Error wrong_source(Error error, std::string_view param) {
    bool const of_file =
        error.code == Code::not_found || error.code == Code::corrupt || error.code == Code::unsupported;
    if (!of_file || error.param == kNotAllowed || error.param == kTemplateChanged) return error;
    return {Code::invalid_argument, std::move(error.message), std::string(param)};
}

}  // namespace

Status may_take_over(Permits const& permits, std::vector<std::string> const& folders, std::string const& path,
                     catalog::Model const* model) {
    std::vector<std::string> real;
    real.reserve(folders.size());
    for (auto const& folder : folders) real.push_back(canonical(folder));
    auto const names = model != nullptr ? names_of(*model) : std::vector<std::string>{models::model_id(path)};
    return permits.may_open(path, names, real);
}

// A file may be several models', of Ollama's names for instance: one that is allowed is enough.
Status Library::Impl::may_take_over(Keeper::Desk& desk, Shelf const& shelf_then, std::string const& path) const {
    auto const folders = desk.folders();
    auto allowed = library::may_take_over(permits, folders, path, nullptr);
    bool known = false;
    for (std::size_t i = 0; i < shelf_then.files.size(); ++i) {
        if (shelf_then.files[i] != path) continue;
        auto const now = library::may_take_over(permits, folders, path, shelf_then.models[i].get());
        if (now || !known) allowed = now;
        known = true;
        if (now) break;
    }
    return allowed;
}

Result<std::string> Library::Impl::path_of(Keeper::Desk& desk, Shelf const& shelf_then,
                                           catalog::Model const& model) const {
    auto const own = catalog::served_from(model.files);
    HEARTH_TRY(auto* const catalog, desk.catalog());
    HEARTH_TRY(auto moved, catalog->swapped(model.name, canonical(own)));
    if (moved == canonical(own)) return own;
    auto const allowed = may_take_over(desk, shelf_then, moved);
    if (allowed) return moved;
    log.warning("a model was moved to a file that may not be served: it has its own",
                {{"model", model.name}, {"file", moved}, {"why", allowed.error().message}});
    return own;
}

Result<std::string> Library::Impl::place_of(Keeper::Desk& desk, Shelf const& shelf_then,
                                            catalog::Model const& model) const {
    HEARTH_CHECK(pin(desk, model));
    return path_of(desk, shelf_then, model);
}

// --- what takes a name over --------------------------------------------------

SpecOrder Library::Impl::order_of(Known const& known) const {
    auto const& status = *known.status;
    SpecOrder order{known.name, status.path};
    if (auto const* const served = served_as(status)) {
        order.path = served->source;
        if (served->path != served->source) order.weights = served->path;
    }
    // One that joined another one has a note of its own.
    auto const opened = ours.find(status.id);
    if (!status.base.empty() && opened != ours.end()) order.path = opened->second.served.source;
    return order;
}

net::Task<Result<Swap>> Library::Impl::swap_of(SpecOrder order, std::shared_ptr<void> hold) {
    return ask<Swap>([this, order = std::move(order), hold = std::move(hold)](Keeper::Desk&) -> Result<Swap> {
        Swap swap;
        HEARTH_TRY(swap.spec, make_spec(order));
        swap.source = order.path;
        swap.origin = canonical(order.path);
        swap.hold = hold;
        return swap;
    });
}

// The one that has the name answers meanwhile, so the original will not do for a while only.
net::Task<Result<Swap>> Library::Impl::swap_to(std::function<Result<Source>(Keeper::Desk&)> look, ModelPointer model,
                                               Instant until) {
    auto source = co_await ask<Source>(std::move(look));
    if (!source) co_return source.error();
    if (source->reshape) {
        auto const original = options.reshape.original_meanwhile ? Original::if_unmade : Original::never;
        Waiter const waiter{nullptr, until};
        auto made = co_await reshape(model, *source, waiter, original);
        if (!made) co_return made.error();
        source->reshaped = *std::move(made);
    }
    SpecOrder order{source->name, source->path, source->reshaped.path};
    auto swap = co_await swap_of(std::move(order), source->reshaped.hold);
    co_return swap;
}

net::Task<Result<Swap>> Library::Impl::swap_to_file(std::string path, Instant until) {
    auto const look = [this, then = shelf, named = std::move(path)](Keeper::Desk& desk) -> Result<Source> {
        HEARTH_CHECK(check_path(named));
        auto const real = resolved(named);
        HEARTH_CHECK(may_take_over(desk, *then, real));
        auto const at = std::ranges::find(then->files, real);
        if (at == then->files.end()) return source_at(models::model_id(real), real);
        auto const& model = *then->models[static_cast<std::size_t>(at - then->files.begin())];
        HEARTH_CHECK(check_servable(model));
        HEARTH_CHECK(pin(desk, model));
        return source_at(model.name, real);
    };
    return swap_to(look, nullptr, until);
}

Known Library::Impl::looked_at_again(Known known) const {
    if (!known.status) return known;
    auto now = pool.status(known.status->id);
    if (now && !now->removing) known.status = *std::move(now);
    else known.status.reset();
    return known;
}

net::Task<Result<Swap>> Library::Impl::swap_to_model(Known from, Instant until) {
    from = looked_at_again(std::move(from));
    if (from.status) {
        if (from.status->state == serving::ModelState::damaged)
            co_return Error(Code::unavailable, from.status->problem, std::string(kDamaged));
        if (!from.status->adapters.empty() && !from.status->base.empty())
            co_return Error(Code::invalid_argument,
                            fmt::format("'{}' is '{}' with adapters on top: it has no file of its own", from.name,
                                        from.status->base),
                            "model");
        auto const usable = co_await trusted(*from.status);
        if (!usable) co_return usable.error();
        from = looked_at_again(std::move(from));  // that may have taken a while
    }
    std::string opened;
    if (from.status) {
        auto const* const served = served_as(*from.status);
        bool const made = served != nullptr && served->path != served->source;
        // What the pool has is served as it has it, unless that is an original.
        if (!from.model || made || !ours.contains(from.status->id)) {
            auto swap = co_await swap_of(order_of(from), served != nullptr ? served->hold : nullptr);
            co_return swap;
        }
        opened = served != nullptr ? served->source : from.status->path;
    } else if (!from.model) {
        co_return Error(Code::not_found, fmt::format("model '{}' is there no more", from.name), "model");
    }
    auto const look = [this, opened, model = from.model, then = shelf](Keeper::Desk& desk) -> Result<Source> {
        if (!opened.empty()) return source_at(model->name, opened);
        HEARTH_CHECK(check_servable(*model));
        HEARTH_TRY(auto path, place_of(desk, *then, *model));
        return source_at(model->name, std::move(path));
    };
    auto swap = co_await swap_to(look, from.model, until);
    co_return swap;
}

net::Task<Result<serving::ModelSpec>> Library::describe(std::string name) {
    auto& impl = *impl_;
    co_await settled();
    auto known = find(name);
    if (!known) co_return known.error();
    known = impl.looked_at_again(*std::move(known));
    if (!known->status) {
        auto const servable = check_servable(*known->model);
        if (!servable) co_return servable.error();
    }
    std::optional<SpecOrder> order;
    if (known->status) order = impl.order_of(*known);
    auto const work = [self = &impl, then = impl.shelf, model = known->model,
                       order = std::move(order)](Keeper::Desk& desk) -> Result<serving::ModelSpec> {
        if (order) return self->make_spec(*order);
        HEARTH_TRY(auto const path, self->path_of(desk, *then, *model));
        std::error_code failed;
        if (fs::is_directory(path, failed))
            return Error(Code::unsupported,
                         fmt::format("model '{}' is a folder of safetensors: what it takes is known once it is "
                                     "converted, when it is first asked for",
                                     model->name),
                         "model");
        return self->make_spec({model->name, path});
    };
    co_return co_await impl.ask<serving::ModelSpec>(work);
}

net::Task<Result<Swap>> Library::prepare_swap(SwapWish wish) {
    auto& impl = *impl_;
    auto const until = std::chrono::steady_clock::now() + wish.patience.value_or(impl.options.reshape_patience);
    auto id = co_await open(wish.name, Use::not_counted, nullptr, until);
    if (!id) co_return id.error();
    auto const known = find(*id);
    if (!known) co_return known.error();
    auto const permitted = impl.permits.may_change(all_names_of(*known));
    if (!permitted) co_return permitted.error();
    Result<Swap> swap = Swap();
    if (wish.model.empty()) {
        swap = co_await impl.swap_to_file(wish.path, until);
    } else {
        auto from = find(wish.model);
        if (!from) co_return from.error();
        swap = co_await impl.swap_to_model(*std::move(from), until);
    }
    if (!swap) co_return wrong_source(std::move(swap).error(), wish.model.empty() ? "path" : "model");
    swap->id = *std::move(id);
    co_return swap;
}

net::Task<Status> Library::remember_swap(Swap done) {
    auto& impl = *impl_;
    auto* const served = impl.served_by(done.id);
    if (served == nullptr)
        co_return Error(Code::not_found, fmt::format("model '{}' left the pool at once", done.id), "model");
    auto const from = served->origin;
    *served = {done.spec.path, done.source, done.origin, done.hold};
    auto const work = [name = done.id, from, to = done.origin](Keeper::Desk& desk) -> Result<bool> {
        HEARTH_TRY(auto* const catalog, desk.catalog());
        if (!desk.writes()) return Error(Code::unavailable, "another process keeps the catalog of models");
        HEARTH_CHECK(catalog->remember_swap(name, from, to));
        return true;
    };
    auto const kept = co_await impl.ask<bool>(work);
    co_return to_status(kept);
}

}  // namespace hearth::library

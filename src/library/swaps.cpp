// Names that are moved to another file: what may take one over, and how it is served.
#include <algorithm>
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

Result<serving::ModelSpec> Library::Impl::spec_of_file(Keeper::Desk& desk, Shelf const& shelf_then,
                                                       std::string const& named) const {
    HEARTH_CHECK(check_path(named));
    auto const path = resolved(named);
    HEARTH_CHECK(may_take_over(desk, shelf_then, path));
    auto const at = std::ranges::find(shelf_then.files, path);
    if (at == shelf_then.files.end()) return make_spec({models::model_id(path), path});
    auto const& model = *shelf_then.models[static_cast<std::size_t>(at - shelf_then.files.begin())];
    HEARTH_CHECK(check_servable(model));
    HEARTH_CHECK(pin(desk, model));
    return make_spec({model.name, path});
}

// What the pool has is served as it has it: its template was looked at then.
Result<serving::ModelSpec> Library::Impl::spec_of_model(Keeper::Desk& desk, Shelf const& shelf_then,
                                                        Known const& known) const {
    if (known.status) return make_spec({known.name, known.status->path});
    HEARTH_TRY(auto const path, path_of(desk, shelf_then, *known.model));
    return make_spec({known.name, path});
}

net::Task<Result<serving::ModelSpec>> Library::describe(std::string name) {
    auto& impl = *impl_;
    co_await settled();
    auto known = find(name);
    if (!known) co_return known.error();
    if (!known->status) {
        auto const servable = check_servable(*known->model);
        if (!servable) co_return servable.error();
    }
    auto const work = [self = &impl, then = impl.shelf, known = *std::move(known)](Keeper::Desk& desk) {
        return self->spec_of_model(desk, *then, known);
    };
    co_return co_await impl.ask<serving::ModelSpec>(work);
}

net::Task<Result<Swap>> Library::prepare_swap(SwapWish wish) {
    auto& impl = *impl_;
    auto id = co_await open(wish.name, Use::not_counted);
    if (!id) co_return id.error();
    auto const known = find(*id);
    if (!known) co_return known.error();
    auto const permitted = impl.permits.may_change(all_names_of(*known));
    if (!permitted) co_return permitted.error();
    std::optional<Known> from;
    if (!wish.model.empty()) {
        auto found = find(wish.model);
        if (!found) co_return found.error();
        from = *std::move(found);
        if (from->status && from->status->state == serving::ModelState::damaged)
            co_return Error(Code::unavailable, from->status->problem, std::string(kDamaged));
        if (from->status && !from->status->base.empty())
            co_return Error(Code::invalid_argument,
                            fmt::format("'{}' is '{}' with adapters on top: it has no file of its own", from->name,
                                        from->status->base),
                            "model");
    }
    auto const work = [self = &impl, then = impl.shelf, from,
                       path = wish.path](Keeper::Desk& desk) -> Result<serving::ModelSpec> {
        if (!from) return self->spec_of_file(desk, *then, path);
        if (!from->status) {
            HEARTH_CHECK(check_servable(*from->model));
            HEARTH_CHECK(pin(desk, *from->model));
        }
        return self->spec_of_model(desk, *then, *from);
    };
    auto spec = co_await impl.ask<serving::ModelSpec>(work);
    if (!spec) co_return wrong_source(std::move(spec).error(), wish.model.empty() ? "path" : "model");
    Swap swap;
    swap.id = *std::move(id);
    swap.spec = *std::move(spec);
    co_return swap;
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

// Models made of others and of uploaded files: copies and creations. What takes long is done away from the
// thread that keeps all models in order.
#include <algorithm>
#include <filesystem>
#include <system_error>
#include <utility>

#include <fmt/format.h>

#include "library/changes.h"
#include "library/copies.h"
#include "library/library_impl.h"
#include "names/names.h"

namespace hearth::library {
namespace {

namespace fs = std::filesystem;

// What another model may be made of. A name of --lora has no file, so the model would be
// its base alone.
Status may_be_a_base(Known const& known) {
    if (!known.model && known.status && !known.status->base.empty())
        return Error(Code::unsupported,
                     fmt::format("'{0}' is '{1}' with adapters that --lora gave, and no file says so: make the model "
                                 "of '{1}', with these adapters",
                                 known.name, known.status->base),
                     "from");
    return known.model ? check_sound(*known.model) : ok();
}

Weights to_weights(Copies copies) {
    Weights weights;
    weights.files.path = std::move(copies.path);
    weights.files.copied = true;
    weights.copied = std::move(copies.of);
    weights.folders.push_back(std::move(copies.folder));
    return weights;
}

}  // namespace

net::Task<Status> Library::copy(std::string source, std::string destination) {
    auto& impl = *impl_;
    co_await settled();
    auto const from = find(source);
    if (!from) co_return from.error();
    if (!from->model)
        co_return not_allowed(fmt::format("model '{}' was given by --model and lies in no models folder", from->name));
    auto names = names_of(*from->model);
    auto const permitted = impl.permits.may_change(names);
    if (!permitted) co_return permitted.error();
    auto const sound = check_sound(*from->model);
    if (!sound) co_return sound.error();
    auto const taken = find(destination);
    if (!taken && taken.error().code != Code::not_found) co_return taken.error();
    CopyOrder order{from->model, destination, nullptr, std::nullopt, nullptr};
    if (taken) {
        if (taken->name == from->name) co_return ok();
        if (!taken->model || std::ranges::find(impl.given, taken->name) != impl.given.end())
            co_return not_allowed(fmt::format("model '{}' was given by --model, so its name stays", taken->name));
        auto const others = names_of(*taken->model);
        auto const replaceable = impl.permits.may_change(others);
        if (!replaceable) co_return replaceable.error();
        order.alias = alias_meant(*taken->model, destination);
        if (!order.alias) {
            auto const removable = may_replace(*taken->model, destination);
            if (!removable) co_return removable.error();
            order.replaced = taken->model;
        }
    }
    if (gets_own_files(order)) {
        auto const& first = order.model->files.front().path;
        auto const watch = [end = impl.ending.get_token()](auto, auto) { return !end.stop_requested(); };
        auto copies = co_await impl.copies_of(first, fs::path(first).parent_path().string(), watch);
        if (!copies) co_return copies.error();
        order.copies = *std::move(copies);
    }
    if (order.replaced) impl.let_go(order.replaced->name);
    auto const work = [order = std::move(order)](Keeper::Desk& desk) -> Result<bool> {
        HEARTH_CHECK(copy_model(desk, order));
        return true;
    };
    auto const done = co_await impl.ask<bool>(work);
    co_return to_status(done);
}

net::Task<Result<std::shared_ptr<Creation>>> Library::create(CreateOrder order) {
    auto& impl = *impl_;
    co_await settled();
    std::vector<std::string> const names{order.name};
    auto const permitted = impl.permits.may_change(names);
    if (!permitted) co_return permitted.error();
    if (impl.options.folders.empty())
        co_return Error(Code::unavailable, "there is no models folder to create a model in");
    WeightsOrder wanted;
    if (order.files.empty()) {
        // By name alone: a client has no business with the paths of this machine.
        auto const from = find(order.modelfile.from);
        if (!from) co_return from.error();
        auto const usable = may_be_a_base(*from);
        if (!usable) co_return usable.error();
        wanted.from = impl.weights_path(*from);
        auto const look = [from = *from, path = wanted.from](Keeper::Desk&) -> Result<bool> {
            std::error_code failed;
            return from.model ? catalog::is_folder(from.model->files) : fs::is_directory(path, failed);
        };
        auto const folder = co_await impl.ask<bool>(look);
        if (!folder) co_return folder.error();
        wanted.folder = *folder;
        wanted.in_place = names::is_same_name(order.name, from->name);
        order.modelfile.from = from->model ? from->model->name : wanted.from;
    }
    wanted.known = impl.known_files(order);
    wanted.files = std::move(order.files);
    wanted.adapters = std::move(order.adapters);
    wanted.quantize = std::move(order.quantize);
    auto const creation = std::make_shared<Creation>(impl.loop);
    impl.loop.spawn(impl.make(creation, std::move(order), std::move(wanted)));
    co_return creation;
}

// What its weights are in, not what was made of them to be served.
std::string Library::Impl::weights_path(Known const& known) {
    if (known.model) return catalog::served_from(known.model->files);
    auto const* const served = served_by(known.status->id);
    return served != nullptr ? served->source : known.status->path;
}

net::Task<Result<std::shared_ptr<Copies>>> Library::Impl::copies_of(std::string path, std::string folder,
                                                                    CopyWatch watch) {
    using Files = std::vector<catalog::ModelFile>;
    auto const look = [path = std::move(path), folder](Keeper::Desk&) -> Result<Files> {
        HEARTH_TRY(auto files, files_at(path));
        HEARTH_TRY(bool const needed, need_copies(files, folder));
        return needed ? std::move(files) : Files();
    };
    auto files = co_await ask<Files>(look);
    if (!files) co_return files.error();
    if (files->empty()) co_return std::shared_ptr<Copies>();
    auto work = [this, files = *std::move(files), folder = std::move(folder),
                 watch = std::move(watch)]() -> Result<std::shared_ptr<Copies>> {
        HEARTH_TRY(auto copies, make_copies(files, folder, options.copy_file, watch));
        return std::make_shared<Copies>(std::move(copies));
    };
    auto const post = [this](std::function<void()> task) { return maker.post(std::move(task)); };
    co_return co_await library::ask<std::shared_ptr<Copies>>(loop, post, std::move(work));
}

net::Task<Result<std::shared_ptr<Weights>>> Library::Impl::weights_of(std::shared_ptr<Creation> creation,
                                                                      WeightsOrder order) {
    order.models_folder = options.folders.front();
    auto const stopped = [stop = creation->stop(), end = ending.get_token()] {
        return stop.stop_requested() || end.stop_requested();
    };
    auto weights = std::make_shared<Weights>();
    if (order.as_they_are() && !order.in_place) {
        auto const watch = [creation, stopped](std::uint64_t done, std::uint64_t total) {
            Creation::report(creation, {"copying model", done, total});
            return !stopped();
        };
        auto copies = co_await copies_of(order.from, order.models_folder, watch);
        if (!copies) co_return copies.error();
        if (*copies) *weights = to_weights(std::move(**copies));
    }
    if (order.as_they_are() && order.adapters.empty()) co_return weights;
    auto work = [this, creation, stopped, weights, order = std::move(order)]() -> Result<std::shared_ptr<Weights>> {
        if (stopped()) return Error(Code::cancelled, "nobody waits for the model any more");
        auto const say = [&](CreateStep step) { Creation::report(creation, std::move(step)); };
        if (!order.as_they_are()) {
            HEARTH_TRY(*weights, make_weights(order, blobs, options.make_file, say, stopped));
        }
        HEARTH_CHECK(add_adapters(*weights, order, blobs, options.make_file, stopped));
        return weights;
    };
    weights.reset();  // they are large, and let go on the thread that had them last
    auto const post = [this](std::function<void()> task) { return maker.post(std::move(task)); };
    co_return co_await library::ask<std::shared_ptr<Weights>>(loop, post, std::move(work));
}

Result<catalog::Created> Library::Impl::create_with(std::string const& name, modelfile::Modelfile modelfile,
                                                    Weights const& weights,
                                                    std::vector<std::string> const& folders) const {
    HEARTH_CHECK(check_unchanged(weights.copied));
    if (!weights.adapters.empty()) modelfile.adapters = weights.adapters;
    auto created = catalog::create_model(name, modelfile, folders, weights.files);
    bool const of_adapters = !created && created.error().param == catalog::kAdaptersParam;
    if (of_adapters && !weights.adapters.empty()) return about_adapters(created.error(), weights);
    return created;
}

net::Task<void> Library::Impl::make(std::shared_ptr<Creation> creation, CreateOrder order, WeightsOrder wanted) {
    auto weights = co_await weights_of(creation, std::move(wanted));
    if (!weights) {
        creation->finish(weights.error());
        co_return;
    }
    // The weights are let go on the keeper's thread: large files take a while to be removed.
    auto work = [this, name = order.name, modelfile = std::move(order.modelfile),
                 weights = *std::move(weights)](Keeper::Desk& desk) -> Result<catalog::Created> {
        HEARTH_TRY(auto created, create_with(name, modelfile, *weights, desk.folders()));
        HEARTH_CHECK(desk.scan());
        HEARTH_CHECK(note_made(desk, created.name));
        return created;
    };
    auto created = co_await ask<catalog::Created>(std::move(work));
    // One that is served goes on as it was until it leaves the pool; it comes back as it is now.
    if (created) let_go(created->name);
    creation->finish(std::move(created));
}

std::optional<std::string> Library::Impl::known_file(std::string_view hex) const {
    for (auto const& model : shelf->models) {
        if (model->unsettled() || !model->damage().empty()) continue;
        // Who knows a digest gets no model by it that may not be had by its name.
        if (!permits.may_load(names_of(*model))) continue;
        for (auto const& file : model->files)
            if (file.recorded && file.sha256 == hex) return file.path;
    }
    return std::nullopt;
}

KnownFiles Library::Impl::known_files(CreateOrder const& order) const {
    KnownFiles known;
    for (auto const* const files : {&order.files, &order.adapters}) {
        for (auto const& [name, digest] : *files) {
            auto const hex = parse_digest(digest);
            auto path = hex ? known_file(*hex) : std::nullopt;
            if (path) known.emplace(*hex, *std::move(path));
        }
    }
    return known;
}

}  // namespace hearth::library

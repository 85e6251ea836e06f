#include "library/library.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "base/assert.h"
#include "library/changes.h"
#include "library/library_impl.h"
#include "models/names.h"
#include "telemetry/log.h"

namespace hearth::library {
namespace {

// Until a model that leaves the pool is gone, so that it can come back.
constexpr Duration kRemovalPatience = std::chrono::seconds(30);
constexpr Duration kMotionPoll = std::chrono::milliseconds(5);

// Another one soon: it leaves the pool, or its file is being read.
bool is_in_motion(Known const& known) {
    return (known.status && known.status->removing) || (known.model && known.model->unsettled());
}

bool is_servable(Known const& known) {
    return known.model && known.model->problem.empty() && known.model->damage().empty();
}

bool is_called(Known const& known, std::string_view name) {
    auto const same = [&](std::string const& other) { return models::is_same_name(other, name); };
    if (same(known.name)) return true;
    if (known.status && (same(known.status->id) || std::ranges::any_of(known.status->aliases, same))) return true;
    return known.model && (same(known.model->name) || std::ranges::any_of(known.model->aliases, same));
}

bool is_exactly_called(Known const& known, std::string_view name) {
    auto const among = [&](std::vector<std::string> const& names) {
        return std::ranges::find(names, name) != names.end();
    };
    if (known.name == name) return true;
    if (known.status && among(known.status->aliases)) return true;
    return known.model && (known.model->name == name || among(known.model->aliases));
}

}  // namespace

// --- what there is -----------------------------------------------------------

void Library::Impl::take(std::shared_ptr<Shelf const> now) {
    shelf = std::move(now);
    settled = true;
    let_changed_go();
    suspend_damaged();
    tell_damage();
    write_uses_down();
    looked.notify();
}

std::shared_ptr<catalog::Model const> Library::Impl::on_shelf(std::string_view name) const {
    auto const found = std::ranges::lower_bound(shelf->models, name, {},
                                                [](auto const& model) -> std::string const& { return model->name; });
    return found != shelf->models.end() && (*found)->name == name ? *found : nullptr;
}

void Library::Impl::let_changed_go() {
    std::erase_if(ours, [&](auto const& entry) {
        auto const& [id, opened] = entry;
        auto const now = on_shelf(id);
        if (now && catalog::are_same_files(now->files, opened->files) && !now->template_changed()) return false;
        log.info("model leaves the pool", {{"model", id}, {"why", now ? "its files changed" : "its files are gone"}});
        static_cast<void>(pool.remove(id));
        return true;
    });
}

std::shared_ptr<catalog::Model const> Library::Impl::behind(std::string const& id) const {
    auto const file = given_files.find(id);
    if (file == given_files.end()) return on_shelf(id);
    auto const at = std::ranges::find(shelf->files, file->second);
    return at == shelf->files.end() ? nullptr : shelf->models[static_cast<std::size_t>(at - shelf->files.begin())];
}

// --- what there is, by name --------------------------------------------------

std::vector<Known> Library::list() const {
    auto const& impl = *impl_;
    std::vector<Known> out;
    std::set<std::string_view> placed;
    for (auto& status : impl.pool.models()) {
        Known known;
        known.name = status.id;
        // A name for another one with adapters has no files of its own.
        if (status.base.empty()) known.model = impl.behind(status.id);
        // Its files are gone, and it goes when its requests have ended.
        if (!known.model && status.removing) continue;
        if (known.model) placed.insert(known.model->name);
        known.status = std::move(status);
        out.push_back(std::move(known));
    }
    for (auto const& model : impl.shelf->models) {
        if (placed.contains(model->name) || !impl.permits.may_load(names_of(*model))) continue;
        out.push_back({.name = model->name, .status = std::nullopt, .model = model});
    }
    return out;
}

Result<Known> Library::find(std::string_view name) const {
    auto all = list();
    if (name.empty()) {
        // Not the first of the pool: that is whoever was asked for first.
        auto const& given = impl_->given;
        auto best = all.end();
        for (auto known = all.begin(); known != all.end(); ++known) {
            bool const fits = given.empty() ? is_servable(*known) : known->name == given[0];
            if (fits && (best == all.end() || known->name < best->name)) best = known;
        }
        if (best != all.end()) return std::move(*best);
        return Error(Code::not_found, "there is no model on this server yet; `hearth pull` gets one", "model");
    }
    for (auto& known : all)
        if (is_exactly_called(known, name)) return std::move(known);
    std::vector<Known*> hits;
    for (auto& known : all)
        if (is_called(known, name)) hits.push_back(&known);
    if (hits.size() == 1) return std::move(*hits.front());
    if (hits.size() > 1)
        return Error(Code::invalid_argument,
                     fmt::format("'{}' means more than one model: {} and {}", name, hits[0]->name, hits[1]->name),
                     "model");
    return Error(Code::not_found, fmt::format("there is no model '{}'", name.substr(0, 128)), "model");
}

net::Task<void> Library::settled() {
    while (!impl_->settled) co_await impl_->looked.wait();
}

// --- into the pool -----------------------------------------------------------

net::Task<Result<std::string>> Library::open(std::string name, Use use) {
    auto& impl = *impl_;
    co_await settled();
    auto known = find(name);
    for (Duration waited{}; known && is_in_motion(*known); waited += kMotionPoll) {
        bool const reading = known->model && known->model->unsettled();
        if (reading && waited >= kSettlePatience) co_return being_read(*known->model);
        if (waited >= kRemovalPatience)
            co_return Error(Code::unavailable, fmt::format("model '{}' is being removed", known->name), "model");
        co_await impl.loop.sleep(kMotionPoll);
        known = find(name);
    }
    if (!known) co_return known.error();
    // What the pool has may be another file by now: it says itself when that is damaged.
    if (known->status && known->status->state == serving::ModelState::damaged)
        co_return Error(Code::unavailable, known->status->problem, std::string(kDamaged));
    if (!known->status && !known->damage().empty()) co_return damaged(*known->model);
    if (known->model && use == Use::counted) ++impl.uses[known->model->name];
    if (known->status) co_return known->status->id;
    auto const model = known->model;
    if (!model->problem.empty())
        co_return Error(Code::unsupported, fmt::format("model '{}' cannot be served: {}", model->name, model->problem),
                        "model");
    auto const prepare = [model, &make = impl.make_spec](Keeper::Desk& desk) -> Result<serving::ModelSpec> {
        HEARTH_CHECK(pin(desk, *model));
        HEARTH_TRY(auto* const catalog, desk.catalog());
        auto const& path = model->files.front().path;
        HEARTH_TRY(auto const moved, catalog->swapped(model->name, canonical(path)));
        return make(model->name, moved == canonical(path) ? path : moved);
    };
    auto spec = co_await impl.ask<serving::ModelSpec>(prepare);
    if (!spec) co_return spec.error();
    // Another request may have been quicker.
    if (impl.pool.status(model->name)) co_return model->name;
    spec->lazy = true;
    auto const added = impl.pool.add(*std::move(spec));
    if (!added) co_return added.error();
    impl.ours[model->name] = model;
    impl.let_changed_go();  // it may have changed meanwhile
    impl.suspend_damaged();
    impl.read_quietly(*model);
    co_return model->name;
}

// --- changes -----------------------------------------------------------------

net::Task<Status> Library::refresh() {
    auto const work = [](Keeper::Desk& desk) -> Result<bool> {
        HEARTH_CHECK(desk.scan());
        return true;
    };
    auto const done = co_await impl_->ask<bool>(work);
    co_return to_status(done);
}

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
    auto const taken = find(destination);
    if (taken && is_called(*taken, destination))
        co_return Error(Code::invalid_argument, fmt::format("there is a model '{}' already", destination),
                        "destination");
    auto const work = [model = from->model, destination](Keeper::Desk& desk) -> Result<bool> {
        HEARTH_CHECK(copy_model(desk, *model, destination));
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
    std::string path;
    if (order.files.empty()) {
        // By name alone: a client has no business with the paths of this machine.
        auto const from = find(order.modelfile.from);
        if (!from) co_return from.error();
        path = from->model ? from->model->files.front().path : from->status->path;
        order.modelfile.from = from->model ? from->model->name : path;
    }
    auto const creation = std::make_shared<Creation>(impl.loop);
    impl.loop.spawn(impl.make(creation, std::move(order), std::move(path)));
    co_return creation;
}

net::Task<Result<std::shared_ptr<Weights>>> Library::Impl::weights_of(std::shared_ptr<Creation> creation,
                                                                      WeightsOrder order) {
    if (order.files.empty() && order.quantize.empty()) co_return std::make_shared<Weights>();
    order.models_folder = options.folders.front();
    auto const work = [this, creation, order = std::move(order),
                       end = ending.get_token()]() -> Result<std::shared_ptr<Weights>> {
        auto const stop = creation->stop();
        auto const stopped = [&] { return stop.stop_requested() || end.stop_requested(); };
        if (stopped()) return Error(Code::cancelled, "nobody waits for the model any more");
        HEARTH_TRY(auto weights, make_weights(
                                     order, blobs, options.make_file,
                                     [&](CreateStep step) { Creation::report(creation, std::move(step)); }, stopped));
        return std::make_shared<Weights>(std::move(weights));
    };
    auto const post = [this](std::function<void()> task) { return maker.post(std::move(task)); };
    co_return co_await library::ask<std::shared_ptr<Weights>>(loop, post, work);
}

Result<catalog::Created> Library::Impl::create_with(std::string const& name, modelfile::Modelfile modelfile,
                                                    std::vector<std::pair<std::string, std::string>> const& adapters,
                                                    std::string const& weights) const {
    if (adapters.empty()) return catalog::create_model(name, modelfile, options.folders, weights);
    HEARTH_TRY(auto staged, stage_adapters(adapters, blobs));
    modelfile.adapters = std::move(staged.paths);
    auto created = catalog::create_model(name, modelfile, options.folders, weights);
    if (!created) return about_adapters(created.error(), staged.folder.path());
    return created;
}

net::Task<void> Library::Impl::make(std::shared_ptr<Creation> creation, CreateOrder order, std::string from) {
    WeightsOrder wanted{std::move(from), std::move(order.files), std::move(order.quantize), {}};
    auto weights = co_await weights_of(creation, std::move(wanted));
    if (!weights) {
        creation->finish(weights.error());
        co_return;
    }
    // The weights are let go on the keeper's thread: large files take a while to be removed.
    auto work = [this, name = order.name, modelfile = std::move(order.modelfile), adapters = std::move(order.adapters),
                 weights = *std::move(weights)](Keeper::Desk& desk) -> Result<catalog::Created> {
        HEARTH_TRY(auto created, create_with(name, modelfile, adapters, weights->path));
        HEARTH_CHECK(desk.scan());
        return created;
    };
    auto created = co_await ask<catalog::Created>(std::move(work));
    // One that is served goes on as it was until it leaves the pool; it comes back as it is now.
    if (created && ours.erase(created->name) > 0) static_cast<void>(pool.remove(created->name));
    creation->finish(std::move(created));
}

Result<Uploads*> Library::uploads() {
    HEARTH_CHECK(impl_->permits.may_change_some());
    return &impl_->uploads;
}

void Library::Impl::tidy() const {
    blobs.tidy(std::chrono::system_clock::now());
    for (auto const& folder : options.folders) StagingFolder::remove_stale(folder);
}

net::Task<Status> Library::remove(std::string name) {
    auto& impl = *impl_;
    co_await settled();
    auto const known = find(name);
    if (!known) co_return known.error();
    bool const given = std::ranges::find(impl.given, known->name) != impl.given.end();
    if (given || !known->model)
        co_return not_allowed(fmt::format("model '{}' was given by --model, so it stays", known->name));
    auto const names = names_of(*known->model);
    auto const permitted = impl.permits.may_change(names);
    if (!permitted) co_return permitted.error();
    auto const alias = alias_meant(*known->model, name);
    if (!alias) {
        auto const removable = may_delete(*known->model);
        if (!removable) co_return removable.error();
        impl.ours.erase(known->name);
        if (known->status) static_cast<void>(impl.pool.remove(known->name));
    }
    auto const work = [model = known->model, alias](Keeper::Desk& desk) -> Result<bool> {
        HEARTH_CHECK(alias ? remove_alias(desk, *alias) : delete_model(desk, *model));
        return true;
    };
    auto const done = co_await impl.ask<bool>(work);
    co_return to_status(done);
}

net::Task<Status> Library::trust(std::string name) {
    auto& impl = *impl_;
    co_await settled();
    auto const known = find(name);
    if (!known) co_return known.error();
    if (!known->model)
        co_return Error(Code::not_found, fmt::format("model '{}' lies in no models folder", known->name), "model");
    auto const names = names_of(*known->model);
    auto const permitted = impl.permits.may_change(names);
    if (!permitted) co_return permitted.error();
    auto const work = [model = known->model](Keeper::Desk& desk) -> Result<bool> {
        HEARTH_TRY(auto* const catalog, desk.catalog());
        HEARTH_CHECK(catalog->confirm_template(model->name));
        HEARTH_CHECK(desk.scan());
        return true;
    };
    auto const done = co_await impl.ask<bool>(work);
    co_return to_status(done);
}

// --- jobs --------------------------------------------------------------------

Status Library::Impl::learn(PullWish const& wish, fetch::Pulled const& pulled, std::stop_token const& stop) const {
    return keeper->run(
        [&](Keeper::Desk& desk) -> Status {
            HEARTH_CHECK(desk.scan());
            HEARTH_CHECK(note_pulled(desk, pulled));
            return name_pulled(desk, wish, pulled);
        },
        stop);
}

net::Task<Result<jobs::Job>> Library::verify(std::string name) {
    auto& impl = *impl_;
    co_await settled();
    auto const known = find(name);
    if (!known) co_return known.error();
    if (!known->model)
        co_return not_allowed(fmt::format("model '{}' was given by --model and lies in no models folder", known->name));
    auto const work = [model = known->model->name](Keeper::Desk& desk) -> Result<jobs::Job> {
        HEARTH_TRY(auto* const queue, desk.jobs());
        // Not the same as a quiet one, which takes its time.
        HEARTH_TRY(auto enqueued,
                   queue->enqueue({std::string(kVerifyKind), model + "\nurgent", to_payload(KeepWish{model, true})}));
        return std::move(enqueued.job);
    };
    co_return co_await impl.ask<jobs::Job>(work);
}

net::Task<Result<jobs::Job>> Library::pull(PullWish wish) {
    auto& impl = *impl_;
    auto const target = resolve_wish(wish, impl.options.known);
    if (!target) co_return target.error();
    if (std::holds_alternative<fetch::LocalReference>(target->reference))
        co_return Error(Code::invalid_argument,
                        "a server pulls no files of its own machine; `hearth pull PATH` there does", "source");
    if (impl.options.folders.empty())
        co_return Error(Code::unavailable, "there is no models folder to pull into: the server needs --models-dir");
    auto const source = fetch::to_string(target->reference);
    std::vector<std::string> const names{wish.model, source};
    auto const permitted = impl.permits.may_change(names);
    if (!permitted) co_return permitted.error();
    auto const key = source + '\n' + target->rename;
    auto const work = [wish = std::move(wish), key](Keeper::Desk& desk) -> Result<jobs::Job> {
        HEARTH_TRY(auto* const queue, desk.jobs());
        HEARTH_TRY(auto enqueued, queue->enqueue({std::string(kPullKind), key, to_payload(wish)}));
        return std::move(enqueued.job);
    };
    co_return co_await impl.ask<jobs::Job>(work);
}

net::Task<Result<jobs::Job>> Library::push(PushWish wish) {
    auto& impl = *impl_;
    co_await settled();
    auto const target = target_of(wish);
    if (!target) co_return target.error();
    auto const known = find(wish.model);
    if (!known) co_return known.error();
    auto names = known->model ? names_of(*known->model) : std::vector<std::string>{known->name};
    names.push_back(fetch::to_string(fetch::Reference(*target)));
    auto const permitted = impl.permits.may_change(names);
    if (!permitted) co_return permitted.error();
    if (!known->model)
        co_return not_allowed(fmt::format("model '{}' was given by --model and lies in no models folder", known->name));
    auto const work = [wish = std::move(wish), key = names.back()](Keeper::Desk& desk) -> Result<jobs::Job> {
        HEARTH_TRY(auto* const queue, desk.jobs());
        HEARTH_TRY(auto enqueued, queue->enqueue({std::string(kPushKind), key, to_payload(wish)}));
        return std::move(enqueued.job);
    };
    co_return co_await impl.ask<jobs::Job>(work);
}

// On a job's thread.
Result<PushSubject> Library::Impl::subject_of(PushWish const& wish, std::stop_token const& stop) const {
    PushSubject subject;
    HEARTH_CHECK(keeper->run(
        [&](Keeper::Desk& desk) -> Status {
            HEARTH_TRY(auto* const catalog, desk.catalog());
            HEARTH_TRY(auto const model, find_pushed(*catalog, wish));
            subject.path = model.files.front().path;
            HEARTH_TRY(subject.definition, catalog::definition_of(model.name, subject.path, options.folders));
            return ok();
        },
        stop));
    return subject;
}

net::Task<Result<std::vector<jobs::Job>>> Library::jobs(jobs::Filter filter) {
    return impl_->ask<std::vector<jobs::Job>>(
        [filter = std::move(filter)](Keeper::Desk& desk) -> Result<std::vector<jobs::Job>> {
            HEARTH_TRY(auto* const queue, desk.jobs());
            return queue->list(filter);
        });
}

net::Task<Result<jobs::Job>> Library::job(std::string id) {
    return impl_->ask<jobs::Job>([id = std::move(id)](Keeper::Desk& desk) -> Result<jobs::Job> {
        HEARTH_TRY(auto* const queue, desk.jobs());
        return queue->get(id);
    });
}

net::Task<Result<jobs::Job>> Library::act(std::string id, JobAct act) {
    return impl_->ask<jobs::Job>([id = std::move(id), act](Keeper::Desk& desk) -> Result<jobs::Job> {
        HEARTH_TRY(auto* const queue, desk.jobs());
        switch (act) {
            case JobAct::pause: return queue->pause(id);
            case JobAct::resume: return queue->resume(id);
            case JobAct::cancel: return queue->cancel(id);
            case JobAct::retry: return queue->retry(id);
        }
        return Error(Code::internal, "no such act");
    });
}

net::Task<Result<std::shared_ptr<JobFeed>>> Library::watch(std::string id) {
    auto& impl = *impl_;
    std::erase_if(impl.feeds, [](auto const& entry) { return entry.second.expired(); });
    auto feed = impl.feeds[id].lock();
    if (!feed) impl.feeds[id] = feed = std::make_shared<JobFeed>(impl.loop);
    // Listening first, then looking: nothing is missed in between.
    auto now = co_await job(id);
    if (!now) co_return now.error();
    if (feed->job_.id.empty() || now->revision > feed->job_.revision) feed->job_ = *std::move(now);
    co_return feed;
}

void Library::Impl::tell(jobs::Job const& job) {
    auto const found = feeds.find(job.id);
    auto const feed = found == feeds.end() ? nullptr : found->second.lock();
    if (!feed || (!feed->job_.id.empty() && job.revision < feed->job_.revision)) return;
    feed->job_ = job;
    feed->changed_.notify();
}

// --- life --------------------------------------------------------------------

Result<std::unique_ptr<Library>> Library::create(net::Loop& loop, serving::Pool& pool, telemetry::Log& log,
                                                 Options options, MakeSpec make_spec) {
    HEARTH_ASSERT(make_spec && options.new_id && !options.data_folder.empty(), "Options is complete");
    HEARTH_TRY(auto permits, Permits::create(options.allowed, options.open));
    auto impl = std::make_unique<Impl>(loop, pool, log, std::move(options), std::move(make_spec), std::move(permits));
    for (auto const& model : pool.models()) {
        impl->given.push_back(model.id);
        if (model.base.empty()) impl->given_files[model.id] = canonical(model.path);
    }
    auto* const self = impl.get();
    self->handler.set_learn(
        [self](auto const& wish, auto const& pulled, auto const& stop) { return self->learn(wish, pulled, stop); });
    self->handler.set_tell([self](auto const& id, auto const& why) {
        self->on_loop([self, id, why] {
            auto const found = self->feeds.find(id);
            if (auto const feed = found == self->feeds.end() ? nullptr : found->second.lock()) feed->failure_ = why;
        });
    });
    self->pushes.set_find([self](auto const& wish, auto const& stop) { return self->subject_of(wish, stop); });
    Keeper::Options keeping;
    keeping.folders = self->options.folders;
    keeping.data_folder = self->options.data_folder;
    keeping.rescan = self->options.rescan;
    keeping.new_id = self->options.new_id;
    auto const at_desk = [self](auto task, auto const& stop) { return self->keeper->run(std::move(task), stop); };
    self->verifier.set_desk(at_desk);
    self->restorer.set_desk(at_desk);
    if (auto const pulls = self->options.pulls_at_once; pulls > 0)
        keeping.kinds = {{kPullKind, &self->handler, pulls},
                         {kVerifyKind, &self->verifier, 1},
                         {kRestoreKind, &self->restorer, 1},
                         {kPushKind, &self->pushes, 1}};
    keeping.on_shelf = [self](auto shelf) { self->on_loop([self, shelf = std::move(shelf)] { self->take(shelf); }); };
    keeping.on_job = [self](jobs::Job const& job) { self->on_loop([self, job] { self->tell(job); }); };
    self->keeper = std::make_unique<Keeper>(std::move(keeping), log);
    return std::unique_ptr<Library>(new Library(std::move(impl)));  // NOLINT(modernize-make-unique): private
}

Library::Library(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Library::~Library() = default;

}  // namespace hearth::library

#include "library/library.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "base/assert.h"
#include "library/changes.h"
#include "library/library_impl.h"
#include "names/names.h"
#include "telemetry/log.h"

namespace hearth::library {
namespace {

bool is_servable(Known const& known) {
    return known.model && known.model->problem.empty() && known.model->damage().empty();
}

bool is_called(Known const& known, std::string_view name) {
    auto const same = [&](std::string const& other) { return names::is_same_name(other, name); };
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

// Whose file that is: that of `own`, if it is one of several; null where it is nobody's.
std::shared_ptr<catalog::Model const> whose(Shelf const& shelf, std::string const& origin,
                                            std::shared_ptr<catalog::Model const> const& own) {
    std::shared_ptr<catalog::Model const> first;
    for (std::size_t i = 0; i < shelf.files.size(); ++i) {
        if (shelf.files[i] != origin) continue;
        if (own && shelf.models[i]->name == own->name) return own;
        if (!first) first = shelf.models[i];
    }
    return first;
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
        // It left with the model whose worker served it, and holds its file no more.
        if (!pool.status(id)) return true;
        auto const now = on_shelf(id);
        if (now && catalog::are_same_files(now->files, opened.model->files) && !now->template_changed()) return false;
        log.info("model leaves the pool", {{"model", id}, {"why", now ? "its files changed" : "its files are gone"}});
        static_cast<void>(pool.remove(id));
        last_names.erase(id);
        return true;
    });
    std::erase_if(reshaped, [&](auto const& entry) {
        auto const& owner = *entry.second.owner;
        auto const now = on_shelf(owner.name);
        return !now || !catalog::are_same_files(now->files, owner.files);
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
        // A name for another one with adapters has no files of its own, unless it is a model that joined it.
        if (status.base.empty()) known.model = impl.behind(status.id);
        else if (impl.ours.contains(status.id)) known.model = impl.on_shelf(status.id);
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

net::Task<Result<Described>> Library::definition(std::string name) {
    auto& impl = *impl_;
    co_await settled();
    auto const known = find(name);
    if (!known) co_return known.error();
    auto const& status = known->status;
    if (status && (status->definition || !known->model)) {
        Described out{{}, status->path, known->model};
        if (status->definition) out.definition = *status->definition;
        // What joined another one's worker was made of the same file.
        if (status->base.empty()) out.model = whose(*impl.shelf, impl.origin_of(*status), known->model);
        co_return out;
    }
    auto const work = [self = &impl, then = impl.shelf, model = known->model](Keeper::Desk& desk) -> Result<Described> {
        HEARTH_TRY(auto path, self->path_of(desk, *then, *model));
        HEARTH_TRY(auto definition, catalog::definition_of(model->name, path, desk.folders()));
        auto owner = whose(*then, canonical(path), model);
        return Described{std::move(definition), std::move(path), std::move(owner)};
    };
    co_return co_await impl.ask<Described>(work);
}

net::Task<void> Library::settled() {
    while (!impl_->settled) co_await impl_->looked.wait();
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
    auto alias = alias_meant(*known->model, name);
    if (alias && is_last_name(*known->model, *alias)) alias.reset();
    bool const goes = !alias && !has_other_names(*known->model);
    if (!alias) {
        auto const removable = may_delete(*known->model);
        if (!removable) co_return removable.error();
    }
    if (goes) {
        impl.ours.erase(known->name);
        impl.last_names.erase(known->name);
        if (known->status) static_cast<void>(impl.pool.remove(known->name));
    }
    auto const work = [model = known->model, alias, goes](Keeper::Desk& desk) -> Result<bool> {
        if (goes) HEARTH_CHECK(delete_model(desk, *model));
        else HEARTH_CHECK(alias ? remove_alias(desk, *model, *alias) : leave_to_others(desk, *model));
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
    auto const names = known->model ? names_of(*known->model) : std::vector<std::string>{known->name};
    auto const permitted = impl.permits.may_change(names);
    if (!permitted) co_return permitted.error();
    if (!known->model) co_return co_await impl.trust_given(*known->status);
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
            return name_at_desk(desk, wish, pulled);
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
        HEARTH_TRY(auto enqueued, queue->enqueue({std::string(kVerifyKind), model, to_payload(KeepWish{model, true})}));
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
    auto const sound = check_sound(*known->model);
    if (!sound) co_return sound.error();
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
            subject.name = model.name;
            subject.path = catalog::served_from(model.files);
            HEARTH_TRY(subject.definition, catalog::definition_of(model.name, subject.path, desk.folders()));
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

net::Task<Result<std::shared_ptr<JobFeed>>> Library::watch(std::string id) { return impl_->watch(std::move(id)); }

net::Task<Result<std::shared_ptr<JobFeed>>> Library::Impl::watch(std::string id) {
    std::erase_if(feeds, [](auto const& entry) { return entry.second.expired(); });
    auto feed = feeds[id].lock();
    if (!feed) feeds[id] = feed = std::make_shared<JobFeed>(loop);
    // Listening first, then looking: nothing is missed in between.
    auto const look = [id](Keeper::Desk& desk) -> Result<jobs::Job> {
        HEARTH_TRY(auto* const queue, desk.jobs());
        return queue->get(id);
    };
    auto now = co_await ask<jobs::Job>(look);
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
        if (!model.base.empty()) continue;
        auto const made = impl->options.made_of.find(model.id);
        auto const& source = made == impl->options.made_of.end() ? model.path : made->second;
        auto const origin = canonical(source);
        impl->given_files[model.id] = origin;
        impl->given_served[model.id] = {model.path, source, origin, nullptr};  // its hold is who gave it
    }
    auto* const self = impl.get();
    self->handler.set_holdings(&self->held);
    self->handler.set_learn(
        [self](auto const& wish, auto const& pulled, auto const& stop) { return self->learn(wish, pulled, stop); });
    auto const tell_why = [self](std::string const& id, Error const& why) {
        self->on_loop([self, id, why] {
            auto const found = self->feeds.find(id);
            if (auto const feed = found == self->feeds.end() ? nullptr : found->second.lock()) feed->failure_ = why;
        });
    };
    self->handler.set_tell(tell_why);
    self->quantizer.set_tell(tell_why);
    self->pushes.set_find([self](auto const& wish, auto const& stop) { return self->subject_of(wish, stop); });
    self->pushes.set_tell(tell_why);
    Keeper::Options keeping;
    keeping.folders = self->options.folders;
    keeping.data_folder = self->options.data_folder;
    keeping.rescan = self->options.rescan;
    keeping.new_id = self->options.new_id;
    auto const at_desk = [self](auto task, auto const& stop) { return self->keeper->run(std::move(task), stop); };
    self->verifier.set_desk(at_desk);
    self->restorer.set_desk(at_desk);
    if (auto const pulls = self->options.pulls_at_once; pulls > 0)
        keeping.kinds = {{kPullKind, &self->handler, pulls}, {kVerifyKind, &self->verifier, 1},
                         {kReadKind, &self->verifier, 1},    {kRestoreKind, &self->restorer, 1},
                         {kPushKind, &self->pushes, 1},      {kQuantizeKind, &self->quantizer, 1}};
    keeping.on_shelf = [self](auto shelf) { self->on_loop([self, shelf = std::move(shelf)] { self->take(shelf); }); };
    keeping.on_job = [self](jobs::Job const& job) { self->on_loop([self, job] { self->tell(job); }); };
    self->keeper = std::make_unique<Keeper>(std::move(keeping), log);
    self->keeper->start();  // its jobs use it by `self`
    return std::unique_ptr<Library>(new Library(std::move(impl)));  // NOLINT(modernize-make-unique): private
}

Library::Library(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Library::~Library() = default;

}  // namespace hearth::library

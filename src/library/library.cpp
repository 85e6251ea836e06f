#include "library/library.h"

#include <algorithm>
#include <filesystem>
#include <map>
#include <set>
#include <system_error>
#include <utility>

#include <fmt/format.h>

#include "base/assert.h"
#include "library/changes.h"
#include "library/keeper.h"
#include "library/permits.h"
#include "models/names.h"
#include "telemetry/log.h"

namespace hearth::library {
namespace {

// Until a model that leaves the pool is gone, so that it can come back.
constexpr Duration kRemovalPatience = std::chrono::seconds(30);
constexpr Duration kRemovalPoll = std::chrono::milliseconds(5);

std::string canonical(std::string const& path) {
    std::error_code failed;
    auto const real = std::filesystem::canonical(path, failed);
    return failed ? path : real.string();
}

template <typename T>
struct Answer {
    explicit Answer(net::Loop& loop) : signal(loop) {}
    net::Signal signal;
    std::optional<Result<T>> result;
};

Status to_status(Result<bool> const& result) { return result ? ok() : Status(result.error()); }

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

struct Library::Impl {
    Impl(net::Loop& l, serving::Pool& p, telemetry::Log& g, Options o, MakeSpec m, Permits a)
        : loop(l),
          pool(p),
          log(g),
          options(std::move(o)),
          make_spec(std::move(m)),
          permits(std::move(a)),
          looked(l),
          handler(options.network, options.known, options.folders.empty() ? std::string() : options.folders.front()) {}

    // What `task` gives on the keeper's thread.
    template <typename T>
    net::Task<Result<T>> ask(std::function<Result<T>(Keeper::Desk&)> task) {
        auto const answer = std::make_shared<Answer<T>>(loop);
        // The loop's things are let go on the loop's thread: the answer travels back with its result.
        auto const posted =
            keeper->post([&to = loop, held = answer, task = std::move(task)](Keeper::Desk& desk) mutable {
                auto result = std::make_shared<Result<T>>(task(desk));
                to.post([held = std::move(held), result] {
                    held->result = std::move(*result);
                    held->signal.notify();
                });
            });
        if (!posted) co_return posted.error();
        co_await answer->signal.wait();
        co_return *std::move(answer->result);
    }

    void take(std::shared_ptr<Shelf const> now);
    void let_changed_go();
    void tell(jobs::Job const& job);
    [[nodiscard]] std::shared_ptr<catalog::Model const> on_shelf(std::string_view name) const;
    [[nodiscard]] Status learn(PullWish const& wish, fetch::Pulled const& pulled, std::stop_token const& stop) const;

    net::Loop& loop;
    serving::Pool& pool;
    telemetry::Log& log;
    Options const options;
    MakeSpec const make_spec;
    Permits const permits;
    std::vector<std::string> given;                 // ids that --model gave, the default first
    std::map<std::string, std::string> given_files;  // of those: canonical path
    std::shared_ptr<Shelf const> shelf = std::make_shared<Shelf>();
    std::map<std::string, std::shared_ptr<catalog::Model const>> ours;  // in the pool by open(), as they were then
    bool settled = false;
    net::Signal looked;
    std::map<std::string, std::weak_ptr<JobFeed>> feeds;
    PullHandler handler;
    std::unique_ptr<Keeper> keeper;  // last: its thread uses what is above
};

// --- what there is -----------------------------------------------------------

void Library::Impl::take(std::shared_ptr<Shelf const> now) {
    shelf = std::move(now);
    settled = true;
    let_changed_go();
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
        if (now && now->files == opened->files && !now->template_changed()) return false;
        log.info("model leaves the pool", {{"model", id}, {"why", now ? "its files changed" : "its files are gone"}});
        static_cast<void>(pool.remove(id));
        return true;
    });
}

std::vector<Known> Library::list() const {
    auto const& impl = *impl_;
    std::vector<Known> out;
    std::set<std::string_view> placed;
    for (auto& status : impl.pool.models()) {
        Known known;
        known.name = status.id;
        if (auto const file = impl.given_files.find(status.id); file != impl.given_files.end()) {
            auto const at = std::ranges::find(impl.shelf->files, file->second);
            if (at != impl.shelf->files.end())
                known.model = impl.shelf->models[static_cast<std::size_t>(at - impl.shelf->files.begin())];
        } else {
            known.model = impl.on_shelf(status.id);
        }
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
            bool const fits = given.empty() ? known->model && known->model->problem.empty() : known->name == given[0];
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

net::Task<Result<std::string>> Library::open(std::string name) {
    auto& impl = *impl_;
    co_await settled();
    auto known = find(name);
    for (Duration waited{}; known && known->status && known->status->removing; waited += kRemovalPoll) {
        if (waited >= kRemovalPatience)
            co_return Error(Code::unavailable, fmt::format("model '{}' is being removed", known->name), "model");
        co_await impl.loop.sleep(kRemovalPoll);
        known = find(name);
    }
    if (!known) co_return known.error();
    if (known->status) co_return known->status->id;
    auto const model = known->model;
    if (!model->problem.empty())
        co_return Error(Code::unsupported, fmt::format("model '{}' cannot be served: {}", model->name, model->problem),
                        "model");
    auto const prepare = [model, &make = impl.make_spec](Keeper::Desk& desk) -> Result<serving::ModelSpec> {
        HEARTH_CHECK(pin(desk, *model));
        return make(model->name, model->files.front().path);
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

net::Task<Result<catalog::Created>> Library::create(std::string name, modelfile::Modelfile modelfile) {
    auto& impl = *impl_;
    co_await settled();
    std::vector<std::string> const names{name};
    auto const permitted = impl.permits.may_change(names);
    if (!permitted) co_return permitted.error();
    // By name alone: a client has no business with the paths of this machine.
    auto const from = find(modelfile.from);
    if (!from) co_return from.error();
    modelfile.from = from->model ? from->model->name : from->status->path;
    auto const work = [name, modelfile = std::move(modelfile),
                       &folders = impl.options.folders](Keeper::Desk& desk) -> Result<catalog::Created> {
        HEARTH_TRY(auto created, catalog::create_model(name, modelfile, folders));
        HEARTH_CHECK(desk.scan());
        return created;
    };
    auto created = co_await impl.ask<catalog::Created>(work);
    // One that is served goes on as it was until it leaves the pool; it comes back as it is now.
    if (created && impl.ours.erase(created->name) > 0) static_cast<void>(impl.pool.remove(created->name));
    co_return created;
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
            return name_pulled(desk, wish, pulled);
        },
        stop);
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
        impl->given_files[model.id] = canonical(model.path);
    }
    auto* const self = impl.get();
    self->handler.set_learn(
        [self](auto const& wish, auto const& pulled, auto const& stop) { return self->learn(wish, pulled, stop); });
    Keeper::Options keeping;
    keeping.folders = self->options.folders;
    keeping.data_folder = self->options.data_folder;
    keeping.rescan = self->options.rescan;
    keeping.pulls_at_once = self->options.pulls_at_once;
    keeping.new_id = self->options.new_id;
    if (keeping.pulls_at_once > 0) keeping.pulls = &self->handler;
    // Posted work must not outlive what it touches: the loop does not run any more when the library goes.
    keeping.on_shelf = [self](auto shelf) { self->loop.post([self, shelf = std::move(shelf)] { self->take(shelf); }); };
    keeping.on_job = [self](jobs::Job const& job) { self->loop.post([self, job] { self->tell(job); }); };
    self->keeper = std::make_unique<Keeper>(std::move(keeping), log);
    return std::unique_ptr<Library>(new Library(std::move(impl)));  // NOLINT(modernize-make-unique): private
}

Library::Library(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Library::~Library() = default;

}  // namespace hearth::library

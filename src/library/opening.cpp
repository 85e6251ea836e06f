// The way of a model into the pool: what is served in its file's place is made first, if
// anything is to be; and models of the same file come along, for one worker serves them.
#include <algorithm>
#include <chrono>
#include <filesystem>
#include <optional>
#include <system_error>
#include <utility>

#include <fmt/format.h>

#include "library/changes.h"
#include "library/library_impl.h"
#include "names/names.h"
#include "telemetry/log.h"

namespace hearth::library {
namespace {

namespace fs = std::filesystem;
using std::chrono::steady_clock;

// Until a model that leaves the pool is gone, so that it can come back.
constexpr Duration kRemovalPatience = std::chrono::seconds(30);
constexpr Duration kMotionPoll = std::chrono::milliseconds(5);
// How often who waits for a model to be made is told, if nothing changes.
constexpr Duration kTellEvery = std::chrono::milliseconds(250);

// Another one soon: it leaves the pool, or its file is being read.
bool is_in_motion(Known const& known) {
    return (known.status && known.status->removing) || (known.model && known.model->unsettled());
}

bool brings_adapters(serving::ModelSpec const& spec) {
    return spec.variants.size() == 1 && spec.variants.front().id == spec.id;
}

// Made of another model: it says what requests begin with, and may have adapters.
bool is_made_of_another(serving::ModelSpec const& spec) {
    bool const plain = spec.variants.empty() && spec.definition && !spec.definition->from.empty();
    return plain || brings_adapters(spec);
}

bool is_one_file(std::string const& a, std::string const& b) {
    std::error_code failed;
    return fs::equivalent(a, b, failed) && !failed;
}

bool may_be_one_file(catalog::Model const& a, catalog::Model const& b) {
    auto const& first = a.files.front();
    auto const& other = b.files.front();
    return a.files.size() == b.files.size() && first.inode != 0 && first.inode == other.inode &&
           first.bytes == other.bytes;
}

Error not_reshaped(std::string_view name, bool folder, std::string_view why) {
    auto const* const what = folder ? "cannot be converted" : "was not quantised, as this server is to";
    return {Code::unavailable, fmt::format("model '{}' {}: {}", name, what, why), std::string(kNotReshaped)};
}

Error still_reshaped(std::string_view name, bool folder, jobs::Job const& job) {
    auto const percent = job.progress.total == 0 ? 0 : job.progress.done * 100 / job.progress.total;
    return {Code::unavailable,
            fmt::format("model '{}' is being {}: {} % by now, see /api/v1/jobs/{}; ask again later", name,
                        folder ? "converted" : "quantised", percent, job.id),
            std::string(kNotReshaped)};
}

std::string why_not(JobFeed const& feed) {
    if (feed.job().state == jobs::State::done) return "what was made of it is gone already; ask again";
    if (feed.job().state != jobs::State::failed) return fmt::format("the job is {}", to_string(feed.job().state));
    return feed.failure() ? feed.failure()->message : feed.job().error;
}

}  // namespace

// --- what it is served from --------------------------------------------------

Library::Impl::ModelPointer Library::Impl::owner_of(std::string const& origin, ModelPointer const& model) const {
    auto const at = std::ranges::find(shelf->files, origin);
    return at == shelf->files.end() ? model : shelf->models[static_cast<std::size_t>(at - shelf->files.begin())];
}

std::optional<Reshaped> Library::Impl::made_before(std::string const& origin, ModelPointer const& owner) {
    auto const found = reshaped.find(origin);
    if (found == reshaped.end() || !owner) return std::nullopt;
    if (catalog::are_same_files(found->second.owner->files, owner->files)) return found->second.file;
    reshaped.erase(found);
    return std::nullopt;
}

bool Library::Impl::was_made_since(Source& source, ModelPointer const& model) {
    if (!source.reshape || !source.reshaped.path.empty()) return false;
    auto made = made_before(source.origin, owner_of(source.origin, model));
    if (made) source.reshaped = *std::move(made);
    return !source.reshaped.path.empty();
}

std::string Library::Impl::failure_of(std::string const& origin, ModelPointer const& owner) {
    auto const found = unmade.find(origin);
    if (found == unmade.end() || !owner) return {};
    auto const& failure = found->second;
    if (steady_clock::now() < failure.until && catalog::are_same_files(failure.owner->files, owner->files))
        return failure.why;
    unmade.erase(found);
    return {};
}

// One that was cancelled or paused may go on with the next request.
void Library::Impl::note_failure(std::string const& origin, ModelPointer const& owner, JobFeed const& feed) {
    auto const now = steady_clock::now();
    std::erase_if(unmade, [&](auto const& each) { return each.second.until <= now; });
    if (owner && feed.job().state == jobs::State::failed)
        unmade[origin] = {owner, why_not(feed), now + options.reshape.try_again_after};
}

net::Task<Result<std::shared_ptr<JobFeed>>> Library::Impl::begin_reshape(Source source) {
    if (options.pulls_at_once == 0)
        co_return Error(Code::unavailable, "that is a job, and no jobs are run (--pulls 0)");
    auto const work = [wish = QuantizeWish{source.name, source.path},
                       key = source.origin](Keeper::Desk& desk) -> Result<jobs::Job> {
        HEARTH_TRY(auto* const queue, desk.jobs());
        HEARTH_TRY(auto enqueued, queue->enqueue({std::string(kQuantizeKind), key, to_payload(wish)}));
        return std::move(enqueued.job);
    };
    auto const job = co_await ask<jobs::Job>(work);
    if (!job) co_return job.error();
    auto feed = co_await watch(job->id);
    co_return feed;
}

net::Task<Result<std::optional<Reshaped>>> Library::Impl::wait_for(std::shared_ptr<JobFeed> feed, Source source,
                                                                   Waiter waiter) {
    while (!is_final(feed->job().state)) {
        auto const left = waiter.until - steady_clock::now();
        if (left <= Duration::zero()) co_return still_reshaped(source.name, source.folder, feed->job());
        auto const turn = std::min(left, kTellEvery);
        static_cast<void>(co_await feed->changed_within(turn));
        if (waiter.onlooker == nullptr) continue;
        auto const progress = feed->job().progress;
        bool const waits = co_await waiter.onlooker->see(progress);
        if (!waits) co_return Error(Code::cancelled, "nobody waits for the model any more");
    }
    if (feed->job().state != jobs::State::done) co_return std::optional<Reshaped>();
    co_return quantizer.result_of(feed->job().id);
}

net::Task<Result<Reshaped>> Library::Impl::reshape(ModelPointer model, Source source, Waiter waiter,
                                                   Original original) {
    if (source.folder) original = Original::never;
    auto const owner = owner_of(source.origin, model);
    if (auto found = made_before(source.origin, owner)) co_return *std::move(found);
    auto why = failure_of(source.origin, owner);
    std::shared_ptr<JobFeed> feed;
    if (why.empty()) {
        auto begun = co_await begin_reshape(source);
        if (begun) feed = *std::move(begun);
        else why = begun.error().message;
    }
    if (feed && original == Original::until_made) {
        bool const first = awaited.emplace(source.name, source.origin).second;
        if (first) loop.spawn(replace_when_reshaped(owner, std::move(source), feed));
        co_return Reshaped{};
    }
    if (feed) {
        auto made = co_await wait_for(feed, source, waiter);
        if (!made) co_return made.error();
        if (auto& file = *made) co_return *std::move(file);
        note_failure(source.origin, owner, *feed);
        why = why_not(*feed);
    }
    if (original == Original::never) co_return not_reshaped(source.name, source.folder, why);
    log.warning("model is served as it is", {{"model", source.name}, {"why", why}});
    co_return Reshaped{};
}

// Requests inside end as they began; the next one is served what was made.
net::Task<void> Library::Impl::replace_when_reshaped(ModelPointer owner, Source source, std::shared_ptr<JobFeed> feed) {
    while (!is_final(feed->job().state)) static_cast<void>(co_await feed->changed_within(kTellEvery));
    awaited.erase(std::pair(source.name, source.origin));
    auto const made = quantizer.result_of(feed->job().id);
    if (feed->job().state != jobs::State::done || !made) {
        note_failure(source.origin, owner, *feed);
        log.warning("model is served as it is", {{"model", source.name}, {"why", why_not(*feed)}});
        co_return;
    }
    if (made->path.empty()) co_return;
    auto const status = pool.status(source.name);
    if (!status) {
        // It is on its way there, and open() looks for this before it brings the original in.
        if (owner) reshaped[source.origin] = {owner, *made};
        co_return;
    }
    // One that joined another one's worker is served in the form that one has.
    auto const served_by = status->base.empty() ? status->id : status->base;
    auto const opened = ours.find(served_by);
    // Its name may have been moved to another file meanwhile.
    bool const moved = opened != ours.end() && status->base.empty() && opened->second.served.origin != source.origin;
    if (opened == ours.end() || moved || opened->second.served.path == made->path) co_return;
    ours.erase(opened);
    if (owner) reshaped[source.origin] = {owner, *made};
    log.info("model leaves the pool", {{"model", served_by}, {"why", "it was quantised"}});
    static_cast<void>(pool.remove(served_by));
}

Result<Library::Impl::Source> Library::Impl::source_at(std::string name, std::string path) const {
    Source source;
    std::error_code failed;
    source.origin = canonical(path);
    source.folder = fs::is_directory(path, failed);
    if (options.reshape.wanted) {
        HEARTH_TRY(source.reshape, options.reshape.wanted(path));
    }
    if (source.folder && !options.reshape.wanted) return not_reshaped(name, true, "this process converts no models");
    if (source.folder && !source.reshape)
        return Error(Code::unsupported, fmt::format("'{}' is a folder without a model", path), "model");
    source.name = std::move(name);
    source.path = std::move(path);
    return source;
}

net::Task<Result<Library::Impl::Source>> Library::Impl::source_of(ModelPointer model, Waiter waiter) {
    auto const look = [this, model, then = shelf](Keeper::Desk& desk) -> Result<Source> {
        HEARTH_TRY(auto path, place_of(desk, *then, *model));
        return source_at(model->name, std::move(path));
    };
    auto source = co_await ask<Source>(look);
    if (!source) co_return source.error();
    // Another request may have been quicker.
    if (!source->reshape || pool.status(model->name)) co_return source;
    auto const original = options.reshape.original_meanwhile ? Original::until_made : Original::never;
    auto made = co_await reshape(model, *source, waiter, original);
    if (!made) co_return made.error();
    // Who asks before the pool has it finds it.
    auto const owner = owner_of(source->origin, model);
    if (!made->path.empty()) reshaped[source->origin] = {owner, *made};
    source->reshaped = *std::move(made);
    co_return source;
}

// --- those of the same file --------------------------------------------------

std::vector<Library::Impl::ModelPointer> Library::Impl::look_alikes(catalog::Model const& model) const {
    std::vector<ModelPointer> out;
    for (auto const& each : shelf->models) {
        if (each->name == model.name || !may_be_one_file(*each, model)) continue;
        bool const sound = each->problem.empty() && each->damage().empty() && !each->template_changed();
        if (sound && permits.may_load(names_of(*each))) out.push_back(each);
    }
    return out;
}

// Relatives with which something is wrong stay away: who asks for them is told why. Nobody uses
// them yet, so their templates are not looked at.
net::Task<Result<Library::Impl::Family>> Library::Impl::family_of(ModelPointer model, Source source) {
    auto const work = [this, model, source, alikes = look_alikes(*model), named = given_files,
                       then = shelf](Keeper::Desk& desk) -> Result<Family> {
        auto const& made = source.reshaped;
        auto const candidate = [&, this](ModelPointer const& each, std::string const& path) -> Result<Candidate> {
            HEARTH_TRY(auto spec, make_spec({each->name, path, made.path}));
            Served served{spec.path, path, canonical(path), made.hold};
            return Candidate{each, std::move(spec), std::move(served)};
        };
        Family family;
        HEARTH_TRY(family.own, candidate(model, source.path));
        for (auto const& each : alikes) {
            auto const path = path_of(desk, *then, *each);
            if (!path || !is_one_file(*path, source.path)) continue;
            if (auto relative = candidate(each, *path)) family.relatives.push_back(*std::move(relative));
        }
        for (auto const& [id, path] : named)
            if (is_one_file(path, source.path)) family.given.push_back(id);
        return family;
    };
    co_return co_await ask<Family>(work);
}

std::string Library::Impl::host_among(Family const& family) const {
    // One whose name was moved to another file is no relative any more.
    auto const serves = [this](std::string const& id, std::string const& origin) {
        auto const status = pool.status(id);
        return status && status->base.empty() && !status->removing && origin_of(*status) == origin;
    };
    for (auto const& id : family.given)
        if (serves(id, given_files.at(id))) return id;
    for (auto const& relative : family.relatives) {
        auto const& id = relative.model->name;
        if (ours.contains(id) && serves(id, relative.served.origin)) return id;
    }
    return {};
}

// The one it was made of, else any one that is plain; null: there is none.
Library::Impl::Candidate const* Library::Impl::base_among(Family const& family) {
    auto const& definition = family.own.spec.definition;
    Candidate const* base = nullptr;
    for (auto const& each : family.relatives) {
        if (is_made_of_another(each.spec)) continue;
        bool const named = definition && names::is_same_name(each.model->name, definition->from);
        if (base == nullptr || named) base = &each;
    }
    return base;
}

// --- into the pool -----------------------------------------------------------

Library::Impl::Served* Library::Impl::served_by(std::string const& id) {
    if (auto const opened = ours.find(id); opened != ours.end()) return &opened->second.served;
    auto const found = given_served.find(id);
    return found == given_served.end() ? nullptr : &found->second;
}

Library::Impl::Served const* Library::Impl::served_as(serving::ModelStatus const& status) const {
    auto const& id = status.base.empty() ? status.id : status.base;
    auto const opened = ours.find(id);
    auto const named = given_served.find(id);
    Served const* found = nullptr;
    if (opened != ours.end()) found = &opened->second.served;
    else if (named != given_served.end()) found = &named->second;
    return found != nullptr && found->path == status.path ? found : nullptr;
}

std::string Library::Impl::origin_of(serving::ModelStatus const& status) const {
    auto const* const served = served_as(status);
    if (served != nullptr) return served->origin;
    // One that leaves, say: it was opened by the path that the catalog has for its file.
    for (std::size_t i = 0; i < shelf->models.size(); ++i)
        if (catalog::served_from(shelf->models[i]->files) == status.path) return shelf->files[i];
    return status.path;
}

Status Library::Impl::add(Candidate candidate) {
    auto& [model, spec, served] = candidate;
    spec.lazy = true;
    HEARTH_CHECK(pool.add(std::move(spec)));
    ours[model->name] = {model, std::move(served)};
    read_quietly(*model);
    return ok();
}

Status Library::Impl::join(std::string const& host, Candidate const& candidate) {
    HEARTH_CHECK(pool.join(host, candidate.spec));
    ours[candidate.model->name] = {candidate.model, candidate.served};
    return ok();
}

Status Library::Impl::bring_in(Family const& family) {
    auto const& own = family.own;
    std::string host;
    if (is_made_of_another(own.spec)) {
        host = host_among(family);
        auto const* const plain = host.empty() ? base_among(family) : nullptr;
        bool const helps =
            plain != nullptr && (brings_adapters(own.spec) || serving::can_share_worker(plain->spec, own.spec));
        if (helps && add(*plain)) host = plain->model->name;
    }
    // Where one worker will not do for both, it gets its own.
    if (!host.empty() && join(host, own)) {
        read_quietly(*own.model);
    } else {
        HEARTH_CHECK(add(own));
        if (host.empty()) host = own.model->name;
    }
    ours[own.model->name].pinned = true;  // when it was looked where it lies
    for (auto const& each : family.relatives)
        if (brings_adapters(each.spec) && !pool.status(each.model->name)) static_cast<void>(join(host, each));
    return ok();
}

bool Library::Impl::is_open(std::string const& id, std::string const& origin) {
    auto const status = pool.status(id);
    // One that leaves may do so for what was made.
    if (status && !status->removing) reshaped.erase(origin);
    return status.has_value();
}

net::Task<Result<std::string>> Library::open(std::string name, Use use, Onlooker* onlooker) {
    return open(std::move(name), use, onlooker, steady_clock::now() + impl_->options.reshape_patience);
}

net::Task<Result<std::string>> Library::open(std::string name, Use use, Onlooker* onlooker, Instant until) {
    auto& impl = *impl_;
    co_await settled();
    auto known = find(name);
    for (Duration waited{}; known && is_in_motion(*known); waited += kMotionPoll) {
        bool const reading = known->model && known->model->unsettled();
        bool const late = steady_clock::now() >= until;
        if (reading && (late || waited >= kSettlePatience)) co_return being_read(*known->model);
        if (late || waited >= kRemovalPatience)
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
    if (!name.empty()) impl.last_names[known->name] = name_meant(*known, name);
    if (known->status) {
        auto const trusted = co_await impl.trusted(*known->status);
        if (!trusted) co_return trusted.error();
        co_return known->status->id;
    }
    auto const model = known->model;
    if (!model->problem.empty())
        co_return Error(Code::unsupported, fmt::format("model '{}' cannot be served: {}", model->name, model->problem),
                        "model");
    Impl::Waiter const waiter{onlooker, until};
    auto source = co_await impl.source_of(model, waiter);
    if (!source) co_return source.error();
    if (impl.is_open(model->name, source->origin)) co_return model->name;
    Result<Impl::Family> family;
    do {
        family = co_await impl.family_of(model, *source);
        if (!family) co_return family.error();
        // Another request may have been quicker, and so may the job that makes what is to be served.
        if (impl.is_open(model->name, source->origin)) co_return model->name;
    } while (impl.was_made_since(*source, model));
    auto const brought = impl.bring_in(*family);
    if (!brought) co_return brought.error();
    impl.reshaped.erase(source->origin);
    impl.let_changed_go();  // it may have changed meanwhile
    impl.suspend_damaged();
    co_return model->name;
}

}  // namespace hearth::library

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

Error not_reshaped(catalog::Model const& model, std::string_view why) {
    auto const* const what =
        catalog::is_folder(model.files) ? "cannot be converted" : "was not quantised, as this server is to";
    return {Code::unavailable, fmt::format("model '{}' {}: {}", model.name, what, why), std::string(kNotReshaped)};
}

Error still_reshaped(catalog::Model const& model, jobs::Job const& job) {
    auto const percent = job.progress.total == 0 ? 0 : job.progress.done * 100 / job.progress.total;
    return {Code::unavailable,
            fmt::format("model '{}' is being {}: {} % by now, see /api/v1/jobs/{}; ask again later", model.name,
                        catalog::is_folder(model.files) ? "converted" : "quantised", percent, job.id),
            std::string(kNotReshaped)};
}

std::string why_not(JobFeed const& feed) {
    if (feed.job().state != jobs::State::failed) return fmt::format("the job is {}", to_string(feed.job().state));
    return feed.failure() ? feed.failure()->message : feed.job().error;
}

struct Place {
    std::string path;
    bool reshape = false;  // another form of it is to be served
};

}  // namespace

// --- what it is served from --------------------------------------------------

net::Task<Result<std::shared_ptr<JobFeed>>> Library::Impl::begin_reshape(ModelPointer model, std::string path) {
    if (options.pulls_at_once == 0)
        co_return Error(Code::unavailable, "that is a job, and no jobs are run (--pulls 0)");
    auto const work = [wish = QuantizeWish{model->name, path}](Keeper::Desk& desk) -> Result<jobs::Job> {
        HEARTH_TRY(auto* const queue, desk.jobs());
        HEARTH_TRY(auto enqueued, queue->enqueue({std::string(kQuantizeKind), wish.path, to_payload(wish)}));
        return std::move(enqueued.job);
    };
    auto const job = co_await ask<jobs::Job>(work);
    if (!job) co_return job.error();
    auto feed = co_await watch(job->id);
    co_return feed;
}

std::optional<Error> Library::Impl::failure_of(catalog::Model const& model) {
    auto const found = unmade.find(model.name);
    if (found == unmade.end()) return std::nullopt;
    auto const& failure = found->second;
    if (steady_clock::now() < failure.until && catalog::are_same_files(failure.model->files, model.files))
        return failure.why;
    unmade.erase(found);
    return std::nullopt;
}

// One that was cancelled or paused may go on with the next request.
void Library::Impl::note_failure(ModelPointer const& model, JobFeed const& feed) {
    auto const now = steady_clock::now();
    std::erase_if(unmade, [&](auto const& each) { return each.second.until <= now; });
    if (feed.job().state == jobs::State::failed)
        unmade[model->name] = {model, not_reshaped(*model, why_not(feed)), now + options.reshape.try_again_after};
}

net::Task<Result<Reshaped>> Library::Impl::reshape(ModelPointer model, std::string path, Onlooker* onlooker) {
    if (auto const found = reshaped.find(model->name); found != reshaped.end()) {
        if (catalog::are_same_files(found->second.first->files, model->files)) co_return found->second.second;
        reshaped.erase(found);
    }
    if (auto failed = failure_of(*model)) {
        if (options.reshape.original_meanwhile && !catalog::is_folder(model->files)) co_return Reshaped{};
        co_return *std::move(failed);
    }
    auto begun = co_await begin_reshape(model, path);
    // The original of a folder is nothing to serve.
    if (options.reshape.original_meanwhile && !catalog::is_folder(model->files)) {
        if (!begun) log.warning("model is served as it is", {{"model", model->name}, {"why", begun.error().message}});
        else if (awaited.insert(model->name).second) loop.spawn(replace_when_reshaped(model, *begun));
        co_return Reshaped{};
    }
    if (!begun) co_return not_reshaped(*model, begun.error().message);
    auto const feed = *std::move(begun);
    auto const deadline = steady_clock::now() + options.reshape_patience;
    while (!is_final(feed->job().state)) {
        if (steady_clock::now() >= deadline) co_return still_reshaped(*model, feed->job());
        static_cast<void>(co_await feed->changed_within(kTellEvery));
        if (onlooker == nullptr) continue;
        auto const progress = feed->job().progress;
        bool const waits = co_await onlooker->see(progress);
        if (!waits) co_return Error(Code::cancelled, "nobody waits for the model any more");
    }
    auto made = quantizer.result_of(feed->job().id);
    if (feed->job().state != jobs::State::done || !made) {
        note_failure(model, *feed);
        co_return not_reshaped(*model, why_not(*feed));
    }
    reshaped[model->name] = {model, *made};
    co_return *std::move(made);
}

// Requests inside end as they began; the next one is served what was made.
net::Task<void> Library::Impl::replace_when_reshaped(ModelPointer model, std::shared_ptr<JobFeed> feed) {
    while (!is_final(feed->job().state)) static_cast<void>(co_await feed->changed_within(kTellEvery));
    awaited.erase(model->name);
    auto const made = quantizer.result_of(feed->job().id);
    if (feed->job().state != jobs::State::done || !made) {
        note_failure(model, *feed);
        log.warning("model is served as it is", {{"model", model->name}, {"why", why_not(*feed)}});
        co_return;
    }
    auto const status = pool.status(model->name);
    if (!status || made->path.empty()) co_return;
    // One that joined another one's worker is served in the form that one has.
    auto const served_by = status->base.empty() ? status->id : status->base;
    if (ours.erase(served_by) == 0) co_return;
    reshaped[model->name] = {model, *made};
    log.info("model leaves the pool", {{"model", served_by}, {"why", "it was quantised"}});
    static_cast<void>(pool.remove(served_by));
}

net::Task<Result<Library::Impl::Source>> Library::Impl::source_of(ModelPointer model, Onlooker* onlooker) {
    auto const look = [this, model, then = shelf](Keeper::Desk& desk) -> Result<Place> {
        Place place;
        auto const& wanted = options.reshape.wanted;
        HEARTH_TRY(place.path, place_of(desk, *then, *model));
        if (!wanted) return place;
        HEARTH_TRY(place.reshape, wanted(place.path));
        return place;
    };
    auto place = co_await ask<Place>(look);
    if (!place) co_return place.error();
    Source source;
    source.path = std::move(place->path);
    if (!place->reshape && catalog::is_folder(model->files))
        co_return not_reshaped(*model, "this process converts no models");
    // Another request may have been quicker.
    if (!place->reshape || pool.status(model->name)) co_return source;
    auto made = co_await reshape(model, source.path, onlooker);
    if (!made) co_return made.error();
    source.reshaped = *std::move(made);
    if (!source.reshaped.path.empty()) sources[canonical(source.reshaped.path)] = canonical(source.path);
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

// Relatives with which something is wrong stay away: who asks for them is told why.
net::Task<Result<Library::Impl::Family>> Library::Impl::family_of(ModelPointer model, Source source) {
    auto const work = [this, model, source, alikes = look_alikes(*model), named = given_files,
                       then = shelf](Keeper::Desk& desk) -> Result<Family> {
        auto const& make = make_spec;
        auto const& weights = source.reshaped.path;
        Family family;
        family.own.model = model;
        HEARTH_TRY(family.own.spec, make({model->name, source.path, weights}));
        for (auto const& each : alikes) {
            auto const place = place_of(desk, *then, *each);
            if (!place || !is_one_file(*place, source.path)) continue;
            auto spec = make({each->name, *place, weights});
            if (spec) family.relatives.push_back({each, *std::move(spec)});
        }
        for (auto const& [id, path] : named)
            if (is_one_file(path, source.path)) family.given.push_back(id);
        return family;
    };
    co_return co_await ask<Family>(work);
}

std::string Library::Impl::host_among(Family const& family) const {
    auto const serves = [this](std::string const& id, std::string const& path) {
        auto const status = pool.status(id);
        return status && status->base.empty() && !status->removing && origin_of(status->path) == origin_of(path);
    };
    for (auto const& id : family.given)
        if (serves(id, given_files.at(id))) return id;
    for (auto const& [model, spec] : family.relatives) {
        auto const opened = ours.find(model->name);
        // One whose name was moved to another file is no relative any more.
        if (opened != ours.end() && serves(model->name, opened->second.path)) return model->name;
    }
    return {};
}

// The one it was made of, else any one that is plain; null: there is none.
Library::Impl::Candidate const* Library::Impl::base_among(Family const& family) {
    auto const& definition = family.own.spec.definition;
    Candidate const* base = nullptr;
    for (auto const& each : family.relatives) {
        if (brings_adapters(each.spec)) continue;
        bool const named = definition && names::is_same_name(each.model->name, definition->from);
        if (base == nullptr || named) base = &each;
    }
    return base;
}

// --- into the pool -----------------------------------------------------------

Status Library::Impl::add(Candidate candidate, std::shared_ptr<void> const& hold) {
    auto& [model, spec] = candidate;
    spec.lazy = true;
    auto const path = spec.path;
    HEARTH_CHECK(pool.add(std::move(spec)));
    ours[model->name] = {model, path, hold};
    read_quietly(*model);
    return ok();
}

Status Library::Impl::join(std::string const& host, Candidate const& candidate, std::shared_ptr<void> const& hold) {
    auto const& [model, spec] = candidate;
    HEARTH_CHECK(pool.join(host, spec));
    ours[model->name] = {model, spec.path, hold};
    return ok();
}

Status Library::Impl::bring_in(Family const& family, std::shared_ptr<void> const& hold) {
    auto const& own = family.own;
    std::string host;
    if (brings_adapters(own.spec)) {
        host = host_among(family);
        auto const* const plain = host.empty() ? base_among(family) : nullptr;
        if (plain != nullptr && add(*plain, hold)) host = plain->model->name;
    }
    // Where one worker will not do for both, it gets its own.
    if (!host.empty() && join(host, own, hold)) {
        read_quietly(*own.model);
    } else {
        HEARTH_CHECK(add(own, hold));
        if (host.empty()) host = own.model->name;
    }
    for (auto const& each : family.relatives)
        if (brings_adapters(each.spec) && !pool.status(each.model->name)) static_cast<void>(join(host, each, hold));
    return ok();
}

net::Task<Result<std::string>> Library::open(std::string name, Use use, Onlooker* onlooker) {
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
    auto source = co_await impl.source_of(model, onlooker);
    if (!source) co_return source.error();
    if (impl.pool.status(model->name)) co_return model->name;
    auto const hold = source->reshaped.hold;
    auto family = co_await impl.family_of(model, *std::move(source));
    if (!family) co_return family.error();
    // Another request may have been quicker.
    if (impl.pool.status(model->name)) co_return model->name;
    auto const brought = impl.bring_in(*family, hold);
    if (!brought) co_return brought.error();
    impl.reshaped.erase(model->name);
    impl.let_changed_go();  // it may have changed meanwhile
    impl.suspend_damaged();
    co_return model->name;
}

}  // namespace hearth::library

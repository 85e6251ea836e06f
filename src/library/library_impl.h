// What a Library is made of, for the files that implement it: library.cpp (names,
// changes, jobs), listing.cpp (names in lists), opening.cpp (the way into the pool),
// trust.cpp (templates of what --model gave), upkeep.cpp (damage, uses) and swaps.cpp. Private to library.
//
// Threads: the loop's.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <stop_token>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "library/held_bytes.h"
#include "library/keep_jobs.h"
#include "library/keeper.h"
#include "library/library.h"
#include "library/permits.h"
#include "library/quantize_job.h"
#include "library/work_thread.h"

namespace hearth::library {

// With links resolved, where there is such a file.
[[nodiscard]] std::string canonical(std::string const& path);

// The one of its names that somebody means by `name`, as it is spelt.
[[nodiscard]] std::string name_meant(Known const& known, std::string_view name);

[[nodiscard]] inline Status to_status(Result<bool> const& result) { return result ? ok() : Status(result.error()); }

struct Library::Impl {
    Impl(net::Loop& l, serving::Pool& p, telemetry::Log& g, Options o, MakeSpec m, Permits a)
        : loop(l),
          pool(p),
          log(g),
          options(std::move(o)),
          make_spec(std::move(m)),
          permits(std::move(a)),
          looked(l),
          held([this](std::string const& sha256) { return files_with(sha256); }),
          handler(options.network, options.known, options.folders.empty() ? std::string() : options.folders.front()),
          verifier({options.read_bytes_per_s, options.judged_after}),
          restorer(options.network),
          pushes(options.network, options.data_folder + "/uploads.json"),
          quantizer(options.reshape.make),
          blobs({.folder = options.data_folder + "/blobs"}),
          disk({.what = "writes of uploads", .tasks_max = 2 * kUploadsMax + 64, .chore = [this] { tidy(); }}),
          maker({.what = "models to make", .tasks_max = kCreationsMax, .chore = {}}),
          uploads(loop, disk, blobs, [this](auto const& hex) { return known_file(hex).has_value(); }) {}
    ~Impl() { ending.request_stop(); }
    Impl(Impl const&) = delete;
    Impl& operator=(Impl const&) = delete;

    // What `task` gives on the keeper's thread.
    template <typename T>
    net::Task<Result<T>> ask(std::function<Result<T>(Keeper::Desk&)> task) {
        auto const post = [this](Keeper::Task work) { return keeper->post(std::move(work)); };
        co_return co_await library::ask<T>(loop, post, std::move(task));
    }

    // From any thread: does it on the loop's, unless the library is gone by then.
    void on_loop(std::function<void()> work) const {
        loop.post([lives = std::weak_ptr<bool>(life), work = std::move(work)] {
            if (lives.lock()) work();
        });
    }

    using ModelPointer = std::shared_ptr<catalog::Model const>;
    // One that open() brought into the pool.
    struct Opened {
        ModelPointer model;          // as it was then
        std::string path;            // of the file that is served
        std::shared_ptr<void> hold;  // keeps that file where it is
    };
    // One that could not be made.
    struct Unmade {
        ModelPointer model;  // as it was then
        Error why;
        std::chrono::steady_clock::time_point until;  // then it is tried again
    };
    // What a model is served from.
    struct Source {
        std::string path;   // its first file, or the one its name was moved to
        Reshaped reshaped;  // what is served in its place
    };
    // A model as it would be served, and those of the same file.
    struct Candidate {
        ModelPointer model;
        serving::ModelSpec spec;
    };
    struct Family {
        Candidate own;
        std::vector<Candidate> relatives;
        std::vector<std::string> given;  // ids that --model gave
    };

    // --- opening.cpp ---
    net::Task<Result<Source>> source_of(ModelPointer model, Onlooker* onlooker);
    net::Task<Result<Reshaped>> reshape(ModelPointer model, std::string path, Onlooker* onlooker);
    net::Task<Result<std::shared_ptr<JobFeed>>> begin_reshape(ModelPointer model, std::string path);
    // Why a model of these files was not made just now, if it was not.
    [[nodiscard]] std::optional<Error> failure_of(catalog::Model const& model);
    void note_failure(ModelPointer const& model, JobFeed const& feed);
    net::Task<void> replace_when_reshaped(ModelPointer model, std::shared_ptr<JobFeed> feed);
    net::Task<Result<std::shared_ptr<JobFeed>>> watch(std::string id);
    [[nodiscard]] std::vector<ModelPointer> look_alikes(catalog::Model const& model) const;
    net::Task<Result<Family>> family_of(ModelPointer model, Source source);
    [[nodiscard]] Status bring_in(Family const& family, std::shared_ptr<void> const& hold);
    [[nodiscard]] Status add(Candidate candidate, std::shared_ptr<void> const& hold);
    [[nodiscard]] Status join(std::string const& host, Candidate const& candidate, std::shared_ptr<void> const& hold);
    [[nodiscard]] std::string host_among(Family const& family) const;
    [[nodiscard]] static Candidate const* base_among(Family const& family);

    // What a file was made of, itself where it was not; with links resolved.
    [[nodiscard]] std::string origin_of(std::string const& path) const;

    // --- trust.cpp ---
    // Remembers the template of a model that --model gave; fails with kTemplateChanged when it is another one by now.
    net::Task<Status> trusted(serving::ModelStatus const& status);
    net::Task<Status> trust_given(serving::ModelStatus status);

    void take(std::shared_ptr<Shelf const> now);
    void let_changed_go();
    void suspend_damaged();
    void tell_damage();
    void write_uses_down();
    void read_quietly(catalog::Model const& model) const;
    // --- swaps.cpp; on the keeper's thread, with the shelf as it was when somebody asked ---
    // The file the model has: another one than its own if it was moved there and that may be served still.
    [[nodiscard]] Result<std::string> path_of(Keeper::Desk& desk, Shelf const& shelf_then,
                                              catalog::Model const& model) const;
    // The same of one that is used: its template is pinned.
    [[nodiscard]] Result<std::string> place_of(Keeper::Desk& desk, Shelf const& shelf_then,
                                               catalog::Model const& model) const;
    [[nodiscard]] Status may_take_over(Keeper::Desk& desk, Shelf const& shelf_then, std::string const& path) const;
    [[nodiscard]] Result<serving::ModelSpec> spec_of_file(Keeper::Desk& desk, Shelf const& shelf_then,
                                                          std::string const& named) const;
    [[nodiscard]] Result<serving::ModelSpec> spec_of_model(Keeper::Desk& desk, Shelf const& shelf_then,
                                                           Known const& known) const;
    void tidy() const;
    void tell(jobs::Job const& job);
    [[nodiscard]] Result<catalog::Created> create_with(std::string const& name, modelfile::Modelfile modelfile,
                                                       Weights const& weights,
                                                       std::vector<std::string> const& folders) const;
    // Of a model that is recorded to have it and not known to be damaged.
    [[nodiscard]] std::optional<std::string> known_file(std::string_view hex) const;
    [[nodiscard]] KnownFiles known_files(CreateOrder const& order) const;
    net::Task<void> make(std::shared_ptr<Creation> creation, CreateOrder order, WeightsOrder wanted);
    net::Task<Result<std::shared_ptr<Weights>>> weights_of(std::shared_ptr<Creation> creation, WeightsOrder order);
    [[nodiscard]] Result<PushSubject> subject_of(PushWish const& wish, std::stop_token const& stop) const;
    [[nodiscard]] std::shared_ptr<catalog::Model const> on_shelf(std::string_view name) const;
    // What the catalog says of a model the pool has; null where it says nothing.
    [[nodiscard]] std::shared_ptr<catalog::Model const> behind(std::string const& id) const;
    // Leaves the pool; who asks for it afterwards gets it as it is then.
    void let_go(std::string const& id);
    [[nodiscard]] std::vector<std::string> files_with(std::string const& sha256) const;
    [[nodiscard]] Status learn(PullWish const& wish, fetch::Pulled const& pulled, std::stop_token const& stop) const;

    std::shared_ptr<bool> const life = std::make_shared<bool>(true);  // as long as this
    net::Loop& loop;
    serving::Pool& pool;
    telemetry::Log& log;
    Options const options;
    MakeSpec const make_spec;
    Permits const permits;
    std::vector<std::string> given;  // ids that --model gave, the default first
    std::map<std::string, std::string> given_files;  // of those: origin_of() their path
    std::map<std::string, std::string> vouched;  // of those: whose template was looked at, and with what file
    std::map<std::string, std::string> sources;  // of made files: what of, both canonical
    std::shared_ptr<Shelf const> shelf = std::make_shared<Shelf>();
    std::map<std::string, Opened> ours;  // in the pool by open()
    // What was made of those that are not in the pool with it yet, though it may have their original.
    std::map<std::string, std::pair<ModelPointer, Reshaped>> reshaped;
    std::set<std::string> awaited;  // of those, that are on their way
    std::map<std::string, Unmade> unmade;
    bool settled = false;
    net::Signal looked;
    std::map<std::string, std::weak_ptr<JobFeed>> feeds;
    std::set<std::string> damaged_names;  // as they were told last
    std::set<std::string> read_at_first_use;  // of `given`
    std::map<std::string, std::uint64_t> uses;  // not written down yet
    std::map<std::string, std::string> last_names;  // by id in the pool: the name used last
    HeldBytes held;  // outlives the handlers
    PullHandler handler;
    VerifyHandler verifier;
    RestoreHandler restorer;
    PushHandler pushes;
    QuantizeHandler quantizer;
    std::stop_source ending;  // of what is made
    BlobStore const blobs;
    WorkThread disk;  // of uploads
    WorkThread maker;  // of models that are converted or quantised
    Uploads uploads;
    std::unique_ptr<Keeper> keeper;  // last: its thread uses what is above
};

}  // namespace hearth::library

// What a Library is made of, for the two files that implement it: library.cpp (names,
// the pool, changes, jobs) and upkeep.cpp (damage, uses, swaps). Private to library.
//
// Threads: the loop's.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <stop_token>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "library/keep_jobs.h"
#include "library/keeper.h"
#include "library/library.h"
#include "library/permits.h"
#include "library/work_thread.h"

namespace hearth::library {

// With links resolved, where there is such a file.
[[nodiscard]] std::string canonical(std::string const& path);

// What requests for a damaged model are told, and what can be done; and those for one that is being read.
[[nodiscard]] Error damaged(catalog::Model const& model);
[[nodiscard]] Error being_read(catalog::Model const& model);

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
          handler(options.network, options.known, options.folders.empty() ? std::string() : options.folders.front()),
          verifier({options.read_bytes_per_s, options.judged_after}),
          restorer(options.network),
          pushes(options.network),
          blobs({.folder = options.data_folder + "/blobs"}),
          disk({.what = "writes of uploads", .tasks_max = 2 * kUploadsMax + 64, .chore = [this] { tidy(); }}),
          maker({.what = "models to make", .tasks_max = kCreationsMax, .chore = {}}),
          uploads(loop, disk, blobs) {}
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

    void take(std::shared_ptr<Shelf const> now);
    void let_changed_go();
    void suspend_damaged();
    void tell_damage();
    void write_uses_down();
    void read_quietly(catalog::Model const& model) const;
    void tidy() const;
    void tell(jobs::Job const& job);
    [[nodiscard]] Result<catalog::Created> create_with(std::string const& name, modelfile::Modelfile modelfile,
                                                       std::vector<std::pair<std::string, std::string>> const& adapters,
                                                       std::string const& weights) const;
    net::Task<void> make(std::shared_ptr<Creation> creation, CreateOrder order, std::string from);
    net::Task<Result<std::shared_ptr<Weights>>> weights_of(std::shared_ptr<Creation> creation, WeightsOrder order);
    [[nodiscard]] Result<PushSubject> subject_of(PushWish const& wish, std::stop_token const& stop) const;
    [[nodiscard]] std::shared_ptr<catalog::Model const> on_shelf(std::string_view name) const;
    // What the catalog says of a model the pool has; null where it says nothing.
    [[nodiscard]] std::shared_ptr<catalog::Model const> behind(std::string const& id) const;
    [[nodiscard]] Status learn(PullWish const& wish, fetch::Pulled const& pulled, std::stop_token const& stop) const;

    std::shared_ptr<bool> const life = std::make_shared<bool>(true);  // as long as this
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
    std::set<std::string> damaged_names;                 // as they were told last
    std::set<std::string> read_at_first_use;             // of `given`
    std::map<std::string, std::uint64_t> uses;           // not written down yet
    PullHandler handler;
    VerifyHandler verifier;
    RestoreHandler restorer;
    PushHandler pushes;
    std::stop_source ending;  // of what is made
    BlobStore const blobs;
    WorkThread disk;   // of uploads
    WorkThread maker;  // of models that are converted or quantised
    Uploads uploads;
    std::unique_ptr<Keeper> keeper;  // last: its thread uses what is above
};

}  // namespace hearth::library

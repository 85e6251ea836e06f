// What a Library is made of, for the files that implement it: library.cpp (names,
// changes, jobs), listing.cpp (names in lists), making.cpp (copies, creations), opening.cpp (the way into the
// pool), trust.cpp (templates of what is in the pool), upkeep.cpp (damage, uses) and swaps.cpp. Private to library.
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

#include "library/copies.h"
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
    // The file that the pool has for a model. Files made of equal bytes are one, so only the model
    // tells what its own was made of.
    struct Served {
        std::string path;
        std::string source;          // what it was made of, else itself; its note lies beside that
        std::string origin;          // the same with links resolved
        std::shared_ptr<void> hold;  // keeps the file where it is; null: it stays anyway
    };
    // One that open() brought into the pool.
    struct Opened {
        ModelPointer model;  // as it was then
        Served served;
        bool pinned = false;  // its template: not yet of one that only came along
    };
    // What could not be made.
    struct Unmade {
        ModelPointer owner;  // whose file it is, as it was then
        std::string why;
        std::chrono::steady_clock::time_point until;  // then it is tried again
    };
    // What was made and is in the pool with nobody yet, though that may have the original.
    struct Made {
        ModelPointer owner;  // whose file it was made of, as it was then
        Reshaped file;
    };
    // What a model is served from.
    struct Source {
        std::string name;      // of that model
        std::string path;      // its first file or its folder, or what its name was moved to
        std::string origin;    // the same with links resolved
        bool folder = false;   // which is nothing to serve itself
        bool reshape = false;  // another form of it is to be served
        Reshaped reshaped{};   // that form, once it is there
    };
    // Whether who asks for what is to be made first is served its original.
    enum class Original : std::uint8_t { never, if_unmade, until_made };
    // Who waits for what is to be made first, and how long.
    struct Waiter {
        Onlooker* onlooker = nullptr;  // may be null; outlives that
        Instant until{};
    };
    // A model as it would be served, and those of the same file.
    struct Candidate {
        ModelPointer model;
        serving::ModelSpec spec;
        Served served;
    };
    struct Family {
        Candidate own;
        std::vector<Candidate> relatives;
        std::vector<std::string> given;  // ids that --model gave
    };

    // --- opening.cpp ---
    net::Task<Result<Source>> source_of(ModelPointer model, Waiter waiter);
    // On the keeper's thread. Fails for a folder that cannot be made a file of.
    [[nodiscard]] Result<Source> source_at(std::string name, std::string path) const;
    // `model`, which is to be served from it, may be null: what nobody owns is made anew each time.
    net::Task<Result<Reshaped>> reshape(ModelPointer model, Source source, Waiter waiter, Original original);
    net::Task<Result<std::shared_ptr<JobFeed>>> begin_reshape(Source source);
    // What the job makes; nothing where it makes nothing.
    net::Task<Result<std::optional<Reshaped>>> wait_for(std::shared_ptr<JobFeed> feed, Source source, Waiter waiter);
    // Whose file that is, else `model`: when its files change, so may what is made of it.
    [[nodiscard]] ModelPointer owner_of(std::string const& origin, ModelPointer const& model) const;
    [[nodiscard]] std::optional<Reshaped> made_before(std::string const& origin, ModelPointer const& owner);
    // Whether the form that `source` is to have in the end was made since; it has that then.
    [[nodiscard]] bool was_made_since(Source& source, ModelPointer const& model);
    // Why nothing could be made of it just now; empty: nobody tried.
    [[nodiscard]] std::string failure_of(std::string const& origin, ModelPointer const& owner);
    void note_failure(std::string const& origin, ModelPointer const& owner, JobFeed const& feed);
    net::Task<void> replace_when_reshaped(ModelPointer owner, Source source, std::shared_ptr<JobFeed> feed);
    net::Task<Result<std::shared_ptr<JobFeed>>> watch(std::string id);
    // Whether the pool has it by now: what was made for it meanwhile is let go then.
    [[nodiscard]] bool is_open(std::string const& id, std::string const& origin);
    [[nodiscard]] std::vector<ModelPointer> look_alikes(catalog::Model const& model) const;
    net::Task<Result<Family>> family_of(ModelPointer model, Source source);
    [[nodiscard]] Status bring_in(Family const& family);
    [[nodiscard]] Status add(Candidate candidate);
    [[nodiscard]] Status join(std::string const& host, Candidate const& candidate);
    [[nodiscard]] std::string host_among(Family const& family) const;
    [[nodiscard]] static Candidate const* base_among(Family const& family);

    // What a model of the pool was told to be served from; null: nobody knows that id.
    [[nodiscard]] Served* served_by(std::string const& id);
    // The same of the one whose worker serves it; null also when the pool has another file by now.
    [[nodiscard]] Served const* served_as(serving::ModelStatus const& status) const;
    // What the file it is served from was made of, itself where it was not; with links resolved, as far
    // as somebody noted that: the disk is not asked.
    [[nodiscard]] std::string origin_of(serving::ModelStatus const& status) const;

    // --- trust.cpp ---
    // Remembers the template of a model of the pool that is used; fails with kTemplateChanged when it is another one
    // by now.
    net::Task<Status> trusted(serving::ModelStatus status);
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
    // --- swaps.cpp; on the loop's ---
    // As the pool has it at the moment; one that leaves it is what it would be opened as.
    [[nodiscard]] Known looked_at_again(Known known) const;
    // REQUIRES: it is in the pool
    [[nodiscard]] SpecOrder order_of(Known const& known) const;
    // What is to take a name over, but for that name's id.
    net::Task<Result<Swap>> swap_to_model(Known from, Instant until);
    net::Task<Result<Swap>> swap_to_file(std::string path, Instant until);
    // The same of what `look` finds at the desk, once it is in its form. `model` may be null.
    net::Task<Result<Swap>> swap_to(std::function<Result<Source>(Keeper::Desk&)> look, ModelPointer model,
                                    Instant until);
    net::Task<Result<Swap>> swap_of(SpecOrder order, std::shared_ptr<void> hold);
    // --- making.cpp ---
    [[nodiscard]] std::string weights_path(Known const& known);
    // Of the model whose first file is at `path`, where it cannot be linked into `folder`; null: it can.
    net::Task<Result<std::shared_ptr<Copies>>> copies_of(std::string path, std::string folder, CopyWatch watch);
    [[nodiscard]] Result<catalog::Created> create_with(std::string const& name, modelfile::Modelfile modelfile,
                                                       Weights const& weights,
                                                       std::vector<std::string> const& folders) const;
    // Of a model that is recorded to have it and not known to be damaged.
    [[nodiscard]] std::optional<std::string> known_file(std::string_view hex) const;
    [[nodiscard]] KnownFiles known_files(CreateOrder const& order) const;
    net::Task<void> make(std::shared_ptr<Creation> creation, CreateOrder order, WeightsOrder wanted);
    net::Task<Result<std::shared_ptr<Weights>>> weights_of(std::shared_ptr<Creation> creation, WeightsOrder order);
    // --- library.cpp and listing.cpp ---
    void tidy() const;
    void tell(jobs::Job const& job);
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
    std::map<std::string, std::string> given_files;  // of those: the origin of what they were given as
    std::map<std::string, Served> given_served;  // of those: what they are served from by now
    std::map<std::string, std::string> vouched;  // of those: whose template was looked at, and with what file
    std::shared_ptr<Shelf const> shelf = std::make_shared<Shelf>();
    std::map<std::string, Opened> ours;  // in the pool by open()
    std::map<std::string, Made> reshaped;  // by origin
    std::map<std::string, Unmade> unmade;  // by origin
    std::set<std::pair<std::string, std::string>> awaited;  // name and origin of what is to replace an original
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

// Library: every model this server can serve, by name.
//
// What the pool has and what the catalog lists are one here. A model that is asked
// for and is not in the pool is added to it, lazy; one whose files go or change leaves
// it when its requests have ended, and comes back as it is then. Models are pulled by
// jobs, which outlive the process.
//
// Names: as the catalog calls a model, its aliases, and what models::is_same_name()
// takes for the same. No name means the first model given by --model, else the first
// by name that can be served.
//
// Damage: a model whose file changed although its bytes are recorded is served no more
// before it was read, and not at all when it holds other bytes: requests inside end, new
// ones fail, and if it was pulled it is fetched again by a job. When it is whole it is
// served. Every other model is read once, quietly, at its first use.
//
// Trust: a chat template that is another one than at the model's first use is refused
// until trust(). What may be loaded and changed is said by permits.h.
//
// Threads:   all on the loop's thread; disk, databases and network are used on threads
//            of its own, so nothing here blocks.
// Ownership: references outlive it. Coroutines that wait are to be over, or never
//            resumed, when it goes.
// Errors:    `not_found`, what permits.h says of what is not allowed, `invalid_argument`,
//            `overloaded`, `unavailable` (another process keeps the data folder; with kDamaged as
//            `param`, see permits.h: a damaged model), `unsupported`, and those of the databases.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "catalog/catalog.h"
#include "catalog/create.h"
#include "catalog/known_models.h"
#include "jobs/queue.h"
#include "library/creation.h"
#include "library/job_kinds.h"
#include "library/pull_job.h"
#include "library/push_job.h"
#include "library/uploads.h"
#include "net/loop.h"
#include "net/task.h"
#include "serving/pool.h"

namespace hearth::telemetry {
class Log;
class Registry;
}  // namespace hearth::telemetry

namespace hearth::library {

struct Options {
    std::vector<std::string> folders;  // where models are; pulls go to the first
    std::string data_folder;  // of the catalog and of the jobs
    std::vector<std::string> allowed;  // patterns
    bool open = true;  // without patterns, whether clients may change anything
    Network network;
    std::vector<catalog::KnownModel> known;
    std::uint32_t pulls_at_once = 2;   // 0: no jobs are taken or run
    std::uint64_t read_bytes_per_s = 64U << 20;     // of models that are read quietly; 0: no bound
    std::chrono::milliseconds judged_after{2000};   // a file that holds other bytes than it should
    telemetry::Registry* metrics = nullptr;         // outlives the library; null: none
    std::chrono::milliseconds rescan{30'000};  // besides what the folders tell
    std::function<std::string()> new_id;  // unguessable
    MakeFile make_file{};  // empty: nothing is converted or quantised
};

// Reads the file and says how to serve it. Called on the library's thread; may block.
using MakeSpec = std::function<Result<serving::ModelSpec>(std::string const& id, std::string const& path)>;

inline constexpr std::int64_t kUsedDays = 7;
inline constexpr Duration kSettlePatience = std::chrono::seconds(10);

// One model. At least one of the two is there.
struct Known {
    std::string name;
    std::optional<serving::ModelStatus> status;  // in the pool
    std::shared_ptr<catalog::Model const> model;  // null: given by --model, from elsewhere

    // What is wrong with its file; empty: nothing that is known of.
    [[nodiscard]] std::string damage() const { return model ? model->damage() : std::string(); }
};

// Whether somebody asked for it, or it is only to be there.
enum class Use : std::uint8_t { counted, not_counted };

enum class JobAct : std::uint8_t { pause, resume, cancel, retry };

// One job as it goes on.
class JobFeed {
public:
    explicit JobFeed(net::Loop& loop) : changed_(loop) {}
    [[nodiscard]] jobs::Job const& job() const { return job_; }
    // Why it failed, where it did so since it is watched here.
    [[nodiscard]] std::optional<Error> const& failure() const { return failure_; }
    // False when `timeout` passed first.
    net::Task<bool> changed_within(Duration timeout) { return changed_.wait_for(timeout); }

private:
    friend class Library;
    jobs::Job job_;
    std::optional<Error> failure_;
    net::Signal changed_;
};

class Library {
public:
    // Begins to look into the folders. What the pool has by now is what was given by --model.
    [[nodiscard]] static Result<std::unique_ptr<Library>> create(net::Loop& loop, serving::Pool& pool,
                                                                 telemetry::Log& log, Options options,
                                                                 MakeSpec make_spec);
    ~Library();
    Library(Library const&) = delete;
    Library& operator=(Library const&) = delete;

    // Until the folders were looked into for the first time.
    net::Task<void> settled();

    // Those that may be loaded: the pool's, then the others by name.
    [[nodiscard]] std::vector<Known> list() const;
    [[nodiscard]] Result<Known> find(std::string_view name) const;

    // Has the pool serve it; its id there.
    // One whose file changed and is being read is waited for, kSettlePatience at most.
    net::Task<Result<std::string>> open(std::string name, Use use = Use::counted);

    // --- how much models are used ---
    // Those opened most often in the last kUsedDays days. Uses are written down with every
    // look into the folders; what a kill takes is not counted.
    net::Task<Result<std::vector<std::string>>> most_used(std::size_t limit);

    // A name was moved from one file to another; the next process serves that. For what
    // --model names, app asks the catalog itself. Paths are taken with links resolved.
    net::Task<Status> remember_swap(std::string name, std::string from, std::string to);

    // Looks into the folders now: for who put a model there and goes on with it.
    net::Task<Status> refresh();

    // Another name for a model: of files of its own, linked, where the name can be a
    // file's and the model lies plainly in a folder; else an alias.
    net::Task<Status> copy(std::string source, std::string destination);

    // Begins to make a model of another one, or of uploaded files, and of what the
    // Modelfile says; see creation.h and catalog/create.h. One of that name that was
    // created before is replaced; requests inside it end as they began.
    net::Task<Result<std::shared_ptr<Creation>>> create(CreateOrder order);

    // Files to make models of. `unsupported` (permits.h) where nobody may make any.
    [[nodiscard]] Result<Uploads*> uploads();

    // Deletes a model's files and all its names, or the one name if it is an alias.
    // Requests inside end first. Not allowed for what other programs keep.
    net::Task<Status> remove(std::string name);

    // Accepts the chat template that the model's file has now.
    net::Task<Status> trust(std::string name);

    // --- jobs ---
    // Reads a model whole. Equal ones are one job while it is open.
    net::Task<Result<jobs::Job>> verify(std::string name);
    net::Task<Result<jobs::Job>> pull(PullWish wish);
    // The model of that name, to where its name says.
    net::Task<Result<jobs::Job>> push(PushWish wish);
    net::Task<Result<std::vector<jobs::Job>>> jobs(jobs::Filter filter);
    net::Task<Result<jobs::Job>> job(std::string id);
    net::Task<Result<jobs::Job>> act(std::string id, JobAct act);
    net::Task<Result<std::shared_ptr<JobFeed>>> watch(std::string id);

private:
    struct Impl;
    explicit Library(std::unique_ptr<Impl> impl);
    std::unique_ptr<Impl> impl_;
};

}  // namespace hearth::library

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
// Trust: a chat template that is another one than at the model's first use is refused
// until trust(). What may be loaded and changed is said by permits.h.
//
// Threads:   all on the loop's thread; disk, databases and network are used on threads
//            of its own, so nothing here blocks.
// Ownership: references outlive it. Coroutines that wait are to be over, or never
//            resumed, when it goes.
// Errors:    `not_found`, what permits.h says of what is not allowed, `invalid_argument`,
//            `overloaded`, `unavailable` (another process keeps the data folder), `unsupported`,
//            and those of the databases.
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
#include "library/pull_job.h"
#include "net/loop.h"
#include "net/task.h"
#include "serving/pool.h"

namespace hearth::telemetry {
class Log;
}

namespace hearth::library {

struct Options {
    std::vector<std::string> folders;  // where models are; pulls go to the first
    std::string data_folder;  // of the catalog and of the jobs
    std::vector<std::string> allowed;  // patterns
    bool open = true;  // without patterns, whether clients may change anything
    Network network;
    std::vector<catalog::KnownModel> known;
    std::uint32_t pulls_at_once = 2;   // 0: no jobs are taken or run
    std::chrono::milliseconds rescan{30'000};  // besides what the folders tell
    std::function<std::string()> new_id;  // unguessable
};

// Reads the file and says how to serve it. Called on the library's thread; may block.
using MakeSpec = std::function<Result<serving::ModelSpec>(std::string const& id, std::string const& path)>;

// One model. At least one of the two is there.
struct Known {
    std::string name;
    std::optional<serving::ModelStatus> status;  // in the pool
    std::shared_ptr<catalog::Model const> model;  // null: given by --model, from elsewhere
};

enum class JobAct : std::uint8_t { pause, resume, cancel, retry };

// One job as it goes on.
class JobFeed {
public:
    explicit JobFeed(net::Loop& loop) : changed_(loop) {}
    [[nodiscard]] jobs::Job const& job() const { return job_; }
    // False when `timeout` passed first.
    net::Task<bool> changed_within(Duration timeout) { return changed_.wait_for(timeout); }

private:
    friend class Library;
    jobs::Job job_;
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
    net::Task<Result<std::string>> open(std::string name);

    // Looks into the folders now: for who put a model there and goes on with it.
    net::Task<Status> refresh();

    // Another name for a model: of files of its own, linked, where the name can be a
    // file's and the model lies plainly in a folder; else an alias.
    net::Task<Status> copy(std::string source, std::string destination);

    // A model made of another one and of what the Modelfile says, whose FROM is a
    // model's name; see catalog/create.h. One of that name that was created before is
    // replaced; requests inside it end as they began.
    net::Task<Result<catalog::Created>> create(std::string name, modelfile::Modelfile modelfile);

    // Deletes a model's files and all its names, or the one name if it is an alias.
    // Requests inside end first. Not allowed for what other programs keep.
    net::Task<Status> remove(std::string name);

    // Accepts the chat template that the model's file has now.
    net::Task<Status> trust(std::string name);

    // --- jobs ---
    net::Task<Result<jobs::Job>> pull(PullWish wish);
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

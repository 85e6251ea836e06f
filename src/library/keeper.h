// Keeper: the thread on which the library's databases and scans live.
//
// It owns the catalog and the queue of jobs, looks into the folders when something
// changes there or some time has passed, and does what it is given in between. One
// process writes a data folder: where another one does, the catalog is read as that
// one left it and there are no jobs; both are tried again with every scan.
//
// After every scan it sees to models that changed and should not have: they are read
// (keep_jobs.h); and to damaged ones that have a source: they are fetched again, once
// for a file as it is and kRestoresMax times at most.
//
// Threads:   post() and run() from any thread but its own; the callbacks of Options
//            come on its thread or on a job's.
// Ownership: owns its thread and those of the jobs; destruction ends them.
// Limits:    kTasksMax tasks wait; one more is `overloaded`.
// Private to library.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <stop_token>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "base/result.h"
#include "catalog/catalog.h"
#include "jobs/queue.h"
#include "jobs/runner.h"

namespace hearth::telemetry {
class Log;
}

namespace hearth::library {

inline constexpr std::size_t kTasksMax = 1024;

// The models the catalog lists, as they were when the last scan ended.
struct Shelf {
    std::vector<std::shared_ptr<catalog::Model const>> models;  // by name
    std::vector<std::string> files;  // of each what it is served from, with links resolved
};

// Times a model is fetched again by itself while the process lives.
inline constexpr unsigned kRestoresMax = 3;

class Keeper {
public:
    // Jobs of one kind.
    struct Kind {
        std::string_view name;
        jobs::Handler* handler = nullptr;  // outlives the keeper
        std::uint32_t at_once = 1;
    };
    struct Options {
        std::vector<std::string> folders;  // without imported ones, which data_folder says
        std::string data_folder;
        std::chrono::milliseconds rescan{30'000};
        std::function<std::string()> new_id;
        std::vector<Kind> kinds;  // none: there are no jobs
        std::function<void(std::shared_ptr<Shelf const>)> on_shelf;
        std::function<void(jobs::Job const&)> on_job;
    };

    // What tasks work with, on the keeper's thread.
    class Desk {
    public:
        virtual ~Desk() = default;
        // Fails with the error that says why there is none.
        [[nodiscard]] virtual Result<catalog::Catalog*> catalog() = 0;
        [[nodiscard]] virtual Result<jobs::Queue*> jobs() = 0;
        // False where another process writes: nothing can be remembered.
        [[nodiscard]] virtual bool writes() const = 0;
        // Where models are looked for at this moment.
        [[nodiscard]] virtual std::vector<std::string> folders() const = 0;
        // Looks into the folders and tells on_shelf.
        virtual Status scan() = 0;
    };
    using Task = std::function<void(Desk&)>;

    // Its thread begins with start(), so that jobs may use it by whatever owns it. Tasks may be posted before.
    Keeper(Options options, telemetry::Log& log);
    void start();  // once
    ~Keeper();
    Keeper(Keeper const&) = delete;
    Keeper& operator=(Keeper const&) = delete;

    [[nodiscard]] Status post(Task task);

    // Waits for it. `cancelled` when `stop` came before it was begun: it never is then. So
    // it may use what is the caller's.
    [[nodiscard]] Status run(std::function<Status(Desk&)> task, std::stop_token const& stop);

private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

}  // namespace hearth::library

// Library: every model this server can serve, by name.
//
// What the pool has and what the catalog lists are one here. A model that is asked
// for and is not in the pool is added to it, lazy; one whose files go or change leaves
// it when its requests have ended, and comes back as it is then. Models are pulled by
// jobs, which outlive the process.
//
// Names: as the catalog calls a model, its aliases, and what names::is_same_name()
// takes for the same. What a model was pulled as is its name; the one its file has is
// found, but neither listed nor what keeps it (catalog::Model::names()). No name means
// the first model given by --model, else the first by name that can be served.
//
// Damage: a model whose file changed although its bytes are recorded is served no more
// before it was read, and not at all when it holds other bytes: requests inside end, new
// ones fail, and if it was pulled it is fetched again by a job. When it is whole it is
// served. Every other model is read once, quietly, at its first use.
//
// Families: models that are the same file, one plain and others with adapters of their own
// (catalog/create.h links them), are served by one worker, where one will do: the first of
// them that is asked for brings all of them into the pool (serving::Pool::join()).
//
// Form: where Options::reshape says so, a model's file is made into another one before it is
// served, by a job that all who ask for it wait for; and so is a folder of safetensors in any case.
//
// Trust: a chat template that is another one than at the model's first use is refused
// until trust(), of what --model gave as well. What may be loaded and changed is said by permits.h.
//
// Threads:   all on the loop's thread; disk, databases and network are used on threads
//            of its own, so nothing here blocks.
// Ownership: references outlive it. Coroutines that wait are to be over, or never
//            resumed, when it goes.
// Errors:    `not_found`, what permits.h says of what is not allowed, `invalid_argument`,
//            `overloaded`, `unavailable` (another process keeps the data folder; with kDamaged as
//            `param`, see permits.h: a damaged model; kNotReshaped), `unsupported`, and those of the databases.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
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
#include "library/quantize_job.h"
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
    // Where models are, beside those that were imported into data_folder (catalog/imported.h);
    // pulls and models that are created go to the first.
    std::vector<std::string> folders;
    std::string data_folder;  // of the catalog and of the jobs
    std::vector<std::string> allowed;  // patterns
    bool open = true;  // without patterns, whether clients may change anything
    Network network;
    std::vector<catalog::KnownModel> known;
    std::uint32_t pulls_at_once = 2;  // 0: no jobs are taken or run
    std::uint64_t read_bytes_per_s = 64U << 20;  // of models that are read quietly; 0: no bound
    std::chrono::milliseconds judged_after{2000};  // a file that holds other bytes than it should
    telemetry::Registry* metrics = nullptr;  // outlives the library; null: none
    std::chrono::milliseconds rescan{30'000};  // besides what the folders tell
    std::function<std::string()> new_id;  // unguessable
    MakeFile make_file{};  // empty: nothing is converted or quantised
    CopyFile copy_file{};  // of models that others cannot be made of by links; empty: as usual
    Reshape reshape{};     // by jobs: where pulls_at_once is 0 such a model is not served
    Duration reshape_patience = std::chrono::seconds(120);  // of one request; the job goes on
    // By id, of models that --model gave: what their file was made of, where it was.
    std::map<std::string, std::string> made_of{};
};

// A model by its name and file, and what is served in that file's place (empty: the file).
struct SpecOrder {
    std::string id, path;
    std::string weights{};
};
// Reads the files and says how to serve them. Called on the library's thread; may block.
using MakeSpec = std::function<Result<serving::ModelSpec>(SpecOrder const&)>;

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

// What is told of a model without asking its worker.
struct Described {
    modelfile::Definition definition;  // what it is beside its weights
    std::string path;                  // what it is served from, or would be, or what that is made of
    std::shared_ptr<catalog::Model const> model;  // whose file that is; null: nobody's in the folders
};

// What a name is to be moved to: another model, or a file.
struct SwapWish {
    std::string name;
    std::string model;  // or else
    std::string path;
    std::optional<Duration> patience{};  // of all of it; absent: Options::reshape_patience
};

struct Swap {
    std::string id;           // of the name, in the pool
    serving::ModelSpec spec;  // of what takes it over; for Pool::swap()
    // What that file was made of, itself where it was not, as it was found and with links resolved.
    std::string source, origin;
    std::shared_ptr<void> hold;  // keeps the file where it is; null: it stays anyway
};

class Permits;

// Whether a name may be served from the file at `path`, whose links are resolved: one of the
// models folders' or, where the server is open, any. `model` is the one that has it; null: none.
[[nodiscard]] Status may_take_over(Permits const& permits, std::vector<std::string> const& folders,
                                   std::string const& path, catalog::Model const* model);

// Whether somebody asked for it, or it is only to be there.
enum class Use : std::uint8_t { counted, not_counted };

// Who asks for a model and is told how far what has to be made of it is.
class Onlooker {
public:
    virtual ~Onlooker() = default;
    // On the loop's thread, at every change and a few times a second. False: nobody waits any more.
    virtual net::Task<bool> see(jobs::Progress const& progress) = 0;
};

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

    // Those that may be loaded: the pool's, then the others by name. One for each model, by
    // the name that the pool or the catalog has for it.
    [[nodiscard]] std::vector<Known> list() const;
    // The same, one for each name.
    [[nodiscard]] std::vector<Known> entries() const;
    // Which of its names a model of the pool was asked for by last.
    [[nodiscard]] std::string asked_as(Known const& known) const;
    [[nodiscard]] Result<Known> find(std::string_view name) const;

    // As the pool has it, else as it would be served: that is said by the note or manifest of the file
    // its name was moved to, if it was.
    net::Task<Result<Described>> definition(std::string name);

    // Has the pool serve it; its id there.
    // One whose file changed and is being read is waited for, kSettlePatience at most; one that is
    // to be made first, as long as Options::reshape_patience is not over. `onlooker`, which may be null,
    // outlives that.
    net::Task<Result<std::string>> open(std::string name, Use use = Use::counted, Onlooker* onlooker = nullptr);

    // How the model is served, or would be; the pool does not get it. Fails as find(), and for one
    // whose file cannot be served, or is a folder that was not converted for this process: `unsupported`.
    net::Task<Result<serving::ModelSpec>> describe(std::string name);

    // --- how much models are used ---
    // Those opened most often in the last kUsedDays days. Uses are written down with every
    // look into the folders, and by write_down(), which an orderly end begins with; what a
    // kill takes is not counted.
    net::Task<Result<std::vector<std::string>>> most_used(std::size_t limit);
    net::Task<void> write_down();

    // --- names that are moved to another file ---
    // What Pool::swap() is to be told; the name is in the pool then. What takes it over comes in the
    // form it is served in, which is made first if need be, and waited for as open() does, also where
    // the original would do meanwhile; a model that leaves the pool comes as it would be opened by now.
    // Fails as open() for either model, as permits.h says for what may not be changed or served (see
    // may_take_over()), and with `invalid_argument` for what is no model.
    net::Task<Result<Swap>> prepare_swap(SwapWish wish);

    // The pool did that: what is served stays where it is, and the next process serves it too, if it
    // may, by what it was made of. For what --model names, app asks the catalog itself. `not_found`
    // where the model left the pool at once.
    net::Task<Status> remember_swap(Swap done);

    // Looks into the folders now: for who put a model there and goes on with it.
    net::Task<Status> refresh();

    // Another name for a model: of files of its own, linked, where the name can be a
    // file's and the model lies plainly in a folder; else an alias. An alias of that name moves;
    // a model whose own name it was goes, requests inside first. Not allowed for a name that
    // --model gave or another program keeps; `invalid_argument` where other names would go with it.
    net::Task<Status> copy(std::string source, std::string destination);

    // Begins to make a model of another one, or of uploaded files, and of what the
    // Modelfile says; see creation.h and catalog/create.h. One of that name that was
    // created before is replaced; requests inside it end as they began.
    net::Task<Result<std::shared_ptr<Creation>>> create(CreateOrder order);

    // Files to make models of. `unsupported` (permits.h) where nobody may make any.
    [[nodiscard]] Result<Uploads*> uploads();

    // Takes one name from a model, and with the last one of those it is listed by its files. By
    // the name of its file, where it is not listed by that, all of it. Requests inside end
    // first. Not allowed for what other programs keep.
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
    net::Task<Result<std::string>> open(std::string name, Use use, Onlooker* onlooker, Instant until);
    std::unique_ptr<Impl> impl_;
};

}  // namespace hearth::library

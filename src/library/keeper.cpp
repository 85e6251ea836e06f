#include "library/keeper.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <optional>
#include <set>
#include <system_error>
#include <utility>

#include <fmt/format.h>

#include "base/assert.h"
#include "catalog/imported.h"
#include "fetch/sources/leftovers.h"
#include "library/folder_watch.h"
#include "library/keep_jobs.h"
#include "telemetry/log.h"

namespace hearth::library {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

// Changes that come close together are one scan: after a quiet while, or at the latest then.
constexpr milliseconds kQuiet{100};
constexpr milliseconds kQuietMost{2000};
constexpr milliseconds kReaderRescan{1000};

jobs::UnixMs unix_ms() {
    return std::chrono::duration_cast<milliseconds>(std::chrono::system_clock::now().time_since_epoch()).count();
}

// Whether all files are told that a job downloads. Those of an older version tell none, and of very
// many some are left out.
bool tells_all(jobs::Job const& job) {
    if (job.kind != kPullKind && job.kind != kRestoreKind) return true;
    auto const& parts = job.progress.parts;
    bool const begun = job.attempt > 0 || job.progress.done > 0;
    return (!parts.empty() || !begun) && parts.size() < jobs::kPartsMax;
}

}  // namespace

struct Keeper::Impl final : Keeper::Desk {
    Impl(Options o, telemetry::Log& l)
        : options(std::move(o)),
          log(l),
          wake(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)),
          watch(options.folders, options.data_folder) {}
    ~Impl() override {
        if (wake >= 0) ::close(wake);
    }
    Impl(Impl const&) = delete;
    Impl& operator=(Impl const&) = delete;

    // --- Desk ---
    Result<catalog::Catalog*> catalog() override {
        if (books) return books.get();
        return problem;
    }
    Result<jobs::Queue*> jobs() override {
        if (queue) return queue.get();
        return queue_problem;
    }
    [[nodiscard]] bool writes() const override { return writer; }
    [[nodiscard]] std::vector<std::string> folders() const override;
    Status scan() override;

    // --- the thread ---
    void live();
    void open_catalog();
    void open_jobs();
    void sweep();
    void wait();
    [[nodiscard]] milliseconds patience() const;
    bool work();
    void tell_shelf();
    void look_after(catalog::Model const& model);
    void ring() const { static_cast<void>(::eventfd_write(wake, 1)); }

    Options const options;
    telemetry::Log& log;
    int const wake;

    std::mutex mutex;  // guards the next two
    std::deque<Task> tasks;
    bool stopping = false;

    // The rest is the thread's.
    FolderWatch watch;
    std::unique_ptr<catalog::Catalog> books;
    bool writer = false;
    bool said_reader = false;
    Error problem{Code::unavailable, "the catalog of models is not open yet"};
    std::unique_ptr<jobs::Queue> queue;
    Error queue_problem{Code::unavailable, "the list of jobs is not open yet"};
    jobs::Watch job_watch;
    std::unique_ptr<jobs::Runner> runner;
    std::size_t refused = 0;  // told by the last scan
    // Of damaged models that are fetched again: the file that was, and how often there was one.
    struct Restored {
        catalog::ModelFile file;
        unsigned times = 0;
    };
    std::map<std::string, Restored> restored;
    std::optional<steady_clock::time_point> changed_first, changed_last;
    steady_clock::time_point scanned{};

    std::thread thread;  // last: it uses all of the above
};

// --- databases ---------------------------------------------------------------

void Keeper::Impl::open_catalog() {
    if (writer) return;
    auto const path = options.data_folder + "/catalog.db";
    if (auto opened = catalog::Catalog::open(path, catalog::Access::read_write)) {
        books = *std::move(opened);
        writer = true;
        return;
    } else {
        problem = opened.error();
    }
    if (problem.code != Code::unavailable || books) return;
    auto opened = catalog::Catalog::open(path, catalog::Access::read_only);
    if (!opened) {
        problem = opened.error();
        return;
    }
    books = *std::move(opened);
    if (!std::exchange(said_reader, true))
        log.warning("another process keeps the catalog of models: it is read as that one writes it",
                    {{"data_folder", options.data_folder}});
}

void Keeper::Impl::open_jobs() {
    if (queue || options.kinds.empty()) return;
    jobs::Options wanted;
    wanted.path = options.data_folder + "/jobs.db";
    wanted.now = unix_ms;
    wanted.new_id = options.new_id;
    auto opened = jobs::Queue::open(std::move(wanted));
    if (!opened) {
        queue_problem = Error(opened.error().code, fmt::format("there are no jobs: {}", opened.error().message));
        return;
    }
    queue = *std::move(opened);
    sweep();
    if (auto watched = queue->watch(options.on_job)) job_watch = *std::move(watched);
    jobs::Runner::Options running;
    running.holder = "server";
    running.on_error = [this](Error const& error) { log.warning("job queue", {{"problem", error.message}}); };
    runner = std::make_unique<jobs::Runner>(*queue, std::move(running));
    for (auto const& kind : options.kinds) runner->add(std::string(kind.name), *kind.handler, kind.at_once);
    if (auto const started = runner->start(); !started)
        log.error("jobs are not run", {{"problem", started.error().message}});
}

// Once, before a job runs. Where the jobs cannot be read, or do not tell all, nobody knows what is whose.
void Keeper::Impl::sweep() {
    if (options.folders.empty()) return;
    std::set<std::string> owned;
    for (auto const state : {jobs::State::queued, jobs::State::running, jobs::State::paused}) {
        jobs::Filter filter;
        filter.state = state;
        filter.limit = jobs::kPageMax;
        for (bool more = true; more;) {
            auto const page = queue->list(filter);
            if (!page) return;
            for (auto const& job : *page) {
                if (!tells_all(job)) return;
                for (auto const& part : job.progress.parts) owned.insert(part.file);
            }
            more = page->size() == filter.limit;
            if (more) filter.before = page->back().sequence;
        }
    }
    auto const now = std::chrono::system_clock::now();
    for (auto const& name : fetch::sweep_leftovers(options.folders.front(), owned, now))
        log.info("left by a download that nobody goes on with: deleted", {{"file", name}});
}

// --- scanning ----------------------------------------------------------------

// Those of the options, and those that were imported since.
std::vector<std::string> Keeper::Impl::folders() const {
    auto all = options.folders;
    for (auto& folder : catalog::imported_folders(options.data_folder))
        if (std::ranges::find(all, folder) == all.end()) all.push_back(std::move(folder));
    return all;
}

Status Keeper::Impl::scan() {
    changed_first.reset();
    changed_last.reset();
    scanned = steady_clock::now();
    open_catalog();
    open_jobs();
    auto const looked_into = folders();
    watch.renew(looked_into);
    if (!books) {
        log.warning("models are not looked for", {{"problem", problem.message}});
        tell_shelf();
        return problem;
    }
    if (writer) {
        auto const report = books->scan(looked_into);
        if (!report) {
            log.warning("models folders were not read", {{"problem", report.error().message}});
            return report.error();
        }
        if (report->refused.size() != std::exchange(refused, report->refused.size())) {
            for (auto const& each : report->refused)
                log.warning("not taken as a model", {{"path", each.path}, {"why", each.why}});
        }
    }
    tell_shelf();
    return ok();
}

void Keeper::Impl::tell_shelf() {
    auto shelf = std::make_shared<Shelf>();
    if (books) {
        auto models = books->list();
        if (!models) {
            log.warning("the catalog was not read", {{"problem", models.error().message}});
            return;
        }
        for (auto& model : *models) {
            if (model.files.empty()) continue;
            look_after(model);
            std::error_code failed;
            auto const path = catalog::served_from(model.files);
            auto const real = std::filesystem::canonical(path, failed);
            shelf->files.push_back(failed ? path : real.string());
            shelf->models.push_back(std::make_shared<catalog::Model const>(std::move(model)));
        }
    }
    options.on_shelf(std::move(shelf));
}

// Jobs that are open already are the same jobs.
void Keeper::Impl::look_after(catalog::Model const& model) {
    if (!writer || !queue) return;
    auto const begin = [&](std::string_view kind) {
        auto const job = queue->enqueue({std::string(kind), model.name, to_payload(KeepWish{model.name, true})});
        if (!job) log.warning("a model is not looked after", {{"model", model.name}, {"problem", job.error().message}});
    };
    if (model.unsettled()) return begin(kVerifyKind);
    auto const damaged = std::ranges::find(model.files, catalog::Soundness::damaged, &catalog::ModelFile::soundness);
    if (damaged == model.files.end() || !is_restorable(model)) return;
    auto& [file, times] = restored[model.name];
    if (catalog::is_same_file(file, *damaged) || times >= kRestoresMax) return;
    file = *damaged;
    ++times;
    begin(kRestoreKind);
}

// --- the thread --------------------------------------------------------------

milliseconds Keeper::Impl::patience() const {
    // Who only reads has nobody to tell it of changes, and may become the writer.
    auto until = scanned + (writer ? options.rescan : std::min(options.rescan, kReaderRescan));
    if (changed_last) until = std::min(*changed_last + kQuiet, *changed_first + kQuietMost);
    auto const left = std::chrono::ceil<milliseconds>(until - steady_clock::now());
    return std::max(left, milliseconds(0));
}

void Keeper::Impl::wait() {
    pollfd sources[] = {{.fd = wake, .events = POLLIN, .revents = 0},
                        {.fd = watch.fd(), .events = POLLIN, .revents = 0}};
    static_cast<void>(::poll(sources, 2, static_cast<int>(patience().count())));
    eventfd_t rung = 0;
    static_cast<void>(::eventfd_read(wake, &rung));
    if (!watch.changed()) return;
    changed_last = steady_clock::now();
    if (!changed_first) changed_first = changed_last;
}

// False when it is to end.
bool Keeper::Impl::work() {
    for (;;) {
        Task task;
        {
            std::lock_guard const lock(mutex);
            if (stopping) return false;
            if (tasks.empty()) return true;
            task = std::move(tasks.front());
            tasks.pop_front();
        }
        task(*this);
    }
}

void Keeper::Impl::live() {
    static_cast<void>(scan());
    while (work()) {
        wait();
        if (patience() == milliseconds(0)) static_cast<void>(scan());
    }
    if (runner) runner->stop();
    job_watch.end();
}

Keeper::Keeper(Options options, telemetry::Log& log) : impl_(std::make_unique<Impl>(std::move(options), log)) {
    HEARTH_ASSERT(impl_->options.on_shelf && impl_->options.on_job && impl_->options.new_id, "Options is complete");
}

void Keeper::start() {
    HEARTH_ASSERT(!impl_->thread.joinable(), "a keeper is started once");
    impl_->thread = std::thread([impl = impl_.get()] { impl->live(); });
}

Keeper::~Keeper() {
    {
        std::lock_guard const lock(impl_->mutex);
        impl_->stopping = true;
    }
    impl_->ring();
    if (impl_->thread.joinable()) impl_->thread.join();
}

Status Keeper::post(Task task) {
    {
        std::lock_guard const lock(impl_->mutex);
        if (impl_->stopping) return Error(Code::unavailable, "the server is shutting down");
        if (impl_->tasks.size() >= kTasksMax)
            return Error(Code::overloaded,
                         fmt::format("{} tasks wait for the catalog of models, which is the limit", kTasksMax));
        impl_->tasks.push_back(std::move(task));
    }
    impl_->ring();
    return ok();
}

Status Keeper::run(std::function<Status(Desk&)> task, std::stop_token const& stop) {
    enum class Stage : std::uint8_t { waiting, begun, abandoned };
    struct Outcome {
        std::mutex mutex;
        std::condition_variable_any done;
        Stage stage = Stage::waiting;
        std::optional<Status> status;
    };
    auto const outcome = std::make_shared<Outcome>();
    HEARTH_CHECK(post([outcome, task = std::move(task)](Desk& desk) {
        std::unique_lock lock(outcome->mutex);
        if (outcome->stage == Stage::abandoned) return;
        outcome->stage = Stage::begun;
        lock.unlock();
        auto status = task(desk);
        lock.lock();
        outcome->status = std::move(status);
        outcome->done.notify_all();
    }));
    auto const over = [&] { return outcome->status.has_value(); };
    std::unique_lock lock(outcome->mutex);
    if (outcome->done.wait(lock, stop, over)) return *outcome->status;
    if (outcome->stage == Stage::waiting) {
        outcome->stage = Stage::abandoned;
        return Error(Code::cancelled, "the job is to stop");
    }
    // It uses what is the caller's, so the caller stays until it has ended.
    outcome->done.wait(lock, over);
    return *outcome->status;
}

}  // namespace hearth::library

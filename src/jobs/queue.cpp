#include "jobs/queue.h"

#include <algorithm>
#include <mutex>
#include <unordered_map>
#include <utility>

#include <fmt/format.h>

#include "base/utf8.h"
#include "jobs/table.h"

namespace hearth::jobs {
namespace {

constexpr std::size_t kExpiredAtOnce = 256;  // taken over in one transaction

using std::chrono::milliseconds;

std::string cut(std::string_view text) {
    std::string out;
    Utf8Carry carry;  // never half of a code point
    carry.push(text.substr(0, kTextMax), out);
    return out;
}

// What of the parts can be kept: a name is written on a line.
void keep_some(std::vector<Part>& parts) {
    std::erase_if(parts, [](Part const& part) {
        return part.name.size() > kPartNameMax || part.name.find_first_of("\n\t") != std::string::npos;
    });
    if (parts.size() > kPartsMax) parts.resize(kPartsMax);
    for (auto& part : parts) {
        for (auto* const text : {&part.file, &part.state, &part.note}) {
            *text = cut(std::string_view(*text).substr(0, kPartTextMax));
            std::ranges::replace_if(*text, [](char c) { return c == '\n' || c == '\t'; }, ' ');
        }
    }
}

Status check(NewJob const& job) {
    struct Field {
        std::string_view name;
        std::size_t bytes, bytes_max;
    };
    if (job.kind.empty()) return Error(Code::invalid_argument, "a job needs a kind", "kind");
    for (auto const& [name, bytes, bytes_max] :
         {Field{"kind", job.kind.size(), kKindMax}, Field{"key", job.key.size(), kKeyMax},
          Field{"payload", job.payload.size(), kPayloadMax}}) {
        if (bytes > bytes_max)
            return Error(Code::too_large,
                         fmt::format("the job's {} has {} bytes, at most {} are kept", name, bytes, bytes_max),
                         std::string(name));
    }
    return ok();
}

Error wrong_state(Job const& job, std::string_view verb) {
    return {Code::invalid_argument,
            fmt::format("job '{}' is {}, so it cannot be {}", job.id, to_string(job.state), verb), "id"};
}

Error lease_gone(Lease const& lease) {
    return {Code::cancelled, fmt::format("job '{}' is not run under this lease any more", lease.job.id)};
}

}  // namespace

std::string_view to_string(State state) noexcept {
    switch (state) {
        case State::queued: return "queued";
        case State::running: return "running";
        case State::paused: return "paused";
        case State::done: return "done";
        case State::failed: return "failed";
        case State::cancelled: return "cancelled";
    }
    return "failed";
}

struct Watch::Watcher {
    std::mutex mutex;
    std::function<void(Job const&)> changed;  // empty: over
};

struct Queue::Impl {
    // Progress that is newer than the row, of a job that runs.
    struct Live {
        std::uint64_t token = 0;
        Progress progress;
        UnixMs written = 0, notified = 0;
    };

    Options const options;
    std::mutex mutex;
    // Under `mutex`:
    std::unique_ptr<Table> table;
    std::unordered_map<std::string, Live> live;  // by id; at most one for every job that runs
    std::vector<std::weak_ptr<Watch::Watcher>> watchers;
    std::uint64_t revision = 0;

    explicit Impl(Options o) : options(std::move(o)) {}

    [[nodiscard]] UnixMs backoff(std::uint32_t failures) const {
        auto const doubled = std::min<std::uint32_t>(failures > 0 ? failures - 1 : 0, 30);
        return std::min(options.backoff.count() << doubled, options.backoff_max.count());
    }

    // One failure more: counted from one again if there was progress since the last.
    void count_failure(Record& record, std::string_view error, std::optional<Code> code) const {
        auto& job = record.job;
        job.code = code;
        job.failures = job.progress.done > record.mark ? 1 : job.failures + 1;
        record.mark = job.progress.done;
        job.error = cut(error);
    }

    static void finish(Job& job, State state, UnixMs now) {
        job.state = state;
        job.finished = now;
    }

    static void let_go(Job& job) {
        job.holder.clear();
        job.lease_until = 0;
    }

    // After a failure: again later, or never.
    void queue_again(Job& job, bool may_retry, UnixMs due, UnixMs now) const {
        if (may_retry && job.failures < options.failures_max) {
            job.state = State::queued;
            job.due = due;
        } else {
            finish(job, State::failed, now);
        }
        let_go(job);
    }

    Job& refresh(Job& job) const {
        auto const found = live.find(job.id);
        if (found != live.end() && job.state == State::running) job.progress = found->second.progress;
        job.revision = revision;
        return job;
    }

    [[nodiscard]] Status save(Record& record, UnixMs now) const {
        record.job.updated = now;
        HEARTH_CHECK(table->update(record));
        return is_final(record.job.state) ? table->trim(options.history_max) : ok();
    }

    [[nodiscard]] Status take_over(std::string_view kind, UnixMs now, bool all, std::vector<Job>& changed) const;
    void tell(std::unique_lock<std::mutex> lock, std::vector<Job>& changed);
    Result<Job> change(std::string_view id, std::function<Status(Record&, UnixMs)> const& how);
    Status change_held(Lease const& lease, std::function<void(Record&, UnixMs)> const& how);
};

// Copies go out after the lock is released, so that a watcher may take its time.
void Queue::Impl::tell(std::unique_lock<std::mutex> lock, std::vector<Job>& changed) {
    for (auto& job : changed) {
        job.revision = ++revision;
        if (job.state != State::running) live.erase(job.id);
    }
    std::erase_if(watchers, [](auto const& watcher) { return watcher.expired(); });
    auto const called = watchers;
    lock.unlock();
    for (auto const& weak : called) {
        auto const watcher = weak.lock();
        if (!watcher) continue;
        std::lock_guard const guard(watcher->mutex);
        for (auto const& job : changed) {
            if (watcher->changed) watcher->changed(job);
        }
    }
}

// Changes one job in one transaction and tells of it.
Result<Job> Queue::Impl::change(std::string_view id, std::function<Status(Record&, UnixMs)> const& how) {
    std::unique_lock lock(mutex);
    Record record;
    auto const body = [&]() -> Status {
        HEARTH_TRY(record, table->find(id));
        refresh(record.job);
        auto const now = options.now();
        HEARTH_CHECK(how(record, now));
        return save(record, now);
    };
    HEARTH_CHECK(table->transact(body));
    std::vector<Job> changed{std::move(record.job)};
    tell(std::move(lock), changed);
    return std::move(changed.front());
}

Status Queue::Impl::change_held(Lease const& lease, std::function<void(Record&, UnixMs)> const& how) {
    auto changed = change(lease.job.id, [&](Record& record, UnixMs now) -> Status {
        if (record.token != lease.token || record.job.state != State::running) return lease_gone(lease);
        how(record, now);
        return ok();
    });
    return changed ? ok() : Status(std::move(changed).error());
}

Status Queue::Impl::take_over(std::string_view kind, UnixMs now, bool all, std::vector<Job>& changed) const {
    while (true) {
        HEARTH_TRY(auto expired, table->find_expired(kind, all ? INT64_MAX : now, kExpiredAtOnce));
        for (auto& record : expired) {
            refresh(record.job);
            count_failure(record, fmt::format("'{}' did not come back to it", record.job.holder), std::nullopt);
            queue_again(record.job, true, all ? now : now + backoff(record.job.failures), now);
            HEARTH_CHECK(save(record, now));
            changed.push_back(record.job);
        }
        if (expired.size() < kExpiredAtOnce) return ok();
    }
}

// --- the Queue ---------------------------------------------------------------

// The writer's lock of the database proves that no holder of a lease lives, so
// none has to be waited for.
Result<std::unique_ptr<Queue>> Queue::open(Options options) {
    auto impl = std::make_unique<Impl>(std::move(options));
    HEARTH_TRY(impl->table, Table::open(impl->options.path, impl->options.vfs));
    std::vector<Job> changed;
    HEARTH_CHECK(impl->table->transact([&] { return impl->take_over("", impl->options.now(), true, changed); }));
    return std::unique_ptr<Queue>(new Queue(std::move(impl)));  // NOLINT(modernize-make-unique): private
}

Queue::Queue(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Queue::~Queue() = default;

Result<Enqueued> Queue::enqueue(NewJob job) {
    HEARTH_CHECK(check(job));
    std::unique_lock lock(impl_->mutex);
    auto& table = *impl_->table;
    Record record;
    bool existed = false;
    auto const body = [&]() -> Status {
        if (!job.key.empty()) {
            HEARTH_TRY(auto found, table.find_open(job.kind, job.key));
            if (found) {
                existed = true;
                record = *std::move(found);
                impl_->refresh(record.job);
                return ok();
            }
        }
        HEARTH_TRY(auto const open, table.count_open());
        if (open >= impl_->options.open_max)
            return Error(Code::overloaded, fmt::format("{} jobs are not finished, the limit is {}; cancel some or wait",
                                                       open, impl_->options.open_max));
        auto const now = impl_->options.now();
        record.job.id = impl_->options.new_id();
        record.job.kind = std::move(job.kind);
        record.job.key = std::move(job.key);
        record.job.payload = std::move(job.payload);
        record.job.due = record.job.created = record.job.updated = now;
        return table.insert(record);
    };
    HEARTH_CHECK(table.transact(body));
    std::vector<Job> changed{std::move(record.job)};
    if (!existed) impl_->tell(std::move(lock), changed);
    return Enqueued{std::move(changed.front()), existed};
}

Result<Job> Queue::get(std::string_view id) {
    std::lock_guard const lock(impl_->mutex);
    HEARTH_TRY(auto record, impl_->table->find(id));
    return impl_->refresh(record.job);
}

Result<std::vector<Job>> Queue::list(Filter const& filter) {
    std::lock_guard const lock(impl_->mutex);
    HEARTH_TRY(auto records, impl_->table->list(filter));
    std::vector<Job> jobs;
    jobs.reserve(records.size());
    for (auto& record : records) jobs.push_back(std::move(impl_->refresh(record.job)));
    return jobs;
}

Result<Job> Queue::pause(std::string_view id) {
    return impl_->change(id, [](Record& record, UnixMs) -> Status {
        auto& job = record.job;
        if (is_final(job.state)) return wrong_state(job, "paused");
        job.state = State::paused;
        return ok();
    });
}

Result<Job> Queue::resume(std::string_view id) {
    return impl_->change(id, [](Record& record, UnixMs now) -> Status {
        auto& job = record.job;
        if (is_final(job.state)) return wrong_state(job, "resumed");
        if (job.state != State::paused) return ok();
        bool const held = !job.holder.empty() && job.lease_until > now;
        job.state = held ? State::running : State::queued;
        job.due = now;
        return ok();
    });
}

Result<Job> Queue::cancel(std::string_view id) {
    return impl_->change(id, [](Record& record, UnixMs now) -> Status {
        if (record.job.state == State::cancelled) return ok();
        if (is_final(record.job.state)) return wrong_state(record.job, "cancelled");
        Impl::finish(record.job, State::cancelled, now);
        return ok();
    });
}

Result<Job> Queue::retry(std::string_view id) {
    return impl_->change(id, [this](Record& record, UnixMs now) -> Status {
        auto& job = record.job;
        if (job.state == State::queued) return ok();
        if (job.state != State::failed && job.state != State::cancelled) return wrong_state(job, "retried");
        if (!job.key.empty()) {
            HEARTH_TRY(auto const other, impl_->table->find_open(job.kind, job.key));
            if (other)
                return Error(
                    Code::invalid_argument,
                    fmt::format("job '{}' does the same already, it is {}", other->job.id, to_string(other->job.state)),
                    "id");
        }
        job.state = State::queued;
        job.due = now;
        job.finished = 0;
        job.failures = 0;
        return ok();
    });
}

Result<std::optional<Lease>> Queue::claim(std::string_view kind, std::string_view holder, milliseconds lease) {
    std::unique_lock lock(impl_->mutex);
    auto& table = *impl_->table;
    std::vector<Job> changed;
    std::optional<Record> found;
    auto const body = [&]() -> Status {
        auto const now = impl_->options.now();
        HEARTH_CHECK(impl_->take_over(kind, now, false, changed));
        HEARTH_TRY(found, table.find_due(kind, now));
        if (!found) return ok();
        auto& job = found->job;
        job.state = State::running;
        ++job.attempt;
        ++found->token;
        job.holder = holder.empty() ? "nobody" : cut(holder);
        job.lease_until = now + lease.count();
        HEARTH_CHECK(impl_->save(*found, now));
        changed.push_back(job);
        return ok();
    };
    HEARTH_CHECK(table.transact(body));
    if (!changed.empty()) impl_->tell(std::move(lock), changed);
    if (!found) return std::optional<Lease>();
    return std::optional(Lease{std::move(found->job), found->token});
}

Result<std::optional<milliseconds>> Queue::next_due(std::string_view kind) {
    std::lock_guard const lock(impl_->mutex);
    HEARTH_TRY(auto const due, impl_->table->next_due(kind));
    if (!due) return std::optional<milliseconds>();
    return std::optional(milliseconds(std::max<std::int64_t>(0, *due - impl_->options.now())));
}

// --- for the holder ----------------------------------------------------------

Status Queue::renew(Lease const& lease, milliseconds duration) {
    return impl_->change_held(lease,
                              [&](Record& record, UnixMs now) { record.job.lease_until = now + duration.count(); });
}

Status Queue::report(Lease const& lease, Progress progress) {
    progress.text = cut(progress.text);
    keep_some(progress.parts);
    std::unique_lock lock(impl_->mutex);
    auto const now = impl_->options.now();
    auto const past = [now](UnixMs since, milliseconds interval) {
        return now < since || now - since >= interval.count();
    };
    auto const found = impl_->live.find(lease.job.id);
    bool const known = found != impl_->live.end() && found->second.token == lease.token;
    if (known && !past(found->second.written, impl_->options.progress_interval)) {
        found->second.progress = std::move(progress);
        if (!past(found->second.notified, impl_->options.notify_interval)) return ok();
        found->second.notified = now;
        HEARTH_TRY(auto record, impl_->table->find(lease.job.id));
        std::vector<Job> changed{impl_->refresh(record.job)};
        impl_->tell(std::move(lock), changed);
        return ok();
    }
    lock.unlock();
    return impl_->change_held(lease, [&](Record& record, UnixMs written) {
        record.job.progress = progress;
        impl_->live[record.job.id] = {
            .token = lease.token, .progress = progress, .written = written, .notified = written};
    });
}

Status Queue::complete(Lease const& lease) {
    return impl_->change_held(lease, [](Record& record, UnixMs now) {
        Impl::finish(record.job, State::done, now);
        Impl::let_go(record.job);
        record.job.error.clear();
        record.job.code.reset();
    });
}

Status Queue::fail(Lease const& lease, Error const& error, Retry retry, std::optional<milliseconds> after) {
    return impl_->change_held(lease, [&](Record& record, UnixMs now) {
        impl_->count_failure(record, error.message, error.code);
        auto const wait = std::max(impl_->backoff(record.job.failures), after.value_or(milliseconds(0)).count());
        impl_->queue_again(record.job, retry == Retry::yes, now + wait, now);
    });
}

Status Queue::release(Lease const& lease) {
    auto released = impl_->change(lease.job.id, [&](Record& record, UnixMs now) -> Status {
        if (record.token != lease.token || record.job.holder.empty()) return lease_gone(lease);
        Impl::let_go(record.job);
        if (record.job.state != State::running) return ok();
        record.job.state = State::queued;
        record.job.due = now;
        return ok();
    });
    if (released || released.error().code == Code::cancelled || released.error().code == Code::not_found) return ok();
    return std::move(released).error();
}

// --- watchers ----------------------------------------------------------------

Result<Watch> Queue::watch(std::function<void(Job const&)> changed) {
    std::lock_guard const lock(impl_->mutex);
    std::erase_if(impl_->watchers, [](auto const& watcher) { return watcher.expired(); });
    if (impl_->watchers.size() >= kWatchersMax)
        return Error(Code::overloaded,
                     fmt::format("{} watch the jobs already, the limit is {}", impl_->watchers.size(), kWatchersMax));
    auto watcher = std::make_shared<Watch::Watcher>();
    watcher->changed = std::move(changed);
    impl_->watchers.push_back(watcher);
    return Watch(std::move(watcher));
}

Watch& Watch::operator=(Watch&& other) noexcept {
    end();
    watcher_ = std::move(other.watcher_);
    return *this;
}

void Watch::end() {
    if (!watcher_) return;
    std::unique_lock lock(watcher_->mutex);
    watcher_->changed = nullptr;
    lock.unlock();
    watcher_.reset();
}

}  // namespace hearth::jobs

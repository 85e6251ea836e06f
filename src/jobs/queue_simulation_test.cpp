// Many workers, one queue, virtual time: crashes, holders that sleep through
// their lease, pauses, cancels, retries, in random order by seed. After every
// step: no job is lost, none (nor two of one key) is run by two within their
// leases, ends stay ends. At last everything that was not paused comes to an end.
#include <algorithm>
#include <array>
#include <map>
#include <random>

#include <gtest/gtest.h>

#include "base/sanitized.h"
#include "jobs/queue.h"
#include "testing/temporary_folder.h"

namespace hearth::jobs {
namespace {

using std::chrono::milliseconds;

constexpr int kSeeds = kSanitized ? 30 : 150;
constexpr int kSteps = 300;
constexpr std::size_t kWorkers = 5;
constexpr milliseconds kLease{10'000};

struct Worker {
    std::optional<Lease> lease;
    UnixMs until = 0;  // as far as it knows
};

class Simulation {
public:
    explicit Simulation(std::uint64_t seed) : random_(seed) {
        Options options;
        options.path = folder_ / "jobs.db";
        options.vfs = "memdb";  // no medium: what is simulated is time, not disks
        options.now = [this] { return now_; };
        options.new_id = [this] { return std::to_string(++ids_); };
        options.failures_max = 4;
        queue_ = std::move(*Queue::open(options));
    }

    void run() {
        for (int step = 0; step < kSteps && !::testing::Test::HasFailure(); ++step) {
            one_step();
            check();
        }
        finish();
    }

private:
    std::uint64_t below(std::uint64_t n) { return random_() % n; }

    std::string any_job() { return ids_ == 0 ? "none" : std::to_string(1 + below(static_cast<std::uint64_t>(ids_))); }

    void one_step() {
        auto& worker = workers_[below(kWorkers)];
        switch (below(14)) {
            case 0:
            case 1: {
                auto const key = below(3) == 0 ? std::string() : "key-" + std::to_string(below(6));
                auto const added = queue_->enqueue({"k", key, "{}"});
                ASSERT_TRUE(added);
                states_.emplace(added->job.id, added->job.state);
                break;
            }
            case 2:
            case 3:
            case 4: claim(worker); break;
            case 5:
                if (worker.lease && queue_->renew(*worker.lease, kLease)) worker.until = now_ + kLease.count();
                break;
            case 6: report(worker); break;
            case 7: end(worker); break;
            case 8: worker = {}; break;  // died
            case 9: now_ += static_cast<UnixMs>(below(8'000)); break;
            case 10: user([&](auto const& id) { return queue_->pause(id); }); break;
            case 11: user([&](auto const& id) { return queue_->resume(id); }); break;
            case 12: user([&](auto const& id) { return queue_->cancel(id); }); break;
            default: {
                auto const id = any_job();
                if (queue_->retry(id)) states_[id] = State::queued;
            }
        }
    }

    template <typename F>
    void user(F const& change) {
        std::ignore = change(any_job());
    }

    void claim(Worker& worker) {
        if (worker.lease) return;
        auto claimed = queue_->claim("k", "w", kLease);
        ASSERT_TRUE(claimed);
        if (!*claimed) return;
        for (auto const& other : workers_) {
            if (!other.lease || other.until <= now_) continue;
            // A dead worker is no more in workers_, and its lease counts in the queue alone.
            EXPECT_NE(other.lease->job.id, (*claimed)->job.id) << "run twice at once";
            if (!other.lease->job.key.empty())
                EXPECT_NE(other.lease->job.key, (*claimed)->job.key) << "run twice at once";
        }
        worker.lease = std::move(**claimed);
        worker.until = now_ + kLease.count();
    }

    void report(Worker& worker) {
        if (!worker.lease) return;
        auto const told = queue_->report(*worker.lease, {below(100), 100, "x"});
        if (!told && told.error().code == Code::cancelled) let_go(worker);
    }

    void let_go(Worker& worker) {
        ASSERT_TRUE(queue_->release(*worker.lease));
        worker = {};
    }

    void end(Worker& worker) {
        if (!worker.lease) return;
        switch (below(4)) {
            case 0:
                std::ignore = queue_->fail(*worker.lease, Error(Code::unavailable, "e"),
                                           below(3) == 0 ? Retry::never : Retry::yes);
                break;
            case 1: break;
            default: std::ignore = queue_->complete(*worker.lease);
        }
        let_go(worker);
    }

    void check() {
        auto const jobs = *queue_->list({.state = std::nullopt, .kind = {}, .limit = kPageMax});
        ASSERT_EQ(jobs.size(), states_.size()) << "a job is lost";
        std::map<std::string, int> open;
        for (auto const& job : jobs) {
            auto& before = states_.at(job.id);
            if (is_final(before)) ASSERT_EQ(job.state, before) << job.id << " had ended";
            before = job.state;
            if (job.state == State::running) ASSERT_NE(job.holder, "");
            if (is_final(job.state)) ASSERT_NE(job.finished, 0);
            if (!is_final(job.state) && !job.key.empty()) ASSERT_EQ(++open[job.key], 1) << job.key;
        }
    }

    // Nobody disturbs any more.
    void finish() {
        for (auto const& [id, state] : states_) {
            if (state == State::paused) ASSERT_TRUE(queue_->resume(id));
        }
        workers_ = {};
        for (int i = 0; i < 20 * kSteps; ++i) {
            auto const lease = *queue_->claim("k", "w", kLease);
            if (lease) {
                ASSERT_TRUE(queue_->complete(*lease));
                continue;
            }
            auto const due = *queue_->next_due("k");
            if (!due) break;
            now_ += std::max<UnixMs>(due->count(), 1);
        }
        check();
        for (auto const& [id, state] : states_) EXPECT_TRUE(is_final(state)) << id << " is " << to_string(state);
    }

    hearth::testing::TemporaryFolder folder_;
    std::mt19937_64 random_;
    UnixMs now_ = 1'000'000;
    int ids_ = 0;
    std::unique_ptr<Queue> queue_;
    std::array<Worker, kWorkers> workers_;
    std::map<std::string, State> states_;
};

TEST(jobs_simulation, every_job_comes_to_one_end_whatever_happens) {
    for (std::uint64_t seed = 1; seed <= kSeeds && !HasFailure(); ++seed) {
        SCOPED_TRACE("seed " + std::to_string(seed));
        Simulation(seed).run();
    }
}

}  // namespace
}  // namespace hearth::jobs

#include "jobs/runner.h"

#include <atomic>
#include <condition_variable>
#include <mutex>

#include <gtest/gtest.h>

#include "testing/temporary_folder.h"

namespace hearth::jobs {
namespace {

using std::chrono::milliseconds;

// Waits until what it is told is so, or says that it never was.
class Monitor {
public:
    template <typename F>
    void change(F const& how) {
        {
            std::lock_guard const lock(mutex_);
            how();
        }
        wake_.notify_all();
    }
    template <typename F>
    [[nodiscard]] bool wait(F const& until) {
        std::unique_lock lock(mutex_);
        return wake_.wait_for(lock, std::chrono::seconds(60), until);
    }

private:
    std::mutex mutex_;
    std::condition_variable wake_;
};

class jobs_runner : public ::testing::Test, public Handler {
protected:
    void SetUp() override {
        Options options;
        options.path = folder / "jobs.db";
        options.now = [this] { return now.load(); };
        options.new_id = [this] { return "job-" + std::to_string(++ids); };
        options.failures_max = 2;
        auto opened = Queue::open(options);
        ASSERT_TRUE(opened) << opened.error().message;
        queue = std::move(opened).value();
        auto watched = queue->watch([this](Job const& job) { monitor.change([&] { seen[job.id] = job.state; }); });
        ASSERT_TRUE(watched);
        watch = std::move(watched).value();
    }

    // A job whose payload is "hold" runs until it is told to stop or let go.
    Outcome run(Context& context) override {
        auto const& job = context.job();
        monitor.change([&] { ++running, most = std::max(most, running), began[job.id] += 1; });
        Outcome outcome{ok()};
        if (job.payload == "hold") {
            std::stop_callback const woken(context.stop(), [this] { monitor.change([] {}); });
            EXPECT_TRUE(monitor.wait([&] { return go || context.stop().stop_requested(); }));
            if (!go) outcome.status = Error(Code::cancelled, "stopped");
        } else if (job.payload == "fail") {
            outcome = {Error(Code::io, "no such host"), Retry::never};
        } else if (job.payload == "again" && job.attempt < 2) {
            outcome = {Error(Code::io, "cut"), Retry::yes, milliseconds(1)};
        } else if (auto const told = context.report({7, 7, "all"}); !told) {
            outcome.status = told.error();
        }
        monitor.change([&] { --running; });
        return outcome;
    }

    std::string add(std::string payload) { return queue->enqueue({"k", "", std::move(payload)})->job.id; }
    bool reaches(std::string const& id, State state) {
        return monitor.wait([&] { return seen[id] == state; });
    }
    std::unique_ptr<Runner> started(std::uint32_t at_once) {
        auto runner = std::make_unique<Runner>(*queue, Runner::Options{.look_again = milliseconds(50), .on_error = {}});
        runner->add("k", *this, at_once);
        EXPECT_TRUE(runner->start());
        return runner;
    }

    hearth::testing::TemporaryFolder folder;
    std::atomic<UnixMs> now = 1'000'000;
    std::atomic<int> ids = 0;
    std::unique_ptr<Queue> queue;
    Monitor monitor;
    std::map<std::string, State> seen;  // under monitor, as the rest
    std::map<std::string, int> began;
    int running = 0, most = 0;
    bool go = false;
    Watch watch;
};

TEST_F(jobs_runner, jobs_run_so_many_at_once_and_end) {
    auto const runner = started(3);
    std::vector<std::string> ids_of;
    for (int i = 0; i < 9; ++i) ids_of.push_back(add("hold"));
    ASSERT_TRUE(monitor.wait([&] { return running == 3; }));
    monitor.change([&] { go = true; });
    for (auto const& id : ids_of) ASSERT_TRUE(reaches(id, State::done));
    EXPECT_EQ(most, 3);
    for (auto const& [id, times] : began) EXPECT_EQ(times, 1) << id;
}

TEST_F(jobs_runner, a_pause_stops_the_handler_and_a_resume_begins_it_again) {
    auto const runner = started(1);
    auto const id = add("hold");
    ASSERT_TRUE(monitor.wait([&] { return began[id] == 1; }));
    ASSERT_TRUE(queue->pause(id));
    ASSERT_TRUE(monitor.wait([&] { return running == 0; }));
    ASSERT_TRUE(reaches(id, State::paused));
    ASSERT_TRUE(queue->resume(id));
    ASSERT_TRUE(monitor.wait([&] { return began[id] == 2; }));
    monitor.change([&] { go = true; });
    ASSERT_TRUE(reaches(id, State::done));
}

TEST_F(jobs_runner, a_cancelled_job_stops_and_makes_room) {
    auto const runner = started(1);
    auto const held = add("hold");
    ASSERT_TRUE(monitor.wait([&] { return began[held] == 1; }));
    auto const next = add("quick");
    ASSERT_TRUE(queue->cancel(held));
    ASSERT_TRUE(reaches(next, State::done));
    EXPECT_EQ(queue->get(held)->state, State::cancelled);
    EXPECT_EQ(queue->get(next)->progress.done, 7U);
}

TEST_F(jobs_runner, failures_end_or_are_tried_again) {
    auto const runner = started(2);
    auto const bad = add("fail"), flaky = add("again");
    ASSERT_TRUE(reaches(bad, State::failed));
    EXPECT_EQ(queue->get(bad)->error, "no such host");
    ASSERT_TRUE(monitor.wait([&] { return began[flaky] == 1 && seen[flaky] == State::queued; }));
    now += 1000;
    ASSERT_TRUE(reaches(flaky, State::done));
}

TEST_F(jobs_runner, what_runs_when_it_stops_is_given_back) {
    auto runner = started(1);
    auto const id = add("hold");
    ASSERT_TRUE(monitor.wait([&] { return began[id] == 1; }));
    runner->stop();
    auto const job = *queue->get(id);
    EXPECT_EQ(job.state, State::queued);
    EXPECT_EQ(job.holder, "");
    EXPECT_EQ(job.failures, 0U);
    monitor.change([&] { go = true; });
    runner = started(1);
    ASSERT_TRUE(reaches(id, State::done));
}

}  // namespace
}  // namespace hearth::jobs

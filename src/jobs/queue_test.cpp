#include "jobs/queue.h"

#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <random>
#include <set>

#include <gtest/gtest.h>

#include "base/sanitized.h"
#include "testing/temporary_folder.h"

namespace hearth::jobs {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kLease{30'000};

class jobs_queue : public ::testing::Test {
protected:
    void SetUp() override { reopen(); }

    void reopen() {
        queue.reset();
        Options options;
        options.path = folder / "jobs.db";
        options.now = [this] { return now; };
        options.new_id = [this] { return "job-" + std::to_string(++ids); };
        options.history_max = 5;
        options.open_max = 20;
        options.failures_max = 3;
        auto opened = Queue::open(options);
        ASSERT_TRUE(opened) << opened.error().message;
        queue = std::move(opened).value();
    }

    std::string add(std::string key = {}) {
        auto added = queue->enqueue({"pull", std::move(key), R"({"model": "x"})"});
        EXPECT_TRUE(added);
        return added->job.id;
    }
    std::optional<Lease> claim(std::string const& holder = "a") {
        auto claimed = queue->claim("pull", holder, kLease);
        EXPECT_TRUE(claimed);
        return *claimed;
    }
    State state(std::string const& id) { return queue->get(id)->state; }

    hearth::testing::TemporaryFolder folder;
    UnixMs now = 1'000'000;
    int ids = 0;
    std::unique_ptr<Queue> queue;
};

TEST_F(jobs_queue, a_job_goes_from_queued_to_done) {
    auto const id = add("model-x");
    auto const lease = claim();
    ASSERT_TRUE(lease);
    EXPECT_EQ(lease->job.payload, R"({"model": "x"})");
    EXPECT_FALSE(claim());
    now += 10;
    ASSERT_TRUE(queue->report(*lease, {50, 100, "downloading"}));
    EXPECT_EQ(queue->get(id)->progress, (Progress{50, 100, "downloading"}));
    ASSERT_TRUE(queue->complete(*lease));
    auto const job = *queue->get(id);
    EXPECT_EQ(job.state, State::done);
    EXPECT_EQ(job.attempt, 1U);
    EXPECT_EQ(job.holder, "");
    EXPECT_EQ(job.created, 1'000'000);
    EXPECT_EQ(job.finished, 1'000'010);
}

TEST_F(jobs_queue, two_equal_ones_are_one_until_it_ends) {
    auto const id = add("same");
    auto const again = queue->enqueue({"pull", "same", "{}"});
    EXPECT_TRUE(again->existed);
    EXPECT_EQ(again->job.id, id);
    EXPECT_FALSE(queue->enqueue({"convert", "same", "{}"})->existed);
    ASSERT_TRUE(queue->complete(*claim()));
    EXPECT_FALSE(queue->enqueue({"pull", "same", "{}"})->existed);
    EXPECT_NE(add(), add());
}

TEST_F(jobs_queue, a_lease_that_expires_is_taken_over_and_its_holder_can_do_no_harm) {
    auto const id = add();
    auto const first = claim("a");
    ASSERT_TRUE(queue->report(*first, {10, 100, ""}));
    now += kLease.count() - 1;
    EXPECT_FALSE(claim("b"));
    now += 1;
    EXPECT_FALSE(claim("b"));  // noticed; a failure, so it waits a second
    now += 1000;
    auto const second = claim("b");
    ASSERT_TRUE(second);
    EXPECT_EQ(second->job.attempt, 2U);
    EXPECT_EQ(second->job.progress.done, 10U);
    for (auto const& done :
         {queue->renew(*first, kLease), queue->report(*first, {99, 100, ""}), queue->complete(*first),
          queue->fail(*first, Error(Code::unavailable, "late"), Retry::never)}) {
        ASSERT_FALSE(done);
        EXPECT_EQ(done.error().code, Code::cancelled);
    }
    EXPECT_TRUE(queue->release(*first));
    EXPECT_EQ(queue->get(id)->holder, "b");
    EXPECT_EQ(queue->get(id)->progress.done, 10U);
    EXPECT_TRUE(queue->complete(*second));
}

TEST_F(jobs_queue, a_lease_that_is_renewed_stays) {
    add();
    auto const lease = claim();
    for (int i = 0; i < 5; ++i) {
        now += kLease.count() - 1;
        ASSERT_TRUE(queue->renew(*lease, kLease));
        EXPECT_FALSE(claim("b"));
    }
}

TEST_F(jobs_queue, what_parts_say_is_kept_and_a_code_with_an_error) {
    auto const id = add();
    auto const lease = claim();
    Part const part{"sha256:a", 1, 2, "file.gguf", "pausing", "503; again"};
    Part const odd{"b", 0, 0, std::string(kPartTextMax + 1, 'x'), "", "two\nlines\tand tabs"};
    ASSERT_TRUE(queue->report(*lease, {1, 2, "fetching", {part, odd}}));
    EXPECT_EQ(queue->get(id)->code, std::nullopt);
    ASSERT_TRUE(queue->fail(*lease, Error(Code::not_found, "no such model"), Retry::never));
    auto const kept = *queue->get(id);
    ASSERT_EQ(kept.progress.parts.size(), 2U);
    EXPECT_EQ(kept.progress.parts[0], part);
    EXPECT_EQ(kept.progress.parts[1].file.size(), kPartTextMax);
    EXPECT_EQ(kept.progress.parts[1].note, "two lines and tabs");
    EXPECT_EQ(kept.code, Code::not_found);
    ASSERT_TRUE(queue->retry(id));
    ASSERT_TRUE(queue->complete(*claim()));
    EXPECT_EQ(queue->get(id)->code, std::nullopt);
}

TEST_F(jobs_queue, failures_wait_longer_each_time_and_end) {
    auto const id = add();
    for (std::int64_t const wait : {1000, 2000}) {
        ASSERT_TRUE(queue->fail(*claim(), Error(Code::unavailable, "no route"), Retry::yes));
        EXPECT_EQ(**queue->next_due("pull"), milliseconds(wait));
        now += wait - 1;
        EXPECT_FALSE(claim());
        now += 1;
    }
    ASSERT_TRUE(queue->fail(*claim(), Error(Code::unavailable, "no route"), Retry::yes));
    EXPECT_EQ(state(id), State::failed);
    EXPECT_EQ(queue->get(id)->error, "no route");
    EXPECT_EQ(*queue->next_due("pull"), std::nullopt);
    ASSERT_TRUE(queue->retry(id));
    EXPECT_TRUE(claim());
}

TEST_F(jobs_queue, progress_between_failures_keeps_it_alive) {
    auto const id = add();
    for (std::uint64_t part = 1; part <= 20; ++part) {
        auto const lease = claim();
        ASSERT_TRUE(lease) << part;
        ASSERT_TRUE(queue->report(*lease, {part, 20, ""}));
        ASSERT_TRUE(queue->fail(*lease, Error(Code::unavailable, "cut"), Retry::yes));
        EXPECT_EQ(queue->get(id)->failures, 1U);
        now += 1000;
    }
}

TEST_F(jobs_queue, parts_of_a_job_stay_with_it) {
    std::vector<Part> const parts{{"sha256:aa", 40, 60}, {"a file.gguf", 10, 40}};
    auto const id = add();
    auto const lease = claim();
    ASSERT_TRUE(queue->report(*lease, {0, 100, "begun", {{"sha256:aa", 0, 60}}}));
    ASSERT_TRUE(queue->report(*lease, {50, 100, "half", parts})) << "too soon to be written by itself";
    EXPECT_EQ(queue->get(id)->progress.parts, parts);
    ASSERT_TRUE(queue->complete(*lease));
    reopen();
    EXPECT_EQ(queue->get(id)->progress, (Progress{50, 100, "half", parts}));
}

TEST_F(jobs_queue, parts_are_bounded_and_of_one_line) {
    auto const id = add();
    std::vector<Part> parts{{"two\nlines", 1, 1}, {std::string(kPartNameMax + 1, 'x'), 1, 1}};
    for (std::size_t i = 0; i < kPartsMax + 5; ++i) parts.push_back({std::to_string(i), i, i});
    ASSERT_TRUE(queue->report(*claim(), {1, 2, "", parts}));
    auto const kept = queue->get(id)->progress.parts;
    ASSERT_EQ(kept.size(), kPartsMax);
    EXPECT_EQ(kept.front().name, "0");
    EXPECT_EQ(kept.back().name, std::to_string(kPartsMax - 1));
}

TEST_F(jobs_queue, the_server_may_say_when_to_come_back_or_never) {
    auto const id = add();
    ASSERT_TRUE(queue->fail(*claim(), Error(Code::unavailable, "busy"), Retry::yes, milliseconds(60'000)));
    EXPECT_EQ(**queue->next_due("pull"), milliseconds(60'000));
    now += 60'000;
    ASSERT_TRUE(queue->fail(*claim(), Error(Code::unavailable, "no such model"), Retry::never));
    EXPECT_EQ(state(id), State::failed);
}

TEST_F(jobs_queue, a_paused_job_is_not_handed_out_until_its_holder_let_go) {
    auto const id = add();
    auto const lease = claim();
    ASSERT_TRUE(queue->pause(id));
    EXPECT_EQ(queue->renew(*lease, kLease).error().code, Code::cancelled);
    EXPECT_EQ(queue->report(*lease, {1, 2, ""}).error().code, Code::cancelled);
    ASSERT_TRUE(queue->release(*lease));
    EXPECT_EQ(state(id), State::paused);
    EXPECT_FALSE(claim());
    ASSERT_TRUE(queue->resume(id));
    EXPECT_TRUE(claim());

    ASSERT_TRUE(queue->pause(id));
    ASSERT_TRUE(queue->resume(id));  // the holder has not noticed and goes on
    EXPECT_EQ(state(id), State::running);
    EXPECT_FALSE(claim("b"));
}

TEST_F(jobs_queue, an_equal_job_waits_for_the_holder_of_a_cancelled_one) {
    auto const id = add("file");
    auto const lease = claim();
    ASSERT_TRUE(queue->cancel(id));
    EXPECT_EQ(state(id), State::cancelled);
    auto const next = add("file");
    EXPECT_NE(next, id);
    EXPECT_FALSE(claim("b"));
    ASSERT_TRUE(queue->release(*lease));
    EXPECT_EQ(claim("b")->job.id, next);
    auto const again = queue->retry(id);
    ASSERT_FALSE(again);
    EXPECT_NE(again.error().message.find(next), std::string::npos) << again.error().message;
}

TEST_F(jobs_queue, an_end_is_an_end) {
    auto const id = add();
    ASSERT_TRUE(queue->complete(*claim()));
    for (auto const& changed : {queue->pause(id), queue->resume(id), queue->cancel(id), queue->retry(id)}) {
        ASSERT_FALSE(changed);
        EXPECT_EQ(changed.error().code, Code::invalid_argument);
        EXPECT_NE(changed.error().message.find("is done"), std::string::npos) << changed.error().message;
    }
    EXPECT_EQ(queue->pause("nobody").error().code, Code::not_found);
}

TEST_F(jobs_queue, the_next_process_takes_over_at_once_what_the_last_one_left) {
    auto const id = add("k");
    ASSERT_TRUE(claim("first process"));
    reopen();
    auto const lease = claim("second process");
    ASSERT_TRUE(lease);
    EXPECT_EQ(lease->job.id, id);
    EXPECT_EQ(lease->job.attempt, 2U);
    EXPECT_NE(lease->job.error.find("first process"), std::string::npos);
}

TEST_F(jobs_queue, pages_go_from_the_newest_to_the_oldest) {
    std::vector<std::string> added;
    for (int i = 0; i < 7; ++i) added.push_back(add());
    ASSERT_TRUE(queue->pause(added[3]));
    Filter filter{.state = std::nullopt, .kind = {}, .limit = 3};
    std::vector<std::string> seen;
    while (true) {
        auto const page = *queue->list(filter);
        if (page.empty()) break;
        for (auto const& job : page) seen.push_back(job.id);
        filter.before = page.back().sequence;
    }
    EXPECT_EQ(seen, std::vector(added.rbegin(), added.rend()));
    auto const paused = *queue->list({.state = State::paused, .kind = "pull"});
    ASSERT_EQ(paused.size(), 1U);
    EXPECT_EQ(paused[0].id, added[3]);
    EXPECT_TRUE(queue->list({.state = std::nullopt, .kind = "other"})->empty());
}

TEST_F(jobs_queue, the_history_is_bounded_and_so_is_what_waits) {
    std::vector<std::string> ended;
    for (int i = 0; i < 8; ++i) {
        ended.push_back(add());
        now += 1;
        ASSERT_TRUE(queue->complete(*claim()));
    }
    EXPECT_EQ(queue->list({.state = State::done, .kind = {}})->size(), 5U);
    EXPECT_EQ(queue->get(ended[2]).error().code, Code::not_found);
    EXPECT_TRUE(queue->get(ended[3]));
    for (int i = 0; i < 20; ++i) add();
    auto const refused = queue->enqueue({"pull", "", "{}"});
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, Code::overloaded);
    EXPECT_NE(refused.error().message.find("limit is 20"), std::string::npos);
    EXPECT_EQ(queue->enqueue({"pull", "", std::string(kPayloadMax + 1, ' ')}).error().code, Code::too_large);
    EXPECT_EQ(queue->enqueue({"", "", "{}"}).error().code, Code::invalid_argument);
}

TEST_F(jobs_queue, progress_is_told_and_written_only_so_often) {
    auto const id = add();
    auto const lease = claim();
    std::vector<Job> told;
    auto watch = queue->watch([&](Job const& job) { told.push_back(job); });
    ASSERT_TRUE(watch);
    for (std::uint64_t i = 1; i <= 1000; ++i, ++now) ASSERT_TRUE(queue->report(*lease, {i, 1000, ""}));
    EXPECT_EQ(queue->get(id)->progress.done, 1000U);
    EXPECT_EQ(told.size(), 10U);  // a second, told every 100 ms
    for (std::size_t i = 1; i < told.size(); ++i) EXPECT_GT(told[i].revision, told[i - 1].revision);
    watch->end();
    ASSERT_TRUE(queue->complete(*lease));
    EXPECT_EQ(told.size(), 10U);
    EXPECT_EQ(queue->get(id)->progress.done, 1000U);
    reopen();
    EXPECT_EQ(queue->get(id)->progress.done, 1000U);
}

// --- kill -9 -----------------------------------------------------------------

enum class Did : char { enqueued, finished };
struct Note {
    Did did;
    int number;
};

[[noreturn]] void work_until_killed(std::string const& path, int out, int first) {
    auto queue = Queue::open({.path = path,
                              .now = [] { return UnixMs{1}; },
                              .new_id = [&first] { return std::to_string(first++); },
                              .open_max = 1'000'000,
                              .history_max = 1'000'000,
                              .vfs = {}});
    if (!queue) ::_exit(2);
    auto const note = [out](Did did, std::string const& id) {
        Note const n{did, std::atoi(id.c_str())};
        if (::write(out, &n, sizeof n) != sizeof n) ::_exit(3);
    };
    while (true) {
        auto const added = (*queue)->enqueue({"k", "", "{}"});
        if (!added) ::_exit(4);
        note(Did::enqueued, added->job.id);
        auto const lease = (*queue)->claim("k", "h", kLease);
        if (!lease || !*lease) ::_exit(5);
        if (!(*queue)->report(**lease, {1, 2, "half"}) || !(*queue)->complete(**lease)) ::_exit(6);
        note(Did::finished, (*lease)->job.id);
    }
}

TEST(jobs_faults, kill_9_loses_no_job_and_no_end_of_one) {
    hearth::testing::TemporaryFolder const folder;
    auto const path = folder / "jobs.db";
    std::mt19937_64 random(5);
    std::set<int> enqueued, finished;
    int const rounds = kSanitized ? 20 : 100;
    for (int round = 0; round < rounds; ++round) {
        int pipe[2];
        ASSERT_EQ(::pipe(pipe), 0);
        auto const child = ::fork();
        if (child == 0) work_until_killed(path, pipe[1], 1'000'000 + round * 10'000);
        ::close(pipe[1]);
        Note note{};
        auto left = random() % 6;
        auto const record = [&] { (note.did == Did::enqueued ? enqueued : finished).insert(note.number); };
        while (left-- > 0 && ::read(pipe[0], &note, sizeof note) == sizeof note) record();
        for (auto spin = random() % 400'000; spin > 0; --spin) asm volatile("");
        ::kill(child, SIGKILL);
        while (::read(pipe[0], &note, sizeof note) == sizeof note) record();
        ::close(pipe[0]);
        int status = 0;
        ASSERT_EQ(::waitpid(child, &status, 0), child);
        ASSERT_TRUE(WIFSIGNALED(status)) << "round " << round << ": exit " << WEXITSTATUS(status);
    }
    auto queue = Queue::open({.path = path, .now = [] { return UnixMs{1}; }, .new_id = {}, .vfs = {}});
    ASSERT_TRUE(queue) << queue.error().message;
    for (int const number : enqueued) ASSERT_TRUE((*queue)->get(std::to_string(number))) << number;
    for (int const number : finished) ASSERT_EQ((*queue)->get(std::to_string(number))->state, State::done) << number;
    EXPECT_GT(finished.size(), static_cast<std::size_t>(rounds / 4));
    EXPECT_TRUE((*queue)->list({.state = State::running, .kind = {}})->empty());
}

}  // namespace
}  // namespace hearth::jobs

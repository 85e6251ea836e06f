// The pool over worker processes: this test binary, started again as a worker
// with a scripted backend inside the real sandbox, and then ill-treated.
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "sandbox/sandbox.h"
#include "worker/testing/front_end.h"
#include "worker/testing/pool_run.h"
#include "worker/thread_launcher.h"

namespace hearth::worker {
namespace {

using namespace domain;
using namespace serving;
using namespace std::chrono_literals;

// --- the worker's side ---

// What kind of worker to be is the model's id.
BackendFactory backend_for(std::string const& id) {
    auto script = testing::script({"Hel", "lo", "!"});
    if (id.starts_with("endless")) {
        script.pieces = {"tick "};
        script.repeat = true;
        script.context_request = 16384;
    }
    if (id == "poison") {
        script.before_decode = [](std::uint64_t index) {
            if (index == 2) ::raise(SIGKILL);
            return ok();
        };
    }
    return testing::scripted(script);
}

int play_worker(std::vector<std::string> const& arguments) {
    int const statm = prepare_process();
    auto parsed = parse_worker_arguments(arguments);
    if (!parsed) return 2;
    auto const& [spec, fd] = *parsed;
    // A crash should be one, not a sanitizer's report.
    for (int const number : {SIGSEGV, SIGABRT, SIGBUS}) ::signal(number, SIG_DFL);
    sandbox::Policy policy;
    policy.keep_fds = {fd, statm};
    auto const report = sandbox::enter(policy);
    if (!report) {
        std::fprintf(stderr, "%s\n", report.error().message.c_str());
        return 3;
    }
    Options options;
    options.fd = fd;
    options.statm_fd = statm;
    options.isolation = report->description;
    options.engine = engine_options({}, spec);
    options.on_abandoned = [] { ::_exit(0); };
    SteadyClock clock;
    auto const status = run(std::move(options), backend_for(spec.id), clock);
    ::_exit(status ? 0 : 1);
}

// --- the front's side ---

// The letter in /proc/PID/stat; X if there is no such process.
char state_of(pid_t pid) {
    std::ifstream in("/proc/" + std::to_string(pid) + "/stat");
    std::string number;
    std::string name;
    char state = 'X';
    in >> number >> name >> state;
    return state;
}

class WorkerProcess : public testing::PoolRun {
public:
    WorkerProcess() { launcher = make_process_launcher("/proc/self/exe", {}); }

    net::Task<void> until_ready() {
        while (!pool().ready()) co_await loop.sleep(1ms);
    }
    [[nodiscard]] pid_t pid(std::string_view model) { return static_cast<pid_t>(pool().status(model)->pid); }
};

TEST_F(WorkerProcess, ServesFromInsideTheSandbox) {
    run([](WorkerProcess& t) -> net::Task<void> {
        auto const begin = t.clock.now();
        t.add("m");
        std::vector<std::unique_ptr<Generation>> generations;
        for (int i = 0; i < 16; ++i) generations.push_back(t.submit("m", "prompt " + std::to_string(i)));
        co_await t.until_ready();
        RecordProperty("ready_ms", std::to_string(to_ms(t.clock.now() - begin)));
        for (auto const& generation : generations) {
            auto const text = co_await t.text_of(*generation);
            EXPECT_EQ(text, "Hello!");
        }
        auto const status = t.pool().models()[0];
        EXPECT_NE(status.info->isolation.find("no_new_privs"), std::string::npos) << status.info->isolation;
        EXPECT_NE(status.pid, 0);
        while (t.pool().models()[0].stats.rss_bytes == 0) co_await t.loop.sleep(1ms);
        co_await t.pool().stop(20s);
        EXPECT_EQ(t.pool().models()[0].state, ModelState::stopped);
    }(*this));
}

struct Violence {
    char const* name;
    int signal;
};

class Violated : public WorkerProcess, public ::testing::WithParamInterface<Violence> {};

// The figure: a worker that is stopped or killed ends its streams within 1 s.
TEST_P(Violated, EndsItsStreamsInTimeAndIsReplacedWhileOthersGoOn) {
    run([](Violated& t) -> net::Task<void> {
        t.add("endless");
        t.add("endless-other");
        auto other = t.submit("endless-other");
        co_await t.next_delta(*other);
        auto streaming = t.submit("endless");
        co_await t.next_delta(*streaming);
        auto const first_pid = t.pid("endless");
        auto const begin = t.clock.now();
        EXPECT_EQ(::kill(first_pid, GetParam().signal), 0);
        auto const broken = co_await t.text_of(*streaming);
        auto const took_ms = to_ms(t.clock.now() - begin);
        RecordProperty("stream_end_ms", std::to_string(took_ms));
        std::printf("%s: stream ended after %.0f ms\n", GetParam().name, took_ms);
        EXPECT_TRUE(broken.ends_with("failed: engine_lost"));
        EXPECT_LE(took_ms, 5000) << "the limit is 1000 on a machine that is not overloaded";
        auto again = t.submit("endless");
        co_await t.next_delta(*again);
        EXPECT_NE(t.pid("endless"), first_pid);
        EXPECT_EQ(::kill(first_pid, 0), -1) << "no zombie is left";
        co_await t.next_delta(*other);
        EXPECT_EQ(t.pool().status("endless-other")->restarts, 0U);
    }(*this));
}

INSTANTIATE_TEST_SUITE_P(WorkerProcess, Violated,
                         ::testing::Values(Violence{"SIGSEGV", SIGSEGV}, Violence{"SIGABRT", SIGABRT},
                                           Violence{"SIGKILL", SIGKILL}, Violence{"SIGSTOP", SIGSTOP},
                                           Violence{"SIGBUS", SIGBUS}),
                         [](auto const& param) { return std::string(param.param.name); });

TEST_F(WorkerProcess, SignalsMeantForTheFrontDoNotTouchIt) {
    run([](WorkerProcess& t) -> net::Task<void> {
        t.add("endless");
        auto streaming = t.submit("endless");
        co_await t.next_delta(*streaming);
        for (int const number : {SIGINT, SIGTERM, SIGHUP, SIGPIPE}) EXPECT_EQ(::kill(t.pid("endless"), number), 0);
        for (int i = 0; i < 1000; ++i) co_await t.next_delta(*streaming);
        EXPECT_EQ(t.pool().models()[0].restarts, 0U);
    }(*this));
}

TEST_F(WorkerProcess, SurvivesManyDeathsUnderLoadWithoutLosingARequest) {
    options.replays_max = 100;
    options.replays_waiting_max = 100;
    options.backoff_max = 5ms;
    run([](WorkerProcess& t) -> net::Task<void> {
        t.add("m");
        int answered = 0;
        int lost = 0;
        for (int death = 0; death < 20; ++death) {
            std::vector<std::unique_ptr<Generation>> generations;
            for (int i = 0; i < 12; ++i) generations.push_back(t.submit("m", std::to_string(i)));
            if (death % 2 == 0) co_await t.until_ready();
            if (t.pid("m") != 0) ::kill(t.pid("m"), death % 3 == 0 ? SIGSEGV : SIGKILL);
            for (auto const& generation : generations) {
                auto const text = co_await t.text_of(*generation);
                EXPECT_TRUE(text == "Hello!" || text.ends_with("failed: engine_lost")) << text;
                ++(text == "Hello!" ? answered : lost);
            }
        }
        EXPECT_EQ(answered + lost, 240);
        EXPECT_GT(answered, 0);
        EXPECT_EQ(t.pool().models()[0].inside, 0U);
    }(*this));
}

TEST_F(WorkerProcess, ARequestThatKillsItsWorkerIsGivenUp) {
    run([](WorkerProcess& t) -> net::Task<void> {
        t.add("poison");
        auto generation = t.submit("poison");
        auto const text = co_await t.text_of(*generation);
        EXPECT_TRUE(text.ends_with("failed: engine_lost")) << text;
    }(*this));
}

TEST_F(WorkerProcess, DiesWithItsFront) {
    // A front in a child process, so that it can be killed.
    int report[2];
    ASSERT_EQ(::pipe(report), 0);
    auto const front = ::fork();
    if (front == 0) {
        auto const inner = make_process_launcher("/proc/self/exe", {});
        ModelSpec spec;
        spec.id = "endless";
        spec.path = "scripted";
        auto const handle = inner->launch(spec);
        auto const worker = handle ? static_cast<pid_t>((*handle)->pid()) : -1;
        // Ready: it has done its first act.
        char byte = 0;
        if (::read((*handle)->fd(), &byte, 1) != 1 || ::write(report[1], &worker, sizeof worker) != sizeof worker)
            ::_exit(1);
        for (;;) ::pause();
    }
    ::close(report[1]);
    pid_t worker = -1;
    ASSERT_EQ(::read(report[0], &worker, sizeof worker), static_cast<ssize_t>(sizeof worker));
    ASSERT_EQ(::kill(worker, 0), 0);
    ::kill(front, SIGKILL);
    ::waitpid(front, nullptr, 0);
    run([](WorkerProcess& t, pid_t gone) -> net::Task<void> {
        while (::kill(gone, 0) == 0) {
            auto const state = state_of(gone);
            if (state == 'Z' || state == 'X') break;  // dead, only not reaped by whoever inherited it
            co_await t.loop.sleep(1ms);
        }
    }(*this, worker));
    ::close(report[0]);
}

}  // namespace
}  // namespace hearth::worker

int main(int argc, char** argv) {
    if (argc > 1 && std::strcmp(argv[1], "worker") == 0) return hearth::worker::play_worker({argv + 2, argv + argc});
    ::testing::InitGoogleTest(&argc, argv);
    return RUN_ALL_TESTS();
}

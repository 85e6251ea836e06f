#include "serving/launcher.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <string>

#include <gtest/gtest.h>

namespace hearth::serving {
namespace {

constexpr int kPatienceMs = 20'000;

ModelSpec spec() {
    ModelSpec out;
    out.id = "m";
    out.path = "/models/a b.gguf";
    out.context_request = 4096;
    out.kv_cells = 8192;
    out.sequences_max = 4;
    out.threads = 2;
    out.speculation = 0;
    out.draft_path = "/models/small.gguf";
    out.draft_max = 5;
    out.step_ms_target = 30;
    out.cpu_variant = "haswell";
    out.chat_template = "{{ x }}";
    out.cache_memory_bytes = 5ULL << 32;
    out.cache_disk_bytes = 6ULL << 32;
    out.cache_disk_total_bytes = 7ULL << 32;
    out.cache_folder = "/cache/a b";
    out.cache_key_file = "/key";
    out.requests_max = 300;
    out.credit_tokens = 128;
    out.tenant_weights = {{"acme", 2.5}, {"a=b", 1}};
    out.public_prefixes = {"You are\nkind.", "--fd"};
    out.variants = {{"", {{"/models/a:b.gguf", 0.1F}, {"/models/c d.gguf", -2}}, nullptr},
                    {"", {{"/models/a:b.gguf", 1}}, nullptr}};
    return out;
}

// Waits until the process ended, without reaping it.
void wait_for_end(std::int64_t pid) {
    int const fd = static_cast<int>(::syscall(SYS_pidfd_open, pid, 0));
    if (fd < 0) return;  // gone already
    pollfd ended{fd, POLLIN, 0};
    EXPECT_EQ(::poll(&ended, 1, kPatienceMs), 1);
    ::close(fd);
}

// What the worker wrote to its connection until it closed it.
std::string read_all(int fd) {
    std::string out;
    std::array<char, 4096> buffer;
    for (ssize_t count = 0; (count = ::read(fd, buffer.data(), buffer.size())) > 0;)
        out.append(buffer.data(), static_cast<std::size_t>(count));
    return out;
}

TEST(WorkerArguments, AdaptersAreInOrderAndWhole) {
    auto const parse = [](std::vector<std::string> const& adapters) {
        std::vector<std::string> arguments{"--fd", "3", "--model", "/m.gguf"};
        for (auto const& each : adapters) arguments.insert(arguments.end(), {"--adapter", each});
        return parse_worker_arguments(arguments);
    };
    EXPECT_TRUE(parse({"1:1:/a", "1:0.5:/b", "2:-3:/c"}));
    auto const one_is_gone = parse({"1:0:", "2:1:/a"});
    ASSERT_TRUE(one_is_gone);
    EXPECT_TRUE(one_is_gone->first.variants[0].adapters.empty());
    EXPECT_EQ(one_is_gone->first.variants[1].adapters.size(), 1U);
    EXPECT_FALSE(parse({"1:1:/a", "1:0:"})) << "one that has adapters is not empty";
    for (auto const* bad : {"0:1:/a", "2:1:/a", "1:1:", "1:x:/a", "1:1", "1", "", "1:inf:/a", "-1:1:/a"})
        EXPECT_FALSE(parse({bad})) << bad;
    EXPECT_FALSE(parse({"1:1:/a", "3:1:/a"}));
    EXPECT_FALSE(parse({"1:1:/a", "2:1:/a", "1:1:/a"}));
}

TEST(ModelSpec, SharesAWorkerWithOneThatDiffersInNameFileAndAdapters) {
    auto base = spec();
    base.context_request = 4096;
    base.draft_path = "/draft.gguf";
    auto other = base;
    other.id = "other";
    other.path = "/a-link-to-it.gguf";
    other.cache_folder = "/kv/other";
    other.draft_path.clear();
    other.context_request = 2048;
    other.keep_alive = std::chrono::seconds(5);
    other.variants = {{"other", {{"/a.gguf", 1}}, nullptr}};
    EXPECT_TRUE(can_share_worker(base, other));
    auto const differs = [&](auto change) {
        auto changed = other;
        change(changed);
        return !can_share_worker(base, changed);
    };
    EXPECT_TRUE(differs([](ModelSpec& it) { it.context_request = 8192; })) << "it could not hold as much";
    EXPECT_TRUE(differs([](ModelSpec& it) { it.context_request = 0; })) << "nobody knows what that is";
    EXPECT_FALSE(differs([](ModelSpec& it) {
        it.context_request = 0;
        it.context_default = 4096;
    }));
    EXPECT_TRUE(differs([](ModelSpec& it) { it.chat_template = "{{ messages }}"; }));
    EXPECT_TRUE(differs([](ModelSpec& it) { it.threads = 1; }));
    EXPECT_TRUE(differs([](ModelSpec& it) { it.cache_memory_bytes = 1; }));
    EXPECT_FALSE(differs([](ModelSpec& it) { it.kv_cells += 256; })) << "memory left it more";
    EXPECT_TRUE(differs([](ModelSpec& it) { it.instances = 2; })) << "one worker is not what was wished";
    base.instances = 3;
    base.threads = 1;
    base.cache_memory_bytes /= 3;
    EXPECT_FALSE(differs([](ModelSpec& it) { it.instances = 2; }));
    EXPECT_FALSE(differs([](ModelSpec&) {})) << "each of them has its part";
    EXPECT_TRUE(differs([](ModelSpec& it) { it.instances = 3; })) << "of as many each has as much";
}

TEST(ModelSpec, KnowsTheAdaptersOfItsNames) {
    auto model = spec();
    model.aliases = {"alias"};
    model.variants = {{"first", {}, nullptr}, {"second", {}, nullptr}};
    EXPECT_EQ(adapters_of(model, "m"), 0U);
    EXPECT_EQ(adapters_of(model, ""), 0U);
    EXPECT_EQ(adapters_of(model, "alias"), 0U);
    EXPECT_EQ(adapters_of(model, "second"), 2U);
    model.variants[0].gone = true;
    EXPECT_EQ(adapters_of(model, "first"), 0U);
    EXPECT_EQ(adapters_of(model, "second"), 2U) << "sets keep their numbers";
    model.variants[0].gone = false;
    model.variants[1].id = "m";  // a model that is never served without
    EXPECT_EQ(adapters_of(model, "m"), 2U);
    EXPECT_EQ(adapters_of(model, ""), 2U);
    EXPECT_EQ(adapters_of(model, "alias"), 2U);
    EXPECT_EQ(adapters_of(model, "first"), 1U);
}

TEST(WorkerArguments, ComeBackAsTheyWerePassed) {
    auto const parsed = parse_worker_arguments(worker_arguments(spec(), 7));
    ASSERT_TRUE(parsed) << parsed.error().message;
    EXPECT_EQ(parsed->first, spec());
    EXPECT_EQ(parsed->second, 7);
}

TEST(WorkerArguments, AWrongOneIsNamed) {
    auto const why = [](std::vector<std::string> const& arguments) {
        auto const parsed = parse_worker_arguments(arguments);
        return parsed ? std::string("accepted") : parsed.error().param;
    };
    EXPECT_EQ(why({}), "--fd");
    EXPECT_EQ(why({"--fd", "3"}), "--model");
    EXPECT_EQ(why({"--fd", "3", "--model"}), "--model");
    EXPECT_EQ(why({"--fd", "three"}), "--fd");
    EXPECT_EQ(why({"--fd", "3", "--model", "m", "--threads", "-1"}), "--threads");
    EXPECT_EQ(why({"--fd", "3", "--model", "m", "--threads", "99999999999"}), "--threads");
    EXPECT_EQ(why({"--fd", "3", "--model", "m", "--socket", "x"}), "--socket");
    for (std::string const weight : {"acme", "acme=", "acme=0", "acme=-1", "acme=x", "acme=nan"})
        EXPECT_EQ(why({"--fd", "3", "--model", "m", "--tenant-weight", weight}), "--tenant-weight") << weight;
}

// The program started is this test binary; main() below sees what it is to be.
class ProcessLauncher : public ::testing::Test {
protected:
    std::unique_ptr<WorkerHandle> start(std::string const& mode) {
        launcher_ = make_process_launcher("/proc/self/exe", {"HEARTH_TEST_WORKER=" + mode, "ONLY=this"});
        auto handle = launcher_->launch(spec());
        EXPECT_TRUE(handle) << (handle ? "" : handle.error().message);
        return handle ? *std::move(handle) : nullptr;
    }
    std::unique_ptr<Launcher> launcher_;
};

TEST_F(ProcessLauncher, PassesArgumentsEnvironmentAndAConnectionAndNothingElse) {
    int const leaked = ::dup(0);
    auto worker = start("report");
    EXPECT_EQ(
        read_all(worker->fd()),
        "worker --fd 3 --id m --model /models/a b.gguf --draft /models/small.gguf --cpu-variant haswell "
        "--chat-template {{ x }} --cache-folder "
        "/cache/a b "
        "--cache-key-file /key --ctx 4096 --kv-cells 8192 "
        "--max-seqs 4 --threads 2 --prefix-cache 1 --speculation 0 --draft-max 5 --step-target-ms 30 --deterministic 0 "
        "--max-requests 300 --credit 128 --cache-memory 21474836480 --cache-disk 25769803776 "
        "--cache-disk-total 30064771072 --tenant-weight acme=2.5 --tenant-weight a=b=1 "
        "--public-prefix You are\nkind. --public-prefix --fd --adapter 1:0.1:/models/a:b.gguf --adapter 1:-2:/models/c "
        "d.gguf --adapter 2:1:/models/a:b.gguf\n"
        "HEARTH_TEST_WORKER=report ONLY=this\n"
        "fds 0 1 2 3\n"
        "mask empty, own group\n");
    ::close(leaked);
    wait_for_end(worker->pid());
    EXPECT_EQ(worker->exit_reason(), "exit status 7");
    EXPECT_EQ(worker->exit_reason(), "exit status 7") << "asked again";
}

TEST_F(ProcessLauncher, KillsAWorkerThatIsStopped) {
    auto worker = start("wait");
    EXPECT_EQ(worker->exit_reason(), "");
    ASSERT_EQ(::kill(static_cast<pid_t>(worker->pid()), SIGSTOP), 0);
    worker->kill();
    wait_for_end(worker->pid());
    EXPECT_EQ(worker->exit_reason(), "signal 9 (Killed)");
    worker->kill();
}

TEST_F(ProcessLauncher, NamesTheSignalOfACrash) {
    auto worker = start("crash");
    wait_for_end(worker->pid());
    EXPECT_EQ(worker->exit_reason(), "signal 11 (Segmentation fault)");
}

TEST_F(ProcessLauncher, LeavesNoZombieWhenHandlesGo) {
    pid_t pid = 0;
    {
        auto worker = start("wait");
        pid = static_cast<pid_t>(worker->pid());
    }
    launcher_.reset();
    EXPECT_EQ(::waitpid(pid, nullptr, WNOHANG), -1);
    EXPECT_EQ(errno, ECHILD);
}

TEST_F(ProcessLauncher, HandsOutItsConnectionOnce) {
    auto worker = start("wait");
    int const fd = worker->release_fd();
    EXPECT_GE(fd, 0);
    EXPECT_EQ(worker->fd(), -1);
    ::close(fd);
}

TEST(ProcessLauncherErrors, SaysWhichExecutableIsMissing) {
    auto const launcher = make_process_launcher("/nonexistent/hearth", {});
    auto const handle = launcher->launch(spec());
    ASSERT_FALSE(handle);
    EXPECT_EQ(handle.error().code, Code::io);
    EXPECT_EQ(handle.error().message, "cannot start '/nonexistent/hearth': No such file or directory");
}

// What it was started with, told over the connection.
int report(int fd, int argc, char** argv) {
    std::string text;
    for (int i = 1; i < argc; ++i) text += (i == 1 ? "" : " ") + std::string(argv[i]);
    text += '\n';
    for (char** variable = environ; *variable != nullptr; ++variable)
        text += (variable == environ ? "" : " ") + std::string(*variable);
    text += "\nfds";
    for (int open = 0; open < 256; ++open) {
        if (::fcntl(open, F_GETFD) >= 0) text += " " + std::to_string(open);
    }
    sigset_t mask;
    ::sigprocmask(SIG_SETMASK, nullptr, &mask);
    text += ::sigisemptyset(&mask) == 1 ? "\nmask empty, " : "\nmask set, ";
    text += ::getpgrp() == ::getpid() ? "own group\n" : "group of the front\n";
    return ::write(fd, text.data(), text.size()) == static_cast<ssize_t>(text.size()) ? 7 : 1;
}

int play_worker(std::string const& mode, int argc, char** argv) {
    constexpr int kFd = 3;
    if (mode == "report") return report(kFd, argc, argv);
    if (mode == "crash") {
        ::signal(SIGSEGV, SIG_DFL);  // sanitizers catch it
        ::raise(SIGSEGV);
    }
    char byte = 0;
    return static_cast<int>(::read(kFd, &byte, 1));  // until the front goes
}

}  // namespace
}  // namespace hearth::serving

int main(int argc, char** argv) {
    if (char const* mode = ::getenv("HEARTH_TEST_WORKER")) return hearth::serving::play_worker(mode, argc, argv);
    ::testing::InitGoogleTest(&argc, argv);
    return RUN_ALL_TESTS();
}

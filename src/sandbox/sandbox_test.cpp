#include "sandbox/sandbox.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <future>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "sandbox/landlock.h"
#include "sandbox/seccomp_filter.h"

namespace hearth::sandbox {
namespace {

namespace fs = std::filesystem;

constexpr int kPassed = 0;
constexpr int kEnterFailed = 100;

// A folder with a file to read and one that is secret.
class Sandbox : public ::testing::Test {
protected:
    void SetUp() override {
        auto pattern = (fs::temp_directory_path() / "hearth-sandbox-XXXXXX").string();
        ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
        folder_ = pattern;
        write(folder_ / "model.gguf", "weights");
        write(folder_ / "secret", "secret");
        fs::create_directory(folder_ / "models");
        write(folder_ / "models" / "split", "split");
        policy_.readable = {folder_ / "model.gguf", folder_ / "models"};
    }
    void TearDown() override { fs::remove_all(folder_); }

    static void write(fs::path const& path, std::string const& text) { std::ofstream(path) << text; }

    // Runs `probe` in a child inside the sandbox; its status as waitpid() gives it.
    int inside(std::function<int()> const& probe) const {
        auto const child = ::fork();
        if (child == 0) {
            auto const report = enter(policy_);
            if (!report) {
                std::fprintf(stderr, "%s\n", report.error().message.c_str());
                ::_exit(kEnterFailed);
            }
            ::_exit(probe());
        }
        int status = -1;
        EXPECT_EQ(::waitpid(child, &status, 0), child);
        return status;
    }

    // The probe's own word on whether all was as it should be.
    void expect_passes(std::function<int()> const& probe) const {
        auto const status = inside(probe);
        EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == kPassed)
            << (WIFEXITED(status) ? "exit " + std::to_string(WEXITSTATUS(status))
                                  : "signal " + std::to_string(WTERMSIG(status)));
    }

    fs::path folder_;
    Policy policy_;
};

bool has_landlock() { return probe_landlock().abi > 0; }
bool has_seccomp() { return seccomp_obstacle().empty(); }

#define NEEDS_LANDLOCK() \
    if (!has_landlock()) GTEST_SKIP() << probe_landlock().reason
#define NEEDS_SECCOMP() \
    if (!has_seccomp()) GTEST_SKIP() << seccomp_obstacle()

std::string content(fs::path const& path) {
    int const fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (fd < 0) return "errno " + std::to_string(errno);
    char buffer[64];
    auto const count = ::read(fd, buffer, sizeof buffer);
    ::close(fd);
    return {buffer, static_cast<std::size_t>(count < 0 ? 0 : count)};
}

std::string const kDenied = "errno " + std::to_string(EACCES);

TEST_F(Sandbox, ReportsWhatIsInForceInWords) {
    int pipe_fds[2];
    ASSERT_EQ(::pipe(pipe_fds), 0);
    policy_.keep_fds = {pipe_fds[1]};
    auto const child = ::fork();
    if (child == 0) {
        auto const report = enter(policy_);
        auto const text = report ? report->description : report.error().message;
        ::_exit(::write(pipe_fds[1], text.data(), text.size()) == static_cast<ssize_t>(text.size()) ? kPassed : 1);
    }
    ::close(pipe_fds[1]);
    char buffer[512] = {};
    ASSERT_GT(::read(pipe_fds[0], buffer, sizeof buffer - 1), 0);
    ::close(pipe_fds[0]);
    ::waitpid(child, nullptr, 0);
    std::string const text = buffer;
    EXPECT_EQ(text.find("landlock abi") != std::string::npos, has_landlock()) << text;
    EXPECT_EQ(text.find(", seccomp (") != std::string::npos, has_seccomp()) << text;
    EXPECT_NE(text.find("no_new_privs"), std::string::npos) << text;
    if (!has_seccomp()) EXPECT_NE(text.find(seccomp_obstacle()), std::string::npos) << text;
}

TEST_F(Sandbox, ReadsListedFilesAndFoldersAndNothingElse) {
    NEEDS_LANDLOCK();
    expect_passes([&] { return content(folder_ / "model.gguf") == "weights" ? 0 : 1; });
    expect_passes([&] { return content(folder_ / "models" / "split") == "split" ? 0 : 1; });
    expect_passes([&] { return content(folder_ / "secret") == kDenied ? 0 : 1; });
    expect_passes([&] { return content("/etc/passwd") == kDenied ? 0 : 1; });
    expect_passes([&] { return content("/proc/self/environ") == kDenied ? 0 : 1; });
    expect_passes([&] { return content(folder_ / "models" / ".." / "secret") == kDenied ? 0 : 1; });
}

TEST_F(Sandbox, WritesCreatesAndTruncatesNothing) {
    NEEDS_LANDLOCK();
    for (int const flags : {O_WRONLY, O_RDWR, O_WRONLY | O_CREAT, O_RDONLY | O_TRUNC, O_RDWR | O_TMPFILE}) {
        expect_passes([&, flags] {
            return ::open((folder_ / "model.gguf").c_str(), flags | O_CLOEXEC, 0600) < 0 && errno != 0 ? 0 : 1;
        });
        expect_passes(
            [&, flags] { return ::open((folder_ / "models" / "new").c_str(), flags | O_CLOEXEC, 0600) < 0 ? 0 : 1; });
    }
    EXPECT_EQ(content(folder_ / "model.gguf"), "weights");
    EXPECT_FALSE(fs::exists(folder_ / "models" / "new"));
}

// What a cache on disk needs, in its folder.
TEST_F(Sandbox, WritesInTheOneFolder) {
    NEEDS_LANDLOCK();
    fs::create_directory(folder_ / "cache");
    policy_.writable = folder_ / "cache";
    expect_passes([&] {
        auto const path = [&](char const* name) { return (folder_ / "cache" / name).string(); };
        int const fd = ::open(path("a.tmp").c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        if (fd < 0) return 1;
        if (::write(fd, "state", 5) != 5 || ::fsync(fd) != 0 || ::close(fd) != 0) return 2;
        int const folder = ::open(path("").c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (folder < 0 || ::renameat(folder, "a.tmp", folder, "a") != 0 || ::fsync(folder) != 0) return 3;
        int const again = ::openat(folder, "a", O_RDONLY | O_CLOEXEC);
        char buffer[8] = {};
        if (::pread(again, buffer, sizeof buffer, 0) != 5 || std::string(buffer) != "state") return 4;
        if (::futimens(again, nullptr) != 0) return 5;
        if (std::distance(fs::directory_iterator(folder_ / "cache"), {}) != 1) return 6;
        return ::unlinkat(folder, "a", 0) == 0 ? 0 : 7;
    });
    EXPECT_TRUE(fs::is_empty(folder_ / "cache"));
}

TEST_F(Sandbox, WritesNowhereElseAndNothingThatIsThere) {
    NEEDS_LANDLOCK();
    fs::create_directory(folder_ / "cache");
    fs::create_directory(folder_ / "cache" / "deeper");
    write(folder_ / "cache" / "old", "old");
    policy_.writable = folder_ / "cache";
    auto const opens = [&](fs::path const& path, int flags) {
        expect_passes([=] { return ::open(path.c_str(), flags | O_CLOEXEC, 0600) < 0 ? 0 : 1; });
    };
    int const make = O_WRONLY | O_CREAT | O_EXCL;
    opens(folder_ / "new", make);
    opens(folder_ / "models" / "new", make);
    opens(folder_ / "cache" / ".." / "new", make);
    opens("/tmp/hearth-sandbox-new", make);
    for (auto const* name : {"model.gguf", "secret"}) opens(folder_ / name, O_WRONLY);
    if (has_seccomp()) {
        for (int const flags : {O_WRONLY, O_RDWR, O_WRONLY | O_CREAT, O_RDWR | O_CREAT | O_EXCL, O_RDONLY | O_TRUNC,
                                O_WRONLY | O_TRUNC, O_RDONLY | O_CREAT, O_WRONLY | O_CREAT | O_TRUNC})
            opens(folder_ / "cache" / "old", flags);
    }
    expect_passes([&] {
        auto const from = (folder_ / "cache" / "old").string();
        return ::renameat(AT_FDCWD, from.c_str(), AT_FDCWD, (folder_ / "out").c_str()) != 0 ? 0 : 1;
    });
    expect_passes([&] {
        auto const from = (folder_ / "secret").string();
        return ::renameat(AT_FDCWD, from.c_str(), AT_FDCWD, (folder_ / "cache" / "in").c_str()) != 0 ? 0 : 1;
    });
    expect_passes([&] { return ::unlinkat(AT_FDCWD, (folder_ / "secret").c_str(), 0) != 0 ? 0 : 1; });
    EXPECT_EQ(content(folder_ / "cache" / "old"), "old");
    EXPECT_EQ(content(folder_ / "secret"), "secret");
}

// What a program needs that writes one file as a stream.
TEST_F(Sandbox, RewritesTheOneFileAndNoOther) {
    NEEDS_LANDLOCK();
    write(folder_ / "output", "what was there before");
    policy_.rewritable = folder_ / "output";
    expect_passes([&] {
        std::ofstream out(folder_ / "output", std::ios::binary);
        out << "......";
        out.seekp(0);
        out << "new";
        out.close();
        return out ? 0 : 1;
    });
    EXPECT_EQ(content(folder_ / "output"), "new...");
    auto const opens = [&](fs::path const& path, int flags) {
        expect_passes([=] { return ::open(path.c_str(), flags | O_CLOEXEC, 0600) < 0 ? 0 : 1; });
    };
    for (auto const* name : {"model.gguf", "secret", "new"}) opens(folder_ / name, O_WRONLY | O_CREAT | O_TRUNC);
    for (int const flags : {O_WRONLY, O_RDWR, O_RDONLY | O_TRUNC, O_RDONLY | O_CREAT}) {
        opens(folder_ / "secret", flags);
        if (has_seccomp()) opens(folder_ / "output", flags);
    }
    EXPECT_EQ(content(folder_ / "output"), "new...");
    EXPECT_EQ(content(folder_ / "secret"), "secret");
}

TEST_F(Sandbox, AWritableFolderAllowsNoOtherCall) {
    NEEDS_LANDLOCK();
    NEEDS_SECCOMP();
    fs::create_directory(folder_ / "cache");
    policy_.writable = folder_ / "cache";
    auto const dies = [&](char const* name, std::function<long()> const& call) {
        auto const status = inside([&] {
            call();
            return kPassed;
        });
        EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS) << name;
    };
    dies("rmdir", [&] { return ::syscall(SYS_unlinkat, AT_FDCWD, (folder_ / "cache").c_str(), AT_REMOVEDIR); });
    dies("mkdir", [&] { return ::syscall(SYS_mkdirat, AT_FDCWD, (folder_ / "cache" / "x").c_str(), 0700); });
    dies("link", [&] { return ::syscall(SYS_linkat, AT_FDCWD, "a", AT_FDCWD, "b", 0); });
    dies("symlink", [&] { return ::syscall(SYS_symlinkat, "/etc", AT_FDCWD, (folder_ / "cache" / "x").c_str()); });
    dies("chmod", [&] { return ::syscall(SYS_fchmodat, AT_FDCWD, (folder_ / "cache").c_str(), 0777); });
    dies("truncate", [&] { return ::syscall(SYS_truncate, (folder_ / "cache" / "x").c_str(), 0); });
    dies("exchange", [&] { return ::syscall(SYS_renameat2, AT_FDCWD, "a", AT_FDCWD, "b", 2); });
}

TEST_F(Sandbox, ThreadsMemoryAndTheKeptConnectionWork) {
    int ends[2];
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    policy_.keep_fds = {ends[0], ends[1]};
    expect_passes([&] {
        std::atomic<int> sum = 0;
        std::vector<std::thread> threads;
        for (int i = 0; i < 8; ++i) threads.emplace_back([&sum, i] { sum += std::vector<int>(1 << 16, i)[7]; });
        for (auto& thread : threads) thread.join();
        if (sum != 28) return 1;
        void* const block = ::mmap(nullptr, 1 << 24, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (block == MAP_FAILED || ::madvise(block, 1 << 24, MADV_DONTNEED) != 0 || ::munmap(block, 1 << 24) != 0)
            return 2;
        char byte = 'x';
        if (::send(ends[0], &byte, 1, MSG_NOSIGNAL) != 1 || ::recv(ends[1], &byte, 1, 0) != 1) return 3;
        if (::sysconf(_SC_NPROCESSORS_ONLN) < 1 || std::thread::hardware_concurrency() < 1) return 4;
        std::FILE* const file = std::fopen((folder_ / "model.gguf").c_str(), "rb");
        if (file == nullptr || std::fgetc(file) != 'w') return 5;
        std::fclose(file);
        std::fprintf(stderr, "%s", "");
        return 0;
    });
    ::close(ends[0]);
    ::close(ends[1]);
}

TEST_F(Sandbox, MapsAModelFileForReading) {
    expect_passes([&] {
        int const fd = ::open((folder_ / "model.gguf").c_str(), O_RDONLY | O_CLOEXEC);
        auto const* bytes = static_cast<char const*>(::mmap(nullptr, 7, PROT_READ, MAP_SHARED, fd, 0));
        return bytes != MAP_FAILED && std::string(bytes, 7) == "weights" ? 0 : 1;
    });
}

// As a parked model's tensors are found again in the file that it was loaded from.
TEST_F(Sandbox, ReadsAStreamOfADescriptorItHasTwice) {
    expect_passes([&] {
        int const fd = ::open((folder_ / "model.gguf").c_str(), O_RDONLY | O_CLOEXEC);
        std::FILE* const file = ::fdopen(::fcntl(fd, F_DUPFD_CLOEXEC, 0), "rb");
        if (file == nullptr) return 1;
        char bytes[7];
        bool const read = std::fseek(file, 0, SEEK_SET) == 0 && std::fread(bytes, 1, 7, file) == 7;
        std::fclose(file);
        return read && std::string_view(bytes, 7) == "weights" ? 0 : 2;
    });
}

TEST_F(Sandbox, ClosesEveryDescriptorThatIsNotKept) {
    int const kept = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
    int const high = ::fcntl(kept, F_DUPFD_CLOEXEC, 40);
    int const leaked = ::open("/etc/hostname", O_RDONLY | O_CLOEXEC);
    policy_.keep_fds = {high, kept};
    expect_passes([=] {
        if (::fcntl(kept, F_GETFD) < 0 || ::fcntl(high, F_GETFD) < 0) return 1;
        for (int fd = 3; fd < 64; ++fd) {
            if (fd != kept && fd != high && ::fcntl(fd, F_GETFD) >= 0) return 2;
        }
        return ::fcntl(leaked, F_GETFD) < 0 ? 0 : 3;
    });
    for (int const fd : {kept, high, leaked}) ::close(fd);
}

TEST_F(Sandbox, LimitsDescriptorsAndCoreDumps) {
    policy_.open_files_max = 20;
    expect_passes([&] {
        rlimit core{};
        rlimit files{};
        ::getrlimit(RLIMIT_CORE, &core);
        ::getrlimit(RLIMIT_NOFILE, &files);
        return core.rlim_max == 0 && files.rlim_max == 20 ? 0 : 1;
    });
}

TEST_F(Sandbox, OpensNoTcpConnectionEvenWithoutSeccomp) {
    if (probe_landlock().abi < 4) GTEST_SKIP() << "Landlock before ABI 4 does not know TCP";
    policy_.seccomp = false;
    expect_passes([] {
        int const fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_addr.s_addr = ::htonl(INADDR_LOOPBACK);
        address.sin_port = ::htons(9);
        auto const* raw = reinterpret_cast<sockaddr const*>(&address);
        if (fd < 0 || ::connect(fd, raw, sizeof address) == 0 || errno != EACCES) return 1;
        return ::bind(fd, raw, sizeof address) != 0 && errno == EACCES ? 0 : 2;
    });
}

TEST_F(Sandbox, SignalsNoProcessOutsideEvenWithoutSeccomp) {
    if (probe_landlock().abi < 6) GTEST_SKIP() << "Landlock before ABI 6 does not know signals";
    policy_.seccomp = false;
    auto const parent = ::getpid();
    expect_passes([=] { return ::kill(parent, 0) != 0 && errno == EPERM ? 0 : 1; });
}

TEST_F(Sandbox, ExecutesNothingEvenWithoutSeccomp) {
    NEEDS_LANDLOCK();
    policy_.seccomp = false;
    policy_.readable.emplace_back("/proc/self/exe");
    expect_passes([] {
        char const* const arguments[] = {"true", nullptr};
        ::execve("/proc/self/exe", const_cast<char* const*>(arguments), nullptr);
        return errno == EACCES ? 0 : 1;
    });
}

TEST_F(Sandbox, HasNoPrivilegesThatItCouldUse) {
    policy_.seccomp = false;
    expect_passes([] { return ::prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1 ? 0 : 1; });
    expect_passes([] { return ::chroot("/") != 0 && errno == EPERM ? 0 : 1; });
    expect_passes([] { return ::setpriority(PRIO_PROCESS, 0, ::getpriority(PRIO_PROCESS, 0) - 1) != 0 ? 0 : 1; });
}

TEST_F(Sandbox, RefusesToStartWhenAListedFileIsMissing) {
    NEEDS_LANDLOCK();
    policy_.readable.push_back(folder_ / "absent");
    auto const status = inside([] { return kPassed; });
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == kEnterFailed);
}

TEST_F(Sandbox, RefusesToStartHalfwayWhenThereAreOtherThreads) {
#if defined(HEARTH_INSTRUMENTED)
    GTEST_SKIP() << "instrumented builds have helper threads";
#else
    auto const child = ::fork();
    if (child == 0) {
        std::promise<void> stop;
        std::thread other([ended = stop.get_future()] { ended.wait(); });
        auto const report = enter(policy_);
        bool const refused = !report && report.error().code == Code::internal;
        stop.set_value();
        other.join();
        ::_exit(refused ? kPassed : 1);
    }
    int status = -1;
    ::waitpid(child, &status, 0);
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == kPassed);
#endif
}

struct Forbidden {
    char const* name;
    long (*call)();
};

class ForbiddenCall : public Sandbox, public ::testing::WithParamInterface<Forbidden> {};

TEST_P(ForbiddenCall, EndsTheProcess) {
    NEEDS_SECCOMP();
    auto const status = inside([] {
        GetParam().call();
        return kPassed;
    });
    ASSERT_TRUE(WIFSIGNALED(status)) << GetParam().name << " returned, exit " << WEXITSTATUS(status);
    EXPECT_EQ(WTERMSIG(status), SIGSYS);
}

INSTANTIATE_TEST_SUITE_P(
    Sandbox, ForbiddenCall,
    ::testing::Values(
        Forbidden{"socket", [] { return long{::socket(AF_INET, SOCK_STREAM, 0)}; }},
        Forbidden{"unix_socket", [] { return long{::socket(AF_UNIX, SOCK_STREAM, 0)}; }},
        Forbidden{"netlink", [] { return long{::socket(AF_NETLINK, SOCK_RAW, 0)}; }},
        Forbidden{"connect", [] { return long{::connect(0, nullptr, 0)}; }},
        Forbidden{"bind", [] { return long{::bind(0, nullptr, 0)}; }},
        Forbidden{"accept", [] { return long{::accept(0, nullptr, nullptr)}; }},
        Forbidden{"sendto_an_address",
                  [] {
                      char a[2]{};
                      return long{::sendto(0, a, 1, 0, reinterpret_cast<sockaddr*>(a), 2)};
                  }},
        Forbidden{"sendmsg",
                  [] {
                      msghdr m{};
                      return long{::sendmsg(0, &m, 0)};
                  }},
        Forbidden{"execve", [] { return ::syscall(SYS_execve, "/bin/true", nullptr, nullptr); }},
        Forbidden{"execveat", [] { return ::syscall(SYS_execveat, AT_FDCWD, "/bin/true", nullptr, nullptr, 0); }},
        Forbidden{"fork", [] { return ::syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0); }},
        Forbidden{"vfork", [] { return ::syscall(SYS_clone, CLONE_VM | CLONE_VFORK | SIGCHLD, 0, 0, 0, 0); }},
        Forbidden{"user_namespace", [] { return ::syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0); }},
        Forbidden{"unshare", [] { return ::syscall(SYS_unshare, CLONE_NEWUSER); }},
        Forbidden{"setns", [] { return ::syscall(SYS_setns, 0, 0); }},
        Forbidden{"ptrace", [] { return ::syscall(SYS_ptrace, PTRACE_TRACEME, 0, 0, 0); }},
        Forbidden{"process_vm_readv",
                  [] { return ::syscall(SYS_process_vm_readv, ::getppid(), nullptr, 0, nullptr, 0, 0); }},
        Forbidden{"process_vm_writev",
                  [] { return ::syscall(SYS_process_vm_writev, ::getppid(), nullptr, 0, nullptr, 0, 0); }},
        Forbidden{"kill", [] { return long{::kill(::getppid(), 0)}; }},
        Forbidden{"tgkill_of_another", [] { return ::syscall(SYS_tgkill, ::getppid(), ::getppid(), 0); }},
        Forbidden{"sched_setattr_of_another", [] { return ::syscall(SYS_sched_setattr, ::getppid(), nullptr, 0); }},
        Forbidden{"pidfd_open", [] { return ::syscall(SYS_pidfd_open, ::getppid(), 0); }},
        Forbidden{"io_uring_setup", [] { return ::syscall(SYS_io_uring_setup, 8, nullptr); }},
        Forbidden{"bpf", [] { return ::syscall(SYS_bpf, 0, nullptr, 0); }},
        Forbidden{"perf_event_open", [] { return ::syscall(SYS_perf_event_open, nullptr, 0, -1, -1, 0); }},
        Forbidden{"userfaultfd", [] { return ::syscall(SYS_userfaultfd, 0); }},
        Forbidden{"memfd_create", [] { return ::syscall(SYS_memfd_create, "x", 0); }},
        Forbidden{"keyctl", [] { return ::syscall(SYS_keyctl, 0, 0); }},
        Forbidden{"mount", [] { return ::syscall(SYS_mount, nullptr, nullptr, nullptr, 0, nullptr); }},
        Forbidden{"chroot", [] { return ::syscall(SYS_chroot, "/"); }},
        Forbidden{"unlink", [] { return ::syscall(SYS_unlinkat, AT_FDCWD, "x", 0); }},
        Forbidden{"rename", [] { return ::syscall(SYS_renameat2, AT_FDCWD, "x", AT_FDCWD, "y", 0); }},
        Forbidden{"mkdir", [] { return ::syscall(SYS_mkdirat, AT_FDCWD, "x", 0700); }},
        Forbidden{"chmod", [] { return ::syscall(SYS_fchmodat, AT_FDCWD, "x", 0700); }},
        Forbidden{"truncate", [] { return ::syscall(SYS_truncate, "x", 0); }},
        Forbidden{"setuid", [] { return ::syscall(SYS_setuid, 0); }},
        Forbidden{"capset", [] { return ::syscall(SYS_capset, nullptr, nullptr); }},
        Forbidden{"prctl_dumpable", [] { return long{::prctl(PR_SET_DUMPABLE, 1, 0, 0, 0)}; }},
        Forbidden{"raise_a_limit",
                  [] {
                      rlimit r{1, 1};
                      return long{::setrlimit(RLIMIT_CORE, &r)};
                  }},
        Forbidden{"init_module", [] { return ::syscall(SYS_init_module, nullptr, 0, ""); }},
        Forbidden{"reboot", [] { return ::syscall(SYS_reboot, 0, 0, 0, nullptr); }},
        Forbidden{"executable_mmap",
                  [] {
                      return reinterpret_cast<long>(
                          ::mmap(nullptr, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
                  }},
        Forbidden{"executable_mprotect",
                  [] {
                      void* const page =
                          ::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
                      return long{::mprotect(page, 4096, PROT_READ | PROT_EXEC)};
                  }}),
    [](auto const& param) { return std::string(param.param.name); });

TEST_F(Sandbox, OpeningForWritingFailsWithAnErrorUnderSeccompToo) {
    NEEDS_SECCOMP();
    expect_passes([&] { return ::open((folder_ / "model.gguf").c_str(), O_WRONLY) < 0 && errno == EACCES ? 0 : 1; });
}

TEST_F(Sandbox, AbortStillShowsAsAbort) {
    auto const status = inside([]() -> int { std::abort(); });
    EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT) << status;
}

}  // namespace
}  // namespace hearth::sandbox

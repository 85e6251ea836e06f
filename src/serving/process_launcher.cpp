// posix_spawn, because it neither copies page tables nor runs our code in the
// child: a front with gigabytes of queued prompts starts a worker as fast as an
// empty one.
#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>

#include <fmt/format.h>

#include "serving/launcher.h"

namespace hearth::serving {
namespace {

constexpr int kWorkerFd = 3;            // the connection's number in the worker
constexpr int kSocketBytes = 1 << 20;   // asked for; the kernel may give less
constexpr int kReapMs = 2000;           // how long the launcher's end waits for one killed worker

std::string describe(int status) {
    if (WIFSIGNALED(status)) return fmt::format("signal {} ({})", WTERMSIG(status), ::strsignal(WTERMSIG(status)));
    return fmt::format("exit status {}", WEXITSTATUS(status));
}

// Workers that were killed but not reaped when their handle went.
class Graveyard {
public:
    Graveyard() = default;
    ~Graveyard() {
        for (auto const pid : pids_) wait_for(pid);
    }
    Graveyard(Graveyard const&) = delete;
    Graveyard& operator=(Graveyard const&) = delete;

    void bury(pid_t pid) { pids_.push_back(pid); }
    void reap() {
        std::erase_if(pids_, [](pid_t pid) { return ::waitpid(pid, nullptr, WNOHANG) != 0; });
    }

private:
    // Bounded: a process can hang in the kernel whatever signal it got.
    static void wait_for(pid_t pid) {
        int const fd = static_cast<int>(::syscall(SYS_pidfd_open, pid, 0));
        if (fd >= 0) {
            pollfd ended{fd, POLLIN, 0};
            ::poll(&ended, 1, kReapMs);
            ::close(fd);
        }
        ::waitpid(pid, nullptr, WNOHANG);
    }

    std::vector<pid_t> pids_;
};

class ProcessHandle final : public WorkerHandle {
public:
    ProcessHandle(pid_t pid, int fd, std::shared_ptr<Graveyard> graveyard)
        : pid_(pid), fd_(fd), graveyard_(std::move(graveyard)) {}
    ~ProcessHandle() override {
        if (fd_ >= 0) ::close(fd_);
        kill();
        if (exit_reason().empty()) graveyard_->bury(pid_);
    }
    ProcessHandle(ProcessHandle const&) = delete;
    ProcessHandle& operator=(ProcessHandle const&) = delete;

    [[nodiscard]] int fd() const override { return fd_; }
    int release_fd() override { return std::exchange(fd_, -1); }
    // Until it is reaped the process id cannot belong to anyone else.
    void kill() override {
        if (exit_reason().empty()) ::kill(pid_, SIGKILL);
    }
    [[nodiscard]] std::string exit_reason() override {
        if (!reason_.empty()) return reason_;
        int status = 0;
        auto const result = ::waitpid(pid_, &status, WNOHANG);
        if (result == pid_) reason_ = describe(status);
        else if (result < 0 && errno != EINTR) reason_ = "reaped elsewhere";
        return reason_;
    }
    [[nodiscard]] std::int64_t pid() const override { return pid_; }

private:
    pid_t const pid_;
    int fd_;
    std::string reason_;
    std::shared_ptr<Graveyard> graveyard_;
};

class SpawnSettings {
public:
    explicit SpawnSettings(int connection) {
        ::posix_spawn_file_actions_init(&actions_);
        ::posix_spawnattr_init(&attributes_);
        keep(::posix_spawn_file_actions_addopen(&actions_, STDIN_FILENO, "/dev/null", O_RDONLY, 0));
        keep(::posix_spawn_file_actions_addopen(&actions_, STDOUT_FILENO, "/dev/null", O_WRONLY, 0));
        keep(::posix_spawn_file_actions_adddup2(&actions_, connection,
                                                kWorkerFd));  // clears close-on-exec, even onto itself
        keep(::posix_spawn_file_actions_addclosefrom_np(&actions_, kWorkerFd + 1));
        sigset_t none;
        sigset_t all;
        ::sigemptyset(&none);
        ::sigfillset(&all);
        keep(::posix_spawnattr_setsigmask(&attributes_, &none));
        keep(::posix_spawnattr_setsigdefault(&attributes_, &all));
        keep(::posix_spawnattr_setpgroup(&attributes_, 0));
        keep(::posix_spawnattr_setflags(&attributes_,
                                        POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP));
    }
    ~SpawnSettings() {
        ::posix_spawnattr_destroy(&attributes_);
        ::posix_spawn_file_actions_destroy(&actions_);
    }
    SpawnSettings(SpawnSettings const&) = delete;
    SpawnSettings& operator=(SpawnSettings const&) = delete;

    // 0 or an errno.
    int spawn(pid_t& pid, std::string const& executable, std::vector<std::string> const& arguments,
              std::vector<std::string> const& environment) {
        if (problem_ != 0) return problem_;
        auto argv = pointers(arguments);
        auto envp = pointers(environment);
        return ::posix_spawn(&pid, executable.c_str(), &actions_, &attributes_, argv.data(), envp.data());
    }

private:
    static std::vector<char*> pointers(std::vector<std::string> const& strings) {
        std::vector<char*> out;
        out.reserve(strings.size() + 1);
        for (auto const& s : strings) out.push_back(const_cast<char*>(s.c_str()));
        out.push_back(nullptr);
        return out;
    }
    void keep(int result) {
        if (problem_ == 0) problem_ = result;
    }

    posix_spawn_file_actions_t actions_;
    posix_spawnattr_t attributes_;
    int problem_ = 0;
};

class ProcessLauncher final : public Launcher {
public:
    ProcessLauncher(std::string executable, std::vector<std::string> environment)
        : executable_(std::move(executable)), environment_(std::move(environment)) {}

    Result<std::unique_ptr<WorkerHandle>> launch(ModelSpec const& spec) override {
        graveyard_->reap();
        int ends[2];
        if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) {
            return Error(Code::io, fmt::format("cannot make a connection for a worker: {}", std::strerror(errno)));
        }
        // A step's frame should fit without waiting for the front.
        for (int const end : ends) ::setsockopt(end, SOL_SOCKET, SO_SNDBUF, &kSocketBytes, sizeof kSocketBytes);

        std::vector<std::string> arguments{executable_, "worker"};
        for (auto& argument : worker_arguments(spec, kWorkerFd)) arguments.push_back(std::move(argument));
        pid_t pid = 0;
        int const failure = SpawnSettings(ends[1]).spawn(pid, executable_, arguments, environment_);
        ::close(ends[1]);
        if (failure != 0) {
            ::close(ends[0]);
            return Error(Code::io, fmt::format("cannot start '{}': {}", executable_, std::strerror(failure)));
        }
        return std::unique_ptr<WorkerHandle>(std::make_unique<ProcessHandle>(pid, ends[0], graveyard_));
    }

private:
    std::string const executable_;
    std::vector<std::string> const environment_;
    std::shared_ptr<Graveyard> graveyard_ = std::make_shared<Graveyard>();
};

}  // namespace

std::unique_ptr<Launcher> make_process_launcher(std::string executable, std::vector<std::string> environment) {
    return std::make_unique<ProcessLauncher>(std::move(executable), std::move(environment));
}

}  // namespace hearth::serving

// The writer behind Log: formats into one reused buffer under a mutex and hands
// it to the kernel with write(2).
//
// It must not block on a pipe nobody reads. Setting O_NONBLOCK would change the
// open file description for every process that shares it, so each write is
// preceded by poll() and is at most PIPE_BUF bytes long, which a pipe that polls
// as writable always takes whole (pipe(7)). SIGPIPE is held back around the
// write: the server decides about signals, not its log.
#include "telemetry/log.h"

#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <mutex>

#include "telemetry/line.h"

namespace hearth::telemetry {
namespace {

class SigpipeBlock {
public:
    explicit SigpipeBlock(bool wanted) : wanted_(wanted) {
        if (!wanted_) return;
        sigemptyset(&set_);
        sigaddset(&set_, SIGPIPE);
        sigset_t pending;
        sigpending(&pending);
        was_pending_ = sigismember(&pending, SIGPIPE) == 1;
        pthread_sigmask(SIG_BLOCK, &set_, &before_);
    }
    ~SigpipeBlock() {
        if (!wanted_) return;
        timespec const now{};
        while (!was_pending_ && sigtimedwait(&set_, nullptr, &now) == SIGPIPE) {}
        pthread_sigmask(SIG_SETMASK, &before_, nullptr);
    }
    SigpipeBlock(SigpipeBlock const&) = delete;
    SigpipeBlock& operator=(SigpipeBlock const&) = delete;

private:
    bool wanted_;
    bool was_pending_ = false;
    sigset_t set_{};
    sigset_t before_{};
};

int open_file(std::string const& path) {
    return ::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0640);
}

class FdLog final : public Log {
public:
    FdLog(LogOptions options, int fd) : options_(std::move(options)), fd_(fd) { inspect(); }
    ~FdLog() override {
        if (!options_.file.empty()) ::close(fd_);
    }

    void write(Level level, std::string_view message, Fields fields) override {
        if (!enabled(level)) return;
        auto const now = std::chrono::system_clock::now();
        std::lock_guard const lock(mutex_);
        rotate_if_full();
        if (unreported_ > 0 && !report_loss(now)) {
            count_loss();
            return;
        }
        format_line(options_, now, level, message, fields, line_);
        if (!put(line_)) count_loss();
    }

    bool enabled(Level level) const override { return level >= options_.level; }
    std::uint64_t dropped() const override {
        std::lock_guard const lock(mutex_);
        return dropped_;
    }

private:
    void inspect() {
        struct stat info{};
        if (::fstat(fd_, &info) != 0) return;
        regular_ = S_ISREG(info.st_mode);
        size_ = regular_ ? static_cast<std::uint64_t>(info.st_size) : 0;
    }

    void count_loss() {
        ++dropped_;
        ++unreported_;
    }

    bool report_loss(std::chrono::system_clock::time_point now) {
        format_line(options_, now, Level::warning, "log lines were lost", {{"lines", unreported_}}, line_);
        if (!put(line_)) return false;
        unreported_ = 0;
        return true;
    }

    // The old file is kept once. When renaming or opening fails, the present
    // file goes on growing: losing lines would be worse.
    void rotate_if_full() {
        if (!regular_ || options_.file.empty() || options_.file_bytes_max == 0 || size_ < options_.file_bytes_max)
            return;
        std::string const old = options_.file + ".1";
        if (std::rename(options_.file.c_str(), old.c_str()) != 0) return;
        int const fresh = open_file(options_.file);
        if (fresh < 0) return;
        ::close(fd_);
        fd_ = fresh;
        inspect();
    }

    bool put(std::string_view bytes) {
        SigpipeBlock const no_signal(!regular_);
        // Half a line went out before the destination stopped: end it.
        if (torn_ && !put_all("\n")) return false;
        torn_ = false;
        std::size_t const before = written_;
        if (put_all(bytes)) return true;
        torn_ = written_ != before;
        return false;
    }

    bool put_all(std::string_view bytes) {
        while (!bytes.empty()) {
            std::string_view const piece = regular_ ? bytes : bytes.substr(0, PIPE_BUF);
            if (!regular_) {
                pollfd ready{.fd = fd_, .events = POLLOUT, .revents = 0};
                if (::poll(&ready, 1, 0) != 1) return false;
            }
            ssize_t const count = ::write(fd_, piece.data(), piece.size());
            if (count < 0 && errno == EINTR) continue;
            if (count <= 0) return false;
            written_ += static_cast<std::size_t>(count);
            size_ += static_cast<std::uint64_t>(count);
            bytes.remove_prefix(static_cast<std::size_t>(count));
        }
        return true;
    }

    LogOptions const options_;
    mutable std::mutex mutex_;  // guards everything below
    int fd_;
    bool regular_ = false;
    bool torn_ = false;
    std::uint64_t size_ = 0;
    std::size_t written_ = 0;
    std::uint64_t dropped_ = 0;
    std::uint64_t unreported_ = 0;
    std::string line_;
};

class NullLog final : public Log {
public:
    void write(Level, std::string_view, Fields) override {}
    bool enabled(Level) const override { return false; }
    std::uint64_t dropped() const override { return 0; }
};

}  // namespace

std::string_view to_string(Level level) noexcept {
    switch (level) {
        case Level::debug: return "debug";
        case Level::info: return "info";
        case Level::warning: return "warn";
        case Level::error: return "error";
    }
    return "?";
}

Result<std::unique_ptr<Log>> Log::create(LogOptions options) {
    int fd = options.fd;
    if (!options.file.empty()) {
        fd = open_file(options.file);
        if (fd < 0)
            return Error(Code::io, "cannot open the log file '" + options.file + "': " + std::strerror(errno),
                         "log-file");
    }
    return std::unique_ptr<Log>(std::make_unique<FdLog>(std::move(options), fd));
}

std::unique_ptr<Log> make_null_log() { return std::make_unique<NullLog>(); }

}  // namespace hearth::telemetry

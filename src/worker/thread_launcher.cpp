#include "worker/thread_launcher.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <mutex>
#include <string>
#include <thread>
#include <utility>

#include <fmt/format.h>

namespace hearth::worker {

class ThreadLauncher::Thread {
public:
    // `worker_end` goes to run(); `own_copy` is the same socket, for cutting it.
    Thread(std::string id, int worker_end, int own_copy)
        : id_(std::move(id)), worker_end_(worker_end), own_copy_(own_copy) {}
    ~Thread() {
        if (thread_.joinable()) thread_.join();
        ::close(own_copy_);
    }
    Thread(Thread const&) = delete;
    Thread& operator=(Thread const&) = delete;

    void start(BackendFactory load, engine::Options const& engine, Clock const& clock) {
        thread_ = std::thread([this, load = std::move(load), engine, &clock] {
            Options options;
            options.fd = worker_end_;
            options.engine = engine;
            options.isolation = "a thread of the front";
            auto const status = run(std::move(options), load, clock);
            std::lock_guard const lock(mutex_);
            reason_ = status ? "thread ended" : "thread ended: " + status.error().message;
        });
    }

    void kill() const { ::shutdown(own_copy_, SHUT_RDWR); }
    [[nodiscard]] std::string reason() {
        std::lock_guard const lock(mutex_);
        return reason_;
    }
    [[nodiscard]] std::string const& id() const { return id_; }

private:
    std::string const id_;
    int const worker_end_;
    int const own_copy_;
    std::thread thread_;
    std::mutex mutex_;
    std::string reason_;  // guarded by mutex_
};

class ThreadLauncher::Handle final : public serving::WorkerHandle {
public:
    Handle(std::shared_ptr<Thread> thread, int fd) : thread_(std::move(thread)), fd_(fd) {}
    ~Handle() override {
        kill();
        if (fd_ >= 0) ::close(fd_);
    }
    Handle(Handle const&) = delete;
    Handle& operator=(Handle const&) = delete;

    [[nodiscard]] int fd() const override { return fd_; }
    int release_fd() override { return std::exchange(fd_, -1); }
    void kill() override { thread_->kill(); }
    [[nodiscard]] std::string exit_reason() override { return thread_->reason(); }
    [[nodiscard]] std::int64_t pid() const override { return 0; }

private:
    std::shared_ptr<Thread> const thread_;
    int fd_;
};

ThreadLauncher::ThreadLauncher(Load load, engine::Options engine, Clock const& clock)
    : load_(std::move(load)), engine_(std::move(engine)), clock_(clock) {}

ThreadLauncher::~ThreadLauncher() {
    for (auto const& thread : threads_) thread->kill();
}

Result<std::unique_ptr<serving::WorkerHandle>> ThreadLauncher::launch(serving::ModelSpec const& spec) {
    std::erase_if(threads_, [](auto const& thread) { return !thread->reason().empty(); });
    int ends[2];
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) {
        return Error(Code::io, fmt::format("cannot make a connection for a worker: {}", std::strerror(errno)));
    }
    int const own_copy = ::fcntl(ends[1], F_DUPFD_CLOEXEC, 0);
    auto thread = std::make_shared<Thread>(spec.id, ends[1], own_copy);
    thread->start(load_(spec), engine_options(engine_, spec), clock_);
    threads_.push_back(thread);
    return std::unique_ptr<serving::WorkerHandle>(std::make_unique<Handle>(std::move(thread), ends[0]));
}

void ThreadLauncher::kill_all(std::string_view id) {
    for (auto const& thread : threads_) {
        if (thread->id() == id) thread->kill();
    }
}

}  // namespace hearth::worker

// A worker played by the test: it sees every frame and sends what it likes.
// Lives on the same loop as the pool, so a test needs no second thread.
#pragma once

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "net/loop.h"
#include "serving/launcher.h"
#include "serving/protocol.h"

namespace hearth::serving::testing {

class FakeWorker {
public:
    FakeWorker(net::Loop& loop, ModelSpec model, int fd)
        : spec(std::move(model)),
          arrived_(loop),
          pipe_(std::make_unique<net::Pipe>(
              loop, fd, [this](std::string_view bytes) { on_bytes(bytes); }, [this] { on_closed(); })) {}

    ModelSpec const spec;
    bool answers_pings = true;
    std::uint64_t heartbeat = 0;
    domain::EngineStats stats;
    std::string exit_reason;  // empty: runs
    bool killed = false;
    bool closes_when_asked = true;
    std::optional<std::uint64_t> keeps;  // what it takes when it is parked; absent: it cannot be, and closes
    bool parks_when_asked = true, wakes_when_asked = true;  // at once
    std::uint32_t parks = 0, wakes = 0;  // how often it was told to
    std::uint32_t pings = 0;
    std::optional<std::uint64_t> cache_limit;  // the last that was sent

    void send(Frame const& frame) {
        if (auto const* ready = std::get_if<ReadyFrame>(&frame)) last_ready_ = *ready;
        send_bytes(*encode(frame));
    }
    void send_bytes(std::string bytes) {
        if (pipe_) pipe_->send(std::move(bytes));
    }
    void event(RequestId id, domain::Event event) { send(StepFrame{{{id, std::move(event)}}}); }
    void ready() { send(ReadyFrame{}); }

    void die(std::string reason) {
        exit_reason = std::move(reason);
        if (pipe_) pipe_->close();
    }

    // The next frame that is no Ping, limits no cache and neither parks nor wakes.
    net::Task<Frame> next() {
        while (frames_.empty()) co_await arrived_.wait();
        auto frame = std::move(frames_.front());
        frames_.pop_front();
        co_return frame;
    }
    [[nodiscard]] std::size_t unread() const { return frames_.size(); }

private:
    void on_bytes(std::string_view bytes) {
        reader_.push(bytes);
        for (auto frame = reader_.next(); frame && *frame; frame = reader_.next()) {
            if (auto const* ping = std::get_if<PingFrame>(&**frame)) {
                ++pings;
                if (answers_pings) send(PongFrame{ping->nonce, heartbeat, stats});
                continue;
            }
            if (auto const* limit = std::get_if<LimitCacheFrame>(&**frame)) {
                cache_limit = limit->bytes;
                continue;
            }
            if (std::holds_alternative<ParkFrame>(**frame)) {
                ++parks;
                if (!keeps) die("exit status 0");
                else if (parks_when_asked) send(ParkedFrame{*keeps});
                continue;
            }
            if (std::holds_alternative<WakeFrame>(**frame)) {
                ++wakes;
                if (wakes_when_asked) send(last_ready_);
                continue;
            }
            if (std::holds_alternative<CloseFrame>(**frame) && closes_when_asked) die("exit status 0");
            frames_.push_back(*std::move(*frame));
            arrived_.notify();
        }
    }
    void on_closed() {
        if (exit_reason.empty() && killed) exit_reason = "signal 9 (Killed)";
    }

    FrameReader reader_;
    ReadyFrame last_ready_;
    std::deque<Frame> frames_;
    net::Signal arrived_;
    std::unique_ptr<net::Pipe> pipe_;
};

class FakeLauncher final : public Launcher {
public:
    explicit FakeLauncher(net::Loop& loop) : loop_(loop), launched_(loop) {}

    Result<std::unique_ptr<WorkerHandle>> launch(ModelSpec const& spec) override {
        ++launches;
        if (failures_left > 0) {
            --failures_left;
            return Error(Code::io, "cannot start: no such file");
        }
        int ends[2];
        if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) return Error(Code::io, "socketpair");
        auto worker = std::make_shared<FakeWorker>(loop_, spec, ends[1]);
        if (on_launch) on_launch(*worker);
        waiting_.push_back(worker);
        launched_.notify();
        return std::unique_ptr<WorkerHandle>(std::make_unique<Handle>(std::move(worker), ends[0]));
    }

    // The next worker launched; it stays alive as long as the test holds it.
    net::Task<std::shared_ptr<FakeWorker>> next() {
        while (waiting_.empty()) co_await launched_.wait();
        auto worker = waiting_.front();
        waiting_.pop_front();
        co_return worker;
    }

    int launches = 0;
    int failures_left = 0;
    std::function<void(FakeWorker&)> on_launch;

private:
    class Handle final : public WorkerHandle {
    public:
        Handle(std::shared_ptr<FakeWorker> worker, int fd) : worker_(std::move(worker)), fd_(fd) {}
        ~Handle() override {
            kill();
            if (fd_ >= 0) ::close(fd_);
        }
        Handle(Handle const&) = delete;
        Handle& operator=(Handle const&) = delete;
        [[nodiscard]] int fd() const override { return fd_; }
        int release_fd() override { return std::exchange(fd_, -1); }
        void kill() override {
            worker_->killed = true;
            if (worker_->exit_reason.empty()) worker_->exit_reason = "signal 9 (Killed)";
        }
        [[nodiscard]] std::string exit_reason() override { return worker_->exit_reason; }
        [[nodiscard]] std::int64_t pid() const override { return 4711; }

    private:
        std::shared_ptr<FakeWorker> const worker_;
        int fd_;
    };

    net::Loop& loop_;
    net::Signal launched_;
    std::deque<std::shared_ptr<FakeWorker>> waiting_;
};

}  // namespace hearth::serving::testing

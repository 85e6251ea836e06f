// The front's end of a worker's connection, for tests that drive run() itself:
// blocking, with a limit on every wait.
#pragma once

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "llama/scripted_backend.h"
#include "serving/protocol.h"
#include "worker/worker.h"

namespace hearth::worker::testing {

using namespace serving;

inline constexpr int kPatienceMs = 30'000;

inline llama::ScriptedOptions script(std::vector<std::string> pieces) {
    llama::ScriptedOptions out;
    out.pieces = std::move(pieces);
    return out;
}

inline BackendFactory scripted(llama::ScriptedOptions options) {
    return [options](Progress const&) -> Result<std::unique_ptr<llama::Backend>> {
        return std::unique_ptr<llama::Backend>(llama::make_scripted(options));
    };
}

class FrontEnd {
public:
    FrontEnd() {
        int ends[2];
        EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
        fd_ = ends[0];
        options.fd = ends[1];
        options.isolation = "none, a test";
    }
    ~FrontEnd() {
        close();
        if (thread_.joinable()) thread_.join();
    }
    FrontEnd(FrontEnd const&) = delete;
    FrontEnd& operator=(FrontEnd const&) = delete;

    Options options;

    void start(BackendFactory load) {
        thread_ = std::thread([this, load = std::move(load)] { status_ = run(options, load, clock_); });
    }
    // What run() returned.
    Status join() {
        thread_.join();
        return status_;
    }

    void send(Frame const& frame) { send_bytes(*encode(frame)); }
    void send_bytes(std::string_view bytes) {
        while (!bytes.empty()) {
            auto const count = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
            if (count <= 0) return;
            bytes.remove_prefix(static_cast<std::size_t>(count));
        }
    }
    void submit(RequestId id, std::string prompt = "hello", std::uint32_t choices = 1) {
        domain::GenerateRequest request;
        request.prompt = domain::TextPrompt{std::move(prompt)};
        request.sampling.temperature = 0;
        request.choices = choices;
        send(SubmitFrame{id, std::move(request)});
    }

    // The next frame; nothing when the worker closed its end.
    std::optional<Frame> next() {
        for (;;) {
            auto frame = reader_.next();
            EXPECT_TRUE(frame) << (frame ? "" : frame.error().message);
            if (!frame) return std::nullopt;
            if (*frame) return *std::move(*frame);
            pollfd readable{fd_, POLLIN, 0};
            if (::poll(&readable, 1, kPatienceMs) != 1) {
                ADD_FAILURE() << "the worker says nothing";
                return std::nullopt;
            }
            std::array<char, 4096> buffer;
            auto const count = ::read(fd_, buffer.data(), buffer.size());
            if (count <= 0) return std::nullopt;
            reader_.push({buffer.data(), static_cast<std::size_t>(count)});
        }
    }
    // The next frame of that type, dropping others.
    template <typename T>
    T expect() {
        for (auto frame = next(); frame; frame = next()) {
            if (auto* wanted = std::get_if<T>(&*frame)) return std::move(*wanted);
        }
        ADD_FAILURE() << "the connection ended first";
        return {};
    }
    // The next event of that request.
    domain::Event event(RequestId id) {
        for (;;) {
            for (auto entry = events_.begin(); entry != events_.end(); ++entry) {
                if (entry->id != id) continue;
                auto found = std::move(entry->event);
                events_.erase(entry);
                return found;
            }
            auto step = expect<StepFrame>();
            if (step.entries.empty()) return domain::Failed{};
            for (auto& entry : step.entries) events_.push_back(std::move(entry));
        }
    }
    // The text of a request's first choice, up to its terminal event.
    std::string text(RequestId id) {
        std::string out;
        for (;;) {
            auto const next_event = event(id);
            if (auto const* delta = std::get_if<domain::Delta>(&next_event)) out += delta->text;
            if (auto const* failed = std::get_if<domain::Failed>(&next_event))
                return out + " failed: " + failed->error.message;
            if (domain::is_terminal(next_event)) return out;
        }
    }

    void close() {
        if (fd_ >= 0) ::close(std::exchange(fd_, -1));
    }

private:
    int fd_ = -1;
    SteadyClock clock_;
    FrameReader reader_;
    std::vector<StepFrame::Entry> events_;
    std::thread thread_;
    Status status_;
};

// Holds whoever passes until it is opened. Not std::atomic::wait: libstdc++ 12
// loses wake-ups when two of them share a waiter slot.
class Gate {
public:
    void open() { set(open_); }
    void pass() {
        set(reached_);
        wait(open_);
    }
    void wait_until_reached() { wait(reached_); }
    [[nodiscard]] bool reached() const {
        std::scoped_lock const lock(mutex_);
        return reached_;
    }

private:
    void set(bool& flag) {
        std::scoped_lock const lock(mutex_);
        flag = true;
        changed_.notify_all();
    }
    void wait(bool const& flag) {
        std::unique_lock lock(mutex_);
        changed_.wait(lock, [&flag] { return flag; });
    }

    mutable std::mutex mutex_;
    std::condition_variable changed_;
    bool open_ = false;
    bool reached_ = false;
};

}  // namespace hearth::worker::testing

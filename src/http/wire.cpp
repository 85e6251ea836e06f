#include "http/wire.h"

#include <sys/socket.h>
#include <sys/uio.h>
#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>

#include <cerrno>
#include <utility>

namespace hearth::http {
namespace {

namespace asio = boost::asio;
using Descriptor = asio::posix::stream_descriptor;

constexpr std::size_t kKeptBytes = 1U << 10;  // capacity an empty buffer may keep

// A string that is read from its front.
class ByteQueue {
public:
    [[nodiscard]] std::string_view view() const { return std::string_view(bytes_).substr(taken_); }
    [[nodiscard]] std::size_t size() const { return bytes_.size() - taken_; }
    [[nodiscard]] bool empty() const { return size() == 0; }

    void append(std::string_view more) {
        if (taken_ > bytes_.size() / 2) bytes_.erase(0, std::exchange(taken_, 0));
        bytes_.append(more);
    }

    // REQUIRES: empty()
    void adopt(std::string bytes, std::size_t taken) {
        bytes_ = std::move(bytes);
        taken_ = taken;
    }

    void take(std::size_t count) {
        taken_ += count;
        if (taken_ == bytes_.size()) clear();
    }

    void clear() {
        if (bytes_.capacity() > kKeptBytes) bytes_ = std::string();
        bytes_.clear();
        taken_ = 0;
    }

private:
    std::string bytes_;
    std::size_t taken_ = 0;
};

class SocketWire final : public Wire, public std::enable_shared_from_this<SocketWire> {
public:
    SocketWire(net::Loop& loop, int fd, std::shared_ptr<Scratch> scratch, std::size_t input_max)
        : descriptor_(loop.context(), fd),
          scratch_(std::move(scratch)),
          input_max_(input_max),
          arrived_(loop),
          departed_(loop) {}

    std::string_view input() const override { return input_.view(); }

    void consume(std::size_t bytes) override {
        input_.take(bytes);
        watch();
    }

    net::Task<Arrival> wait_input(std::size_t seen, Instant deadline) override {
        while (input_.size() <= seen) {
            if (ended_) co_return Arrival::ended;
            Duration const left = deadline - std::chrono::steady_clock::now();
            if (left <= Duration::zero()) co_return Arrival::late;
            co_await arrived_.wait_for(left);
        }
        co_return Arrival::bytes;
    }

    bool ended() const override { return ended_; }
    bool failed() const override { return failed_; }
    void on_end(std::function<void()> callback) override { on_end_ = std::move(callback); }

    void put(std::string_view head, std::string body, std::string_view tail) override {
        if (failed_) return;
        std::size_t const sent = output_.empty() ? send_now({head, body, tail}) : 0;
        std::size_t const total = head.size() + body.size() + tail.size();
        if (failed_ || sent == total) return;
        if (sent >= head.size() && sent < head.size() + body.size()) {
            output_.adopt(std::move(body), sent - head.size());
            output_.append(tail);
        } else {
            // Queued behind others, or the rest is small.
            append_rest({head, body, tail}, sent);
        }
        watch_output();
    }

    std::size_t unsent() const override { return output_.size(); }

    net::Task<bool> wait_room(std::size_t bytes, Duration patience) override {
        while (output_.size() >= bytes && !ended_) {
            bool const moved = co_await departed_.wait_for(patience);
            if (!moved) co_return false;
        }
        co_return true;
    }

    net::Task<bool> flush(Duration patience) override {
        while (!output_.empty() && !failed_) {
            bool const moved = co_await departed_.wait_for(patience);
            if (!moved) co_return false;
        }
        co_return true;
    }

    void shut_output() override {
        if (!failed_) ::shutdown(descriptor_.native_handle(), SHUT_WR);
    }

    void close() override {
        fail();
        boost::system::error_code ignored;
        descriptor_.close(ignored);
    }

    void abort() override {
        if (descriptor_.is_open()) {
            linger const at_once{.l_onoff = 1, .l_linger = 0};
            ::setsockopt(descriptor_.native_handle(), SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
        }
        close();
    }

    // Keeps one wait for input pending while there is room for more.
    void watch() {
        if (watching_ || ended_ || input_.size() >= input_max_) return;
        watching_ = true;
        descriptor_.async_wait(Descriptor::wait_read,
                               [self = shared_from_this()](boost::system::error_code const& failure) {
                                   self->watching_ = false;
                                   if (!failure && !self->ended_) self->receive();
                               });
    }

private:
    void receive() {
        std::size_t const room = std::min(scratch_->size(), input_max_ - input_.size());
        ssize_t const count = ::recv(descriptor_.native_handle(), scratch_->data(), room, MSG_DONTWAIT);
        if (count == 0) {
            end();
        } else if (count > 0) {
            input_.append({scratch_->data(), static_cast<std::size_t>(count)});
            arrived_.notify();
        } else if (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR) {
            fail();
        }
        watch();
    }

    // How many bytes of all parts together the kernel took.
    std::size_t send_now(std::array<std::string_view, 3> parts) {
        std::array<iovec, 3> pieces;
        std::size_t used = 0;
        for (std::string_view const part : parts) {
            if (!part.empty()) pieces[used++] = {const_cast<char*>(part.data()), part.size()};
        }
        msghdr message{};
        message.msg_iov = pieces.data();
        message.msg_iovlen = used;
        for (;;) {
            ssize_t const count = ::sendmsg(descriptor_.native_handle(), &message, MSG_NOSIGNAL | MSG_DONTWAIT);
            if (count >= 0) return static_cast<std::size_t>(count);
            if (errno == EINTR) continue;
            if (errno != EAGAIN && errno != EWOULDBLOCK) fail();
            return 0;
        }
    }

    void append_rest(std::array<std::string_view, 3> parts, std::size_t sent) {
        for (std::string_view const part : parts) {
            std::size_t const skipped = std::min(sent, part.size());
            sent -= skipped;
            output_.append(part.substr(skipped));
        }
    }

    void watch_output() {
        if (watching_output_) return;
        watching_output_ = true;
        descriptor_.async_wait(Descriptor::wait_write,
                               [self = shared_from_this()](boost::system::error_code const& failure) {
                                   self->watching_output_ = false;
                                   if (!failure && !self->failed_) self->send_queued();
                               });
    }

    void send_queued() {
        std::size_t const sent = send_now({output_.view(), {}, {}});
        if (failed_) return;
        output_.take(sent);
        if (sent > 0) departed_.notify();
        if (!output_.empty()) watch_output();
    }

    void end() {
        if (std::exchange(ended_, true)) return;
        arrived_.notify();
        departed_.notify();
        if (auto const callback = std::exchange(on_end_, nullptr)) callback();
    }

    void fail() {
        if (std::exchange(failed_, true)) return;
        output_.clear();
        departed_.notify();
        end();
    }

    Descriptor descriptor_;
    std::shared_ptr<Scratch> scratch_;
    std::size_t const input_max_;
    ByteQueue input_;
    ByteQueue output_;
    net::Signal arrived_;   // input, or its end
    net::Signal departed_;  // output, or its end
    std::function<void()> on_end_;
    bool watching_ = false;
    bool watching_output_ = false;
    bool ended_ = false;
    bool failed_ = false;
};

}  // namespace

std::shared_ptr<Wire> Wire::create(net::Loop& loop, int fd, std::shared_ptr<Scratch> scratch, std::size_t input_max) {
    auto wire = std::make_shared<SocketWire>(loop, fd, std::move(scratch), input_max);
    wire->watch();
    return wire;
}

}  // namespace hearth::http

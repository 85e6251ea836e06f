#include <sys/socket.h>
#include <sys/uio.h>
#include <boost/asio/buffer.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/post.hpp>

#include <array>
#include <cerrno>
#include <deque>

#include "net/loop.h"

namespace hearth::net {
namespace {

namespace asio = boost::asio;

constexpr std::size_t kReadBytes = 64U << 10;
constexpr std::size_t kGatherMax = 64;  // pieces per system call

}  // namespace

struct Pipe::Impl : std::enable_shared_from_this<Impl> {
    Impl(asio::io_context& context, std::function<void(std::string_view)> bytes, std::function<void()> closed)
        : socket(context), on_bytes(std::move(bytes)), on_closed(std::move(closed)) {}

    void read() {
        socket.async_read_some(asio::buffer(*chunk), [self = shared_from_this()](
                                                         boost::system::error_code const& failure, std::size_t count) {
            if (self->state != State::open) return;
            if (failure) {
                self->close();
                return;
            }
            self->on_bytes(std::string_view(self->chunk->data(), count));
            if (self->state == State::open) self->read();
        });
    }

    void send(std::string bytes) {
        if (state != State::open || broken || bytes.empty()) return;
        queued += bytes.size();
        queue.push_back(std::move(bytes));
        if (flushing) return;
        flushing = true;
        asio::post(socket.get_executor(), [self = shared_from_this()] { self->flush(); });
    }

    void flush() {
        flushing = false;
        if (state != State::open) return;
        if (write_some() == Write::done) return;
        flushing = true;
        socket.async_wait(asio::socket_base::wait_write,
                          [self = shared_from_this()](boost::system::error_code const&) { self->flush(); });
    }

    enum class Write : std::uint8_t { done, blocked };

    // Until the queue is empty or the kernel full. A peer that is gone shows in
    // reading too, after the last bytes it sent; here it only empties the queue.
    Write write_some() {
        while (!queue.empty()) {
            std::array<iovec, kGatherMax> pieces;
            std::size_t const count = std::min(queue.size(), kGatherMax);
            for (std::size_t i = 0; i < count; ++i) pieces[i] = {queue[i].data(), queue[i].size()};
            pieces[0] = {queue[0].data() + sent_of_first, queue[0].size() - sent_of_first};
            msghdr message{};
            message.msg_iov = pieces.data();
            message.msg_iovlen = count;
            ssize_t const written = ::sendmsg(socket.native_handle(), &message, MSG_NOSIGNAL | MSG_DONTWAIT);
            if (written < 0 && errno == EINTR) continue;
            if (written < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return Write::blocked;
            if (written < 0) {
                broken = true;
                queue.clear();
                queued = 0;
                break;
            }
            consume(static_cast<std::size_t>(written));
        }
        return Write::done;
    }

    void consume(std::size_t count) {
        queued -= count;
        count += sent_of_first;
        while (!queue.empty() && count >= queue.front().size()) {
            count -= queue.front().size();
            queue.pop_front();
        }
        sent_of_first = count;
    }

    void close() {
        if (state != State::open) return;
        write_some();
        state = State::closing;
        release();
        asio::post(socket.get_executor(), [self = shared_from_this()] {
            if (self->state != State::closing) return;
            self->state = State::closed;
            self->on_closed();
        });
    }

    void release() {
        boost::system::error_code ignored;
        socket.close(ignored);
        queue.clear();
        queued = 0;
    }

    // closing: on_closed is still to be called. closed: nothing is called any more.
    enum class State : std::uint8_t { open, closing, closed };

    asio::local::stream_protocol::socket socket;
    std::function<void(std::string_view)> on_bytes;
    std::function<void()> on_closed;
    std::unique_ptr<std::array<char, kReadBytes>> chunk = std::make_unique<std::array<char, kReadBytes>>();
    std::deque<std::string> queue;
    std::size_t queued = 0;         // bytes
    std::size_t sent_of_first = 0;  // bytes
    bool flushing = false;          // a flush is posted or waits for room
    bool broken = false;            // the peer takes no more bytes
    State state = State::open;
};

Pipe::Pipe(Loop& loop, int fd, std::function<void(std::string_view)> on_bytes, std::function<void()> on_closed)
    : impl_(std::make_shared<Impl>(loop.context(), std::move(on_bytes), std::move(on_closed))) {
    boost::system::error_code failure;
    impl_->socket.assign(asio::local::stream_protocol(), fd, failure);
    if (failure) {
        impl_->close();  // no socket: the owner hears at the next turn
        return;
    }
    impl_->read();
}

Pipe::~Pipe() {
    impl_->state = Impl::State::closed;
    impl_->release();
}

void Pipe::send(std::string bytes) { impl_->send(std::move(bytes)); }
std::size_t Pipe::queued() const { return impl_->queued; }
void Pipe::close() { impl_->close(); }

}  // namespace hearth::net

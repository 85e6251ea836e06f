#include "bench/load_client.h"

#include <sys/epoll.h>
#include <sys/resource.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <ctime>
#include <utility>

#include <fmt/format.h>

#include "base/assert.h"
#include "bench/response_parser.h"
#include "bench/socket.h"

namespace hearth::bench {

namespace {

constexpr std::size_t kReadBytes = 64U << 10;
constexpr std::size_t kProblemBytesMax = 512;
constexpr int kEventsMax = 512;
constexpr auto kTimeoutCheckEvery = std::chrono::milliseconds(50);
constexpr std::uint32_t kSpareDescriptors = 64;  // for everything else the process has open

Instant now() { return std::chrono::steady_clock::now(); }

// Makes room for `wanted` descriptors in this process.
Status ensure_descriptors(std::uint32_t wanted) {
    rlimit limit{};
    if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return Error{Code::io, system_message(errno)};
    if (limit.rlim_cur >= wanted) return ok();
    if (limit.rlim_max < wanted) {
        return Error{Code::too_large,
                     fmt::format("{} streams need {} open files, the limit is {} (ulimit -n)",
                                 wanted - kSpareDescriptors, wanted, limit.rlim_max),
                     "concurrency"};
    }
    limit.rlim_cur = wanted;
    if (::setrlimit(RLIMIT_NOFILE, &limit) != 0) return Error{Code::io, system_message(errno)};
    return ok();
}

// epoll_wait with nanoseconds: arrivals of an open loop are not multiples of 1 ms.
int wait_events(int epoll, std::array<epoll_event, kEventsMax>& events, Duration wait) {
    auto const ns = std::max<std::int64_t>(0, std::chrono::duration_cast<std::chrono::nanoseconds>(wait).count());
    static bool precise = true;  // until the kernel says it cannot
    if (precise) {
        timespec const timeout{static_cast<time_t>(ns / 1'000'000'000), static_cast<long>(ns % 1'000'000'000)};
        int const n = ::epoll_pwait2(epoll, events.data(), kEventsMax, &timeout, nullptr);
        if (n >= 0 || errno != ENOSYS) return n;
        precise = false;
    }
    return ::epoll_wait(epoll, events.data(), kEventsMax, static_cast<int>((ns + 999'999) / 1'000'000));
}

struct Stream {
    explicit Stream(KeepText keep) : scanner(keep) {}

    Fd fd;
    std::size_t index = 0;
    std::uint32_t interest = 0;  // what epoll watches; 0: nothing
    bool reused = false;         // the connection served an earlier request
    bool answered = false;       // a byte of the response came
    bool connected = false;      // the server took a byte of the request
    bool surplus = false;        // bytes followed the response, so the connection cannot be trusted
    std::string request;
    std::size_t request_sent = 0;
    ResponseParser parser;
    SseScanner scanner;
    std::string error_body;  // the beginning of the body of a status other than 200
};

}  // namespace

std::string_view to_string(Outcome outcome) noexcept {
    switch (outcome) {
        case Outcome::pending: return "pending";
        case Outcome::completed: return "completed";
        case Outcome::cancelled: return "cancelled";
        case Outcome::connect: return "connect";
        case Outcome::http_error: return "http_error";
        case Outcome::stream_error: return "stream_error";
        case Outcome::disconnected: return "disconnected";
        case Outcome::malformed: return "malformed";
        case Outcome::timeout: return "timeout";
        case Outcome::no_output: return "no_output";
    }
    return "?";
}

struct LoadClient::Impl {
    ClientOptions options;
    Address address;
    Fd epoll;
    std::array<char, kReadBytes> buffer{};
    std::array<epoll_event, kEventsMax> events{};

    // Streams by slot. A slot's generation goes up when it is freed, so that an
    // event of the same wait for its former owner is recognised.
    struct Slot {
        std::unique_ptr<Stream> stream;
        std::uint32_t generation = 0;
    };
    std::vector<Slot> slots;
    std::vector<std::uint32_t> free_slots;
    std::vector<Fd> idle;  // kept connections
    std::size_t active = 0;

    std::vector<RequestResult> results;
    std::vector<std::uint32_t> slot_of;  // by result; valid while it is pending
    std::vector<std::size_t> ended;
    std::size_t gaps_kept = 0;
    bool gaps_cut = false;
    std::uint64_t reconnects = 0;
    Instant next_timeout_check{};

    void watch(std::uint32_t slot, std::uint32_t interest);
    void open(std::uint32_t slot);
    void send(std::uint32_t slot);
    void receive(std::uint32_t slot);
    void on_bytes(std::uint32_t slot, std::string_view bytes);
    void record_output(std::uint32_t slot, std::uint32_t count, Instant when);
    void on_response_end(std::uint32_t slot);
    void on_closed(std::uint32_t slot, int error);
    void end(std::uint32_t slot, Outcome outcome, std::string problem);
    void check_timeouts(Instant when);
    void on_event(epoll_event const& event);
};

void LoadClient::Impl::watch(std::uint32_t slot, std::uint32_t interest) {
    auto& stream = *slots[slot].stream;
    if (stream.interest == interest) return;
    epoll_event event{};
    event.events = interest;
    event.data.u64 = (std::uint64_t{slots[slot].generation} << 32) | slot;
    int const operation = stream.interest == 0 ? EPOLL_CTL_ADD : interest == 0 ? EPOLL_CTL_DEL : EPOLL_CTL_MOD;
    HEARTH_ASSERT(::epoll_ctl(epoll.get(), operation, stream.fd.get(), &event) == 0, "epoll_ctl on an open socket");
    stream.interest = interest;
}

void LoadClient::Impl::open(std::uint32_t slot) {
    auto& stream = *slots[slot].stream;
    if (!idle.empty()) {
        stream.fd = std::move(idle.back());
        idle.pop_back();
        stream.reused = true;
        return send(slot);
    }
    auto fd = begin_connect(address);
    if (!fd) return end(slot, Outcome::connect, fd.error().message);
    stream.fd = std::move(fd).value();
    send(slot);
}

void LoadClient::Impl::send(std::uint32_t slot) {
    auto& stream = *slots[slot].stream;
    while (stream.request_sent < stream.request.size()) {
        auto const rest = std::string_view(stream.request).substr(stream.request_sent);
        auto const n = ::send(stream.fd.get(), rest.data(), rest.size(), MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0 && errno == EAGAIN) return watch(slot, EPOLLIN | EPOLLOUT);
        if (n < 0) return on_closed(slot, errno);
        stream.connected = true;
        stream.request_sent += static_cast<std::size_t>(n);
    }
    watch(slot, EPOLLIN);
}

void LoadClient::Impl::receive(std::uint32_t slot) {
    auto const generation = slots[slot].generation;
    for (;;) {
        auto const n = ::recv(slots[slot].stream->fd.get(), buffer.data(), buffer.size(), 0);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0 && errno == EAGAIN) return;
        if (n <= 0) return on_closed(slot, n < 0 ? errno : 0);
        slots[slot].stream->answered = true;
        on_bytes(slot, {buffer.data(), static_cast<std::size_t>(n)});
        if (slots[slot].generation != generation) return;            // it ended
        if (static_cast<std::size_t>(n) < buffer.size()) return;  // level-triggered: more will be reported
    }
}

void LoadClient::Impl::on_bytes(std::uint32_t slot, std::string_view bytes) {
    auto const when = now();
    auto& stream = *slots[slot].stream;
    std::uint32_t events_with_output = 0;
    for (auto piece = stream.parser.take_body(bytes); !piece.empty(); piece = stream.parser.take_body(bytes)) {
        if (stream.parser.status() == 200) {
            events_with_output += stream.scanner.feed(piece);
        } else if (stream.error_body.size() < kProblemBytesMax) {
            stream.error_body.append(piece.substr(0, kProblemBytesMax - stream.error_body.size()));
        }
    }
    auto& head = results[stream.index].head;
    if (!head && stream.parser.head_complete()) head = when;
    if (events_with_output > 0) record_output(slot, events_with_output, when);
    if (stream.parser.failed()) return end(slot, Outcome::malformed, stream.parser.problem());
    if (stream.scanner.failed()) {
        return end(slot, Outcome::malformed,
                   fmt::format("a line of the stream exceeds {} bytes", SseScanner::kLineBytesMax));
    }
    stream.surplus = !bytes.empty();
    if (stream.parser.done()) on_response_end(slot);
}

void LoadClient::Impl::record_output(std::uint32_t slot, std::uint32_t count, Instant when) {
    auto& result = results[slots[slot].stream->index];
    auto const first = result.chunks == 0;
    auto const gaps = first ? count - 1 : count;
    if (gaps_kept + gaps > options.gaps_max) {
        gaps_cut = true;
    } else {
        gaps_kept += gaps;
        if (!first) result.gaps_ms.push_back(static_cast<float>(to_ms(when - result.last)));
        result.gaps_ms.resize(result.gaps_ms.size() + count - 1, 0.0F);
    }
    if (first) result.first = when;
    result.last = when;
    result.chunks += count;
}

void LoadClient::Impl::on_response_end(std::uint32_t slot) {
    auto& stream = *slots[slot].stream;
    auto const& result = results[stream.index];
    auto const status = stream.parser.status();
    if (status != 200) return end(slot, Outcome::http_error, fmt::format("HTTP {}: {}", status, stream.error_body));
    if (!stream.scanner.error().empty()) return end(slot, Outcome::stream_error, stream.scanner.error());
    if (!stream.scanner.done()) return end(slot, Outcome::disconnected, "the stream ended without [DONE]");
    if (result.chunks == 0) return end(slot, Outcome::no_output, "the stream ended without output");
    end(slot, Outcome::completed, {});
}

void LoadClient::Impl::on_closed(std::uint32_t slot, int error) {
    auto& stream = *slots[slot].stream;
    if (stream.reused && !stream.answered) {
        // The server closed a kept connection before it saw this request.
        watch(slot, 0);
        stream.fd.reset();
        stream.reused = false;
        stream.connected = false;
        stream.request_sent = 0;
        idle.clear();  // most likely all of them are as old
        ++reconnects;
        return open(slot);
    }
    auto const why = error == 0 ? std::string("the server closed the connection") : system_message(error);
    if (!stream.connected) return end(slot, Outcome::connect, why);
    if (stream.parser.finish()) return on_response_end(slot);
    auto const detail = stream.scanner.error().empty() ? why : fmt::format("{} after: {}", why, stream.scanner.error());
    end(slot, Outcome::disconnected, detail);
}

void LoadClient::Impl::end(std::uint32_t slot, Outcome outcome, std::string problem) {
    auto& stream = *slots[slot].stream;
    auto& result = results[stream.index];
    result.outcome = outcome;
    result.status = stream.parser.status();
    result.retry_after_s = stream.parser.retry_after_s();
    result.problem = std::move(problem);
    result.end = now();
    result.usage = stream.scanner.usage();
    result.finish_reason = stream.scanner.finish_reason();
    result.text = stream.scanner.text();
    if (stream.scanner.text_cut()) result.problem = fmt::format("text cut at {} bytes", SseScanner::kTextBytesMax);
    ended.push_back(stream.index);
    watch(slot, 0);
    if (stream.parser.reusable() && !stream.surplus && stream.request_sent == stream.request.size())
        idle.push_back(std::move(stream.fd));
    slots[slot].stream.reset();
    ++slots[slot].generation;
    free_slots.push_back(slot);
    --active;
}

void LoadClient::Impl::check_timeouts(Instant when) {
    if (when < next_timeout_check) return;
    next_timeout_check = when + kTimeoutCheckEvery;
    for (std::uint32_t slot = 0; slot < slots.size(); ++slot) {
        if (!slots[slot].stream) continue;
        auto const& stream = *slots[slot].stream;
        if (when - results[stream.index].sent < options.request_timeout) continue;
        end(slot, Outcome::timeout,
            fmt::format("no end within {:.0f} ms; {} events came", to_ms(options.request_timeout),
                        results[stream.index].chunks));
    }
}

void LoadClient::Impl::on_event(epoll_event const& event) {
    auto const slot = static_cast<std::uint32_t>(event.data.u64);
    auto const generation = static_cast<std::uint32_t>(event.data.u64 >> 32);
    auto const current = [&] { return slots[slot].generation == generation && slots[slot].stream != nullptr; };
    if (!current()) return;
    if ((event.events & EPOLLOUT) != 0 && slots[slot].stream->request_sent < slots[slot].stream->request.size())
        send(slot);
    if (current() && (event.events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0) receive(slot);
}

LoadClient::LoadClient(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
LoadClient::~LoadClient() = default;

Result<std::unique_ptr<LoadClient>> LoadClient::create(ClientOptions options) {
    if (options.streams_max == 0 || options.streams_max > kStreamsMax) {
        return Error{Code::invalid_argument,
                     fmt::format("streams must be 1 to {}, got {}", kStreamsMax, options.streams_max), "concurrency"};
    }
    HEARTH_CHECK(ensure_descriptors(options.streams_max + kSpareDescriptors));
    auto impl = std::make_unique<Impl>();
    HEARTH_TRY(impl->address, resolve(options.target.host, options.target.port));
    impl->epoll = Fd(::epoll_create1(EPOLL_CLOEXEC));
    if (!impl->epoll.valid()) return Error{Code::io, fmt::format("epoll: {}", system_message(errno))};
    impl->options = std::move(options);
    return std::unique_ptr<LoadClient>(new LoadClient(std::move(impl)));
}

std::size_t LoadClient::start(std::string_view path, std::string_view body) {
    auto& m = *impl_;
    HEARTH_ASSERT(m.active < m.options.streams_max, "no more streams than the limit");
    if (m.free_slots.empty()) {
        m.free_slots.push_back(static_cast<std::uint32_t>(m.slots.size()));
        m.slots.emplace_back();
    }
    auto const slot = m.free_slots.back();
    m.free_slots.pop_back();
    ++m.active;
    auto const index = m.results.size();
    m.slot_of.push_back(slot);
    auto stream = std::make_unique<Stream>(m.options.keep_text);
    stream->index = index;
    auto const& target = m.options.target;
    stream->request = fmt::format(
        "POST {}{} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nAccept: text/event-stream\r\n"
        "Content-Length: {}\r\n{}\r\n{}",
        target.prefix, path, target.authority, body.size(), m.options.headers, body);
    m.slots[slot].stream = std::move(stream);
    m.results.emplace_back().sent = now();
    m.open(slot);
    return index;
}

void LoadClient::poll(Duration max_wait) {
    auto& m = *impl_;
    auto const wait = m.active > 0 ? std::min<Duration>(max_wait, kTimeoutCheckEvery) : max_wait;
    int const n = wait_events(m.epoll.get(), m.events, wait);
    HEARTH_ASSERT(n >= 0 || errno == EINTR, "epoll_wait on our own descriptor");
    for (int i = 0; i < n; ++i) m.on_event(m.events[static_cast<std::size_t>(i)]);
    m.check_timeouts(now());
}

void LoadClient::cancel(std::size_t index) {
    auto& m = *impl_;
    HEARTH_ASSERT(index < m.results.size(), "cancel() of a request that was started");
    if (m.results[index].outcome != Outcome::pending) return;
    m.end(m.slot_of[index], Outcome::cancelled, {});
}

std::size_t LoadClient::active() const { return impl_->active; }
bool LoadClient::gaps_cut() const { return impl_->gaps_cut; }
std::uint64_t LoadClient::reconnects() const { return impl_->reconnects; }
std::vector<std::size_t> LoadClient::take_ended() { return std::exchange(impl_->ended, {}); }

RequestResult const& LoadClient::result(std::size_t index) const {
    HEARTH_ASSERT(index < impl_->results.size(), "result() of a request that was started");
    return impl_->results[index];
}

std::vector<RequestResult> LoadClient::take_results() {
    HEARTH_ASSERT(impl_->active == 0, "take_results() after the last request ended");
    impl_->ended.clear();
    impl_->slot_of.clear();
    impl_->gaps_kept = 0;
    return std::exchange(impl_->results, {});
}

}  // namespace hearth::bench

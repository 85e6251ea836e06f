#include "http/exchange.h"

#include <array>
#include <charconv>
#include <utility>

namespace hearth::http {
namespace {

constexpr unsigned kClientLeft = 499;  // in log and metrics, never sent

Status gone() { return Error(Code::cancelled, "the client left"); }

// A chunk's size line; RFC 9112, 7.1.
std::string_view chunk_line(std::size_t size, std::array<char, 20>& buffer) {
    char* const end = std::to_chars(buffer.data(), buffer.data() + 16, size, 16).ptr;
    end[0] = '\r';
    end[1] = '\n';
    return {buffer.data(), static_cast<std::size_t>(end + 2 - buffer.data())};
}

}  // namespace

ConnectionExchange::ConnectionExchange(Context& context, Wire& wire, Request const& request, AnswerRules rules,
                                       BodyStream* body)
    : context_(context), wire_(wire), request_(request), rules_(std::move(rules)), body_(body) {
    wire_.on_end([this] { client_left(); });
}

ConnectionExchange::~ConnectionExchange() { wire_.on_end(nullptr); }

net::Task<Result<std::string>> ConnectionExchange::read_body() {
    if (body_ == nullptr) co_return Error(Code::internal, "this route has its body in the request");
    co_return co_await body_->read();
}

net::Task<void> ConnectionExchange::send(Response response) {
    answer(std::move(response));
    co_return;
}

void ConnectionExchange::answer(Response response) {
    if (state_ != State::waiting) {
        misused_ = true;
        context_.log.error("a handler answered twice", {{"request_id", request_.id}, {"path", request_.path}});
        return;
    }
    if (response.close || context_.draining || body_left()) rules_.persistence = Persistence::close;
    if (is_bodiless(response.status)) response.body.clear();
    AnswerHead const head{.status = response.status,
                          .content_type = response.content_type,
                          .headers = &response.headers,
                          .extra = rules_.extra,
                          .request_id = request_.id,
                          .framing = Framing::length,
                          .length = response.body.size(),
                          .version = rules_.version,
                          .persistence = rules_.persistence};
    std::string const lines = format_head(head, context_.date());
    if (rules_.body == AnswerRules::Body::omit) response.body.clear();
    state_ = State::complete;
    status_ = response.status;
    body_bytes_ = response.body.size();
    on_disconnect_ = nullptr;
    wire_.put(lines, std::move(response.body), {});
}

Framing ConnectionExchange::stream_framing() const {
    return rules_.version == Version::http11 ? Framing::chunked : Framing::until_close;
}

net::Task<Status> ConnectionExchange::start_stream(StreamHead head) {
    if (state_ != State::waiting) {
        misused_ = true;
        co_return Error(Code::internal, "the answer was started before");
    }
    if (wire_.ended()) co_return gone();
    if (context_.draining || body_left() || stream_framing() == Framing::until_close)
        rules_.persistence = Persistence::close;
    // Proxies buffer event streams unless told otherwise.
    head.headers.emplace_back("cache-control", "no-store");
    head.headers.emplace_back("x-accel-buffering", "no");
    AnswerHead const lines{.status = 200,
                           .content_type = head.content_type,
                           .headers = &head.headers,
                           .extra = rules_.extra,
                           .request_id = request_.id,
                           .framing = stream_framing(),
                           .length = 0,
                           .version = rules_.version,
                           .persistence = rules_.persistence};
    state_ = State::streaming;
    status_ = 200;
    wire_.put(format_head(lines, context_.date()), {}, {});
    co_return wire_.ended() ? gone() : ok();
}

net::Task<Status> ConnectionExchange::write(std::string bytes) {
    if (state_ != State::streaming) co_return Error(Code::internal, "no stream is open");
    if (wire_.ended()) co_return gone();
    if (bytes.empty() || rules_.body == AnswerRules::Body::omit) co_return ok();
    body_bytes_ += bytes.size();
    if (stream_framing() == Framing::chunked) {
        std::array<char, 20> buffer;
        std::string_view const line = chunk_line(bytes.size(), buffer);
        wire_.put(line, std::move(bytes), "\r\n");
    } else {
        wire_.put({}, std::move(bytes), {});
    }
    if (wire_.unsent() >= context_.options.stream_buffer_max) {
        bool const moved = co_await wire_.wait_room(context_.options.stream_buffer_max, context_.options.write_timeout);
        if (!moved) stall();
    }
    co_return wire_.ended() ? gone() : ok();
}

net::Task<void> ConnectionExchange::end_stream() {
    if (state_ != State::streaming) {
        misused_ = true;
        co_return;
    }
    state_ = State::complete;
    on_disconnect_ = nullptr;
    if (stream_framing() == Framing::chunked && rules_.body == AnswerRules::Body::send) wire_.put("0\r\n\r\n", {}, {});
}

void ConnectionExchange::on_disconnect(std::function<void()> callback) {
    on_disconnect_ = std::move(callback);
    if (wire_.ended() && state_ != State::complete) client_left();
}

void ConnectionExchange::client_left() {
    auto const callback = std::exchange(on_disconnect_, nullptr);
    if (!callback) return;
    try {
        callback();
    } catch (std::exception const& problem) {
        context_.log.error("an on_disconnect callback failed",
                           {{"request_id", request_.id}, {"problem", problem.what()}});
    }
}

void ConnectionExchange::stall() {
    outcome_ = Outcome::stalled;
    context_.metrics.rejected("write_stalled");
    wire_.abort();
}

net::Task<void> ConnectionExchange::finish() {
    on_disconnect_ = nullptr;
    if (state_ != State::complete || misused_) {
        if (state_ == State::waiting) status_ = kClientLeft;
        if (outcome_ != Outcome::stalled)
            outcome_ = wire_.ended() && !misused_ ? Outcome::client_left : Outcome::incomplete;
        wire_.abort();  // so that the client sees that the answer is not whole
        co_return;
    }
    bool const moved = co_await wire_.flush(context_.options.write_timeout);
    if (!moved) stall();
    else if (wire_.failed()) outcome_ = Outcome::client_left;
}

bool ConnectionExchange::reusable() const {
    return state_ == State::complete && rules_.persistence == Persistence::keep_alive && !wire_.failed() && !misused_;
}

std::string_view to_string(ConnectionExchange::Outcome outcome) noexcept {
    switch (outcome) {
        case ConnectionExchange::Outcome::complete: return "complete";
        case ConnectionExchange::Outcome::incomplete: return "incomplete";
        case ConnectionExchange::Outcome::client_left: return "client_left";
        case ConnectionExchange::Outcome::stalled: return "stalled";
    }
    return "?";
}

}  // namespace hearth::http

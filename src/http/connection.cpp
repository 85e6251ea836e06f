#include "http/connection.h"

#include <cmath>
#include <exception>
#include <utility>
#include <variant>

#include "base/utf8.h"
#include "http/body_stream.h"
#include "http/target.h"

namespace hearth::http {
namespace {

// What a client sent, fit for a message of ours: short and UTF-8.
std::string excerpt(std::string_view text) {
    constexpr std::size_t kBytesMax = 200;
    bool const cut = text.size() > kBytesMax;
    std::string out;
    Utf8Carry carry;
    carry.push(text.substr(0, kBytesMax), out);
    if (cut) out.append("\u2026");
    else carry.finish(out);
    return out;
}

bool is_request_id(std::string_view text) {
    if (text.empty() || text.size() > 128) return false;
    for (char const c : text) {
        bool const fits = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
                          c == '_' || c == '-';
        if (!fits) return false;
    }
    return true;
}

Refusal client_is_gone() { return {}; }

Refusal header_too_large(std::size_t limit) {
    return {431, "header_too_large",
            Error(Code::too_large, "the request's header is above the limit of " + std::to_string(limit) + " bytes")};
}

Refusal target_too_long() {
    return {414, "target_too_long",
            Error(Code::too_large,
                  "the request target is above the limit of " + std::to_string(kTargetBytesMax) + " bytes")};
}

Refusal too_slow(std::string_view what, std::string_view reason, Duration limit) {
    return {408, reason,
            Error(Code::deadline_exceeded,
                  "the request's " + std::string(what) + " took longer than " +
                      std::to_string(std::chrono::duration_cast<std::chrono::milliseconds>(limit).count()) + " ms")};
}

}  // namespace

struct Connection::Work {
    Head head;
    Target target;
    Request request;
    Match match;
    std::string cors;  // header lines
    std::optional<BodyStream> body;  // that the handler is to read
    enum class Stage : std::uint8_t { head, body, complete } stage = Stage::head;  // what was read so far
};

Connection::Connection(std::shared_ptr<Context> context, std::shared_ptr<Wire> wire, std::string peer)
    : context_(std::move(context)), wire_(std::move(wire)), peer_(std::move(peer)) {
    context_->connections.insert(this);
    ++context_->open;
    context_->metrics.connections.add(1);
}

Connection::~Connection() {
    enter(Phase::closed);
    context_->connections.erase(this);
    context_->metrics.connections.add(-1);
}

void Connection::abort() {
    wire_->abort();
    if (phase_ == Phase::idle || phase_ == Phase::lingering) enter(Phase::closed);
}

Connection::Idle Connection::end_idle() {
    if (!wire_->input().empty()) {
        enter(Phase::receiving);
        return Idle::busy;
    }
    wire_->close();
    enter(Phase::closed);
    return Idle::closed;
}

void Connection::enter(Phase phase) {
    if (phase_ == phase || phase_ == Phase::closed) return;
    if (phase_ == Phase::idle) context_->idle.erase(idle_place_);
    if (phase_ == Phase::receiving) --context_->receiving;
    if (phase_ == Phase::answering) --context_->exchanges;
    phase_ = phase;
    if (phase == Phase::idle) idle_place_ = context_->idle.insert(context_->idle.end(), this);
    if (phase == Phase::receiving) ++context_->receiving;
    if (phase == Phase::answering) ++context_->exchanges;
    if (phase == Phase::closed) --context_->open;
    if (context_->draining) context_->changed.notify();
}

net::Task<void> Connection::run(std::shared_ptr<Connection> self) {
    try {
        co_await self->serve_all();
    } catch (std::exception const& problem) {
        self->context_->log.error("a connection failed", {{"peer", self->peer_}, {"problem", problem.what()}});
    }
    self->wire_->close();
}

net::Task<void> Connection::serve_all() {
    while (reusable_) {
        bool const more = co_await next_request();
        if (!more) break;
        reusable_ = co_await serve_one();
    }
    enter(Phase::lingering);
    if (input_unread_ || !wire_->input().empty()) co_await linger();
}

net::Task<bool> Connection::next_request() {
    if (!wire_->input().empty()) co_return true;
    if (context_->draining) co_return false;
    enter(Phase::idle);
    Instant const deadline = std::chrono::steady_clock::now() + context_->options.idle_timeout;
    Wire::Arrival const arrival = co_await wire_->wait_input(0, deadline);
    co_return arrival == Wire::Arrival::bytes&& phase_ != Phase::closed;
}

// Closing a socket with unread input resets the connection, and the reset may
// overtake our answer. So the sending side closes first, and what still comes is
// read and dropped for a while.
net::Task<void> Connection::linger() {
    wire_->shut_output();
    Instant const deadline = std::chrono::steady_clock::now() + kLingerTime;
    for (std::size_t dropped = 0; dropped < kLingerBytesMax;) {
        dropped += wire_->input().size();
        wire_->consume(wire_->input().size());
        Wire::Arrival const arrival = co_await wire_->wait_input(0, deadline);
        if (arrival != Wire::Arrival::bytes) break;
    }
}

net::Task<bool> Connection::serve_one() {
    enter(Phase::receiving);
    auto const work = std::make_unique<Work>();
    work->request.peer = peer_;
    work->request.received = std::chrono::steady_clock::now();
    reusable_ = false;  // until an answer was completed
    std::optional<Refusal> refusal = co_await read_head(*work);
    if (!refusal) refusal = check_access(*work);
    if (!refusal) {
        std::optional<Response> answer = preflight(*work);
        if (answer) {
            co_await respond(*work, *std::move(answer));
            co_return reusable_;
        }
        refusal = find_route(*work);
    }
    if (!refusal) refusal = co_await read_body(*work);
    if (refusal) {
        co_await refuse(*work, *std::move(refusal));
        co_return reusable_;
    }
    enter(Phase::answering);
    auto* const body = work->body ? &*work->body : nullptr;
    ConnectionExchange exchange(*context_, *wire_, work->request, answer_rules(*work), body);
    co_await handle(*work, exchange);
    co_await exchange.finish();
    input_unread_ = body != nullptr && !body->done();
    record(*work, exchange);
    co_return exchange.reusable();
}

net::Task<std::optional<Refusal>> Connection::read_head(Work& work) {
    work.request.id = context_->next_request_id();
    Instant const deadline = work.request.received + context_->options.header_timeout;
    std::size_t const limit = context_->options.header_bytes_max;
    // One empty line before a request is forgiven, RFC 9112, 2.2.
    bool empty_line_allowed = true;
    std::size_t scanned = 0;
    for (;;) {
        if (empty_line_allowed && wire_->input().starts_with("\r\n")) {
            wire_->consume(2);
            empty_line_allowed = false;
        }
        std::string_view const input = wire_->input();
        HeadEnd const end = find_head_end(input, scanned);
        bool const target_open = input.find('\n') == input.npos;
        if (target_open && input.size() > kTargetBytesMax + 64) co_return target_too_long();
        if ((end.kind == HeadEnd::Kind::complete ? end.size : input.size()) > limit) co_return header_too_large(limit);
        if (end.kind == HeadEnd::Kind::malformed) {
            auto parsed = parse_head(input);  // says what is wrong
            co_return std::get<Refusal>(std::move(parsed));
        }
        if (end.kind == HeadEnd::Kind::complete) {
            auto parsed = parse_head(input.substr(0, end.size));
            wire_->consume(end.size);
            if (auto* refusal = std::get_if<Refusal>(&parsed)) co_return std::move(*refusal);
            work.head = std::get<Head>(std::move(parsed));
            work.stage = Work::Stage::body;
            co_return take_head(work);
        }
        Wire::Arrival const arrival = co_await wire_->wait_input(input.size(), deadline);
        if (arrival == Wire::Arrival::ended) co_return client_is_gone();
        if (arrival == Wire::Arrival::late)
            co_return too_slow("header", "header_timeout", context_->options.header_timeout);
    }
}

std::optional<Refusal> Connection::take_head(Work& work) {
    Request& request = work.request;
    if (auto const method = parse_method(work.head.method)) request.method = *method;
    request.headers = std::move(work.head.headers);
    if (is_request_id(request.header("x-request-id"))) request.id = request.header("x-request-id");
    if (work.head.target.size() > kTargetBytesMax) return target_too_long();
    auto target = parse_target(work.head.target);
    if (!target) return Refusal(400, "bad_request", target.error());
    work.target = std::move(target).value();
    request.path = work.target.path;
    request.query = std::move(work.target.query);
    return std::nullopt;
}

std::optional<Refusal> Connection::check_access(Work& work) {
    Request const& request = work.request;
    // RFC 9112, 3.2.2: the authority of an absolute target replaces Host.
    std::string const host_text(work.target.authority ? *work.target.authority : std::string(request.header("host")));
    auto const host = parse_authority(host_text);
    // Probes in HTTP/1.0 send no Host; browsers, which this protects, always do.
    bool const absent = host_text.empty() && work.head.version == Version::http10;
    if (!host && !absent)
        return Refusal(400, "bad_request", Error(Code::invalid_argument, "the Host header names no host"));
    if (host && !context_->access.allows_host(*host)) {
        return Refusal(403, "host",
                       Error(Code::invalid_argument,
                             "the host '" + host->host +
                                 "' is not served here; if it should be, allow it "
                                 "with --allowed-host " +
                                 host->host,
                             "host"));
    }
    std::string_view const origin = request.header("origin");
    if (origin.empty()) return std::nullopt;
    if (!context_->access.allows_origin(origin, host.value_or(Authority()))) {
        return Refusal(403, "origin",
                       Error(Code::invalid_argument,
                             "requests from pages of '" + excerpt(origin) +
                                 "' are not served; if they "
                                 "should be, allow them with --allowed-origin " +
                                 excerpt(origin),
                             "origin"));
    }
    append_field("access-control-allow-origin", origin, work.cors);
    append_field("access-control-expose-headers",
                 "request-id, retry-after, retry-after-ms, x-request-id, x-should-retry", work.cors);
    append_field("vary", "origin", work.cors);
    return std::nullopt;
}

std::optional<Response> Connection::preflight(Work& work) {
    Request const& request = work.request;
    if (work.head.method != "OPTIONS") return std::nullopt;
    work.match = context_->router.match(work.target.segments, Method::options);
    bool const known = work.target.asterisk || !work.match.allow.empty();
    if (!known || work.match.route != nullptr) return std::nullopt;
    Response response;
    response.status = 204;
    std::string const allow =
        work.target.asterisk ? "GET, HEAD, POST, PUT, DELETE, OPTIONS, PATCH" : work.match.allow + ", OPTIONS";
    response.headers.emplace_back("allow", allow);
    if (request.header("access-control-request-method").empty() || work.cors.empty()) return response;
    response.headers.emplace_back("access-control-allow-methods", allow);
    std::string const names = AccessPolicy::allowed_headers(request.header("access-control-request-headers"));
    if (!names.empty()) response.headers.emplace_back("access-control-allow-headers", names);
    response.headers.emplace_back("access-control-max-age", "600");
    if (request.header("access-control-request-private-network") == "true") {
        response.headers.emplace_back("access-control-allow-private-network", "true");
    }
    return response;
}

std::optional<Refusal> Connection::find_route(Work& work) {
    std::optional<Method> const method = parse_method(work.head.method);
    if (work.target.asterisk) {
        return Refusal(400, "bad_request", Error(Code::invalid_argument, "the target '*' is for OPTIONS only"));
    }
    work.match = context_->router.match(work.target.segments, method);
    if (work.match.route != nullptr) {
        work.request.parameters = std::move(work.match.parameters);
        return std::nullopt;
    }
    std::string const path = excerpt(work.request.path);
    if (work.match.allow.empty()) return Refusal(404, {}, Error(Code::not_found, "there is no '" + path + "' here"));
    return Refusal(405, {},
                   Error(Code::invalid_argument,
                         "'" + path + "' takes " + work.match.allow + ", not " + excerpt(work.head.method)),
                   {{"allow", work.match.allow}});
}

net::Task<std::optional<Refusal>> Connection::read_body(Work& work) {
    std::size_t const limit = work.match.route->limits.body_max;
    bool const too_long = work.head.content_length.value_or(0) > limit || (work.head.chunked && limit == 0);
    if (too_long) co_return body_too_large(work.head, limit);
    if (work.match.route->limits.body == BodyMode::stream) {
        work.body.emplace(*wire_, work.head, limit, context_->options.body_timeout);
        work.stage = Work::Stage::complete;  // as far as it is read here
        co_return std::nullopt;
    }
    BodyReader reader(work.head, limit);
    if (work.head.expects_continue && !reader.done() && wire_->input().empty()) {
        wire_->put("HTTP/1.1 100 Continue\r\n\r\n", {}, {});
    }
    Instant const start = std::chrono::steady_clock::now();
    while (!reader.done()) {
        Instant const deadline = start + context_->options.body_timeout + body_time_for(reader.size());
        Wire::Arrival const arrival = co_await wire_->wait_input(0, deadline);
        if (arrival == Wire::Arrival::ended) co_return client_is_gone();
        if (arrival == Wire::Arrival::late) co_return too_slow("body", "body_timeout", context_->options.body_timeout);
        auto put = reader.put(wire_->input());
        if (auto* refusal = std::get_if<Refusal>(&put)) co_return std::move(*refusal);
        wire_->consume(std::get<std::size_t>(put));
    }
    work.request.body = reader.take();
    work.stage = Work::Stage::complete;
    co_return std::nullopt;
}

net::Task<void> Connection::handle(Work& work, ConnectionExchange& exchange) {
    std::string problem;
    try {
        co_await work.match.route->handler(exchange);
    } catch (std::exception const& thrown) {
        problem = std::string("the handler threw: ") + thrown.what();
    } catch (...) {
        problem = "the handler threw";
    }
    auto refusal = work.body && problem.empty() && !exchange.started() ? work.body->take_refusal() : std::nullopt;
    if (refusal) {
        context_->metrics.rejected(refusal->reason);
        exchange.answer(context_->render(work.request, *std::move(refusal)));
        co_return;
    }
    if (problem.empty() && !exchange.started() && !wire_->ended()) problem = "the handler returned without an answer";
    if (problem.empty()) co_return;
    context_->log.error("a request failed inside the server",
                        {{"request_id", work.request.id}, {"path", work.request.path}, {"problem", problem}});
    if (exchange.started()) co_return;
    Refusal failure(500, {},
                    Error(Code::internal, "the server failed to answer; its log says why under this request id"));
    exchange.answer(context_->render(work.request, std::move(failure)));
}

AnswerRules Connection::answer_rules(Work const& work) const {
    AnswerRules rules;
    rules.version = work.head.version;
    rules.persistence =
        work.head.keep_alive && work.stage == Work::Stage::complete ? Persistence::keep_alive : Persistence::close;
    rules.body = work.head.method == "HEAD" ? AnswerRules::Body::omit : AnswerRules::Body::send;
    rules.extra = work.cors;
    return rules;
}

net::Task<void> Connection::refuse(Work& work, Refusal refusal) {
    if (refusal.status == 0) {
        wire_->close();
        co_return;
    }
    if (!refusal.reason.empty()) context_->metrics.rejected(refusal.reason);
    // A client that errs in the protocol itself may err in the framing too.
    bool const trusted = refusal.status == 403 || refusal.status == 404 || refusal.status == 405;
    Response response = context_->render(work.request, std::move(refusal));
    response.close = response.close || !trusted;
    co_await respond(work, std::move(response));
}

net::Task<void> Connection::respond(Work& work, Response response) {
    if (work.stage == Work::Stage::body && !work.head.has_body()) work.stage = Work::Stage::complete;
    input_unread_ = work.stage != Work::Stage::complete;
    enter(Phase::answering);
    ConnectionExchange exchange(*context_, *wire_, work.request, answer_rules(work));
    exchange.answer(std::move(response));
    co_await exchange.finish();
    record(work, exchange);
    reusable_ = exchange.reusable();
}

void Connection::record(Work const& work, ConnectionExchange const& exchange) {
    Duration const taken = std::chrono::steady_clock::now() - work.request.received;
    bool const known = parse_method(work.head.method).has_value();
    std::string_view const method = known                      ? std::string_view(work.head.method)
                                    : work.head.method.empty() ? "none"
                                                               : "other";
    std::optional<std::size_t> route;
    if (work.match.route != nullptr) route = work.match.index;
    context_->metrics.answered(route, method, exchange.status(), std::chrono::duration<double>(taken).count());
    if (!context_->log.enabled(telemetry::Level::info)) return;
    context_->log.info("request", {{"method", method},
                                   {"path", work.request.path},
                                   {"status", exchange.status()},
                                   {"bytes", exchange.body_bytes()},
                                   {"ms", std::round(to_ms(taken) * 1000) / 1000},
                                   {"outcome", to_string(exchange.outcome())},
                                   {"request_id", work.request.id},
                                   {"peer", peer_}});
}

}  // namespace hearth::http

#include "http/server.h"

#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "http/access.h"
#include "http/connection.h"
#include "http/context.h"
#include "http/listener.h"
#include "http/message.h"

namespace hearth::http {
namespace {

constexpr Duration kUnwindTime = std::chrono::seconds(1);

class Turned {
public:
    explicit Turned(Context& context) : context_(context) {
        if (context_.refusing++ > 0) return;
        context_.log.warning("connections are turned away", {{"connections_max", context_.options.connections_max}});
    }
    ~Turned() { --context_.refusing; }
    Turned(Turned const&) = delete;
    Turned& operator=(Turned const&) = delete;

private:
    Context& context_;
};

// A client above connections_max: it is told so and gets time to read it.
net::Task<void> turn_away(std::shared_ptr<Context> context, std::shared_ptr<Wire> wire, std::string peer) {
    Turned const turned(*context);
    Request request;
    request.id = context->next_request_id();
    request.peer = std::move(peer);
    Refusal refusal(
        503, {},
        Error(Code::overloaded, "all " + std::to_string(context->options.connections_max) + " connections are in use"),
        {{"retry-after", "1"}});
    Response const response = context->render(request, std::move(refusal));
    AnswerHead const head{.status = response.status,
                          .content_type = response.content_type,
                          .headers = &response.headers,
                          .extra = {},
                          .request_id = request.id,
                          .framing = Framing::length,
                          .length = response.body.size(),
                          .version = Version::http11,
                          .persistence = Persistence::close};
    wire->put(format_head(head, context->date()), response.body, {});
    wire->shut_output();
    Instant const deadline = std::chrono::steady_clock::now() + kLingerTime;
    Wire::Arrival arrival = Wire::Arrival::bytes;
    for (std::size_t dropped = 0; arrival == Wire::Arrival::bytes && dropped < kInputBytesMin;) {
        dropped += wire->input().size();
        wire->consume(wire->input().size());
        arrival = co_await wire->wait_input(0, deadline);
    }
    wire->close();
}

class ServerImpl final : public Server {
public:
    explicit ServerImpl(std::shared_ptr<Context> context) : context_(std::move(context)) {}
    ~ServerImpl() override {
        listener_.reset();
        abort_all();
    }

    Status listen() {
        Listener::Callbacks callbacks{
            .on_accept = [context = context_](int fd, std::string peer) { take(context, fd, std::move(peer)); },
            .free_descriptor = [context = context_] { return close_longest_idle(*context); }};
        Listener::Options const options{.host = context_->options.host,
                                        .port = context_->options.port,
                                        .write_timeout = context_->options.write_timeout};
        HEARTH_TRY(listener_, Listener::create(context_->loop, options, context_->log, std::move(callbacks)));
        return ok();
    }

    std::uint16_t port() const override { return listener_->port(); }
    std::size_t active_exchanges() const override { return context_->exchanges; }
    void adopt(int fd) override { take(context_, fd, peer_name(fd)); }

    net::Task<bool> drain(Duration grace) override {
        auto const context = context_;
        context->draining = true;
        listener_->close();
        while (!context->idle.empty()) context->idle.front()->end_idle();
        bool const finished = co_await wait_until_free(*context, grace);
        abort_all();
        bool const unwound = co_await wait_until_free(*context, kUnwindTime);
        if (!unwound) context->log.warning("handlers did not end after drain", {{"exchanges", context->exchanges}});
        co_return finished;
    }

private:
    static void take(std::shared_ptr<Context> const& context, int fd, std::string peer) {
        bool const full = context->open >= context->options.connections_max && !close_longest_idle(*context);
        if (full) context->metrics.rejected("connections");
        if (context->draining || (full && context->refusing >= kRefusingMax)) {
            ::close(fd);
            return;
        }
        std::shared_ptr<Wire> wire;
        try {
            wire = Wire::create(context->loop, fd, context->scratch, context->input_max());
        } catch (std::exception const& problem) {  // the kernel's limits, or no socket at all
            context->log.error("a connection could not be taken on", {{"peer", peer}, {"problem", problem.what()}});
            ::close(fd);
            return;
        }
        if (full) {
            context->loop.spawn(turn_away(context, std::move(wire), std::move(peer)));
        } else {
            context->loop.spawn(
                Connection::run(std::make_shared<Connection>(context, std::move(wire), std::move(peer))));
        }
    }

    static bool close_longest_idle(Context& context) {
        while (!context.idle.empty()) {
            if (context.idle.front()->end_idle() == Connection::Idle::closed) return true;
        }
        return false;
    }

    static net::Task<bool> wait_until_free(Context& context, Duration patience) {
        Instant const deadline = std::chrono::steady_clock::now() + patience;
        while (context.receiving + context.exchanges > 0) {
            Duration const left = deadline - std::chrono::steady_clock::now();
            if (left <= Duration::zero()) co_return false;
            co_await context.changed.wait_for(left);
        }
        co_return true;
    }

    void abort_all() {
        // Aborting calls on_disconnect callbacks, which may end connections.
        std::vector<Connection*> const all(context_->connections.begin(), context_->connections.end());
        for (Connection* const connection : all) {
            if (context_->connections.contains(connection)) connection->abort();
        }
    }

    std::shared_ptr<Context> context_;
    std::unique_ptr<Listener> listener_;
};

}  // namespace

std::string_view Request::header(std::string_view name) const {
    auto const found =
        std::ranges::find_if(headers, [&](auto const& h) { return equals_ignoring_case(h.first, name); });
    return found == headers.end() ? std::string_view() : std::string_view(found->second);
}

std::string_view Request::parameter(std::string_view name) const {
    auto const found = std::ranges::find_if(parameters, [&](auto const& p) { return p.first == name; });
    return found == parameters.end() ? std::string_view() : std::string_view(found->second);
}

Result<std::unique_ptr<Server>> Server::create(net::Loop& loop, Options options, std::vector<Route> routes,
                                               ErrorRenderer render_error, telemetry::Log& log,
                                               telemetry::Registry& metrics) {
    HEARTH_CHECK(check_origins(options.allowed_origins));
    HEARTH_TRY(Router router, Router::create(std::move(routes)));
    auto context =
        std::make_shared<Context>(loop, std::move(options), std::move(router), std::move(render_error), log, metrics);
    auto server = std::make_unique<ServerImpl>(std::move(context));
    HEARTH_CHECK(server->listen());
    return std::unique_ptr<Server>(std::move(server));
}

}  // namespace hearth::http

// Connection: one client's requests, one after the other, in one coroutine.
//
// Private to http. It owns itself: run() keeps it until the client or the server
// ends it. Between requests it stands in Context::idle, where a new client may
// take its place when the server is full.
#pragma once

#include <list>
#include <memory>
#include <optional>
#include <string>

#include "http/context.h"
#include "http/exchange.h"
#include "http/request_parser.h"
#include "http/wire.h"

namespace hearth::http {

class Connection : public std::enable_shared_from_this<Connection> {
public:
    Connection(std::shared_ptr<Context> context, std::shared_ptr<Wire> wire, std::string peer);
    ~Connection();
    Connection(Connection const&) = delete;
    Connection& operator=(Connection const&) = delete;

    // To be spawned once, as soon as the connection exists. Whatever it throws
    // (memory) ends this connection alone.
    static net::Task<void> run(std::shared_ptr<Connection> self);

    // Ends it now; a handler hears through on_disconnect.
    void abort();

    // Takes it out of Context::idle: closed, or, when a request has arrived that
    // it has not seen yet, receiving. REQUIRES: it stands there
    enum class Idle : std::uint8_t { closed, busy };
    Idle end_idle();

private:
    // One request on its way; freed before the connection idles.
    struct Work;

    // Which list or count of Context this connection is in. lingering: no more
    // requests, but the socket is open. closed is final.
    enum class Phase : std::uint8_t { starting, idle, receiving, answering, lingering, closed };
    void enter(Phase phase);

    net::Task<void> serve_all();
    net::Task<bool> next_request();
    net::Task<bool> serve_one();
    net::Task<void> linger();

    // Each step of serve_one: nothing to go on with the next, or what to answer
    // instead. Status 0: nothing, the client is gone.
    net::Task<std::optional<Refusal>> read_head(Work& work);
    std::optional<Refusal> take_head(Work& work);
    std::optional<Refusal> check_access(Work& work);
    std::optional<Response> preflight(Work& work);
    std::optional<Refusal> find_route(Work& work);
    net::Task<std::optional<Refusal>> read_body(Work& work);
    net::Task<void> handle(Work& work, ConnectionExchange& exchange);

    AnswerRules answer_rules(Work const& work) const;
    net::Task<void> refuse(Work& work, Refusal refusal);
    net::Task<void> respond(Work& work, Response response);
    void record(Work const& work, ConnectionExchange const& exchange);

    std::shared_ptr<Context> context_;
    std::shared_ptr<Wire> wire_;
    std::string peer_;
    Phase phase_ = Phase::starting;
    std::list<Connection*>::iterator idle_place_;
    bool reusable_ = true;      // after the present answer
    bool input_unread_ = false;  // closing now could reset the connection under our answer
};

}  // namespace hearth::http

// ConnectionExchange: the Exchange a handler sees, on top of a Wire.
//
// Private to http. Lives in its connection's frame for one request.
#pragma once

#include <functional>
#include <string>

#include "http/body_stream.h"
#include "http/context.h"
#include "http/message.h"
#include "http/server.h"
#include "http/wire.h"

namespace hearth::http {

// How the answer to one request is to be framed.
struct AnswerRules {
    Version version = Version::http11;
    Persistence persistence = Persistence::close;
    enum class Body : std::uint8_t { send, omit } body = Body::send;  // omit: HEAD
    std::string extra;  // header lines that every answer to this request carries
};

class ConnectionExchange final : public Exchange {
public:
    // `body` is null unless the handler is to read it.
    ConnectionExchange(Context& context, Wire& wire, Request const& request, AnswerRules rules,
                       BodyStream* body = nullptr);
    ~ConnectionExchange() override;

    Request const& request() const override { return request_; }
    net::Task<Result<std::string>> read_body() override;
    net::Task<void> send(Response response) override;
    net::Task<Status> start_stream(StreamHead head) override;
    net::Task<Status> write(std::string bytes) override;
    net::Task<void> end_stream() override;
    void on_disconnect(std::function<void()> callback) override;
    bool disconnected() const override { return wire_.ended(); }
    bool started() const override { return state_ != State::waiting; }

    // Sends without suspending; what send() does.
    void answer(Response response);

    // Waits until all was taken by the kernel. An answer that cannot be completed
    // (never started, left half, a reader that stalls) ends the connection.
    net::Task<void> finish();

    enum class Outcome : std::uint8_t { complete, incomplete, client_left, stalled };
    [[nodiscard]] Outcome outcome() const { return outcome_; }  // valid after finish()
    [[nodiscard]] unsigned status() const { return status_; }
    [[nodiscard]] std::uint64_t body_bytes() const { return body_bytes_; }
    // The connection may carry another request after this answer.
    [[nodiscard]] bool reusable() const;

private:
    enum class State : std::uint8_t { waiting, streaming, complete };

    void client_left();
    void stall();
    // The next request begins where this one's body ends, if that is known.
    [[nodiscard]] bool body_left() const { return body_ != nullptr && !body_->done(); }
    Framing stream_framing() const;

    Context& context_;
    Wire& wire_;
    Request const& request_;
    AnswerRules rules_;
    BodyStream* const body_;
    State state_ = State::waiting;
    Outcome outcome_ = Outcome::complete;
    bool misused_ = false;
    unsigned status_ = 0;
    std::uint64_t body_bytes_ = 0;
    std::function<void()> on_disconnect_;
};

[[nodiscard]] std::string_view to_string(ConnectionExchange::Outcome outcome) noexcept;

}  // namespace hearth::http

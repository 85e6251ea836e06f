#include "http/body_stream.h"

#include <algorithm>
#include <utility>
#include <variant>

namespace hearth::http {
namespace {

Refusal too_slow(Duration limit) {
    auto const ms = std::chrono::duration_cast<std::chrono::milliseconds>(limit).count();
    return {408, "body_timeout",
            Error(Code::deadline_exceeded, "the request's body came too slowly: nothing for " + std::to_string(ms) +
                                               " ms, or less than " + std::to_string(kBodyBytesPerSecondMin) +
                                               " bytes a second")};
}

}  // namespace

Duration body_time_for(std::size_t bytes) {
    return std::chrono::duration_cast<Duration>(
        std::chrono::duration<double>(static_cast<double>(bytes) / kBodyBytesPerSecondMin));
}

BodyStream::BodyStream(Wire& wire, Head const& head, std::size_t bytes_max, Duration body_timeout)
    : wire_(wire), reader_(head, bytes_max), body_timeout_(body_timeout), to_continue_(head.expects_continue) {}

Error BodyStream::fail(Refusal refusal) {
    failure_ = refusal.error;
    refusal_ = std::move(refusal);
    return *failure_;
}

Duration BodyStream::patience() const {
    return std::min(body_timeout_, body_timeout_ + body_time_for(reader_.size()) - waited_);
}

net::Task<Result<std::string>> BodyStream::read() {
    while (!failure_ && !reader_.done()) {
        if (std::exchange(to_continue_, false) && wire_.input().empty())
            wire_.put("HTTP/1.1 100 Continue\r\n\r\n", {}, {});
        Instant const began = std::chrono::steady_clock::now();
        Wire::Arrival const arrival = co_await wire_.wait_input(0, began + patience());
        waited_ += std::chrono::steady_clock::now() - began;
        if (arrival == Wire::Arrival::ended) failure_ = Error(Code::cancelled, "the client left within its body");
        if (arrival == Wire::Arrival::late) co_return fail(too_slow(body_timeout_));
        if (failure_) break;
        auto put = reader_.put(wire_.input());
        if (auto* refusal = std::get_if<Refusal>(&put)) co_return fail(std::move(*refusal));
        wire_.consume(std::get<std::size_t>(put));
        auto piece = reader_.take();
        if (!piece.empty()) co_return piece;
    }
    if (failure_) co_return *failure_;
    co_return std::string();
}

}  // namespace hearth::http

// Answers: how a dialect writes what a model says, streamed or whole.
//
// run_call() drives a call from its first event to its last byte: it waits,
// pings, times out, notices a client that left, and turns every failure into
// the dialect's error, as an HTTP status before the first byte and in-band
// after it. A dialect supplies the bytes.
//
// Choices are numbered over the whole call: generation * choices + choice.
//
// Threads: the loop's.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "api/calls.h"
#include "api/errors.h"
#include "api/event_source.h"
#include "api/routes.h"
#include "base/clock.h"
#include "domain/generate.h"
#include "http/server.h"
#include "net/task.h"

namespace hearth::api {

struct Totals {
    domain::Usage usage;                     // summed over the generations
    std::optional<domain::Timings> timings;  // of the one generation; absent with several
    std::vector<domain::Token> context;      // likewise, if it was asked for
};

struct ChoiceAnswer {
    std::string text;
    std::vector<domain::SampledLogprob> logprobs;
    domain::FinishReason reason = domain::FinishReason::stop;
};

struct Answer {
    std::vector<ChoiceAnswer> choices;
    std::vector<domain::Embedded> embedded;  // per generation; empty of those that generate
    Totals totals;
};

// Each method appends complete stream events to `out`.
class StreamAnswer {
public:
    virtual ~StreamAnswer() = default;
    virtual void begin(std::string& out) = 0;  // once, before anything but pings
    virtual void progress(std::string& out, std::uint32_t choice, domain::PromptProgress const& progress) = 0;
    virtual void delta(std::string& out, std::uint32_t choice, domain::Delta const& delta) = 0;
    virtual void choice_done(std::string& out, std::uint32_t choice, domain::FinishReason reason) = 0;
    virtual void end(std::string& out, Totals const& totals) = 0;
    virtual void fail(std::string& out, Problem const& problem) = 0;
    // What the client ignores, or nothing at all.
    virtual void ping(std::string& out, serving::Waiting const& waiting) = 0;
};

// A dialect's spelling of an error that is answered before the first byte.
using RenderProblem = http::Response (*)(Problem const& problem, std::string_view request_id);

struct CallPlan {
    std::uint32_t generations = 1;
    std::uint32_t choices = 1;                          // per generation
    Duration ping_interval{};                           // Duration::max(): none
    std::optional<Duration> queue_timeout;              // until as many as `awaited` have begun
    std::optional<std::uint32_t> awaited;  // of a batch, those that were submitted at first; absent: all generations
    CallInfo info;  // what of it is listed while it is inside; its time began when it arrived
    std::unique_ptr<StreamAnswer> stream;               // set: answer as a stream
    std::function<Result<std::string>(Answer const&)> render;  // else: the whole body, or why there is none
    std::string_view stream_type = "text/event-stream";
    RenderProblem render_problem = error_response;
};

// Answers the exchange completely. Until then the call is listed in
// services.calls, if there is such a list, and can be cancelled there.
net::Task<void> run_call(Services& services, http::Exchange& exchange, std::shared_ptr<EventSource> source,
                         CallPlan plan);

// Answers with an error and logs it. REQUIRES: nothing was sent yet
net::Task<void> send_problem(Services& services, http::Exchange& exchange, Problem problem,
                             RenderProblem render = error_response);

}  // namespace hearth::api

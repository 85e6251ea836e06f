// Engine: one loaded model, one engine thread, continuous batching.
//
// Each step builds one batch: a decode token of every running sequence, then
// chunks of waiting prompts up to the token budget; decodes it; samples; and
// hands all events of the step to the sink in one call. Requests join and
// leave at any step. n choices of one request compute its prompt once and share
// its cells.
//
// Flow control: each request carries a credit of tokens it may still emit. At
// zero its sequences pause (they stay in the cache, they just are not in the
// batch), so a slow reader holds up nobody else; if others need its cells or
// its sequence ids it is swapped out first.
//
// When cells run out, the youngest sequence is swapped to host memory and comes
// back exactly where it was; nothing is recomputed and nobody is failed.
//
// When decode() fails, the requests of that batch are decoded one by one, and
// only those that fail alone end as Failed; the engine goes on.
//
// Threads:   submit(), cancel(), grant(), stats(), close() from any thread; the
//            sink is called on the engine thread, must not block and must not
//            call close() or destroy the engine.
// Ownership: owns the backend and every request from submit() to its terminal event.
// Limits:    Options; submit() fails with `overloaded` at once when
//            requests_max are inside.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "domain/engine_report.h"
#include "domain/generate.h"
#include "domain/model.h"
#include "kvstore/options.h"
#include "llama/backend.h"

namespace hearth::engine {

using domain::RequestId;

// While sequences decode, prompts join a step only as far as it is predicted to
// take no longer than its target time, which bounds the gap between the tokens
// of running streams. When nobody decodes, prompts are cut into chunks of a fixed
// size, so that a request that runs alone is computed the same way each time; the
// size bounds how long a newcomer or a cancel waits. docs/scheduler.md has it all.
struct Options {
    std::uint32_t requests_max = 256;        // inside the engine, running or waiting
    std::uint32_t prompt_tokens = 0;         // of one step when nobody decodes; 0: prompt_chunk()
    std::uint32_t mixed_tokens_max = 512;    // of one step while sequences decode, their tokens included
    std::uint32_t step_ms_target = 60;       // of one step while sequences decode
    std::uint32_t ageing_ms = 30000;         // a request that is inside so long rises by one class
    std::vector<std::pair<std::string, double>> tenant_weights{};  // of those that do not weigh 1
    std::vector<std::string> public_prefixes{};  // system messages whose prefixes all tenants share
    std::uint32_t credit = 256;  // tokens a request may emit before the first grant(); at least its choices
    bool prefix_cache = true;    // keep what was computed, and reuse it for prompts that begin alike
    std::uint64_t checkpoint_bytes_max = std::uint64_t{256} << 20;  // of models that need them to reuse prefixes
    bool speculation = true;     // guess tokens ahead where that is predicted to pay
    std::uint32_t draft_max = 12;  // of those, by a draft model for one sequence in one step
    bool reserve_output = true;  // admit only whom there will be cells for, by what others emitted
    kvstore::Options tiers{};  // where prefixes go that leave the cache; state_key, on_ready, weights: the engine's
    std::uint64_t seed = 0;  // of requests that name none; 0: from the system
};

// Prompt tokens a step of about a second computes, by the model's size and the
// compute threads alone: no clock decides what a greedy answer says. A power of
// two from 32 to 512.
[[nodiscard]] std::uint32_t prompt_chunk(domain::ModelInfo const& info);

// Texts above the limits, empty ones and what is no UTF-8 are refused by Engine::create().
inline constexpr std::size_t kPublicPrefixesMax = domain::kReportPublicMax;
inline constexpr std::size_t kPublicPrefixBytesMax = 64U << 10;

struct StepEvent {
    RequestId request = 0;
    domain::Event event;
};

// All events of one step, in order. Never empty.
using Sink = std::function<void(std::span<StepEvent>)>;

class Engine {
public:
    static constexpr std::size_t kReportsMax = 16;

    // `draft` is a smaller model that guesses ahead for the other, or null. Fails with
    // `invalid_argument` for options or a backend that leave no room to run, `unsupported`
    // for a draft that cannot guess for the model (DraftModel::check).
    // REQUIRES: backend and sink are set; `clock` outlives the engine
    [[nodiscard]] static Result<std::unique_ptr<Engine>> create(std::unique_ptr<llama::Backend> backend,
                                                                Options const& options, Clock const& clock, Sink sink,
                                                                std::unique_ptr<llama::Backend> draft = nullptr);
    virtual ~Engine() = default;  // as close(), then joins

    // Hands over a validated request (domain::validate). Template, tokens and
    // the check against the context happen on the calling thread, so call it off
    // the engine thread. Errors: `overloaded`; `context_overflow` (message and
    // both numbers); `unsupported`, `invalid_argument` from the template, for a
    // prompt without tokens, tokens outside the vocabulary, more choices than
    // sequences, or an id already inside; `cancelled` after close(). After an
    // error no event follows.
    [[nodiscard]] virtual Status submit(RequestId id, domain::GenerateRequest request) = 0;

    // The request ends with ChoiceDone{cancelled} per open choice and Done,
    // within one step; without Started before if it was still waiting. Text that
    // was held back comes first, in a Delta of no tokens. Unknown ids are ignored.
    virtual void cancel(RequestId id) = 0;

    // `tokens` more may be emitted.
    virtual void grant(RequestId id, std::uint32_t tokens) = 0;

    // rss_bytes and cpu_ms_total are the process's, not the engine's: left at 0.
    [[nodiscard]] virtual domain::EngineStats stats() const = 0;

    // What it is doing, as of the end of the step that runs: `answer` is called once,
    // on the engine thread, and must not block. False if kReportsMax wait for
    // theirs already, or after close(): then it is not called.
    [[nodiscard]] virtual bool report(std::function<void(domain::EngineReport)> answer) = 0;

    // What prefixes in host memory may take from now on, at most what the options say.
    virtual void limit_cache(std::uint64_t bytes) = 0;

    // Rises with every step and every wake-up; a supervisor that sees it stand
    // still while work waits knows the engine hangs.
    [[nodiscard]] virtual std::uint64_t heartbeat() const = 0;

    // Refuses new requests, ends those inside as cancelled, stops the thread. Idempotent.
    virtual void close() = 0;

    [[nodiscard]] virtual llama::Backend const& backend() const = 0;

    // As close(), and hands back what it was made of, for another engine.
    // REQUIRES: afterwards the engine is only destroyed, and before what it was made of
    struct Backends {
        std::unique_ptr<llama::Backend> model;
        std::unique_ptr<llama::Backend> draft;  // or null
    };
    [[nodiscard]] virtual Backends release() = 0;
};

}  // namespace hearth::engine

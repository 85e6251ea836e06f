// EmbeddingLine: requests that want vectors, computed in batches between the
// steps of the others.
//
// One take() computes one batch: inputs of the best request, then of the next
// ones of the same set of adapters, as far as the batch is predicted to fit its time; at
// least one input, since an input cannot be cut. A request whose inputs are done ends with Started,
// Embedded, ChoiceDone and Done. When a batch fails, its requests are computed one
// by one, and only those that fail alone end as Failed.
//
// Threads: one. Ownership: owns its requests from add() to their last event.
// Limits: the engine's requests_max bounds what is inside, Limits a batch.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "base/clock.h"
#include "engine/engine.h"
#include "engine/prepare.h"
#include "llama/backend.h"

namespace hearth::engine {

class EmbeddingLine {
public:
    static constexpr std::size_t kInputsMax = 256;      // of one batch
    static constexpr std::size_t kTokensMax = 32768;

    // Who goes first: the lower one.
    struct Rank {
        std::uint32_t level;
        double account;  // what its tenant got already
        Instant arrived;
        RequestId id;
        auto operator<=>(Rank const&) const = default;
    };
    using RankOf = std::function<Rank(PreparedRequest const&)>;
    using Charge = std::function<void(std::string const& tenant, double tokens)>;

    // `token_ms`: what a token takes, until it was measured. REQUIRES: backend and clock outlive this
    EmbeddingLine(llama::Backend& backend, Clock const& clock, double token_ms);

    // REQUIRES: inputs is not empty
    void add(PreparedRequest prepared);

    // False if it is not here.
    [[nodiscard]] bool cancel(RequestId id);
    void cancel_all();

    [[nodiscard]] bool empty() const { return requests_.empty(); }
    [[nodiscard]] std::uint32_t waiting() const;  // of them, those not begun
    [[nodiscard]] std::uint32_t begun() const;
    [[nodiscard]] std::uint64_t tokens_total() const { return tokens_total_; }  // computed
    [[nodiscard]] std::uint64_t us_total() const { return us_total_; }

    // Computes one batch of about `ms`. `charge` hears of what it computed for whom.
    void take(double ms, RankOf const& rank_of, Charge const& charge);

    // Whoever passed a limit of its own ends.
    void expire(Instant now);
    [[nodiscard]] std::optional<Instant> next_deadline() const;

    // Of all requests that ended: the caller takes the events, and hears of the tenants.
    [[nodiscard]] std::vector<StepEvent> take_events();
    [[nodiscard]] std::vector<std::string> take_left();

private:
    struct Request {
        explicit Request(PreparedRequest prepared) : spec(std::move(prepared)) {}
        PreparedRequest spec;
        std::optional<Instant> began;
        std::vector<std::vector<float>> vectors;
        bool ended = false;
    };
    struct Item {
        Request* request;
        std::size_t input;
    };

    void sort(RankOf const& rank_of);
    void gather(double ms);
    void begin(Request& request, Instant now);
    [[nodiscard]] Status compute(std::vector<Item> const& items, Charge const& charge);
    void compute_one_by_one(Charge const& charge);
    void finish(Request& request);
    void end_cancelled(Request& request);
    void fail(Request& request, Error error);
    void push(Request const& request, domain::Event event);
    void sweep();

    llama::Backend& backend_;
    Clock const& clock_;
    double token_ms_;
    std::vector<std::unique_ptr<Request>> requests_;
    std::vector<Item> items_;  // of the batch being computed
    std::vector<StepEvent> events_;
    std::vector<std::string> left_;
    std::uint64_t tokens_total_ = 0;
    std::uint64_t us_total_ = 0;
};

}  // namespace hearth::engine

// Preparer: turns a GenerateRequest into what the engine thread needs, with
// everything that costs time (template, tokens, DRY breakers) or can be refused
// done already.
//
// Threads: prepare() from any thread.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "domain/generate.h"
#include "engine/dry.h"
#include "engine/public_prefixes.h"
#include "engine/stop_matcher.h"
#include "llama/backend.h"

namespace hearth::engine {

// What a sequence does when its context is full: it keeps `keep` tokens, drops
// `discard` behind them (0: half of what is there), and goes on with the rest.
struct Shift {
    std::uint32_t keep = 0;
    std::uint32_t discard = 0;
};

struct PreparedRequest {
    domain::RequestId id = 0;
    std::uint32_t adapters = 0;       // the set it is computed with, for Backend::use_adapters()
    std::vector<Token> prompt;        // 1 .. limit - 1 tokens; none if there are inputs
    std::vector<std::vector<Token>> inputs{};  // to embed; else none
    domain::SamplingParams sampling;
    std::uint64_t seed = 0;           // of choice 0
    std::uint32_t choices = 1;
    std::uint32_t context = 0;        // positions of one sequence
    std::uint32_t tokens_max = 0;     // per choice; max_tokens or what the context leaves, whichever is less;
                                      // with a shift max_tokens, or one context
    std::optional<std::uint32_t> top_logprobs;
    bool return_prompt_progress = false;
    bool return_context = false;
    domain::Priority priority = domain::Priority::normal;
    std::string tenant;
    std::string cache_salt;
    domain::Deadlines deadlines;
    bool cache_prompt = true;
    std::uint32_t public_tokens = 0;  // leading tokens of the prompt that are a public prefix
    bool speculate = true;
    bool pinned = false;              // computed alone, in steps of fixed shapes, and shared with nobody
    std::uint32_t left_out = 0;       // tokens of the prompt that did not fit
    std::optional<Shift> shift;       // absent: an output ends where the context does
    std::shared_ptr<StopSet const> stops;
    std::size_t named_stops = 0;      // those before this index are the request's, the rest the template's
    std::shared_ptr<DryBreakers const> dry_breakers;  // null when DRY is off
    Instant arrived;
};

class Preparer {
public:
    // `seed` 0: from the system. REQUIRES: backend outlives this
    Preparer(llama::Backend const& backend, std::uint64_t seed, std::span<std::string const> public_prefixes = {});

    // Errors as Engine::submit().
    [[nodiscard]] Result<PreparedRequest> prepare(domain::RequestId id, domain::GenerateRequest request, Instant now);

    // Longest prompt plus output of one sequence, of a request that wants no more.
    [[nodiscard]] std::uint32_t limit() const { return limit_; }

    [[nodiscard]] PublicPrefixes const& public_prefixes() const { return public_; }

    // Every token that ends a generation.
    [[nodiscard]] std::vector<Token> const& end_tokens() const { return end_tokens_; }

private:
    [[nodiscard]] Result<std::vector<Token>> tokens_of(domain::Prompt const& prompt,
                                                       std::vector<std::string>& stops) const;
    [[nodiscard]] Result<PreparedRequest> prepare_inputs(domain::RequestId id, domain::GenerateRequest request,
                                                         Instant now) const;
    [[nodiscard]] Status check_kind(domain::EmbedPrompt const& embed) const;
    [[nodiscard]] Result<std::vector<Token>> tokens_of(domain::EmbedPrompt::Input& input, std::size_t index) const;
    void stand_on(std::vector<Token> context, std::vector<Token>& prompt) const;
    [[nodiscard]] Status fit_by_shift(PreparedRequest& prepared, domain::GenerateRequest const& request) const;
    [[nodiscard]] Status fit(PreparedRequest& prepared, domain::GenerateRequest const& request) const;
    [[nodiscard]] std::size_t first_message(domain::Prompt const& prompt, std::vector<Token> const& tokens) const;
    [[nodiscard]] Status pin(PreparedRequest& prepared) const;
    [[nodiscard]] Status check_adapters(std::uint32_t set) const;
    [[nodiscard]] Status check(PreparedRequest const& prepared) const;
    [[nodiscard]] Result<std::shared_ptr<DryBreakers const>> breakers(domain::SamplingParams const& params);
    std::vector<std::string> const& pieces();
    [[nodiscard]] std::uint64_t next_seed();

    llama::Backend const& backend_;
    std::uint32_t limit_;
    std::uint32_t limit_max_;  // what one that wants more can have
    std::vector<Token> end_tokens_;
    std::vector<Token> opening_;  // what the model's metadata puts before every text: BOS, or nothing
    std::vector<Token> closing_;  // and behind it
    PublicPrefixes public_;
    std::atomic<std::uint64_t> seeds_;

    std::once_flag pieces_once_;
    std::vector<std::string> pieces_;  // text of every token, made when DRY is first asked for
};

}  // namespace hearth::engine

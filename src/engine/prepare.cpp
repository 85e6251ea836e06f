#include "engine/prepare.h"

#include <algorithm>
#include <chrono>
#include <exception>
#include <random>
#include <utility>
#include <variant>

#include <fmt/format.h>

#include "domain/context_overflow.h"
#include "engine/sampling_math.h"

namespace hearth::engine {
namespace {

// A sandbox may leave random_device nothing to read; then the time has to do:
// seeds that nobody named must differ, not be secret.
std::uint64_t system_seed() {
    try {
        std::random_device device;
        return (static_cast<std::uint64_t>(device()) << 32U) | device();
    } catch (std::exception const&) {
        return static_cast<std::uint64_t>(std::chrono::system_clock::now().time_since_epoch().count());
    }
}

bool uses_dry(domain::SamplingParams const& params) {
    return params.dry_multiplier != 0 && params.dry_base >= 1 && params.dry_penalty_last_n != 0;
}

Status check_vocabulary(std::vector<Token> const& tokens, std::uint32_t vocabulary, char const* field) {
    auto const outside = [&](Token token) { return token < 0 || static_cast<std::uint32_t>(token) >= vocabulary; };
    auto const bad = std::find_if(tokens.begin(), tokens.end(), outside);
    if (bad == tokens.end()) return ok();
    return Error(Code::invalid_argument,
                 fmt::format("'{}' names token {}, but the vocabulary has {} tokens", field, *bad, vocabulary), field);
}

char const* prompt_field(domain::Prompt const& prompt) {
    return std::holds_alternative<domain::ChatPrompt>(prompt) ? "messages" : "prompt";
}

}  // namespace

Preparer::Preparer(llama::Backend const& backend, std::uint64_t seed)
    : backend_(backend),
      limit_(std::min(backend.properties().info.context_request, backend.properties().kv_cells)),
      seeds_(seed != 0 ? seed : system_seed()) {
    for (std::uint32_t id = 0; id < backend.properties().vocabulary; ++id) {
        if (backend.is_end_of_generation(static_cast<Token>(id))) end_tokens_.push_back(static_cast<Token>(id));
    }
}

Result<PreparedRequest> Preparer::prepare(domain::RequestId id, domain::GenerateRequest request, Instant now) {
    PreparedRequest prepared;
    auto const* field = prompt_field(request.prompt);
    auto stops = std::move(request.stop);
    prepared.named_stops = stops.size();
    HEARTH_TRY(prepared.prompt, tokens_of(request.prompt, stops));
    if (prepared.prompt.empty())
        return Error(Code::invalid_argument, fmt::format("'{}' holds no tokens", field), field);
    if (prepared.prompt.size() + 1 > limit_) {
        return domain::context_overflow({static_cast<std::uint32_t>(prepared.prompt.size()), limit_});
    }
    prepared.id = id;
    prepared.sampling = std::move(request.sampling);
    prepared.choices = request.choices;
    prepared.tokens_max = limit_ - static_cast<std::uint32_t>(prepared.prompt.size());
    if (request.max_tokens) prepared.tokens_max = std::min(prepared.tokens_max, *request.max_tokens);
    HEARTH_CHECK(check(prepared));
    prepared.seed = prepared.sampling.seed ? *prepared.sampling.seed : next_seed();
    prepared.top_logprobs = request.top_logprobs;
    prepared.return_prompt_progress = request.return_prompt_progress;
    prepared.priority = request.priority;
    prepared.tenant = std::move(request.tenant);
    prepared.cache_salt = std::move(request.cache_salt);
    prepared.deadlines = request.deadlines;
    prepared.cache_prompt = request.cache_prompt;
    prepared.speculate = request.speculate;
    prepared.stops = std::make_shared<StopSet const>(std::move(stops));
    if (uses_dry(prepared.sampling)) {
        HEARTH_TRY(prepared.dry_breakers, breakers(prepared.sampling));
    }
    prepared.arrived = now;
    return prepared;
}

// Appends to `stops` what the template says ends a turn.
Result<std::vector<Token>> Preparer::tokens_of(domain::Prompt const& prompt, std::vector<std::string>& stops) const {
    if (auto const* text = std::get_if<domain::TextPrompt>(&prompt)) return backend_.tokenize(text->text, {});
    if (auto const* tokens = std::get_if<domain::TokenPrompt>(&prompt)) return tokens->tokens;
    HEARTH_TRY(auto chat, backend_.render_chat(std::get<domain::ChatPrompt>(prompt)));
    for (auto& stop : chat.additional_stops) stops.push_back(std::move(stop));
    return std::move(chat.tokens);
}

Status Preparer::check(PreparedRequest const& prepared) const {
    auto const& properties = backend_.properties();
    HEARTH_CHECK(check_vocabulary(prepared.prompt, properties.vocabulary, "prompt"));
    std::vector<Token> biased;
    biased.reserve(prepared.sampling.logit_bias.size());
    for (auto const& bias : prepared.sampling.logit_bias) biased.push_back(bias.token);
    HEARTH_CHECK(check_vocabulary(biased, properties.vocabulary, "logit_bias"));
    if (prepared.choices > properties.info.sequences_max) {
        return Error(Code::invalid_argument,
                     fmt::format("'n' is {}, but the model runs {} sequences at once", prepared.choices,
                                 properties.info.sequences_max),
                     "n");
    }
    return ok();
}

Result<std::shared_ptr<DryBreakers const>> Preparer::breakers(domain::SamplingParams const& params) {
    std::optional<Error> failed;
    auto const tokenize = [&](std::string_view text) -> std::vector<Token> {
        auto tokens = backend_.tokenize(text, {.add_special = false, .parse_special = false});
        if (tokens) return std::move(tokens).value();
        failed = std::move(tokens).error();
        return {};
    };
    auto made =
        std::make_shared<DryBreakers const>(make_dry_breakers(params.dry_sequence_breakers, pieces(), tokenize));
    if (failed) return *std::move(failed);
    return std::shared_ptr<DryBreakers const>(std::move(made));
}

std::vector<std::string> const& Preparer::pieces() {
    std::call_once(pieces_once_, [this] {
        pieces_.resize(backend_.properties().vocabulary);
        for (std::size_t id = 0; id < pieces_.size(); ++id) backend_.append_piece(static_cast<Token>(id), pieces_[id]);
    });
    return pieces_;
}

std::uint64_t Preparer::next_seed() {
    std::uint64_t state = seeds_.fetch_add(0x9E3779B97F4A7C15U);
    return Random::next_splitmix(state);
}

}  // namespace hearth::engine

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

Preparer::Preparer(llama::Backend const& backend, std::uint64_t seed, std::span<std::string const> public_prefixes)
    : backend_(backend),
      limit_(std::min(backend.properties().info.context_request, backend.properties().kv_cells)),
      limit_max_(std::max(limit_, std::min(backend.properties().info.context_train, backend.properties().kv_cells))),
      public_(backend, public_prefixes),
      seeds_(seed != 0 ? seed : system_seed()) {
    for (std::uint32_t id = 0; id < backend.properties().vocabulary; ++id) {
        if (backend.is_end_of_generation(static_cast<Token>(id))) end_tokens_.push_back(static_cast<Token>(id));
    }
    if (auto around = backend.tokenize("", {})) opening_ = std::move(around).value();
    if (auto const text = backend.tokenize("a", {})) {
        auto const opens = std::mismatch(opening_.begin(), opening_.end(), text->begin(), text->end()).first;
        closing_.assign(opens, opening_.end());
        opening_.erase(opens, opening_.end());
    }
}

Result<PreparedRequest> Preparer::prepare(domain::RequestId id, domain::GenerateRequest request, Instant now) {
    HEARTH_CHECK(check_adapters(request.adapters));
    if (std::holds_alternative<domain::EmbedPrompt>(request.prompt)) return prepare_inputs(id, std::move(request), now);
    auto const& info = backend_.properties().info;
    if (!info.generates) {
        return Error(Code::unsupported,
                     fmt::format("this model ({}) computes embeddings only; it generates no text", info.architecture),
                     "model");
    }
    PreparedRequest prepared;
    auto const* field = prompt_field(request.prompt);
    auto stops = std::move(request.stop);
    prepared.named_stops = stops.size();
    HEARTH_TRY(prepared.prompt, tokens_of(request.prompt, stops));
    HEARTH_CHECK(check_vocabulary(request.context, backend_.properties().vocabulary, "context"));
    stand_on(std::move(request.context), prepared.prompt);
    if (prepared.prompt.empty())
        return Error(Code::invalid_argument, fmt::format("'{}' holds no tokens", field), field);
    prepared.context = std::clamp(request.context_tokens, limit_, limit_max_);
    HEARTH_CHECK(fit(prepared, request));
    // What adapters compute of a public text is not what is public.
    prepared.public_tokens = request.adapters == 0 ? public_.match(prepared.prompt) : 0;
    prepared.id = id;
    prepared.adapters = request.adapters;
    prepared.sampling = std::move(request.sampling);
    prepared.choices = request.choices;
    prepared.tokens_max = prepared.context - static_cast<std::uint32_t>(prepared.prompt.size());
    if (prepared.shift) prepared.tokens_max = request.max_tokens.value_or(prepared.context);
    if (request.max_tokens) prepared.tokens_max = std::min(prepared.tokens_max, *request.max_tokens);
    HEARTH_CHECK(check(prepared));
    prepared.seed = prepared.sampling.seed ? *prepared.sampling.seed : next_seed();
    prepared.top_logprobs = request.top_logprobs;
    prepared.return_prompt_progress = request.return_prompt_progress;
    prepared.return_context = request.return_context;
    prepared.priority = request.priority;
    prepared.tenant = std::move(request.tenant);
    prepared.cache_salt = std::move(request.cache_salt);
    prepared.deadlines = request.deadlines;
    prepared.cache_prompt = request.cache_prompt;
    prepared.speculate = request.speculate;
    if (request.deterministic) HEARTH_CHECK(pin(prepared));
    prepared.stops = std::make_shared<StopSet const>(std::move(stops));
    if (uses_dry(prepared.sampling)) {
        HEARTH_TRY(prepared.dry_breakers, breakers(prepared.sampling));
    }
    prepared.arrived = now;
    return prepared;
}

Result<PreparedRequest> Preparer::prepare_inputs(domain::RequestId id, domain::GenerateRequest request,
                                                 Instant now) const {
    auto& embed = std::get<domain::EmbedPrompt>(request.prompt);
    HEARTH_CHECK(check_kind(embed));
    auto const limit = backend_.properties().info.embed_tokens_max;
    PreparedRequest prepared;
    for (std::size_t i = 0; i < embed.inputs.size(); ++i) {
        HEARTH_TRY(auto tokens, tokens_of(embed.inputs[i], i));
        auto const size = static_cast<std::uint32_t>(tokens.size());
        if (size > limit && !embed.truncate) return domain::context_overflow({size, limit});
        if (size > limit) {
            // What closes a text stays: models are trained to find it there.
            auto const close = std::min<std::size_t>(closing_.size(), limit);
            tokens.resize(limit - close);
            tokens.insert(tokens.end(), closing_.end() - static_cast<std::ptrdiff_t>(close), closing_.end());
            prepared.left_out += size - limit;
        }
        prepared.inputs.push_back(std::move(tokens));
    }
    prepared.id = id;
    prepared.adapters = request.adapters;
    prepared.priority = request.priority;
    prepared.tenant = std::move(request.tenant);
    prepared.deadlines = request.deadlines;
    prepared.arrived = now;
    return prepared;
}

// Pairs are for models that rank, and these have nothing else to say.
Status Preparer::check_kind(domain::EmbedPrompt const& embed) const {
    auto const& info = backend_.properties().info;
    for (auto const& input : embed.inputs) {
        bool const pair = std::holds_alternative<domain::RankPair>(input);
        if (pair == info.ranks) continue;
        if (info.ranks)
            return Error(Code::unsupported,
                         fmt::format("this model ({}) ranks documents; it has no embeddings", info.architecture),
                         "model");
        return Error(Code::unsupported,
                     fmt::format("this model ({}) does not rank documents: that needs a cross-encoder, a model with a "
                                 "classification head whose file says pooling type 4 (rank)",
                                 info.architecture),
                     "model");
    }
    return ok();
}

Result<std::vector<Token>> Preparer::tokens_of(domain::EmbedPrompt::Input& input, std::size_t index) const {
    if (auto const* pair = std::get_if<domain::RankPair>(&input)) return backend_.tokenize_pair(*pair);
    if (auto* tokens = std::get_if<std::vector<Token>>(&input)) {
        HEARTH_CHECK(check_vocabulary(*tokens, backend_.properties().vocabulary, "input"));
        return std::move(*tokens);
    }
    HEARTH_TRY(auto tokens, backend_.tokenize(std::get<std::string>(input), {}));
    if (tokens.empty()) return Error(Code::invalid_argument, fmt::format("'input' {} holds no tokens", index), "input");
    return tokens;
}

// A prompt that is too long loses its middle, if the request allows it. A quarter
// of the context, or less if less was asked for, is left to the answer; the head
// that stays is what the request says, else the first message, held between a
// quarter and a half of what fits.
Status Preparer::fit(PreparedRequest& prepared, domain::GenerateRequest const& request) const {
    auto& prompt = prepared.prompt;
    auto const limit = prepared.context;
    if (request.overflow == domain::Overflow::shift) return fit_by_shift(prepared, request);
    if (prompt.size() + 1 <= limit) return ok();
    auto const size = static_cast<std::uint32_t>(prompt.size());
    if (request.overflow != domain::Overflow::truncate_middle) return domain::context_overflow({size, limit});
    std::uint32_t const answer = std::clamp(std::min(request.max_tokens.value_or(limit), limit / 4), 1U, limit - 1);
    std::size_t const room = limit - answer;
    std::size_t const head = request.keep_tokens
                                 ? *request.keep_tokens
                                 : std::clamp(first_message(request.prompt, prompt), room / 4, room / 2);
    if (head >= room) {
        return Error(
            Code::invalid_argument,
            fmt::format("'n_keep' is {}, but only {} tokens of the prompt fit beside the answer, one of them its last",
                        head, room),
            "n_keep");
    }
    prepared.left_out = static_cast<std::uint32_t>(size - room);
    auto const begin = prompt.begin() + static_cast<std::ptrdiff_t>(head);
    prompt.erase(begin, begin + prepared.left_out);
    return ok();
}

// As llama-server: of a prompt that is too long whole blocks are dropped behind the
// head, half as long as what fits there, so that it ends in the second half.
Status Preparer::fit_by_shift(PreparedRequest& prepared, domain::GenerateRequest const& request) const {
    auto& prompt = prepared.prompt;
    auto const limit = prepared.context;
    auto const size = static_cast<std::uint32_t>(prompt.size());
    auto const opens = static_cast<std::uint32_t>(
        std::mismatch(opening_.begin(), opening_.end(), prompt.begin(), prompt.end()).second - prompt.begin());
    auto const first = std::min<std::size_t>(first_message(request.prompt, prompt), limit / 2);
    std::uint32_t const wanted = request.keep_tokens.value_or(static_cast<std::uint32_t>(first));
    Shift shift{std::min(std::max(wanted, opens), size), request.discard_tokens.value_or(0)};
    // One token has to be dropped at least, and one behind those to stay.
    std::uint32_t const dropped = std::max(shift.discard, 1U);
    if (std::uint64_t{shift.keep} + dropped >= limit) {
        return Error(Code::invalid_argument,
                     fmt::format("'{}': {} tokens are to be kept and {} dropped at a time, but the context holds {}",
                                 request.discard_tokens ? "n_discard" : "n_keep", shift.keep, dropped, limit),
                     request.discard_tokens ? "n_discard" : "n_keep");
    }
    prepared.shift = shift;
    if (size < limit) return ok();
    std::uint32_t const block = std::max((limit - shift.keep) / 2, 1U);
    prepared.left_out = (size - shift.keep - block) / block * block;
    auto const begin = prompt.begin() + shift.keep;
    prompt.erase(begin, begin + prepared.left_out);
    return ok();
}

// Puts `context` before the prompt, which then opens no text of its own.
void Preparer::stand_on(std::vector<Token> context, std::vector<Token>& prompt) const {
    if (context.empty()) return;
    auto const opens = std::mismatch(opening_.begin(), opening_.end(), prompt.begin(), prompt.end());
    auto const begin = opens.first == opening_.end() ? opens.second : prompt.begin();
    context.insert(context.end(), begin, prompt.end());
    prompt = std::move(context);
}

// Tokens of the prompt's head that are its first message; 0 if that cannot be told.
std::size_t Preparer::first_message(domain::Prompt const& prompt, std::vector<Token> const& tokens) const {
    auto const* chat = std::get_if<domain::ChatPrompt>(&prompt);
    if (chat == nullptr || chat->messages.size() < 2) return 0;
    auto const first = backend_.render_chat({{chat->messages.front()}, false, chat->jinja});
    if (!first) return 0;  // a template that wants more than one message
    auto const differ = std::mismatch(first->tokens.begin(), first->tokens.end(), tokens.begin(), tokens.end());
    return static_cast<std::size_t>(differ.second - tokens.begin());
}

// Appends to `stops` what the template says ends a turn.
Result<std::vector<Token>> Preparer::tokens_of(domain::Prompt const& prompt, std::vector<std::string>& stops) const {
    if (auto const* text = std::get_if<domain::TextPrompt>(&prompt))
        return backend_.tokenize(text->text, {.parse_special = text->parse_special});
    if (auto const* tokens = std::get_if<domain::TokenPrompt>(&prompt)) return tokens->tokens;
    if (auto const* infill = std::get_if<domain::InfillPrompt>(&prompt))
        return backend_.tokenize_infill(infill->prefix, infill->suffix);
    HEARTH_TRY(auto chat, backend_.render_chat(std::get<domain::ChatPrompt>(prompt)));
    for (auto& stop : chat.additional_stops) stops.push_back(std::move(stop));
    return std::move(chat.tokens);
}

// Other kernels compute the rows of other shapes of a batch: where that shows, the
// request is computed in steps whose shapes depend on itself alone.
Status Preparer::pin(PreparedRequest& prepared) const {
    switch (backend_.properties().info.determinism) {
        case domain::Determinism::always: return ok();
        case domain::Determinism::on_request:
            prepared.pinned = true;
            prepared.cache_prompt = prepared.speculate = false;
            return ok();
        case domain::Determinism::no: break;
    }
    return Error(Code::unsupported,
                 "'deterministic' is true, but what this model says depends on what else is computed; a server started "
                 "with --deterministic, flash attention and a 16-bit KV cache may offer it",
                 "deterministic");
}

Status Preparer::check_adapters(std::uint32_t set) const {
    auto const count = backend_.properties().adapters.size();
    if (set <= count) return ok();
    return Error(Code::invalid_argument, fmt::format("there is no set {} of adapters, the model has {}", set, count),
                 "model");
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

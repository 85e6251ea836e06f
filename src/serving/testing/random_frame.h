// Random frames by seed, for the tests of the protocol: every type, every
// optional part present and absent, lists empty and filled, extreme numbers.
#pragma once

#include <cstdint>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "serving/protocol.h"

namespace hearth::serving::testing {

class FrameSource {
public:
    explicit FrameSource(std::uint64_t seed) : random_(seed) {}

    // A frame of alternative `index` of Frame.
    Frame frame(std::size_t index) {
        switch (index) {
            case 0: return SubmitFrame{id(), request()};
            case 1: return CancelFrame{id()};
            case 2: return GrantFrame{id(), 1 + below(1U << 30)};
            case 3: return PingFrame{random_()};
            case 4: return CloseFrame{};
            case 5: return LoadingFrame{static_cast<float>(below(1001)) / 1000.0F};
            case 6: return ReadyFrame{info()};
            case 7: return LoadFailedFrame{error()};
            case 8: return step();
            case 9: return PongFrame{random_(), random_(), stats()};
            case 10: return LogFrame{static_cast<std::uint8_t>(below(4)), text()};
            case 11: return AskReportFrame{random_()};
            case 12: return ReportFrame{random_(), report()};
            case 13: return LimitCacheFrame{random_()};
            case 14: return ParkFrame{};
            case 15: return WakeFrame{};
            default: return ParkedFrame{random_()};
        }
    }

    domain::Event event() {
        switch (below(7)) {
            case 0: return domain::Started{number(), number()};
            case 1: return domain::PromptProgress{number(), number(), number(), real()};
            case 2: return delta();
            case 3:
                return domain::ChoiceDone{below(domain::kChoicesMax), static_cast<domain::FinishReason>(below(4)),
                                          text()};
            case 4: return done();
            case 5: return embedded();
            default: return domain::Failed{error()};
        }
    }

    RequestId id() { return 1 + (random_() >> below(63)) / 2; }
    std::uint32_t below(std::uint32_t limit) { return static_cast<std::uint32_t>(random_() % limit); }
    bool coin() { return below(2) == 1; }
    std::uint32_t number() { return static_cast<std::uint32_t>(random_()) >> below(32); }

    std::string bytes() {
        std::string out(below(40), '\0');
        for (auto& c : out) c = static_cast<char>(random_());
        return out;
    }

    std::string text() {
        static constexpr char const* kPieces[] = {
            "a", "\n", "hello ", "\xc3\xa9", "\xe2\x82\xac", "\xf0\x9f\x94\xa5", "\"", "<|im_end|>", ""};
        std::string out;
        for (auto left = below(8); left > 0; --left) out += kPieces[below(std::size(kPieces))];
        if (below(8) == 0) out += '\0';
        return out;
    }

private:
    double real() {
        static constexpr double kValues[] = {
            0, -0.0, 1.5, -3.25, 1e308, -1e308, std::numeric_limits<double>::denorm_min()};
        return kValues[below(std::size(kValues))];
    }
    float single() {
        static constexpr float kValues[] = {0, -0.0F, 1, 0.7F, -2, 3e38F, std::numeric_limits<float>::denorm_min()};
        return kValues[below(std::size(kValues))];
    }
    float logprob() {
        return below(6) == 0 ? -std::numeric_limits<float>::infinity() : -static_cast<float>(below(1000)) / 64.0F;
    }
    Error error() { return {static_cast<Code>(below(kCodeCount)), text(), text()}; }

    std::vector<std::string> strings(std::uint32_t count_max) {
        std::vector<std::string> out(below(count_max + 1));
        for (auto& s : out) s = bytes();
        return out;
    }

    std::vector<domain::Token> tokens() {
        std::vector<domain::Token> out(below(50));
        for (auto& token : out) token = static_cast<domain::Token>(random_());
        return out;
    }

    domain::Embedded embedded() {
        domain::Embedded out;
        for (auto left = below(4); left > 0; --left) {
            auto& vector = out.vectors.emplace_back(below(10));
            for (auto& value : vector) value = single();
        }
        return out;
    }

    domain::Prompt prompt() {
        switch (below(5)) {
            case 0: {
                domain::ChatPrompt chat{{}, coin(), coin() ? bytes() : std::string()};
                for (auto left = below(6); left > 0; --left) chat.messages.push_back({bytes(), bytes()});
                return chat;
            }
            case 1: return domain::TextPrompt{bytes(), coin()};
            case 2: return domain::TokenPrompt{tokens()};
            case 3: return domain::InfillPrompt{bytes(), bytes()};
            default: {
                domain::EmbedPrompt embed{{}, coin()};
                for (auto left = below(5); left > 0; --left) {
                    if (coin()) embed.inputs.emplace_back(bytes());
                    else if (coin()) embed.inputs.emplace_back(domain::RankPair{bytes(), bytes()});
                    else embed.inputs.emplace_back(tokens());
                }
                return embed;
            }
        }
    }

    domain::GenerateRequest request() {
        domain::GenerateRequest r;
        r.model = bytes();
        r.adapters = below(domain::kAdapterSetsMax + 1);
        r.prompt = prompt();
        auto& s = r.sampling;
        for (auto* value : {&s.temperature, &s.top_p, &s.min_p, &s.typical_p, &s.repeat_penalty, &s.frequency_penalty,
                            &s.presence_penalty, &s.dry_multiplier, &s.dry_base, &s.xtc_probability, &s.xtc_threshold,
                            &s.mirostat_tau, &s.mirostat_eta}) {
            *value = single();
        }
        for (auto* value : {&s.top_k, &s.repeat_last_n, &s.dry_allowed_length, &s.dry_penalty_last_n})
            *value = static_cast<std::int32_t>(random_());
        s.dry_sequence_breakers = strings(domain::kDryBreakersMax);
        s.mirostat = static_cast<domain::Mirostat>(below(3));
        for (auto left = below(5); left > 0; --left)
            s.logit_bias.push_back({static_cast<domain::Token>(random_()), logprob()});
        if (coin()) s.seed = random_();
        s.ignore_eos = coin();
        r.choices = 1 + below(domain::kChoicesMax);
        if (coin()) r.max_tokens = number();
        r.stop = strings(domain::kStopStringsMax);
        if (coin()) r.top_logprobs = below(domain::kLogprobsMax + 1);
        r.return_prompt_progress = coin();
        r.priority = static_cast<domain::Priority>(below(domain::kPriorityCount));
        r.tenant = bytes();
        r.cache_salt = bytes();
        for (auto* value : {&r.deadlines.queue_ms, &r.deadlines.prefill_ms, &r.deadlines.decode_ms})
            if (coin()) *value = number();
        r.cache_prompt = coin();
        r.overflow = static_cast<domain::Overflow>(below(3));
        if (coin()) r.context_tokens = number();
        if (coin()) r.keep_tokens = number();
        if (coin()) r.discard_tokens = number();
        r.speculate = coin();
        r.deterministic = coin();
        r.context = tokens();
        r.return_context = coin();
        return r;
    }

    domain::TokenLogprob token_logprob() { return {static_cast<domain::Token>(random_()), logprob(), bytes()}; }

    domain::Delta delta() {
        domain::Delta d{below(domain::kChoicesMax), number(), text(), {}};
        for (auto left = below(3); left > 0; --left) {
            domain::SampledLogprob sampled{token_logprob(), {}};
            for (auto top = below(domain::kLogprobsMax + 1); top > 0; --top) sampled.top.push_back(token_logprob());
            d.logprobs.push_back(std::move(sampled));
        }
        return d;
    }

    domain::Done done() {
        return {
            {number(), number(), number(), number()}, {number(), number(), real(), number(), real(), real()}, tokens()};
    }

    StepFrame step() {
        StepFrame frame;
        for (auto left = 1 + below(20); left > 0; --left) frame.entries.push_back({id(), event()});
        return frame;
    }

    domain::ModelInfo info() {
        domain::ModelInfo i;
        for (auto* value : {&i.architecture, &i.name, &i.quantization, &i.cpu_variant, &i.isolation}) *value = text();
        for (auto* value :
             {&i.parameters, &i.file_bytes, &i.memory_bytes, &i.kv_bytes, &i.resident_bytes, &i.shared_bytes})
            *value = random_();
        for (auto* value : {&i.vocabulary, &i.embedding, &i.context_train, &i.context_request, &i.kv_cells,
                            &i.sequences_max, &i.threads})
            *value = number();
        i.chat_template = coin();
        i.generates = coin();
        i.infills = coin();
        i.embeds = coin();
        i.ranks = coin();
        i.embed_tokens_max = number();
        i.determinism = static_cast<domain::Determinism>(below(3));
        return i;
    }

    domain::EngineStats stats() {
        return {number(),  number(),  number(),  number(),  number(),  random_(), random_(),
                random_(), random_(), random_(), random_(), random_(), random_(), random_(),
                random_(), random_(), random_(), random_(), random_(), random_(), random_(),
                random_(), number(),  number(),  random_(), random_(), random_(), random_()};
    }

    domain::SequenceReport sequence() {
        return {id(),
                below(domain::kChoicesMax),
                static_cast<std::int32_t>(random_()),
                static_cast<domain::SequenceState>(below(6)),
                static_cast<domain::Priority>(below(domain::kPriorityCount)),
                bytes(),
                number(),
                number(),
                number(),
                number(),
                number(),
                coin()};
    }

    domain::EngineReport report() {
        domain::EngineReport r;
        for (auto left = below(4); left > 0; --left) r.sequences.push_back(sequence());
        for (auto left = below(4); left > 0; --left) r.steps.push_back({real(), number(), number(), number()});
        for (auto left = below(4); left > 0; --left)
            r.tenants.push_back(
                {bytes(), number(), number(), random_(), random_(), random_(), real(), random_(), random_()});
        for (auto left = below(4); left > 0; --left) r.public_prefixes.push_back(number());
        for (auto left = below(4); left > 0; --left) r.cost.emplace_back(std::to_string(number()), real());
        for (auto& count : r.waiting) count = number();
        for (auto* value :
             {&r.sequences_left_out, &r.tenants_left_out, &r.tree_sequences, &r.kv_cells, &r.kv_reserved, &r.swapped})
            *value = number();
        for (auto* value : {&r.steps_total, &r.step_us_total, &r.interruptions_total, &r.prompt_tokens_total,
                            &r.reused_tokens_total, &r.preemptions_total, &r.evictions_total, &r.tree_nodes,
                            &r.tree_cells, &r.tree_idle_cells, &r.public_cells})
            *value = random_();
        r.interruption_purse_ms = real();
        r.by_text = {random_(), random_()};
        r.by_model = {random_(), random_()};
        if (coin()) {
            r.draft = domain::DraftReport{
                std::to_string(number()), number(), random_(), number(), random_(), real(), real(), random_()};
        }
        return r;
    }

    std::mt19937_64 random_;
};

}  // namespace hearth::serving::testing

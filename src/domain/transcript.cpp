#include "domain/transcript.h"

#include <variant>

#include "base/utf8.h"

namespace hearth::domain {
namespace {

using Wrong = std::optional<std::string>;

Transcript::Said& said_by(Transcript& transcript, std::uint32_t choice) {
    if (transcript.choices.size() <= choice) transcript.choices.resize(choice + 1);
    return transcript.choices[choice];
}

Wrong on(Transcript& transcript, Started const&) {
    if (transcript.started) return "started twice";
    if (!transcript.choices.empty()) return "started after it spoke";
    transcript.started = true;
    return std::nullopt;
}

Wrong on(Transcript& transcript, PromptProgress const& event) {
    if (!transcript.started || !transcript.choices.empty()) return "progress of a prompt outside its time";
    if (event.processed > event.total || event.cached > event.processed) return "progress beyond the prompt";
    transcript.progressed = true;
    return std::nullopt;
}

Wrong on(Transcript& transcript, Delta const& event) {
    if (!transcript.started) return "text before the start";
    auto& said = said_by(transcript, event.choice);
    if (said.done) return "text after its end";
    if (!is_valid_utf8(event.text)) return "text that is not UTF-8";
    said.text += event.text;
    said.tokens += event.tokens;
    said.logprobs.insert(said.logprobs.end(), event.logprobs.begin(), event.logprobs.end());
    return std::nullopt;
}

Wrong on(Transcript& transcript, Embedded const& event) {
    if (!transcript.started || transcript.embedded || !transcript.choices.empty()) return "vectors outside their time";
    if (event.vectors.empty()) return "no vectors";
    transcript.embedded = true;
    return std::nullopt;
}

Wrong on(Transcript& transcript, ChoiceDone const& event) {
    auto& said = said_by(transcript, event.choice);
    if (said.done) return "a choice that ended twice";
    if (!transcript.started && event.reason != FinishReason::cancelled) return "an end before the start";
    said.done = event;
    return std::nullopt;
}

Wrong on(Transcript& transcript, Done const& event) {
    std::uint32_t tokens = 0;
    for (auto const& said : transcript.choices) {
        if (!said.done) return "an end before all choices ended";
        tokens += said.tokens;
    }
    if (event.usage.completion_tokens != tokens || event.timings.predicted_n != tokens)
        return "a usage that is not what was said";
    transcript.done = event;
    return std::nullopt;
}

Wrong on(Transcript& transcript, Failed const& event) {
    transcript.failed = true;
    transcript.failure = event.error.message;
    return std::nullopt;
}

}  // namespace

std::optional<std::string> Transcript::add(Event const& event) {
    if (ended()) return "an event after the end";
    return std::visit([this](auto const& e) { return on(*this, e); }, event);
}

}  // namespace hearth::domain

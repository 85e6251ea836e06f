#include "engine/testing/transcript.h"

#include <variant>

namespace hearth::engine::testing {

void Transcript::add(domain::Event const& event) {
    auto const wrong = order_.add(event);
    EXPECT_FALSE(wrong.has_value()) << *wrong;
    std::visit([this](auto const& e) { on(e); }, event);
}

void Transcript::on(domain::Delta const& e) {
    auto& said = choices[e.choice];
    said.text += e.text;
    said.tokens += e.tokens;
    said.deltas.push_back(e.text);
    said.logprobs.insert(said.logprobs.end(), e.logprobs.begin(), e.logprobs.end());
}

}  // namespace hearth::engine::testing

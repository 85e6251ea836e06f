// A draft model on the real engine: a model with itself as its draft guesses all
// of its own greedy words, and what is said is the same with and without.
//
// Computing is real, time is not: each backend moves a manual clock by what it is
// made to cost, so that it is no matter of the machine whether guessing pays.
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>
#include <utility>

#include <gtest/gtest.h>

#include "engine/engine_core.h"
#include "engine/prepare.h"
#include "llama/libllama_backend.h"

namespace hearth {
namespace {

using llama::Position;
using llama::SequenceId;

class Priced final : public llama::Backend {
public:
    Priced(std::unique_ptr<llama::Backend> backend, ManualClock& clock, int step_us)
        : backend_(std::move(backend)), clock_(clock), step_us_(step_us), properties_(backend_->properties()) {
        // By its size the engine guesses what a step takes, before it measured one.
        properties_.info.parameters = 1000 * static_cast<std::uint64_t>(step_us);
    }

    [[nodiscard]] llama::Properties const& properties() const override { return properties_; }
    [[nodiscard]] Result<std::vector<llama::Token>> tokenize(std::string_view text,
                                                             llama::TokenizeOptions options) const override {
        return backend_->tokenize(text, options);
    }
    [[nodiscard]] Result<std::vector<llama::Token>> tokenize_infill(std::string_view prefix,
                                                                    std::string_view suffix) const override {
        return backend_->tokenize_infill(prefix, suffix);
    }
    void append_piece(llama::Token token, std::string& out) const override { backend_->append_piece(token, out); }
    void append_spelling(llama::Token token, std::string& out) const override { backend_->append_spelling(token, out); }
    [[nodiscard]] bool is_end_of_generation(llama::Token token) const override {
        return backend_->is_end_of_generation(token);
    }
    [[nodiscard]] Result<llama::RenderedChat> render_chat(domain::ChatPrompt const& prompt) const override {
        return backend_->render_chat(prompt);
    }
    [[nodiscard]] Status decode(std::span<llama::BatchEntry const> batch) override {
        clock_.advance(std::chrono::microseconds(step_us_ + static_cast<int>(batch.size()) * step_us_ / 20));
        return backend_->decode(batch);
    }
    [[nodiscard]] std::span<float const> logits(std::size_t index) const override { return backend_->logits(index); }
    [[nodiscard]] Status copy_sequence(SequenceId from, SequenceId to, Position end,
                                       std::span<std::byte const> checkpoint) override {
        return backend_->copy_sequence(from, to, end, checkpoint);
    }
    [[nodiscard]] Result<std::vector<std::byte>> checkpoint(SequenceId sequence) override {
        return backend_->checkpoint(sequence);
    }
    [[nodiscard]] Status remove(SequenceId sequence, Position begin) override {
        return backend_->remove(sequence, begin);
    }
    [[nodiscard]] Result<std::vector<std::byte>> save(SequenceId sequence) override { return backend_->save(sequence); }
    [[nodiscard]] Status restore(SequenceId sequence, std::span<std::byte const> blob) override {
        return backend_->restore(sequence, blob);
    }
    [[nodiscard]] Result<std::vector<std::byte>> save_part(SequenceId sequence, Position begin, Position end) override {
        return backend_->save_part(sequence, begin, end);
    }
    [[nodiscard]] Status append_part(SequenceId sequence, std::span<std::byte const> blob, Position end) override {
        return backend_->append_part(sequence, blob, end);
    }
    [[nodiscard]] Status resume(SequenceId sequence, std::span<std::byte const> checkpoint) override {
        return backend_->resume(sequence, checkpoint);
    }
    [[nodiscard]] std::string const& state_key() const override { return backend_->state_key(); }
    [[nodiscard]] Result<std::vector<std::vector<float>>> embed(
        std::span<std::vector<llama::Token> const> inputs) override {
        return backend_->embed(inputs);
    }
    [[nodiscard]] llama::MemoryEstimate memory() const override { return backend_->memory(); }

private:
    std::unique_ptr<llama::Backend> backend_;
    ManualClock& clock_;
    int step_us_;
    llama::Properties properties_;
};

std::string stories() {
    char const* const source = std::getenv("HEARTH_SOURCE_DIR");
    auto const path =
        std::filesystem::path(source == nullptr ? "." : source) / "../shared/models/stories260Ktok512.gguf";
    return std::filesystem::exists(path) ? path.string() : std::string();
}

std::string smollm2() {
    char const* const cache = std::getenv("XDG_CACHE_HOME");
    char const* const home = std::getenv("HOME");
    auto const folder = cache != nullptr ? std::filesystem::path(cache)
                                         : std::filesystem::path(home == nullptr ? "." : home) / ".cache";
    auto const path = folder / "hearth/models/SmolLM2-135M-Instruct.Q4_1.gguf";
    return std::filesystem::exists(path) ? path.string() : std::string();
}

std::unique_ptr<llama::Backend> load(std::string const& path) {
    llama::LoadOptions options;
    options.path = path;
    options.kv_cells = 2048;
    options.sequences_max = 4;
    auto backend = llama::load_libllama(options);
    EXPECT_TRUE(backend.has_value()) << backend.error().message;
    return backend ? std::move(backend).value() : nullptr;
}

struct Said {
    std::map<engine::RequestId, std::string> texts;
    domain::EngineStats stats;
};

// Three requests at once, one of them sampled, with a draft model or without.
Said say(std::string const& path, bool drafts, std::uint32_t tokens) {
    ManualClock clock;
    Priced backend(load(path), clock, 40'000);
    Priced draft(load(path), clock, 2000);
    engine::Options options;
    options.credit = 100'000;
    options.speculation = drafts;
    engine::Preparer preparer(backend, 1);
    engine::EngineCore core(backend, options, clock, preparer.end_tokens());
    auto const checked = engine::DraftModel::check(backend, draft);
    EXPECT_TRUE(checked.has_value()) << checked.error().message;
    if (drafts) core.guess_with(draft);
    Said said;
    char const* const prompts[] = {"Once upon a time", "The little dog went to the", "One day, Lily"};
    for (engine::RequestId id = 1; id <= 3; ++id) {
        domain::GenerateRequest request;
        request.prompt = domain::TextPrompt{prompts[id - 1]};
        request.max_tokens = tokens;
        request.sampling.temperature = id == 3 ? 1.0F : 0.0F;
        request.sampling.seed = 5;
        request.sampling.ignore_eos = true;
        auto prepared = preparer.prepare(id, std::move(request), clock.now());
        EXPECT_TRUE(prepared.has_value());
        if (prepared) core.add(std::move(prepared).value());
    }
    while (core.has_work()) {
        core.step();
        for (auto const& event : core.events()) {
            if (auto const* delta = std::get_if<domain::Delta>(&event.event)) said.texts[event.request] += delta->text;
        }
        core.clear_events();
        core.check_integrity();
    }
    said.stats = core.stats();
    return said;
}

void expect_the_same(std::string const& path, std::uint32_t tokens) {
    auto const plain = say(path, false, tokens);
    auto const drafted = say(path, true, tokens);
    EXPECT_EQ(drafted.texts, plain.texts);
    EXPECT_LT(drafted.stats.steps_total, plain.stats.steps_total);
    EXPECT_GT(drafted.stats.model_accepted_total, tokens / 2);
    std::printf("%llu of %llu guesses of the draft model right, %llu steps instead of %llu\n",
                static_cast<unsigned long long>(drafted.stats.model_accepted_total),
                static_cast<unsigned long long>(drafted.stats.model_drafted_total),
                static_cast<unsigned long long>(drafted.stats.steps_total),
                static_cast<unsigned long long>(plain.stats.steps_total));
}

TEST(draft_model, a_small_model_guesses_its_own_words) {
    if (stories().empty()) GTEST_SKIP() << "../shared/models/stories260Ktok512.gguf is not there";
    expect_the_same(stories(), 90);
}

TEST(draft_model, a_chat_model_guesses_its_own_words) {
    if (smollm2().empty()) GTEST_SKIP() << "SmolLM2 is not there: `./dev setup` fetches it";
    expect_the_same(smollm2(), 60);
}

TEST(draft_model, models_of_other_vocabularies_do_not_go_together) {
    if (stories().empty() || smollm2().empty()) GTEST_SKIP() << "a model is not there";
    auto const large = load(smollm2());
    auto const small = load(stories());
    auto const checked = engine::DraftModel::check(*large, *small);
    ASSERT_FALSE(checked.has_value());
    EXPECT_EQ(checked.error().code, Code::unsupported);
    EXPECT_NE(checked.error().message.find("49152 and 512 tokens"), std::string::npos) << checked.error().message;
}

}  // namespace
}  // namespace hearth

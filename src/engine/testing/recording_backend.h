// RecordingBackend: forwards to a scripted backend, remembers every batch, and
// lets a test bend single answers.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "llama/scripted_backend.h"

namespace hearth::engine::testing {

class RecordingBackend final : public llama::Backend {
public:
    explicit RecordingBackend(llama::ScriptedOptions options) : scripted_(llama::make_scripted(std::move(options))) {}

    // Bent answers; empty: the scripted one.
    std::function<Status(std::span<llama::BatchEntry const>)> on_decode;
    std::function<void(std::span<float>)> on_logits;
    std::function<Status()> on_save;
    std::function<Status()> on_restore;
    std::function<Status()> on_copy;
    std::function<Status()> on_resume;
    std::vector<std::string> additional_stops;

    std::vector<std::vector<llama::BatchEntry>> batches;  // of successful decodes

    [[nodiscard]] llama::ScriptedBackend& scripted() { return *scripted_; }

    [[nodiscard]] llama::Properties const& properties() const override { return scripted_->properties(); }
    [[nodiscard]] Result<std::vector<llama::Token>> tokenize(std::string_view text,
                                                             llama::TokenizeOptions options) const override {
        return scripted_->tokenize(text, options);
    }
    void append_piece(llama::Token token, std::string& out) const override { scripted_->append_piece(token, out); }
    void append_spelling(llama::Token token, std::string& out) const override {
        scripted_->append_spelling(token, out);
    }
    [[nodiscard]] bool is_end_of_generation(llama::Token token) const override {
        return scripted_->is_end_of_generation(token);
    }
    [[nodiscard]] Result<llama::RenderedChat> render_chat(domain::ChatPrompt const& prompt) const override {
        auto chat = scripted_->render_chat(prompt);
        if (chat) chat->additional_stops = additional_stops;
        return chat;
    }
    [[nodiscard]] Status decode(std::span<llama::BatchEntry const> batch) override {
        if (on_decode) HEARTH_CHECK(on_decode(batch));
        HEARTH_CHECK(scripted_->decode(batch));
        batches.emplace_back(batch.begin(), batch.end());
        return ok();
    }
    void heed(std::atomic<bool> const& stop) override { scripted_->heed(stop); }
    [[nodiscard]] std::span<float const> logits(std::size_t index) const override {
        auto const logits = scripted_->logits(index);
        if (!on_logits) return logits;
        bent_.assign(logits.begin(), logits.end());
        on_logits(bent_);
        return bent_;
    }
    [[nodiscard]] Status copy_sequence(llama::SequenceId from, llama::SequenceId to, llama::Position end,
                                       std::span<std::byte const> checkpoint) override {
        if (on_copy) HEARTH_CHECK(on_copy());
        return scripted_->copy_sequence(from, to, end, checkpoint);
    }
    [[nodiscard]] Result<std::vector<std::byte>> checkpoint(llama::SequenceId sequence) override {
        return scripted_->checkpoint(sequence);
    }
    [[nodiscard]] Status remove(llama::SequenceId sequence, llama::Position begin) override {
        return scripted_->remove(sequence, begin);
    }
    [[nodiscard]] Result<std::vector<std::byte>> save(llama::SequenceId sequence) override {
        if (on_save) HEARTH_CHECK(on_save());
        return scripted_->save(sequence);
    }
    [[nodiscard]] Status restore(llama::SequenceId sequence, std::span<std::byte const> blob) override {
        if (on_restore) HEARTH_CHECK(on_restore());
        return scripted_->restore(sequence, blob);
    }
    [[nodiscard]] Result<std::vector<std::byte>> save_part(llama::SequenceId sequence, llama::Position begin,
                                                           llama::Position end) override {
        if (on_save) HEARTH_CHECK(on_save());
        return scripted_->save_part(sequence, begin, end);
    }
    [[nodiscard]] Status append_part(llama::SequenceId sequence, std::span<std::byte const> blob,
                                     llama::Position end) override {
        if (on_restore) HEARTH_CHECK(on_restore());
        return scripted_->append_part(sequence, blob, end);
    }
    [[nodiscard]] Status resume(llama::SequenceId sequence, std::span<std::byte const> checkpoint) override {
        if (on_resume) HEARTH_CHECK(on_resume());
        return scripted_->resume(sequence, checkpoint);
    }
    [[nodiscard]] std::string const& state_key() const override { return scripted_->state_key(); }
    [[nodiscard]] Result<std::vector<std::vector<float>>> embed(
        std::span<std::vector<llama::Token> const> inputs) override {
        return scripted_->embed(inputs);
    }
    [[nodiscard]] llama::MemoryEstimate memory() const override { return scripted_->memory(); }

private:
    std::unique_ptr<llama::ScriptedBackend> scripted_;
    mutable std::vector<float> bent_;
};

}  // namespace hearth::engine::testing

// RecordingBackend: forwards to a scripted backend, remembers every batch, and
// lets a test bend single answers.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "llama/scripted_backend.h"

namespace hearth::engine::testing {

class RecordingBackend final : public llama::Backend {
public:
    explicit RecordingBackend(llama::ScriptedOptions options);
    ~RecordingBackend() override;

    // Bent answers; empty: the scripted one.
    std::function<Status(std::span<llama::BatchEntry const>)> on_decode;
    std::function<void(std::span<float>)> on_logits;
    std::function<Status()> on_save;
    std::function<Status()> on_restore;
    std::function<Status()> on_copy;
    std::function<Status()> on_resume;
    std::function<Status(std::span<std::vector<llama::Token> const>, std::vector<std::vector<float>>&)> on_embed;
    std::vector<std::string> additional_stops;
    std::optional<double> share;  // what decoded_share() says

    std::vector<std::vector<llama::BatchEntry>> batches;  // of successful decodes
    std::vector<std::uint32_t> adapters;                  // of each, the set it was computed with

    [[nodiscard]] llama::ScriptedBackend& scripted() { return *scripted_; }

    [[nodiscard]] llama::Properties const& properties() const override;
    [[nodiscard]] Result<std::vector<llama::Token>> tokenize(std::string_view text,
                                                             llama::TokenizeOptions options) const override;
    [[nodiscard]] Result<std::vector<llama::Token>> tokenize_infill(std::string_view prefix,
                                                                    std::string_view suffix) const override;
    [[nodiscard]] Result<std::vector<llama::Token>> tokenize_pair(domain::RankPair const& pair) const override;
    void append_piece(llama::Token token, std::string& out) const override;
    void append_spelling(llama::Token token, std::string& out) const override;
    [[nodiscard]] bool is_end_of_generation(llama::Token token) const override;
    [[nodiscard]] Result<llama::RenderedChat> render_chat(domain::ChatPrompt const& prompt) const override;
    [[nodiscard]] Status decode(std::span<llama::BatchEntry const> batch) override;
    [[nodiscard]] Status use_adapters(std::uint32_t set) override;
    void heed(std::atomic<bool> const& stop) override;
    [[nodiscard]] std::optional<double> decoded_share() const override { return share; }
    [[nodiscard]] std::span<float const> logits(std::size_t index) const override;
    [[nodiscard]] Status copy_sequence(llama::SequenceId from, llama::SequenceId to, llama::Position end,
                                       std::span<std::byte const> checkpoint) override;
    [[nodiscard]] Result<std::vector<std::byte>> checkpoint(llama::SequenceId sequence) override;
    [[nodiscard]] Status remove(llama::SequenceId sequence, llama::Position begin) override;
    [[nodiscard]] Result<std::vector<std::byte>> save(llama::SequenceId sequence) override;
    [[nodiscard]] Status restore(llama::SequenceId sequence, std::span<std::byte const> blob) override;
    [[nodiscard]] Result<std::vector<std::byte>> save_part(llama::SequenceId sequence, llama::Position begin,
                                                           llama::Position end) override;
    [[nodiscard]] Status append_part(llama::SequenceId sequence, std::span<std::byte const> blob,
                                     llama::Position end) override;
    [[nodiscard]] Status resume(llama::SequenceId sequence, std::span<std::byte const> checkpoint) override;
    [[nodiscard]] std::string const& state_key() const override;
    [[nodiscard]] Result<std::vector<std::vector<float>>> embed(
        std::span<std::vector<llama::Token> const> inputs) override;
    [[nodiscard]] llama::MemoryEstimate memory() const override;

private:
    std::unique_ptr<llama::ScriptedBackend> scripted_;
    std::uint32_t in_use_ = 0;
    mutable std::vector<float> bent_;
};

}  // namespace hearth::engine::testing

#include "engine/testing/recording_backend.h"

#include <utility>

namespace hearth::engine::testing {

RecordingBackend::RecordingBackend(llama::ScriptedOptions options)
    : scripted_(llama::make_scripted(std::move(options))) {}

RecordingBackend::~RecordingBackend() = default;

llama::Properties const& RecordingBackend::properties() const { return scripted_->properties(); }

Result<std::vector<llama::Token>> RecordingBackend::tokenize(std::string_view text,
                                                             llama::TokenizeOptions options) const {
    return scripted_->tokenize(text, options);
}

Result<std::vector<llama::Token>> RecordingBackend::tokenize_infill(std::string_view prefix,
                                                                    std::string_view suffix) const {
    return scripted_->tokenize_infill(prefix, suffix);
}

Result<std::vector<llama::Token>> RecordingBackend::tokenize_pair(domain::RankPair const& pair) const {
    return scripted_->tokenize_pair(pair);
}

void RecordingBackend::append_piece(llama::Token token, std::string& out) const { scripted_->append_piece(token, out); }

void RecordingBackend::append_spelling(llama::Token token, std::string& out) const {
    scripted_->append_spelling(token, out);
}

bool RecordingBackend::is_end_of_generation(llama::Token token) const { return scripted_->is_end_of_generation(token); }

Result<llama::RenderedChat> RecordingBackend::render_chat(domain::ChatPrompt const& prompt) const {
    auto chat = scripted_->render_chat(prompt);
    if (chat) chat->additional_stops = additional_stops;
    return chat;
}

Status RecordingBackend::decode(std::span<llama::BatchEntry const> batch) {
    if (on_decode) HEARTH_CHECK(on_decode(batch));
    HEARTH_CHECK(scripted_->decode(batch));
    batches.emplace_back(batch.begin(), batch.end());
    adapters.push_back(in_use_);
    return ok();
}

Status RecordingBackend::use_adapters(std::uint32_t set) {
    HEARTH_CHECK(scripted_->use_adapters(set));
    in_use_ = set;
    return ok();
}

void RecordingBackend::heed(std::atomic<bool> const& stop) { scripted_->heed(stop); }

std::span<float const> RecordingBackend::logits(std::size_t index) const {
    auto const logits = scripted_->logits(index);
    if (!on_logits) return logits;
    bent_.assign(logits.begin(), logits.end());
    on_logits(bent_);
    return bent_;
}

Status RecordingBackend::copy_sequence(llama::SequenceId from, llama::SequenceId to, llama::Position end,
                                       std::span<std::byte const> checkpoint) {
    if (on_copy) HEARTH_CHECK(on_copy());
    return scripted_->copy_sequence(from, to, end, checkpoint);
}

Result<std::vector<std::byte>> RecordingBackend::checkpoint(llama::SequenceId sequence) {
    return scripted_->checkpoint(sequence);
}

Status RecordingBackend::remove(llama::SequenceId sequence, llama::Position begin) {
    return scripted_->remove(sequence, begin);
}

Result<std::vector<std::byte>> RecordingBackend::save(llama::SequenceId sequence) {
    if (on_save) HEARTH_CHECK(on_save());
    return scripted_->save(sequence);
}

Status RecordingBackend::restore(llama::SequenceId sequence, std::span<std::byte const> blob) {
    if (on_restore) HEARTH_CHECK(on_restore());
    return scripted_->restore(sequence, blob);
}

Result<std::vector<std::byte>> RecordingBackend::save_part(llama::SequenceId sequence, llama::Position begin,
                                                           llama::Position end) {
    if (on_save) HEARTH_CHECK(on_save());
    return scripted_->save_part(sequence, begin, end);
}

Status RecordingBackend::append_part(llama::SequenceId sequence, std::span<std::byte const> blob, llama::Position end) {
    if (on_restore) HEARTH_CHECK(on_restore());
    return scripted_->append_part(sequence, blob, end);
}

Status RecordingBackend::resume(llama::SequenceId sequence, std::span<std::byte const> checkpoint) {
    if (on_resume) HEARTH_CHECK(on_resume());
    return scripted_->resume(sequence, checkpoint);
}

std::string const& RecordingBackend::state_key() const { return scripted_->state_key(); }

Result<std::vector<std::vector<float>>> RecordingBackend::embed(std::span<std::vector<llama::Token> const> inputs) {
    HEARTH_TRY(auto vectors, scripted_->embed(inputs));
    if (on_embed) HEARTH_CHECK(on_embed(inputs, vectors));
    return vectors;
}

llama::MemoryEstimate RecordingBackend::memory() const { return scripted_->memory(); }

}  // namespace hearth::engine::testing

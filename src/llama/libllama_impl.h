// LibllamaBackend: Backend over one llama_context. Private to the module.
//
// load_libllama.cpp builds the parts, libllama_backend.cpp runs them; libllama_parts.cpp
// is about parts of sequences, libllama_parking.cpp about giving memory back for a while.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "llama/adapters.h"
#include "llama/backend.h"
#include "llama/cache_positions.h"
#include "llama/cell_ledger.h"
#include "llama/chat_template.h"
#include "llama/embedder.h"
#include "llama/state_blob.h"
#include "llama/upstream.h"
#include "llama/vocabulary.h"
#include "llama/weight_pages.h"

namespace hearth::llama {

// What can be undone in the model's memory.
enum class MemoryKind : std::uint8_t {
    none,       // no cache at all: the model only embeds
    attention,  // every position on its own
    window,     // old positions are dropped: only recent ones can be gone back to
    recurrent,  // one state for the whole past, or both kinds of layers
};

struct BackendParts {
    ModelPtr model;
    WeightPages pages;
    ThreadPoolPtr pool;
    std::optional<std::uint32_t> cpu;  // of the thread that computes
    CachePositions cache_positions;
    std::function<Result<ContextPtr>()> make_context;  // as the present one was; upstream's exceptions pass
    ContextPtr context;  // null for MemoryKind::none, and while it is parked
    std::unique_ptr<Vocabulary> vocabulary;
    Result<ChatTemplate> chat_template = Error(Code::unsupported, "the model has no chat template");
    Properties properties;
    MemoryEstimate memory;
    MemoryKind kind = MemoryKind::attention;
    bool has_cells = true;     // false: one state is all there is
    std::uint32_t window = 0;  // positions, for MemoryKind::window
    std::uint32_t embed_input_max = 0;
    std::string rank_template;  // of a model that ranks: with {query} and {document}; empty: its tokens around them
    std::uint64_t fingerprint = 0;  // of saved states
    std::string state_key;
    std::vector<AdapterHandles> adapters;  // from set 1
};

class LibllamaBackend final : public Backend {
public:
    explicit LibllamaBackend(BackendParts parts);
    ~LibllamaBackend() override;

    [[nodiscard]] Properties const& properties() const override { return parts_.properties; }
    [[nodiscard]] Result<std::vector<Token>> tokenize(std::string_view text, TokenizeOptions options) const override;
    [[nodiscard]] Result<std::vector<Token>> tokenize_infill(std::string_view prefix,
                                                             std::string_view suffix) const override;
    [[nodiscard]] Result<std::vector<Token>> tokenize_pair(domain::RankPair const& pair) const override;
    void append_piece(Token token, std::string& out) const override;
    void append_spelling(Token token, std::string& out) const override;
    [[nodiscard]] bool is_end_of_generation(Token token) const override;
    [[nodiscard]] Result<RenderedChat> render_chat(domain::ChatPrompt const& prompt) const override;

    [[nodiscard]] Status use_adapters(std::uint32_t set) override;
    [[nodiscard]] Status decode(std::span<BatchEntry const> batch) override;
    void heed(std::atomic<bool> const& stop) override;
    [[nodiscard]] std::optional<double> decoded_share() const override;
    [[nodiscard]] std::span<float const> logits(std::size_t index) const override;
    [[nodiscard]] Status copy_sequence(SequenceId from, SequenceId to, Position end,
                                       std::span<std::byte const> checkpoint) override;
    [[nodiscard]] Result<std::vector<std::byte>> checkpoint(SequenceId sequence) override;
    [[nodiscard]] Status remove(SequenceId sequence, Position begin) override;
    [[nodiscard]] Result<std::vector<std::byte>> save(SequenceId sequence) override;
    [[nodiscard]] Status restore(SequenceId sequence, std::span<std::byte const> blob) override;
    [[nodiscard]] Result<std::vector<std::vector<float>>> embed(std::span<std::vector<Token> const> inputs) override;
    [[nodiscard]] Result<std::vector<std::byte>> save_part(SequenceId sequence, Position begin, Position end) override;
    [[nodiscard]] Status append_part(SequenceId sequence, std::span<std::byte const> blob, Position end) override;
    [[nodiscard]] Status resume(SequenceId sequence, std::span<std::byte const> checkpoint) override;
    [[nodiscard]] std::string const& state_key() const override { return parts_.state_key; }
    [[nodiscard]] MemoryEstimate memory() const override { return parts_.memory; }
    // libllama_parking.cpp
    [[nodiscard]] Status park() override;
    [[nodiscard]] Status wake() override;

private:
    [[nodiscard]] Status check_generates() const;
    [[nodiscard]] Result<std::shared_ptr<ChatTemplate const>> template_of(std::string const& jinja) const;
    [[nodiscard]] Status check_sequence(SequenceId sequence, char const* param) const;
    [[nodiscard]] Status check_state(SequenceId sequence) const;
    [[nodiscard]] Status check_batch(std::span<BatchEntry const> batch);
    [[nodiscard]] bool can_go_back(SequenceId sequence, std::uint32_t length) const;
    [[nodiscard]] Result<std::vector<std::byte>> state_of(SequenceId sequence, StateHeader const& header,
                                                          std::uint32_t flags = 0) const;
    [[nodiscard]] Status read_state(SequenceId sequence, std::span<std::byte const> blob, StateHeader const& header,
                                    std::uint32_t flags = 0);
    // A sequence id nobody else uses, for parts of others: behind all, and their guards.
    [[nodiscard]] SequenceId spare() const {
        auto const ids = static_cast<SequenceId>(parts_.properties.sequences_max);
        return parts_.kind == MemoryKind::window ? 2 * ids : ids;
    }
    // libllama_parts.cpp
    [[nodiscard]] bool has_cells() const { return parts_.has_cells; }
    [[nodiscard]] bool learn_no_state();
    [[nodiscard]] std::uint32_t image_end(std::uint32_t begin, std::uint32_t end) const;
    [[nodiscard]] Status append_image(std::vector<std::byte>& blob, SequenceId sequence, std::uint32_t begin,
                                      std::uint32_t end);
    [[nodiscard]] Status take_images(SequenceId sequence, std::span<std::byte const> images, StateHeader const& header,
                                     std::uint32_t end);
    [[nodiscard]] Status read_image(std::span<std::byte const> image, std::uint32_t end);
    void fill_batch(std::span<BatchEntry const> batch);
    void undo_batch();
    void forget(SequenceId sequence);
    void guard(SequenceId sequence);
    [[nodiscard]] SequenceId guard_of(SequenceId sequence) const;
    [[nodiscard]] Status restore_checkpoint(SequenceId sequence, std::span<std::byte const> blob);
    [[nodiscard]] llama_memory_t cache() const { return llama_get_memory(parts_.context.get()); }

    // What upstream asks after every operation.
    [[nodiscard]] static bool is_stopped(void* self);

    std::atomic<bool> const* stop_ = nullptr;  // null: it is not to be stopped
    std::atomic<std::uint32_t> operations_{0};       // of the decode that runs, or the last one
    std::atomic<std::uint32_t> operations_whole_{0};  // of the last that was computed to its end; 0: none was

    // Destroyed in reverse: contexts before the pool, all before the model.
    BackendParts parts_;
    mutable std::mutex brought_mutex_;
    mutable std::string brought_source_;                     // under brought_mutex_
    mutable std::shared_ptr<ChatTemplate const> brought_;    // under brought_mutex_: the last that a request brought
    Embedder embedder_;
    AdapterHandles const* adapters_ = nullptr;  // what decode() and embed() take next; null: none, and never any
    CellLedger ledger_;
    std::vector<std::uint32_t> guarded_;  // per sequence: positions from 0 that its guard has
    std::vector<bool> stateless_;  // per sequence: cells came back, the state not yet
    std::vector<std::byte> no_state_;  // how upstream writes the state of a sequence that has none
    std::vector<std::uint32_t> added_;  // per sequence: entries of the batch being decoded
    std::vector<SequenceId> participants_;  // of the batch being decoded, each once
    std::vector<bool> wants_logits_;  // of the last batch
    // llama_batch points into these; sized once.
    std::vector<llama_token> tokens_;
    std::vector<llama_pos> positions_;
    std::vector<std::int32_t> sequence_counts_;
    std::vector<llama_seq_id> sequences_;
    std::vector<llama_seq_id*> sequence_pointers_;
    std::vector<std::int8_t> output_;
};

}  // namespace hearth::llama

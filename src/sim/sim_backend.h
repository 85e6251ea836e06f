// SimBackend: a Backend that takes time instead of computing.
//
// It keeps real books of cells, positions and sequences, so that every error
// rule of Backend holds, and moves a clock by what a step would cost. Its answers
// follow from the tokens of a sequence alone, through a hash that each cell
// carries on from the one before: a sequence that was given the wrong cells says
// something else, and answer() says what is right.
//
// The last token of the vocabulary ends a generation. Text has no tokenizer
// here: prompts are tokens.
//
// Threads: as Backend.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "base/clock.h"
#include "llama/backend.h"
#include "traffic/random.h"

namespace hearth::sim {

using llama::Position;
using llama::SequenceId;
using llama::Token;

// What a step takes: step + rows * row + prompt tokens * prompt_token, and what
// attention adds per position that is looked at, times noise. A row is an entry
// that wants logits. The defaults are round numbers for SmolLM2-135M Q4_1 on
// two quiet cores, estimated from single figures and not fitted to a series:
// costs.h reads those a machine taught its scheduler.
struct Costs {
    double step_ms = 3.0;
    double row_ms = 1.3;
    double prompt_token_ms = 0.55;
    double attended_us = 0.15;        // per position of each entry
    double save_us_per_cell = 14;
    double restore_us_per_cell = 1.3;
    double copy_us_per_cell = 0.06;
    double noise = 0;                 // a step takes up to this fraction more or less
};

// One call in so many fails; 0: none.
struct Faults {
    std::uint32_t decode_one_in = 0;
    std::uint32_t save_one_in = 0;
    std::uint32_t restore_one_in = 0;
    std::uint32_t copy_one_in = 0;
};

struct SimModel {
    Costs costs;
    Faults faults;
    std::uint64_t seed = 1;
    std::uint32_t context_request = 8192;
    std::uint32_t kv_cells = 32768;
    std::uint32_t sequences_max = 16;   // that run
    std::uint32_t sequences_kept = 64;  // ids beyond those
    std::uint32_t batch_max = 2048;
    std::uint32_t vocabulary = 1024;
    std::uint64_t parameters = 135'000'000;  // by which the engine guesses what a step takes before it measured one
    std::uint32_t end_one_in = 0;  // an answer ends by itself after about so many tokens; 0: never
    std::uint32_t errs_one_in =
        0; // as a draft of another model: it says something else than that about so often; 0: never
    domain::Determinism determinism = domain::Determinism::always;
    bool recurrent = false;        // sequences are never cut, and copied at their tail or by a checkpoint; each
                                   // step costs step_ms per length of what its sequences go on by
};

// What was computed; sums since the start.
struct Work {
    std::uint64_t decodes = 0;
    std::uint64_t rows = 0;
    std::uint64_t prompt_tokens = 0;  // entries that are no rows
    double busy_ms = 0;
};

// Bytes that what is saved of a position takes here. A store that is to hold as
// many positions as one of real states gets its bytes scaled by it.
inline constexpr std::uint64_t kSavedBytesPerCell = sizeof(std::uint64_t);

class SimBackend final : public llama::Backend {
public:
    // REQUIRES: `clock` outlives this; the model has room
    SimBackend(SimModel const& model, ManualClock& clock);

    [[nodiscard]] Work const& work() const { return work_; }
    [[nodiscard]] std::uint32_t cells_used() const { return static_cast<std::uint32_t>(owners_.size() - free_.size()); }
    [[nodiscard]] std::uint32_t sequences_used() const;

    // Entries and rows of the last decode() that was called, whatever became of it.
    struct Batch {
        std::size_t entries = 0;
        std::size_t rows = 0;
    };
    [[nodiscard]] Batch last_batch() const { return last_batch_; }

    // What a greedy request says to `prompt`: up to `tokens_max` tokens, the end token among them.
    [[nodiscard]] std::vector<Token> answer(std::span<Token const> prompt, std::uint32_t tokens_max) const;

    // Called with the end of a step that is about to take time; what it does until then, moving the
    // clock, happens while the step is computed.
    std::function<void(Instant end)> meanwhile;

    // --- Backend ---
    [[nodiscard]] llama::Properties const& properties() const override { return properties_; }
    [[nodiscard]] Result<std::vector<Token>> tokenize(std::string_view text,
                                                      llama::TokenizeOptions options) const override;
    [[nodiscard]] Result<std::vector<Token>> tokenize_infill(std::string_view prefix,
                                                             std::string_view suffix) const override;
    void append_piece(Token token, std::string& out) const override;
    void append_spelling(Token token, std::string& out) const override { append_piece(token, out); }
    [[nodiscard]] bool is_end_of_generation(Token token) const override { return token == end_token(); }
    [[nodiscard]] Result<llama::RenderedChat> render_chat(domain::ChatPrompt const& prompt) const override;
    void heed(std::atomic<bool> const& stop) override { stop_ = &stop; }
    [[nodiscard]] Status decode(std::span<llama::BatchEntry const> batch) override;
    [[nodiscard]] std::span<float const> logits(std::size_t index) const override;
    [[nodiscard]] Status copy_sequence(SequenceId from, SequenceId to, Position end,
                                       std::span<std::byte const> checkpoint) override;
    [[nodiscard]] Result<std::vector<std::byte>> checkpoint(SequenceId sequence) override;
    [[nodiscard]] Status remove(SequenceId sequence, Position begin) override;
    [[nodiscard]] Result<std::vector<std::byte>> save(SequenceId sequence) override;
    [[nodiscard]] Status restore(SequenceId sequence, std::span<std::byte const> blob) override;
    [[nodiscard]] Result<std::vector<std::byte>> save_part(SequenceId sequence, Position begin, Position end) override;
    [[nodiscard]] Status append_part(SequenceId sequence, std::span<std::byte const> blob, Position end) override;
    [[nodiscard]] Status resume(SequenceId sequence, std::span<std::byte const> checkpoint) override;
    [[nodiscard]] std::string const& state_key() const override { return state_key_; }
    [[nodiscard]] Result<std::vector<std::vector<float>>> embed(std::span<std::vector<Token> const> inputs) override;
    [[nodiscard]] llama::MemoryEstimate memory() const override;

private:
    using Cells = std::vector<std::uint32_t>;

    struct Row {
        std::vector<float> logits;
        Token winner = 0;
    };

    [[nodiscard]] Token end_token() const { return static_cast<Token>(model_.vocabulary) - 1; }
    [[nodiscard]] Token winner(std::uint64_t state) const;
    [[nodiscard]] std::uint64_t state_of(Cells const& cells) const;
    [[nodiscard]] Status check_sequence(SequenceId sequence) const;
    [[nodiscard]] Status check_empty(SequenceId sequence) const;
    [[nodiscard]] Status check_batch(std::span<llama::BatchEntry const> batch);
    [[nodiscard]] Status maybe_fail(std::uint32_t one_in);
    [[nodiscard]] Cells& cells(SequenceId sequence) { return sequences_[static_cast<std::size_t>(sequence)]; }
    [[nodiscard]] std::uint32_t take_cell();
    void write_row(std::size_t row, Token winner);
    [[nodiscard]] std::size_t passes(std::span<llama::BatchEntry const> batch);
    [[nodiscard]] double step_ms(std::span<llama::BatchEntry const> batch);
    [[nodiscard]] bool compute_for(double ms);
    void spend(double ms);

    SimModel model_;
    ManualClock& clock_;
    std::atomic<bool> const* stop_ = nullptr;
    llama::Properties properties_;
    std::string state_key_;  // empty: what is saved here means nothing elsewhere
    traffic::Random random_;
    std::vector<Cells> sequences_;
    std::vector<std::uint32_t> owners_;   // per cell
    std::vector<std::uint64_t> states_;   // per cell: what all tokens up to its own hash to
    std::vector<std::uint32_t> free_;
    std::vector<bool> stateless_;         // per sequence: cells came back, the state not yet
    std::vector<std::uint32_t> lengths_;  // scratch of check_batch()
    std::vector<float> spread_;           // logits of those that do not win
    std::vector<Row> rows_;
    std::vector<std::uint32_t> row_of_entry_;
    Batch last_batch_;
    Work work_;
};

}  // namespace hearth::sim

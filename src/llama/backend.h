// Backend: a loaded model and its KV cache, as the engine drives it.
//
// The seam between Hearth's scheduler and whatever computes: libllama
// (libllama_backend.h), or a scripted stand-in without weights
// (scripted_backend.h) that behaves the same to the last rule below.
//
// A sequence is an id in [0, properties().sequences_max) with a contiguous run
// of positions in the KV cache. A cell is the KV of one position; cells are
// shared by the sequences copied from one another and live while any owns them.
//
// Threads:   tokenize(), append_piece(), is_end_of_generation(), render_chat()
//            and properties() from any thread at any time; everything else from
//            one thread at a time.
// Ownership: the spans returned by logits() live until the next decode().
// Limits:    a batch holds at most properties().batch_max entries; the
//            implementation checks batch size, ids, positions and tokens itself
//            and returns an error before upstream code could abort.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "domain/generate.h"
#include "domain/model.h"

namespace hearth::llama {

using domain::Token;
using SequenceId = std::int32_t;
using Position = std::int32_t;

struct BatchEntry {
    Token token;
    Position position;
    SequenceId sequence;
    bool wants_logits;
};

struct Properties {
    domain::ModelInfo info;
    std::uint32_t batch_max = 0;      // entries one decode() takes
    std::uint32_t sequences_max =
        0;  // sequence ids, from 0: those that run (info.sequences_max) and those kept for later
    std::uint32_t kv_cells = 0;       // shared by all sequences
    std::uint32_t vocabulary = 0;     // length of a logits row
    bool can_share_cells = true;      // copy_sequence() of any range shares cells (attention-only models)
    bool can_truncate = true;         // remove() of a tail works (not so for recurrent state)
    bool needs_checkpoints = false;   // copy_sequence() of less than all takes a checkpoint() of where it ends
    bool restores_whole = true;       // what restore() brought back can be copied and cut like what was computed
    bool can_interrupt = false;  // decode() heeds what heed() was given
    bool mixing_saves_nothing = false;  // prompts and single tokens in one decode() take as long as in two
    bool saves_parts = false;         // save_part() and append_part() work
    // Sets of adapters it can compute with, from set 1: what states computed with each depend on besides
    // state_key(); empty: not known, and they must not outlive the process.
    std::vector<std::string> adapters{};
};

struct TokenizeOptions {
    bool add_special = true;     // BOS/EOS as the model's metadata asks
    bool parse_special = false;  // read "<|im_start|>" as its token: for rendered templates only, never for user text
};

struct MemoryEstimate {  // bytes
    std::uint64_t weights = 0;
    std::uint64_t kv = 0;
    std::uint64_t scratch = 0;
};

// A prompt rendered by the model's chat template.
struct RenderedChat {
    std::string text;  // tokenise with parse_special, add_special = false
    std::vector<Token> tokens;  // already tokenised: message content as plain text, template text with specials
    std::vector<std::string> additional_stops;  // strings at which the template says a turn ends
};

class Backend {
public:
    virtual ~Backend() = default;

    [[nodiscard]] virtual Properties const& properties() const = 0;

    // --- vocabulary; any thread ---

    // `text` as token ids. Fails with `too_large` above domain::kPromptBytesMax.
    [[nodiscard]] virtual Result<std::vector<Token>> tokenize(std::string_view text, TokenizeOptions options) const = 0;

    // The prompt that asks for what belongs between the two, in the order prefix, suffix,
    // middle. No special token is read in either. Fails as tokenize(), and with `unsupported`
    // where not info.infills.
    [[nodiscard]] virtual Result<std::vector<Token>> tokenize_infill(std::string_view prefix,
                                                                     std::string_view suffix) const = 0;

    // A query and a document as one input to embed(), as a model that ranks was trained to read them.
    // Text in them is plain. Fails with `unsupported` where not info.ranks, `too_large` as tokenize().
    [[nodiscard]] virtual Result<std::vector<Token>> tokenize_pair(domain::RankPair const& pair) const {
        static_cast<void>(pair);
        return Error(Code::unsupported, "the model does not rank documents", "model");
    }

    // Appends the token's bytes to `out`: nothing for control tokens.
    // An id outside the vocabulary appends nothing.
    virtual void append_piece(Token token, std::string& out) const = 0;

    // Appends the token as the vocabulary spells it, control tokens too: for comparing
    // vocabularies. An id outside the vocabulary appends nothing.
    virtual void append_spelling(Token token, std::string& out) const = 0;

    // True for every token that ends a generation (EOS, EOT, <|im_end|>, ...).
    [[nodiscard]] virtual bool is_end_of_generation(Token token) const = 0;

    // Renders messages with the template in the model file. Special-token text
    // inside a message stays plain text. Fails with `unsupported` when the model
    // has no chat template, `invalid_argument` when the template rejects the
    // messages (its own words in the message).
    [[nodiscard]] virtual Result<RenderedChat> render_chat(domain::ChatPrompt const& prompt) const = 0;

    // --- computing; one thread ---

    // From now on decode() and embed() compute with this set of adapters on top; 0: with none. A
    // sequence is to go on with the set it began with, and a copy or what came back with that of its
    // source: that is not checked. A change makes the next of them milliseconds slower.
    // Fails with `invalid_argument` for a set that properties().adapters does not have.
    [[nodiscard]] virtual Status use_adapters(std::uint32_t set) {
        if (set == 0) return ok();
        return Error(Code::invalid_argument, "the model has no adapters", "adapters");
    }

    // Runs the model once over `batch`: any mix of sequences, each sequence's
    // positions consecutive and following its last one. On error no entry of
    // the batch is in the cache (a partly computed batch is removed again).
    // Fails with `overloaded` when no cells are left, `invalid_argument` for a
    // batch that breaks the rules, `cancelled` when told to stop, `internal` when
    // computing fails.
    [[nodiscard]] virtual Status decode(std::span<BatchEntry const> batch) = 0;

    // From now on decode() looks at `stop` while it computes, where can_interrupt, and
    // when it is set, ends soon with `cancelled`, as after any error. Whoever set it
    // clears it. REQUIRES: `stop` outlives this
    virtual void heed(std::atomic<bool> const& stop) { (void)stop; }

    // How much of what decode() computes now is done, from 0 to 1, by the number of operations that the last whole one
    // took; absent where that is not known. From any thread.
    [[nodiscard]] virtual std::optional<double> decoded_share() const { return std::nullopt; }

    // Logits of the entry at `index` of the last batch; length vocabulary.
    // REQUIRES: that entry had wants_logits
    [[nodiscard]] virtual std::span<float const> logits(std::size_t index) const = 0;

    // Sequence `to` gets positions [0, end) of `from`, sharing its cells. Where
    // needs_checkpoints and `end` is not where `from` ends, `checkpoint` is what
    // checkpoint() gave for any sequence with these `end` tokens when it ended there.
    // Fails with `corrupt` for one that does not fit; `to` is empty then.
    // REQUIRES: `to` is empty
    [[nodiscard]] virtual Status copy_sequence(SequenceId from, SequenceId to, Position end,
                                               std::span<std::byte const> checkpoint = {}) = 0;

    // What of the sequence's present state is not in cells of its own, where
    // needs_checkpoints. Opaque; for this backend alone.
    [[nodiscard]] virtual Result<std::vector<std::byte>> checkpoint(SequenceId sequence) = 0;

    // Removes positions >= `begin`; 0 empties the sequence, which always works.
    [[nodiscard]] virtual Status remove(SequenceId sequence, Position begin) = 0;

    // The sequence's whole state as an opaque blob for restore() in a backend of
    // the same build, model and options.
    [[nodiscard]] virtual Result<std::vector<std::byte>> save(SequenceId sequence) = 0;

    // REQUIRES: `sequence` is empty. Fails with `overloaded` when cells lack,
    // `corrupt` for a blob that does not fit; the sequence is empty then.
    [[nodiscard]] virtual Status restore(SequenceId sequence, std::span<std::byte const> blob) = 0;

    // The cells of positions [begin, end) alone, for append_part() in this process or, where
    // state_key() is the same, in another.
    // REQUIRES: properties().saves_parts. Fails with `invalid_argument` for a range that is not there.
    [[nodiscard]] virtual Result<std::vector<std::byte>> save_part(SequenceId sequence, Position begin,
                                                                   Position end) = 0;

    // The sequence goes on to `end` with positions out of the blob, which begins where
    // the sequence ends or before, and ends at `end` or behind. What comes before must be
    // what came before when it was saved: that is not checked. Needs cells for all of the
    // blob for a moment. Fails with `overloaded` when they lack, `corrupt` for a blob that
    // does not fit; the sequence is as it was then. Where needs_checkpoints it has no state
    // afterwards, so that resume() or emptying it is all that is left to do, and it may be
    // empty after `corrupt`.
    // REQUIRES: properties().saves_parts
    [[nodiscard]] virtual Status append_part(SequenceId sequence, std::span<std::byte const> blob, Position end) = 0;

    // After append_part(), where needs_checkpoints: `checkpoint` was taken where the sequence ends now.
    // Fails with `corrupt` for one that does not fit; the sequence is empty then.
    [[nodiscard]] virtual Status resume(SequenceId sequence, std::span<std::byte const> checkpoint) = 0;

    // Names everything that the bits of a saved state depend on: the model's content,
    // the build, types, parameters, kernels. Empty: states must not outlive the process.
    [[nodiscard]] virtual std::string const& state_key() const = 0;

    // One vector per input, mean-pooled unless the model says otherwise, not
    // normalised; of a model that ranks one number. Runs apart from the generation cache.
    [[nodiscard]] virtual Result<std::vector<std::vector<float>>> embed(std::span<std::vector<Token> const> inputs) = 0;

    [[nodiscard]] virtual MemoryEstimate memory() const = 0;

    // --- residency; one thread, while nothing computes ---

    // Gives back all but what is slow to make, the vocabulary before all: cache, scratch, packed weights, pages
    // of the file. All sequences are gone. Until wake() only what any thread may call can be. Fails with
    // `unsupported` where what is given back could not be had again; nothing has changed then.
    [[nodiscard]] virtual Status park() { return Error(Code::unsupported, "this backend cannot be parked"); }

    // As it was when it was loaded. Fails with `overloaded` when memory lacks, `corrupt` when the file is not what
    // it was; all that can be done then is to give the backend up.
    // REQUIRES: it is parked
    [[nodiscard]] virtual Status wake() { return Error(Code::unsupported, "this backend cannot be parked"); }
};

}  // namespace hearth::llama

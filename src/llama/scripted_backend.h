// A deterministic Backend without weights, for conformance tests and as the
// null model of overhead measurements.
//
// Vocabulary: id 0..255 are single bytes; then one token per distinct script
// piece, in the order of first appearance; then the control tokens
// <|im_start|>, <|im_end|> (end of generation). Text tokenises to bytes, never
// to pieces; there is no BOS. Around the texts to fill in between stands
// <|im_start|>. The chat template is ChatML and knows the roles
// system, user, assistant and tool.
//
// It "generates" by script, and what it says follows from the tokens of the
// sequence alone, as with a model: a token of text (bytes, control tokens) behind
// text starts the script, and pieces[0] is the clear winner; each other token,
// whichever it is, makes the next piece win, and after the last piece the end
// token does. The winner's logit is 20, all others lie in [0, 4), fixed per token
// id: greedy and temperature 1 follow the script (a stray token once in some
// 100,000), temperature 2 leaves it about once in 30 tokens, by seed.
//
// A cell that one set of adapters computed is no use to another: decode() fails for a
// sequence that has both.
//
// It keeps real bookkeeping of cells and positions, so that every error rule of
// Backend holds, and it can be told to fail, stall or die at the n-th decode.
//
// Threads: as Backend.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "llama/backend.h"

namespace hearth::llama {

struct ScriptedOptions {
    std::vector<std::string> pieces{};   // what each generation says, token by token; may split code points
    bool repeat = false;                 // start over instead of ending
    std::uint32_t context_request = 4096;
    std::uint32_t context_train = 0;  // if above that: what a request may have that wants more
    std::uint32_t kv_cells = 16384;
    std::uint32_t sequences_max = 16;  // that run
    std::uint32_t sequences_kept = 16;  // ids beyond those
    std::uint32_t batch_max = 512;
    bool chat_template = true;
    bool infills = true;
    bool generates = true;  // else it is for embeddings
    bool ranks = false;     // else by how much of a document's bytes is in the query
    bool needs_checkpoints = false;  // as a model with recurrent state: no cuts, copies of less than all by checkpoint
    bool mixing_saves_nothing = false;
    bool can_interrupt = false;
    std::uint32_t adapters = 0;  // sets of them: with set N it begins the script N pieces later, and goes round
    bool can_park = true;
    bool can_wake = true;  // else wake() fails
    domain::Determinism determinism = domain::Determinism::always;
    // Called once per valid decode(), from 0; a returned error is decode()'s; may block or kill,
    // or set what heed() was given.
    std::function<Status(std::uint64_t decode_index)> before_decode{};
};

// What a test may look at besides the Backend; on the computing thread.
class ScriptedBackend : public Backend {
public:
    [[nodiscard]] virtual std::uint32_t cells_used() const = 0;
    [[nodiscard]] virtual std::uint32_t sequences_used() const = 0;  // ids that hold at least one cell

    // The tokens at positions 0.. of the sequence.
    [[nodiscard]] virtual std::vector<Token> sequence_tokens(SequenceId sequence) const = 0;
};

[[nodiscard]] std::unique_ptr<ScriptedBackend> make_scripted(ScriptedOptions options);

}  // namespace hearth::llama

// A deterministic Backend without weights, for conformance tests and as the
// null model of overhead measurements.
//
// Vocabulary: id 0..255 are single bytes; then one token per distinct script
// piece; then the control tokens <|im_start|>, <|im_end|> (end of generation).
// It "generates" by script: the k-th token sampled after a prompt has logits
// that make pieces[k] the clear winner (greedy picks it; the rest of the
// distribution is a fixed, seedable spread), and after the last piece the end
// token wins. Text tokenises to bytes. The chat template is ChatML.
// It keeps real bookkeeping of cells and positions, so that every error rule of
// Backend holds, and it can be told to fail, stall or die at the n-th decode.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "llama/backend.h"

namespace hearth::llama {

struct ScriptedOptions {
    std::vector<std::string> pieces;     // what each generation says, token by token; may split code points
    bool repeat = false;                 // start over instead of ending
    std::uint32_t context_request = 4096;
    std::uint32_t kv_cells = 16384;
    std::uint32_t sequences_max = 16;
    std::uint32_t batch_max = 512;
    bool chat_template = true;
    std::function<Status(std::uint64_t decode_index)> before_decode;  // a returned error is decode()'s; may block or kill
};

[[nodiscard]] std::unique_ptr<Backend> make_scripted(ScriptedOptions options);

}  // namespace hearth::llama

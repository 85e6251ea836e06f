// Which of the engine's pre-tokenisers a model wants.
//
// A tokenizer.json describes its pre-tokeniser by rules; the engine has a fixed
// set of them, known by name. Upstream's converter tells which by encoding one
// probe text and looking the SHA-256 of the ids up in a table. So do we: the
// rules of the file are carried out on the probe text, its merges applied, and
// the hash is looked up in the same table. A tokenizer that is not in it is
// refused: guessing would give a model that answers a little worse, for ever.
//
// Threads: none; pure functions.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "convert/tokenizer_json.h"

namespace hearth::convert {

// The ids of the probe text, with what the post-processor adds. `unsupported`
// for rules that are not carried out here.
[[nodiscard]] Result<std::vector<std::uint32_t>> encode_probe(TokenizerJson const& tokenizer);

// "smollm", "llama-bpe" ... `unsupported`, with the hash, if it is not known.
[[nodiscard]] Result<std::string> detect_pre_tokenizer(TokenizerJson const& tokenizer, std::string const& path);

// Empty if not known. `hash`: 64 lowercase hexadecimal digits.
[[nodiscard]] std::string_view pre_tokenizer_named_by(std::string_view hash);

}  // namespace hearth::convert

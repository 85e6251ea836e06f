// A tokenizer.json, as a download would bring it: read, and its rules carried
// out on the probe text; its merges as scores.
#include <cstddef>
#include <cstdint>
#include <string>

#include "base/assert.h"
#include "convert/pre_tokenizer.h"
#include "convert/scored_vocabulary.h"
#include "convert/tokenizer_json.h"

extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size) {
    auto const tokenizer =
        hearth::convert::parse_tokenizer_json(std::string(reinterpret_cast<char const*>(data), size), "tokenizer.json");
    if (!tokenizer) {
        HEARTH_ASSERT(!tokenizer.error().message.empty(), "a refusal says why");
        return 0;
    }
    HEARTH_ASSERT(tokenizer->tokens.size() <= hearth::convert::kVocabularyMax, "ids are bounded");
    for (auto const& added : tokenizer->added)
        HEARTH_ASSERT(tokenizer->tokens[added.id] == added.content, "an added token has its id");
    std::string const path = "tokenizer.json";
    if (auto const scores = hearth::convert::scores_of_merges(*tokenizer, path))
        HEARTH_ASSERT(scores->size() == tokenizer->tokens.size(), "each token has a score");
    if (auto const before = hearth::convert::space_before(*tokenizer, path); !before)
        HEARTH_ASSERT(before.error().message.starts_with(path), "a refusal says which file and why");
    auto const ids = hearth::convert::encode_probe(*tokenizer);
    if (!ids) return 0;
    for (auto const id : *ids) HEARTH_ASSERT(id < tokenizer->tokens.size(), "ids are of the vocabulary");
    return 0;
}

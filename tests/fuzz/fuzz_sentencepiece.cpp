// A tokenizer.model, as a download would bring it.
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/assert.h"
#include "convert/sentencepiece.h"
#include "convert/tokenizer_json.h"

extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size) {
    auto const model = hearth::convert::parse_sentencepiece(std::string_view(reinterpret_cast<char const*>(data), size),
                                                            "tokenizer.model");
    if (!model) {
        HEARTH_ASSERT(model.error().message.starts_with("tokenizer.model: "), "a refusal says which file and why");
        return 0;
    }
    HEARTH_ASSERT(model->pieces.size() > 256 && model->pieces.size() <= hearth::convert::kVocabularyMax,
                  "all bytes are there, and not too many pieces");
    for (auto const& piece : model->pieces)
        HEARTH_ASSERT(!piece.text.empty() && std::isfinite(piece.score), "every piece has a text and a score");
    return 0;
}

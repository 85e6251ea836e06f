// SpecialTokens: which token begins a text, which ends it, whether the tokenizer
// adds them, and the chat template.
//
// Three files say so and do not always agree; who wins, and what a
// post-processor's template means, is as in upstream's SpecialVocab
// (gguf-py/gguf/vocab.py), in the same order.
//
// Threads: none. Ownership: owns its texts.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/result.h"
#include "convert/hf_config.h"
#include "convert/metadata.h"
#include "convert/tokenizer_json.h"

namespace hearth::convert {

class SpecialTokens {
public:
    // `tokenizer` is null where there is no tokenizer.json, `tokenizer_config` may be absent too. Ids from
    // `vocabulary` on are passed over, if one is given.
    [[nodiscard]] static Result<SpecialTokens> read(HfConfig const& config, TokenizerJson const* tokenizer,
                                                    std::optional<json::View> tokenizer_config,
                                                    std::optional<std::uint32_t> vocabulary);

    void add_to(Metadata& metadata) const;

private:
    using Names = std::vector<std::pair<std::string, std::string>>;  // "bos" -> the token's text

    void set_add(std::string const& kind, bool value);
    [[nodiscard]] std::optional<bool> add_of(std::string const& kind) const;
    void set_id(std::string const& kind, std::int64_t id, std::optional<std::uint32_t> vocabulary);
    void read_processor(json::View processor);
    void read_template(json::View processor);
    void read_pair(json::View processor, std::string const& first, std::string const& last);
    void read_normalizer(json::View normalizer, std::size_t depth);
    [[nodiscard]] std::string name_of(std::string const& kind) const;
    void set_name(std::string const& kind, std::string text);

    bool has_config_ = false;
    Names names_;
    std::vector<std::string> kinds_{"bos", "eos", "unk", "sep", "pad", "cls", "mask"};
    std::vector<std::pair<std::string, bool>> add_;
    std::vector<std::pair<std::string, std::uint32_t>> ids_;
    std::string chat_template_;
    std::optional<bool> lowercase_;
    std::optional<bool> strip_accents_;
};

}  // namespace hearth::convert

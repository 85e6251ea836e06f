// Tiny models with random weights, written as GGUF files by the tests that need
// one of each kind: what they say is noise, how they behave is real.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

namespace hearth::llama::testing {

enum class TinyKind : std::uint8_t {
    attention,  // llama
    window,     // gemma3: sliding window of kTinyWindow in every second layer
    hybrid,     // lfm2: attention and short convolutions
    recurrent,  // mamba
    embedding,  // bert: no generation
};

inline constexpr std::uint32_t kTinyWindow = 16;
inline constexpr std::uint32_t kTinyContext = 512;
inline constexpr std::uint32_t kTinyEmbedding = 64;

// Of the matrices whose rows are blocks of it; the rest is F32.
enum class TinyWeights : std::uint8_t { f32, bf16, q4_0, iq4_nl };

struct TinyOptions {
    TinyKind kind = TinyKind::attention;
    std::string chat_template = {};  // empty: none
    std::string architecture = {};   // overrides the kind's, to make a file that cannot be loaded
    std::string pre_tokenizer =
        {};  // the vocabulary is one of bytes and merges, cut into words by that; empty: of pieces
    bool bos_without_token = false;  // claim that BOS is added but define none
    bool infills = false;            // its last three tokens are those for filling in: prefix, suffix, middle
    bool ranks = false;  // of an embedding model: it has a head that gives one number for a pair of texts
    std::string rank_form = {};  // what such a model makes of a pair: {query}, {document}; empty: the usual
    bool bytes_in_word_piece = false;  // makes upstream abort while it loads an embedding model
    std::uint32_t context = kTinyContext;
    std::uint32_t seed = 1;
    TinyWeights weights = TinyWeights::f32;
};

// A file that is deleted with this object.
class TinyModel {
public:
    explicit TinyModel(TinyOptions const& options);
    ~TinyModel();
    TinyModel(TinyModel const&) = delete;
    TinyModel& operator=(TinyModel const&) = delete;
    [[nodiscard]] std::string path() const { return path_.string(); }

private:
    std::filesystem::path path_;
};

}  // namespace hearth::llama::testing

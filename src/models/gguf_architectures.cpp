#include "models/gguf_architectures.h"

#include <algorithm>
#include <array>

namespace hearth::models {
namespace {

// Sorted.
constexpr std::array<std::string_view, 101> kEqualHeadLengths = {
    "afmoe",       "apertus",        "arcee",          "arctic",       "baichuan",     "bailingmoe2", "bert",
    "bitnet",      "bloom",          "chameleon",      "chatglm",      "codeshell",    "cogvlm",      "cohere2",
    "cohere2moe",  "command-r",      "dbrx",           "deci",         "deepseek",     "dflash",      "dots1",
    "dream",       "eagle3",         "ernie4_5",       "ernie4_5-moe", "eurobert",     "exaone",      "exaone-moe",
    "exaone4",     "falcon",         "glm4",           "glm4moe",      "gpt2",         "gptneox",     "granite",
    "granite_swa", "granitehybrid",  "graniteswitch",  "grok",         "grovemoe",     "hunyuan-moe", "hunyuan_vl",
    "hy_v3",       "internlm2",      "jais",           "jais2",        "laguna",       "llada",       "llada-moe",
    "llama",       "llama4",         "maincoder",      "maple",        "mellum",       "minimax-01",  "minimax-m2",
    "minimax-m3",  "mistral3",       "modern-bert",    "mpt",          "muse-glimmer", "nanbeige",    "nemotron",
    "nemotron_h",  "nemotron_h_moe", "neo-bert",       "olmo",         "olmo2",        "olmoe",       "openelm",
    "orion",       "paddleocr",      "pangu-embedded", "phi2",         "phi3",         "plamo",       "pockettts",
    "qwen",        "qwen2",          "qwen2moe",       "qwen2vl",      "qwen3",        "qwen35",      "qwen35moe",
    "qwen3moe",    "qwen3next",      "qwen3tts",       "qwen3vl",      "qwen3vlmoe",   "qwen4exp",    "refact",
    "rnd1",        "seed_oss",       "smallthinker",   "smollm3",      "spark2_5",     "stablelm",    "starcoder",
    "starcoder2",  "talkie",         "xverse"};

constexpr std::array<std::string_view, 59> kWholeHeadRotation = {
    "apertus",       "arcee",     "arctic",     "baichuan",    "chameleon",  "codeshell",    "cogvlm",
    "cohere2moe",    "dbrx",      "deci",       "deepseek",    "dots1",      "dream",        "ernie4_5",
    "ernie4_5-moe",  "exaone",    "exaone-moe", "exaone4",     "falcon",     "granite",      "granite_swa",
    "graniteswitch", "grok",      "grovemoe",   "hunyuan-moe", "hunyuan_vl", "hy_v3",        "internlm2",
    "jais2",         "llada",     "llada-moe",  "llama",       "llama4",     "maincoder",    "mellum",
    "mistral3",      "olmo",      "olmo2",      "olmoe",       "orion",      "paddleocr",    "pangu-embedded",
    "plamo",         "pockettts", "qwen2",      "qwen2moe",    "qwen2vl",    "qwen3",        "qwen3moe",
    "qwen3tts",      "qwen3vl",   "qwen3vlmoe", "rnd1",        "seed_oss",   "smallthinker", "smollm3",
    "starcoder2",    "talkie",    "xverse"};

constexpr std::array<std::string_view, 8> kRopeSections = {"paddleocr", "qwen2vl", "qwen35",     "qwen35moe",
                                                           "qwen3tts",  "qwen3vl", "qwen3vlmoe", "qwen4exp"};

constexpr std::array<std::string_view, 4> kExperts = {"bailingmoe2", "grovemoe", "llada-moe", "smallthinker"};

static_assert(std::is_sorted(kEqualHeadLengths.begin(), kEqualHeadLengths.end()));
static_assert(std::is_sorted(kWholeHeadRotation.begin(), kWholeHeadRotation.end()));
static_assert(std::is_sorted(kRopeSections.begin(), kRopeSections.end()));
static_assert(std::is_sorted(kExperts.begin(), kExperts.end()));

}  // namespace

ArchitectureNeeds needs_of(std::string_view architecture) {
    auto const in = [&](auto const& names) { return std::binary_search(names.begin(), names.end(), architecture); };
    return {in(kEqualHeadLengths), in(kWholeHeadRotation), in(kRopeSections), in(kExperts)};
}

}  // namespace hearth::models

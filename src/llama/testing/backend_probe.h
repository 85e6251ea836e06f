// Helpers of the libllama tests: load or fail, feed tokens, compare logits.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "llama/libllama_backend.h"

namespace hearth::llama::testing {

// Empty when the file is not there.
inline std::string shared_model(char const* name) {
    char const* const root = std::getenv("HEARTH_SOURCE_DIR");
    std::filesystem::path const path = std::filesystem::path(root == nullptr ? "." : root) / "../shared/models" / name;
    return std::filesystem::exists(path) ? path.string() : std::string();
}

inline std::filesystem::path cache_folder() {
    if (char const* const xdg = std::getenv("XDG_CACHE_HOME"); xdg != nullptr && *xdg != '\0')
        return std::filesystem::path(xdg) / "hearth";
    char const* const home = std::getenv("HOME");
    return std::filesystem::path(home == nullptr ? "/nonexistent" : home) / ".cache/hearth";
}

inline std::string cached_model(char const* name) {
    auto const path = cache_folder() / "models" / name;
    return std::filesystem::exists(path) ? path.string() : std::string();
}

#define HEARTH_MODEL_OR_SKIP(variable, expression) \
    std::string const variable = (expression);     \
    if (variable.empty()) GTEST_SKIP() << #expression << " is not there"

// Small enough for sanitizers.
inline LoadOptions small_options(std::string path) {
    LoadOptions options;
    options.path = std::move(path);
    options.kv_cells = 1024;
    options.context_request = 128;
    options.sequences_max = 8;
    options.batch_max = 64;
    options.threads = 1;
    return options;
}

inline std::unique_ptr<Backend> load_or_die(LoadOptions options) {
    auto backend = load_libllama(std::move(options));
    if (!backend) {
        ADD_FAILURE() << backend.error().message;
        return nullptr;
    }
    return std::move(*backend);
}

// Feeds `tokens` to `sequence` from position `begin`, in batches of `chunk`.
inline Status feed(Backend& backend, SequenceId sequence, std::span<Token const> tokens, Position begin = 0,
                   std::size_t chunk = 64) {
    std::vector<BatchEntry> batch;
    for (std::size_t i = 0; i < tokens.size(); ++i) {
        batch.push_back({tokens[i], begin + static_cast<Position>(i), sequence, i + 1 == tokens.size()});
        if (batch.size() < chunk && i + 1 < tokens.size()) continue;
        HEARTH_CHECK(backend.decode(batch));
        if (i + 1 < tokens.size()) batch.clear();
    }
    return ok();
}

// Logits after `tokens`, fed alone. The last entry of the last batch has them.
inline std::vector<float> logits_after(Backend& backend, SequenceId sequence, std::span<Token const> tokens,
                                       Position begin = 0, std::size_t chunk = 64) {
    auto const status = feed(backend, sequence, tokens, begin, chunk);
    if (!status) {
        ADD_FAILURE() << status.error().message;
        return {};
    }
    std::size_t const last = (tokens.size() - 1) % chunk;
    auto const row = backend.logits(last);
    return {row.begin(), row.end()};
}

inline Token argmax(std::span<float const> row) {
    return static_cast<Token>(std::max_element(row.begin(), row.end()) - row.begin());
}

// Normalised mean square error: batch shapes and instruction sets round differently.
inline double difference(std::span<float const> a, std::span<float const> b) {
    if (a.size() != b.size() || a.empty()) return 1e9;
    double error = 0, power = 0;
    for (std::size_t i = 0; i < a.size(); ++i) {
        error += std::pow(static_cast<double>(a[i]) - static_cast<double>(b[i]), 2);
        power += std::pow(static_cast<double>(a[i]), 2);
    }
    return error / std::max(power, 1e-30);
}

inline constexpr double kSameLogits = 1e-6;

inline std::vector<Token> some_tokens(std::size_t count, std::uint32_t vocabulary, std::uint32_t seed = 1) {
    std::vector<Token> tokens;
    std::uint64_t state = seed * 2654435761U + 1;
    for (std::size_t i = 0; i < count; ++i) {
        state = state * 6364136223846793005U + 1442695040888963407U;
        tokens.push_back(static_cast<Token>(3 + (state >> 33) % (vocabulary - 3)));
    }
    return tokens;
}

// Greedy text after `prompt` tokens, at most `count` tokens, on `sequence`.
inline std::string greedy(Backend& backend, std::vector<Token> const& prompt, int count, SequenceId sequence = 0) {
    std::string out;
    auto row = logits_after(backend, sequence, prompt);
    auto position = static_cast<Position>(prompt.size());
    for (int i = 0; i < count && !row.empty(); ++i) {
        Token const next = argmax(row);
        if (backend.is_end_of_generation(next)) break;
        backend.append_piece(next, out);
        row = logits_after(backend, sequence, std::span(&next, 1), position++);
    }
    return out;
}

}  // namespace hearth::llama::testing

// HfConfig: what a Hugging Face folder says about its model, read with limits
// and asked for with types and ranges.
//
// config.json is required; generation_config.json, tokenizer_config.json,
// modules.json and the rest are read if they are there. A key that is absent is
// told from one of the wrong type or out of range: the latter is an error that
// names file, key, value and limit.
//
// Threads: none; immutable once read. Ownership: owns the texts its views see.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "json/json.h"

namespace hearth::convert {

inline constexpr std::uint64_t kConfigBytesMax = 16U << 20;  // one JSON file; vocabularies of added tokens are long
inline constexpr std::uint64_t kTokenizerBytesMax = 64U << 20;  // tokenizer.json
inline constexpr std::uint64_t kTokenizerValuesMax = 1U << 22;
inline constexpr std::uint32_t kLayersMax = 4096;
inline constexpr std::uint32_t kWidthMax = 1U << 24;  // of embeddings, feed-forward layers, vocabularies, contexts

// A file's text, nothing if there is no such file. `too_large` above the limit, `io` otherwise.
[[nodiscard]] Result<std::optional<std::string>> read_text(std::string const& path, std::uint64_t bytes_max);
// The same, parsed.
[[nodiscard]] Result<std::optional<json::Document>> read_json(std::string const& path, json::Limits const& limits);
[[nodiscard]] json::Limits config_limits();
// A text of an object; empty if there is none.
[[nodiscard]] std::string_view text_of(json::View object, std::string_view name);

class HfConfig {
public:
    [[nodiscard]] static Result<HfConfig> read(std::string const& folder);

    [[nodiscard]] std::string const& folder() const { return folder_; }
    // "architectures"[0]: of text_config if that names one, as a multimodal model's does.
    [[nodiscard]] Result<std::string> architecture() const;

    // The value of the first of `keys` that is there, in text_config first.
    // Null counts as absent.
    [[nodiscard]] std::optional<json::View> find(std::initializer_list<std::string_view> keys) const;

    // A whole number from `min` to `max`; absent is an error for count(), `absent` for count_or().
    [[nodiscard]] Result<std::uint32_t> count(std::initializer_list<std::string_view> keys,
                                              std::uint32_t max = kWidthMax, std::uint32_t min = 1) const;
    [[nodiscard]] Result<std::uint32_t> count_or(std::initializer_list<std::string_view> keys, std::uint32_t absent,
                                                 std::uint32_t max = kWidthMax, std::uint32_t min = 1) const;
    // A finite number.
    [[nodiscard]] Result<std::optional<double>> real(std::initializer_list<std::string_view> keys) const;
    [[nodiscard]] Result<double> real_or(std::initializer_list<std::string_view> keys, double absent) const;
    [[nodiscard]] bool is_true(std::string_view key) const;

    // "FOLDER/config.json: KEY: WHAT", code `corrupt` or as given.
    [[nodiscard]] Error wrong(std::string_view key, std::string_view what, Code code = Code::corrupt) const;

private:
    HfConfig(std::string folder, json::Document document)
        : folder_(std::move(folder)), document_(std::move(document)) {}

    std::string folder_;
    json::Document document_;
};

}  // namespace hearth::convert

// ModelName: what a model is called among registries, as Ollama spells it:
//
//   [host/][namespace/]model[:tag]     registry.ollama.ai/library/smollm2:135m
//
// What is left out means registry.ollama.ai, library and latest. Names are
// compared without regard to case and shown as they were written.
//
// A parsed name is safe as a path host/namespace/model/tag: every part begins
// with a letter, a digit or '_', so none is "." or "..", and holds neither '/'
// nor a backslash, a NUL or another byte outside ASCII's letters, digits and
// "_-.:".
//
// Threads: none; plain values and pure functions.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "base/result.h"

namespace hearth::models {

inline constexpr std::size_t kNameHostMax = 350;  // bytes
inline constexpr std::size_t kNamePartMax = 80;   // bytes of a namespace, model or tag

inline constexpr std::string_view kNameHostDefault = "registry.ollama.ai";
inline constexpr std::string_view kNameNamespaceDefault = "library";
inline constexpr std::string_view kNameTagDefault = "latest";

// Every part is there and valid.
struct ModelName {
    std::string host;   // may name a port
    std::string space;  // the namespace; without '.'
    std::string model;
    std::string tag;

    // Ignores case.
    [[nodiscard]] bool operator==(ModelName const& other) const;
};

// Fails with `invalid_argument`, naming the part and what is wrong with it.
[[nodiscard]] Result<ModelName> parse_model_name(std::string_view text);

// All four parts.
[[nodiscard]] std::string full_name(ModelName const& name);

// Whether two texts name the same model: without regard to case, and, where both
// are model names, with what they leave out.
[[nodiscard]] bool is_same_name(std::string_view a, std::string_view b);

// Without the host and namespace that are meant anyway; always with the tag.
[[nodiscard]] std::string short_name(ModelName const& name);

}  // namespace hearth::models

// ModelName: what a model is called among registries, as Ollama spells it:
//
//   [host/][namespace/]model[:tag]     registry.ollama.ai/library/smollm2:135m
//
// What is left out means registry.ollama.ai, library and latest. Of two parts the
// first is a host if it holds a '.' or a port, which no namespace does, or is
// localhost. Names are compared without regard to case and shown as they were written.
//
// This is the one parser of such names: what is pulled, pushed, created, copied,
// deleted and looked up is named by it.
//
// A parsed name is safe as a path host/namespace/model/tag: every part begins
// with a letter, a digit or '_', a host perhaps with the '[' of an IPv6 address, so none
// is "." or "..", and holds neither '/' nor a backslash, a NUL or another byte outside
// ASCII's letters, digits and "_-.:[]".
//
// Threads: none; plain values and pure functions.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "base/result.h"

namespace hearth::names {

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

// As short_name(), and without the tag that is meant anyway: what a model is called that is
// made or kept here.
[[nodiscard]] std::string local_name(ModelName const& name);

// A name as the beginning of a file's name, where '/' becomes kSlash; and back. What is
// read back is a model name; any other stem, whatever it holds, stays as it is.
inline constexpr std::string_view kSlash = "%2F";
[[nodiscard]] std::string to_file_stem(std::string_view name);
[[nodiscard]] std::string from_file_stem(std::string_view stem);

}  // namespace hearth::names

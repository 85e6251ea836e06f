// Known templates: for a well-known template in Go's language, as Ollama publishes them
// and Modelfiles quote them, the Jinja template that renders the same text.
//
// A Go template is known by the SHA-256 of its text, with line ends as \n and without
// white space at both ends. known_templates.json is the list; what it does not have is not
// guessed at. One difference: Ollama joins messages of one role that follow one another.
//
// Threads: none; the list is read once. Errors: `corrupt`.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace hearth::modelfile {

struct KnownTemplate {
    std::string name;    // as Ollama calls it
    std::string sha256;  // of the Go template
    std::string jinja;
};

// [{"name": ..., "sha256": ..., "jinja": ...}, ...]
[[nodiscard]] Result<std::vector<KnownTemplate>> parse_known_templates(std::string text);
[[nodiscard]] std::string_view builtin_known_templates();

// By what it is known.
[[nodiscard]] std::string template_key(std::string_view go_text);

// Null if it is not known.
[[nodiscard]] KnownTemplate const* find_known_template(std::string_view go_text);

}  // namespace hearth::modelfile

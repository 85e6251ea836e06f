// Definition: what a model is beside its weights, as MODEL.hearth.json holds it
// beside MODEL.gguf. Pulling from a registry writes one, and so does create.
//
//   {"source": "...", "system": "...", "params": "{\"temperature\":0.7}",
//    "messages": "[{\"role\":\"user\",\"content\":\"Hi\"}]", "template": "...",
//    "license": "...", "requires": "...", "from": "..."}
//
// "files": [{"name": "NAME.gguf", "size": 5, "sha256": "..."}] says what its files are, and
// "adapters": [{"file": "NAME.lora-1", "scale": 0.5}] names files beside it, with numbers
// for the scales. params and messages are JSON as registries have it, as text. Other members are
// not looked at. docs/formats/model-note.md is the specification.
//
// Threads: none; pure functions. Limits: kDefinitionBytesMax, kMessagesMax,
// kParametersMax, kAdaptersMax. Errors: `corrupt`, or those of from_options().
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "modelfile/modelfile.h"

namespace hearth::modelfile {

inline constexpr std::size_t kDefinitionBytesMax = std::size_t{16} << 20;
inline constexpr std::string_view kDefinitionSuffix = ".hearth.json";

// A LoRA adapter on top of the weights.
struct Adapter {
    std::string file;  // in a note a file's name, beside it; else a path
    float scale = 1;
    bool operator==(Adapter const&) const = default;
};

// What a file was when it was checked.
struct RecordedFile {
    std::string name;  // beside the note
    std::uint64_t size = 0;
    std::string sha256, etag;  // empty: not known
    bool operator==(RecordedFile const&) const = default;
};

struct Definition {
    std::string source;         // where the weights came from
    std::string revision;       // of the source
    std::vector<RecordedFile> files{};  // of the model, with its adapters
    std::string from;           // the model it was made of; empty: none
    std::string template_text;  // kept to be shown: the file's own chat template is used
    std::string system;
    std::string options;        // as to_options() writes them
    std::string license;
    std::string needs;
    std::vector<Message> messages;
    std::vector<Adapter> adapters;  // at most kAdaptersMax

    // Requests begin with nothing of its own.
    [[nodiscard]] bool plain() const { return system.empty() && options.empty() && messages.empty(); }
    bool operator==(Definition const&) const = default;
};

[[nodiscard]] Result<Definition> read_definition(std::string text);
[[nodiscard]] std::string write_definition(Definition const& definition);

// messages as the definition holds them, and back.
[[nodiscard]] Result<std::vector<Message>> read_messages(std::string text);

// As a Modelfile that begins with `from`; what no Modelfile can hold is left out.
[[nodiscard]] Modelfile to_modelfile(Definition const& definition, std::string from);

// The text of that Modelfile; what no quotation marks can hold is left out of it.
[[nodiscard]] std::string modelfile_text(Modelfile shown);

// `base` as the Modelfile changes it: what it says replaces, parameters one by
// one; its adapters replace all, by the paths it has. Errors as to_options().
[[nodiscard]] Result<Definition> apply(Modelfile const& modelfile, Definition base);

}  // namespace hearth::modelfile

// create_model(): a model made of another one and a Modelfile.
//
// The new model is NAME.gguf in the models folder, a hard link to the other one's
// file where the file system allows (which takes no room), else a copy; and beside
// it NAME.hearth.json, its definition (modelfile/definition.h): what the other
// model's says, changed by the Modelfile.
//
// A model of that name that was created before is replaced; any other one is not
// touched. Both files appear whole, the definition first: a model is found when it
// is complete.
//
// Threads: none; blocks on the disk, for as long as a copy takes. Errors:
// `invalid_argument` for a name that is no file's or is taken, `not_found` and
// `corrupt` for the other model, `unsupported` for what cannot be made, `io`.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "modelfile/definition.h"

namespace hearth::catalog {

struct Created {
    std::string name;                   // as it is found from now on
    std::string path;                   // of its first file
    std::vector<std::string> warnings;  // what of the Modelfile changes nothing
};

// `modelfile.from` is a path or a name that is looked up in `folders`; the model
// goes to the first of them.
[[nodiscard]] Result<Created> create_model(std::string const& name, modelfile::Modelfile const& modelfile,
                                           std::vector<std::string> const& folders);

// What the model `id` is beside its weights in `path`: its note, or what Ollama's
// manifest of it says; empty where nobody says anything. `corrupt` for a note that is none.
[[nodiscard]] Result<modelfile::Definition> definition_of(std::string const& id, std::string const& path,
                                                          std::vector<std::string> const& folders);

}  // namespace hearth::catalog

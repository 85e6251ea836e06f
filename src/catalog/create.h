// create_model(): a model made of another one and a Modelfile.
//
// The new model is NAME.gguf in the models folder (a '/' of its name as names::to_file_stem()
// writes it), a hard link to the other one's
// file where the file system allows (which takes no room), else a copy; and beside
// it NAME.hearth.json, its definition (modelfile/definition.h): what the other
// model's says, changed by the Modelfile; and the adapters it names, as NAME.lora-N.
//
// A model of that name that was created before is replaced, with all of its files;
// any other one is not touched. Both files appear whole, the definition first: a model is found when it
// is complete. Copies are whole before either changes: where there is no room for them, all stays as it was.
//
// Threads: none; blocks on the disk, for as long as a copy takes (who cannot wait makes it
// first: NewWeights::copied), and while another process changes the folder (fetch/folder_lock.h).
// Errors: `invalid_argument` for a name that is no file's or is taken, `not_found` and `corrupt` for the
// other model, `unsupported` for what cannot be made, `unavailable` where that other process does not end,
// `exhausted` for a disk without room, `io`.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "modelfile/definition.h"

namespace hearth::catalog {

// `param` of the errors of create_model() that are about adapters.
inline constexpr std::string_view kAdaptersParam = "adapters";

struct Created {
    std::string name;  // as it is found from now on
    std::string path;  // of its first file
    std::vector<std::string> warnings;  // what of the Modelfile changes nothing
};

// `modelfile.from` is a path or a name that is looked up in `folders`; the model
// goes to the first of them. Its adapters are paths of GGUF files. `weights`, if there
// is one, is the file it gets instead: the other model's in another form or from another place, or,
// where `from` is empty, one of no model here.
struct NewWeights {
    std::string path{};  // empty: the other model's
    std::vector<std::string> sha256s{};  // of its files; empty: not known
    bool copied = false;  // they hold what the other model's do, so that is what is recorded of them
};
[[nodiscard]] Result<Created> create_model(std::string const& name, modelfile::Modelfile const& modelfile,
                                           std::vector<std::string> const& folders, NewWeights const& weights = {});

// What the model `from` is beside its weights is that of `to`, too; nothing where it is nothing.
// REQUIRES: of this and the next one, a FolderLock
[[nodiscard]] Status copy_definition(std::string const& folder, std::string const& from, std::string const& to);
// The files that say it go.
[[nodiscard]] Status remove_definition(std::string const& folder, std::string const& model);

// What the model `id` is beside its weights in `path`: its note, or what Ollama's
// manifest of it says; empty where nobody says anything. Adapters are paths. `corrupt` for
// a note that is none.
[[nodiscard]] Result<modelfile::Definition> definition_of(std::string const& id, std::string const& path,
                                                          std::vector<std::string> const& folders);

}  // namespace hearth::catalog

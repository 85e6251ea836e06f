// Trust in the chat template of a model that this process serves by itself: as the library
// has it (library.h), with the catalog in the data folder.
//
// Where there is no data folder, or it cannot be used, nothing is remembered: stderr says
// so, and the model is served. Where another process writes it, what that one remembers counts.
//
// Threads: one; blocks on the disk. Private to app.
#pragma once

#include <string>

#include "base/result.h"

namespace hearth::app {

struct TrustedModel {
    std::string name;    // as the catalog may know it
    std::string source;  // the file or the folder it is served from
    std::string file;    // what the engine opens
};

// At every use; `unsupported` when the template is another one than at the first.
[[nodiscard]] Status check_trust(TrustedModel const& model, std::string const& data_folder);

// Accepts the template that the file or the folder has now, for it and for all models of the catalog that are
// served from it. Fails where it cannot be remembered, and with `not_found` where there is none.
[[nodiscard]] Status confirm_trust(std::string const& name, std::string const& source, std::string const& data_folder);

}  // namespace hearth::app

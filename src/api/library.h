// What all dialects share about the library: models by name, and its errors.
//
// Threads: the loop's.
#pragma once

#include <string>
#include <vector>

#include "api/errors.h"
#include "api/routes.h"
#include "library/library.h"
#include "net/task.h"

namespace hearth::api {

// The pool's id of the model `name` means; one that is not in the pool gets there.
// Without a library: of the pool's own. Errors as Library::open().
net::Task<Result<std::string>> open_model(Services& services, std::string name);

// All models there are, once the folders were looked into.
net::Task<std::vector<library::Known>> known_models(Services& services);

// The one that `name` means; it does not get into the pool.
net::Task<Result<library::Known>> known_model(Services& services, std::string name);

// As to_problem(), and what only the library says.
[[nodiscard]] Problem library_problem(Error const& error);

// The library, or the problem to tell where there is none.
[[nodiscard]] Result<library::Library*> need_library(Services& services);

}  // namespace hearth::api

// Facts of a model file, read from its validated header. Private to catalog.
//
// Threads: none; pure functions over read-only files.
#pragma once

#include <string>
#include <vector>

#include "catalog/catalog.h"

namespace hearth::catalog {

// Fills what the file says: architecture, size, capabilities, template; or the problem.
void read_facts(std::string const& path, Model& model);

}  // namespace hearth::catalog

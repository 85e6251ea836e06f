// Facts of a model, read from its validated headers. Private to catalog.
//
// Threads: none; pure functions over read-only files.
#pragma once

#include <string>
#include <vector>

#include "catalog/catalog.h"

namespace hearth::catalog {

// Fills what its files say: architecture, size, capabilities, template; or the problem.
// REQUIRES: it has files
void read_facts(Model& model);

}  // namespace hearth::catalog

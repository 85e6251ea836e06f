// What model files say, asked of the reader's thread and awaited on the loop's.
//
// Threads: the loop's.
#pragma once

#include <string>

#include "api/routes.h"
#include "base/clock.h"
#include "models/file_facts.h"
#include "net/task.h"

namespace hearth::api {

// What the model's file says; null if that is not known, or not within `patience`.
net::Task<models::FactsPointer> facts_of(Services& services, std::string path, models::FactsReader::Depth depth,
                                         Duration patience);

}  // namespace hearth::api

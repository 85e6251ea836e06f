// Adapters of the models that are served: by `--lora`, and by what notes of models say.
//
// Threads: none; reads the headers of files. Errors: `invalid_argument` for what an
// argument says or a base that is not served; those of models/adapter.h. Private to app.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "serving/launcher.h"

namespace hearth::app {

// The model is served with the adapters of its definition on top, under its own name.
[[nodiscard]] Status add_own_adapters(serving::ModelSpec& spec);

// NAME=BASE:FILE[:SCALE] each: NAME is BASE, one of the specs, with the adapter in FILE on
// top. A NAME that comes again has one adapter more.
[[nodiscard]] Status assign_adapters(std::vector<serving::ModelSpec>& specs, std::vector<std::string> const& arguments);

}  // namespace hearth::app

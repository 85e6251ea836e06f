// run_request(): what `hearth run` asks the model for.
//
// Flags go before what the model says of itself (its Modelfile's PARAMETER, SYSTEM and
// MESSAGE), and that goes before Hearth's defaults.
//
// Threads: none; a pure function. Private to app.
#pragma once

#include <string>

#include "app/commands.h"
#include "base/result.h"
#include "domain/generate.h"
#include "modelfile/definition.h"

namespace hearth::app {

inline constexpr float kRunTemperature = 0.7F;

// Fails as api::apply_definition() and domain::validate().
[[nodiscard]] Result<domain::GenerateRequest> run_request(RunFlags const& flags, std::string prompt,
                                                          modelfile::Definition const& definition);

}  // namespace hearth::app

// Names of models, where models are spoken of: names/names.h says what they are.
#pragma once

#include "names/names.h"

namespace hearth::models {

using names::full_name;
using names::is_same_name;
using names::kNameHostDefault;
using names::kNameHostMax;
using names::kNameNamespaceDefault;
using names::kNamePartMax;
using names::kNameTagDefault;
using names::ModelName;
using names::parse_model_name;
using names::short_name;

}  // namespace hearth::models

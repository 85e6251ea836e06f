// The general.* keys of a GGUF file: who made the model and how it is called,
// from its card, its config, and the name of its folder, in this order.
//
// Threads: none.
#pragma once

#include <cstdint>
#include <string>

#include "base/result.h"
#include "convert/hf_config.h"
#include "convert/metadata.h"

namespace hearth::convert {

// `size_label` where nobody says another. REQUIRES: general.architecture is set already; the keys follow it
[[nodiscard]] Status add_general(Metadata& metadata, HfConfig const& config, std::string const& folder_name,
                                 std::uint64_t parameters, std::string const& size_label);

}  // namespace hearth::convert

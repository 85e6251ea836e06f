// What single architectures assert of a model beyond the rules for all,
// gathered from the pinned engine's sources. An architecture that is not listed
// needs nothing more. An integration test loads a model of every architecture.
#pragma once

#include <string_view>

namespace hearth::models {

struct ArchitectureNeeds {
    bool equal_head_lengths = false;  // attention.key_length equals attention.value_length
    bool whole_head_rotation = false; // rope.dimension_count equals attention.key_length
    bool rope_sections = false;       // rope.dimension_sections, not all zero
    bool experts = false;             // expert_count above 0
};

[[nodiscard]] ArchitectureNeeds needs_of(std::string_view architecture);

}  // namespace hearth::models

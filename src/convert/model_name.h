// ModelName: what the parts of a model's name say ("SmolLM2-135M-Instruct": base
// name, size, fine-tune), by the rules of upstream's converter, so that the
// general.* keys are the same.
//
// Threads: none; pure functions.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace hearth::convert {

// Empty: the name does not say.
struct ModelName {
    std::string full;
    std::string organization;
    std::string basename;
    std::string finetune;
    std::string version;
    std::string size_label;
};

// `id` is "organization/name" or "name"; a text with a space is a name only. A
// size that is far from `parameters` is taken for a context length.
[[nodiscard]] ModelName parse_model_name(std::string_view id, std::uint64_t parameters);

// "smollm2-135m" as a title: "Smollm2 135m".
[[nodiscard]] std::string title_of(std::string_view id);

// "135M", "1.7B": at least two digits. Of a mixture "128x1.7B": the experts, and the
// parameters with one of them.
[[nodiscard]] std::string size_label_of(std::uint64_t parameters, std::uint32_t experts = 0);

}  // namespace hearth::convert

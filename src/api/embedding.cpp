#include "api/embedding.h"

#include <cmath>
#include <cstddef>
#include <utility>

namespace hearth::api {

std::vector<domain::EmbedPrompt> split_inputs(std::vector<domain::EmbedPrompt::Input> inputs, bool truncate) {
    std::vector<domain::EmbedPrompt> prompts;
    std::size_t bytes = 0;
    for (auto& input : inputs) {
        auto const more = domain::bytes_of(input);
        bool const full = prompts.empty() || prompts.back().inputs.size() == domain::kEmbedInputsMax ||
                          bytes + more > domain::kPromptBytesMax;
        if (full) {
            prompts.emplace_back().truncate = truncate;
            bytes = 0;
        }
        bytes += more;
        prompts.back().inputs.push_back(std::move(input));
    }
    return prompts;
}

std::vector<float> shaped(std::span<float const> vector, std::optional<std::uint32_t> dimensions, Length length) {
    if (dimensions) vector = vector.first(*dimensions);
    std::vector<float> out(vector.begin(), vector.end());
    if (length == Length::as_it_is) return out;
    double sum = 0;
    for (float const value : out) sum += static_cast<double>(value) * value;
    if (sum == 0) return out;
    double const norm = std::sqrt(sum);
    for (auto& value : out) value = static_cast<float>(value / norm);
    return out;
}

}  // namespace hearth::api

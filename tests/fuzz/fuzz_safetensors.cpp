// A safetensors file's header, and the index of a model in shards, as a
// download would bring them. The bytes are the whole file.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <tuple>
#include <vector>

#include "base/assert.h"
#include "models/safetensors.h"

namespace {

void check(std::vector<hearth::models::SafetensorsTensor> tensors, std::uint64_t file_bytes) {
    std::sort(tensors.begin(), tensors.end(),
              [](auto const& a, auto const& b) { return std::tie(a.offset, a.bytes) < std::tie(b.offset, b.bytes); });
    auto end = tensors.empty() ? file_bytes : tensors.front().offset;
    for (auto const& tensor : tensors) {
        HEARTH_ASSERT(tensor.offset == end, "tensors lie side by side");
        HEARTH_ASSERT(tensor.bytes <= file_bytes - tensor.offset, "tensors lie in the file");
        HEARTH_ASSERT(!tensor.name.empty(), "tensors have a name");
        HEARTH_ASSERT(tensor.elements() * element_bytes(tensor.type) == tensor.bytes, "whole elements");
        end += tensor.bytes;
    }
    HEARTH_ASSERT(end == file_bytes, "nothing lies behind the tensors");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size) {
    auto const bytes = std::as_bytes(std::span(data, size));
    auto const tensors = hearth::models::parse_safetensors(bytes, size, "fuzz.safetensors");
    if (tensors) check(tensors.value(), size);
    if (!tensors) HEARTH_ASSERT(!tensors.error().message.empty(), "a refusal says why");
    auto const index = hearth::models::parse_safetensors_index(std::string(reinterpret_cast<char const*>(data), size),
                                                               "fuzz.safetensors.index.json");
    if (!index) return 0;
    for (auto const& entry : index.value())
        HEARTH_ASSERT(entry.file.find('/') == std::string::npos && !entry.file.starts_with('.'),
                      "files lie beside the index");
    return 0;
}

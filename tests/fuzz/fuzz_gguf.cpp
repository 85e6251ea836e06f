// A model file's header, as an upload or a download would bring it. The bytes
// are the whole file; the first run says so, the second claims a file twice as
// long, whose rest was not given.
#include <cstddef>
#include <cstdint>
#include <span>

#include "base/assert.h"
#include "models/gguf.h"

namespace {

using hearth::models::GgufFile;

void check(GgufFile const& file) {
    auto end = file.data_offset;
    for (auto const& tensor : file.tensors) {
        auto const start = file.data_offset + tensor.offset;
        HEARTH_ASSERT(start >= end && start % hearth::models::kGgufAlignmentMin == 0,
                      "tensors neither overlap nor lie unaligned");
        HEARTH_ASSERT(tensor.bytes > 0 && tensor.bytes <= file.file_bytes - start, "tensors lie in the file");
        HEARTH_ASSERT(!tensor.name.empty() && !tensor.dimensions.empty(), "tensors have a name and a shape");
        HEARTH_ASSERT(!hearth::models::ggml_type_name(tensor.type).empty(), "tensors have a known type");
        end = start + tensor.bytes;
    }
    HEARTH_ASSERT(end <= file.file_bytes, "the tensors end in the file");
    auto const* tokens = file.array("tokenizer.ggml.tokens");
    if (tokens != nullptr)
        HEARTH_ASSERT(tokens->offset + tokens->bytes <= file.data_offset, "arrays lie before the data");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size) {
    auto const bytes = std::as_bytes(std::span(data, size));
    auto const whole = hearth::models::parse_gguf(bytes, size, "fuzz.gguf");
    if (whole) check(whole.value());
    if (!whole) HEARTH_ASSERT(!whole.error().message.empty(), "a refusal says why");
    auto const part = hearth::models::parse_gguf(bytes, size * 2, "fuzz.gguf");
    if (part) check(part.value());
    return 0;
}

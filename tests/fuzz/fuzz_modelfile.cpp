// Untrusted bytes as a Modelfile, and as a model's note. What parses can be
// written unless it says why not, and reads back as the same.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/assert.h"
#include "modelfile/definition.h"

using namespace hearth::modelfile;

extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size) {
    std::string_view const text(reinterpret_cast<char const*>(data), size);
    if (auto const parsed = parse_modelfile(text)) {
        if (auto const written = write_modelfile(*parsed)) {
            auto const again = parse_modelfile(*written);
            HEARTH_ASSERT(again.has_value() && *again == *parsed, "a Modelfile reads back as it was");
        }
        HEARTH_ASSERT(apply(*parsed, {}).has_value(), "parameters that were read are options");
    }
    if (auto const definition = read_definition(std::string(text))) {
        auto const again = read_definition(write_definition(*definition));
        HEARTH_ASSERT(again.has_value() && *again == *definition, "a note reads back as it was");
        static_cast<void>(from_options(definition->options));
    }
    return 0;
}

// Untrusted bytes as the name of a model. What parses is safe as a path, and
// both spellings of it read back as the same name.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/assert.h"
#include "models/names.h"

using namespace hearth::models;

extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size) {
    auto const name = parse_model_name({reinterpret_cast<char const*>(data), size});
    if (!name) return 0;
    for (auto const& part : {name->host, name->space, name->model, name->tag}) {
        HEARTH_ASSERT(!part.empty() && part.front() != '.', "no part is empty, '.' or '..'");
        for (char const c : part)
            HEARTH_ASSERT(c > ' ' && c < 0x7f && c != '/' && c != '\\' && c != '%', "a part is one path segment");
    }
    for (auto const& shown : {full_name(*name), short_name(*name)}) {
        auto const again = parse_model_name(shown);
        HEARTH_ASSERT(again.has_value() && *again == *name, "a name that is shown reads back");
    }
    return 0;
}

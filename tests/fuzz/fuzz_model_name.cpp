// Untrusted bytes as the name of a model, and as what says where one comes from. What
// parses is safe as a path, all spellings of it read back as the same name, and where it
// comes from a registry both readings agree.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <variant>

#include "base/ascii.h"
#include "base/assert.h"
#include "fetch/sources/reference.h"
#include "names/names.h"

using namespace hearth;

namespace {

void check_part(std::string_view part) {
    HEARTH_ASSERT(!part.empty() && part.front() != '.', "no part is empty, '.' or '..'");
    for (char const c : part)
        HEARTH_ASSERT(c > ' ' && c < 0x7f && c != '/' && c != '\\' && c != '%', "a part is one path segment");
}

void check_name(std::string_view text) {
    auto const name = names::parse_model_name(text);
    if (!name) return;
    for (auto const& part : {name->host, name->space, name->model, name->tag}) check_part(part);
    for (auto const& shown : {full_name(*name), short_name(*name), local_name(*name)}) {
        auto const again = names::parse_model_name(shown);
        HEARTH_ASSERT(again.has_value() && *again == *name, "a name that is shown reads back");
        auto const stem = names::to_file_stem(shown);
        HEARTH_ASSERT(stem.find('/') == std::string::npos && names::from_file_stem(stem) == shown,
                      "a name that became a file's reads back");
    }
}

void check_stem(std::string_view text) {
    auto const name = names::from_file_stem(text);
    HEARTH_ASSERT(name == text || names::parse_model_name(name).has_value(), "a stem becomes a name or stays");
}

void check_reference(std::string_view text) {
    auto const reference = fetch::parse_reference(text);
    if (!reference) return;
    if (auto const* registry = std::get_if<fetch::RegistryReference>(&*reference)) {
        auto const name = names::parse_model_name(text);
        HEARTH_ASSERT(name.has_value() && ascii_lower(name->host) == registry->host &&
                          name->space == registry->name_space && name->model == registry->model &&
                          name->tag == registry->tag,
                      "one name, one meaning");
    } else if (auto const* hub = std::get_if<fetch::HubReference>(&*reference)) {
        for (auto const& part : {hub->organisation, hub->repository, hub->revision}) check_part(part);
        if (!hub->choice.empty()) check_part(hub->choice);
    } else {
        return;
    }
    auto const again = fetch::parse_reference(to_string(*reference));
    HEARTH_ASSERT(again.has_value() && *again == *reference, "a reference that is shown reads back");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size) {
    std::string_view const text(reinterpret_cast<char const*>(data), size);
    check_name(text);
    check_stem(text);
    check_reference(text);
    return 0;
}

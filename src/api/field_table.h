// What every dialect does with its table of fields: reads those of a body, and
// names those it does not know.
//
// A Field has a `name`, a `surface` (bits: the bodies it belongs to) and a `read`
// that puts its value into a Draft, which says what body it is.
#pragma once

#include <algorithm>
#include <cstddef>
#include <optional>
#include <span>
#include <string>

#include "api/json_document.h"
#include "api/values.h"

namespace hearth::api {

inline constexpr std::size_t kUnknownBytesMax = 256;  // of the names of unknown fields together
inline constexpr std::size_t kUnknownNameMax = 64;    // of one

template <class Surface>
[[nodiscard]] bool covers(Surface field, Surface body) {
    return (static_cast<unsigned>(field) & static_cast<unsigned>(body)) != 0;
}

// In the table's order, up to the first problem.
template <class Field, class Draft>
[[nodiscard]] Verdict read_fields(std::span<Field const> fields, JsonView body, Draft& draft) {
    for (auto const& field : fields) {
        if (!covers(field.surface, draft.surface)) continue;
        auto const value = body.find(field.name);
        if (!value) continue;
        if (auto problem = field.read(field, *value, draft)) return problem;
    }
    return std::nullopt;
}

// Adds `name` to a list for the log, as far as there is room.
inline void add_unknown(std::string& names, std::string const& name) {
    if (names.size() > kUnknownBytesMax) return;
    if (!names.empty()) names += ',';
    names += name.substr(0, kUnknownNameMax);
}

template <class Field, class Surface>
[[nodiscard]] std::string unknown_fields(std::span<Field const> fields, JsonView body, Surface surface) {
    std::string names;
    body.for_each_member([&](std::string const& name, JsonView) {
        auto const known = [&](Field const& field) { return covers(field.surface, surface) && field.name == name; };
        if (!std::ranges::any_of(fields, known)) add_unknown(names, name);
    });
    return names;
}

}  // namespace hearth::api

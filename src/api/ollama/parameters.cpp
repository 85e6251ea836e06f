#include "api/ollama/parameters.h"

#include <string>

#include <fmt/format.h>

namespace hearth::api::ollama {
namespace {

std::string spelled(JsonView value) {
    if (value.kind() == JsonKind::string) return value.as_string();
    if (value.kind() == JsonKind::boolean) return value.as_boolean() ? "true" : "false";
    if (auto const whole = value.as_integer()) return std::to_string(*whole);
    return value.kind() == JsonKind::number ? fmt::format("{}", value.as_number())
                                            : std::string(describe(value.kind()));
}

}  // namespace

Verdict read_parameters(std::string_view field, JsonView value, std::vector<modelfile::Parameter>& out) {
    if (auto problem = read_object(field, value)) return problem;
    value.for_each_member([&](std::string const& name, JsonView member) {
        if (member.kind() != JsonKind::array) {
            out.push_back({name, spelled(member)});
            return;
        }
        for (std::size_t i = 0; i < member.size(); ++i) out.push_back({name, spelled(member.at(i))});
    });
    if (auto const options = modelfile::to_options(out); !options) return to_problem(options.error());
    return std::nullopt;
}

}  // namespace hearth::api::ollama

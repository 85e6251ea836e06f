#include "catalog/locate.h"

#include <cstddef>
#include <string_view>
#include <utility>

#include <fmt/format.h>

#include "catalog/layouts.h"
#include "models/report.h"
#include "names/names.h"

namespace hearth::catalog {
namespace {

constexpr std::size_t kListed = 20;  // names in an error

// It was asked for these already.
bool is_resolved(Found const& model) {
    return model.layout == Layout::folder && !is_folder(model.files) && model.name.find('/') == std::string::npos;
}

Result<Located> place_of(Found const& model) {
    if (model.problem.empty()) return Located{served_from(model.files), model.name};
    return Error(Code::unsupported, fmt::format("model '{}' cannot be served: {}", model.name, model.problem), "model");
}

bool is_called(std::string_view name, std::string_view wanted, bool exact) {
    return exact ? name == wanted : names::is_same_name(name, wanted);
}

}  // namespace

Result<Located> locate(std::string const& name_or_path, std::vector<std::string> const& folders) {
    auto path = models::resolve_model(name_or_path, folders);
    if (path) return Located{*path, models::model_id(*path)};
    if (path.error().code != Code::not_found) return std::move(path).error();
    std::string others;
    std::size_t count = 0;
    auto const found = find_models(folders);
    for (bool const exact : {true, false}) {
        std::vector<Found const*> hits;
        for (auto const& model : found.models) {
            if (is_resolved(model)) continue;
            if (is_called(model.name, name_or_path, exact)) hits.push_back(&model);
            if (exact && count++ < kListed) others += (others.empty() ? "" : ", ") + model.name;
        }
        if (hits.size() == 1) return place_of(*hits[0]);
        if (hits.size() > 1)
            return Error(
                Code::invalid_argument,
                fmt::format("'{}' means more than one model: {} and {}", name_or_path, hits[0]->name, hits[1]->name),
                "model");
    }
    auto error = std::move(path).error();
    if (count > 0) error.message += fmt::format("; besides, of other layouts: {}", others);
    if (count > kListed) error.message += fmt::format(" and {} more", count - kListed);
    return error;
}

}  // namespace hearth::catalog

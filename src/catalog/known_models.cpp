#include "catalog/known_models.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "digest/sha256.h"

namespace hearth::catalog {
namespace {

using Json = nlohmann::json;

Error bad(std::size_t entry, std::string_view what) {
    return {Code::corrupt, fmt::format("list of known models, entry {}: {}", entry + 1, what)};
}

Result<KnownModel> parse_entry(Json const& json, std::size_t number) {
    if (!json.is_object()) return bad(number, "is no object");
    KnownModel model;
    for (auto const& [key, value] : json.items()) {
        if (key == "bytes") {
            if (!value.is_number_unsigned()) return bad(number, "`bytes` is no whole number");
            model.bytes = value.get<std::uint64_t>();
            continue;
        }
        std::string* const field = key == "name"      ? &model.name
                                   : key == "source"  ? &model.source
                                   : key == "about"   ? &model.about
                                   : key == "license" ? &model.license
                                   : key == "sha256"  ? &model.sha256
                                                      : nullptr;
        if (field == nullptr) return bad(number, fmt::format("unknown field `{}`", key));
        if (!value.is_string()) return bad(number, fmt::format("`{}` is no string", key));
        *field = value.get<std::string>();
        if (field->size() > kKnownTextMax)
            return bad(number, fmt::format("`{}` has {} bytes, the limit is {}", key, field->size(), kKnownTextMax));
    }
    if (model.name.empty() || model.source.empty()) return bad(number, "needs `name` and `source`");
    if (!model.sha256.empty() && !digest::is_sha256(model.sha256))
        return bad(number, "`sha256` is not 64 lowercase hexadecimal digits");
    return model;
}

}  // namespace

Result<std::vector<KnownModel>> parse_known_models(std::string_view json) {
    if (json.size() > kKnownListMax)
        return Error(Code::too_large,
                     fmt::format("the list of known models has {} bytes, the limit is {}", json.size(), kKnownListMax));
    auto const list = Json::parse(json, nullptr, false);
    if (!list.is_array()) return Error(Code::corrupt, "the list of known models is no JSON array");
    if (list.size() > kKnownModelsMax)
        return Error(Code::too_large, fmt::format("the list of known models has {} entries, the limit is {}",
                                                  list.size(), kKnownModelsMax));
    std::vector<KnownModel> models;
    for (std::size_t i = 0; i < list.size(); ++i) {
        HEARTH_TRY(auto model, parse_entry(list[i], i));
        bool const twice =
            std::ranges::any_of(models, [&](KnownModel const& other) { return other.name == model.name; });
        if (twice) return bad(i, fmt::format("'{}' is there already", model.name));
        models.push_back(std::move(model));
    }
    return models;
}

std::vector<KnownModel> merge_known_models(std::vector<KnownModel> own, std::vector<KnownModel> const& builtin) {
    for (auto const& model : builtin) {
        bool const replaced =
            std::ranges::any_of(own, [&](KnownModel const& other) { return other.name == model.name; });
        if (!replaced) own.push_back(model);
    }
    std::ranges::sort(own, {}, &KnownModel::name);
    return own;
}

}  // namespace hearth::catalog

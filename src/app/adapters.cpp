#include "app/adapters.h"

#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <filesystem>
#include <iterator>
#include <optional>
#include <system_error>
#include <utility>

#include <fmt/format.h>

#include "domain/generate.h"
#include "formats/source.h"
#include "modelfile/modelfile.h"
#include "models/adapter.h"
#include "models/gguf.h"

namespace hearth::app {
namespace {

constexpr float kScaleMax = 100;
constexpr char const* kFlag = "--lora";

struct Wish {
    std::string name;
    serving::ModelSpec* base;
    modelfile::Adapter adapter;
};

Error wrong(std::string const& argument, std::string_view why) {
    return {Code::invalid_argument, fmt::format("{} '{}': {}", kFlag, argument, why), kFlag};
}

bool is_called(serving::ModelSpec const& spec, std::string_view name) {
    return spec.id == name || std::ranges::find(spec.aliases, name) != spec.aliases.end();
}

bool is_taken(std::vector<serving::ModelSpec> const& specs, std::string_view name, serving::ModelSpec const* but) {
    return std::ranges::any_of(specs, [&](serving::ModelSpec const& spec) {
        bool const with_adapters = std::ranges::find(spec.variants, name, &serving::Variant::id) != spec.variants.end();
        return is_called(spec, name) || (&spec != but && with_adapters);
    });
}

// FILE[:SCALE]; a file that is really called so wins.
std::optional<modelfile::Adapter> adapter_of(std::string const& text) {
    modelfile::Adapter adapter{text, 1};
    auto const colon = text.rfind(':');
    if (colon == std::string::npos || ::access(text.c_str(), F_OK) == 0) return adapter;
    char const* const end = text.data() + text.size();
    auto const parsed = std::from_chars(text.data() + colon + 1, end, adapter.scale);
    if (parsed.ec != std::errc{} || parsed.ptr != end) return modelfile::Adapter{text, 1};
    if (!(std::abs(adapter.scale) <= kScaleMax)) return std::nullopt;
    adapter.file.resize(colon);
    return adapter;
}

// Names of models hold colons, too: the shortest that is served is meant.
Result<Wish> parse(std::vector<serving::ModelSpec>& specs, std::string const& argument) {
    auto const equals = argument.find('=');
    if (equals == 0 || equals == std::string::npos) return wrong(argument, "it must be NAME=BASE:FILE[:SCALE]");
    auto const rest = argument.substr(equals + 1);
    for (auto colon = rest.find(':'); colon != std::string::npos; colon = rest.find(':', colon + 1)) {
        auto const base = std::ranges::find_if(
            specs, [&](auto const& spec) { return is_called(spec, std::string_view(rest).substr(0, colon)); });
        if (base == specs.end()) continue;
        auto adapter = adapter_of(rest.substr(colon + 1));
        if (!adapter) return wrong(argument, fmt::format("a scale is {} to {}", -kScaleMax, kScaleMax));
        if (adapter->file.empty()) return wrong(argument, "it names no file");
        return Wish{argument.substr(0, equals), &*base, *std::move(adapter)};
    }
    return wrong(argument, "no model that --model names is called as what stands before its ':'");
}

// As a worker, which may have another working folder, finds it.
std::string absolute(std::string const& path) {
    std::error_code failed;
    auto const full = std::filesystem::weakly_canonical(path, failed);
    return failed ? path : full.string();
}

// Into the variant, once its file is found good; and into what the model is thought to take.
Status add(serving::ModelSpec& spec, serving::Variant& variant, modelfile::Adapter adapter) {
    if (variant.adapters.size() == modelfile::kAdaptersMax)
        return Error(Code::invalid_argument,
                     fmt::format("'{}' has {} adapters, which is the limit", variant.id, modelfile::kAdaptersMax),
                     kFlag);
    adapter.file = absolute(adapter.file);
    if (formats::is_adapter_folder(adapter.file))
        return Error(Code::unsupported,
                     fmt::format("{} is a folder: `hearth convert {} --base {}` makes a GGUF file of it", adapter.file,
                                 adapter.file, spec.path),
                     adapter.file);
    HEARTH_TRY(auto const base, models::read_gguf_model(spec.path));
    HEARTH_TRY(auto const file, models::read_adapter(adapter.file));
    HEARTH_CHECK(models::check_adapter(file, base));
    bool const known = std::ranges::any_of(spec.variants, [&](serving::Variant const& each) {
        return std::ranges::find(each.adapters, adapter.file, &modelfile::Adapter::file) != each.adapters.end();
    });
    auto const bytes = known ? 0 : models::adapter_bytes(file);
    spec.adapter_bytes += bytes;
    if (spec.memory_bytes != 0) spec.memory_bytes += bytes;
    variant.bytes += bytes;
    variant.adapters.push_back(std::move(adapter));
    return ok();
}

}  // namespace

Status add_own_adapters(serving::ModelSpec& spec) {
    if (!spec.definition || spec.definition->adapters.empty()) return ok();
    auto& variant = spec.variants.emplace_back();
    variant.id = spec.id;
    variant.definition = spec.definition;
    for (auto const& adapter : spec.definition->adapters) HEARTH_CHECK(add(spec, variant, adapter));
    return ok();
}

Status assign_adapters(std::vector<serving::ModelSpec>& specs, std::vector<std::string> const& arguments) {
    for (auto const& argument : arguments) {
        HEARTH_TRY(auto wish, parse(specs, argument));
        auto& spec = *wish.base;
        if (is_taken(specs, wish.name, &spec))
            return wrong(argument, fmt::format("there is a model '{}' already", wish.name));
        auto variant = std::ranges::find(spec.variants, wish.name, &serving::Variant::id);
        if (variant == spec.variants.end()) {
            if (spec.variants.size() == domain::kAdapterSetsMax)
                return wrong(argument, fmt::format("'{}' is the base of {} names, which is the limit", spec.id,
                                                   spec.variants.size()));
            // What the base has by itself stays.
            auto const own = std::ranges::find(spec.variants, spec.id, &serving::Variant::id);
            auto below = own == spec.variants.end() ? std::vector<modelfile::Adapter>() : own->adapters;
            spec.variants.push_back({wish.name, std::move(below), spec.definition});
            variant = std::prev(spec.variants.end());
        }
        HEARTH_CHECK(add(spec, *variant, std::move(wish.adapter)));
    }
    return ok();
}

}  // namespace hearth::app

#include "library/changes.h"

#include <algorithm>
#include <filesystem>
#include <system_error>

#include <fmt/format.h>

#include "catalog/create.h"
#include "library/keep_jobs.h"
#include "library/permits.h"
#include "models/names.h"

namespace hearth::library {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kLatest = ":latest";

// "no place for it" is told like any other failure of the disk.
Status erase(fs::path const& path) {
    std::error_code failed;
    fs::remove(path, failed);
    if (!failed || failed == std::errc::no_such_file_or_directory) return ok();
    return Error(Code::io, fmt::format("cannot delete '{}': {}", path.string(), failed.message()), path.string());
}

Status need_writer(Keeper::Desk& desk) {
    HEARTH_TRY(auto* const catalog, desk.catalog());
    static_cast<void>(catalog);
    if (desk.writes()) return ok();
    return Error(Code::unavailable,
                 "another process keeps the catalog of models, so this one cannot change it: give one of them another "
                 "--data-dir");
}

}  // namespace

std::vector<std::string> names_of(catalog::Model const& model) {
    std::vector<std::string> names{model.name};
    names.insert(names.end(), model.aliases.begin(), model.aliases.end());
    if (auto const parsed = models::parse_model_name(model.name)) {
        names.push_back(models::short_name(*parsed));
        names.push_back(models::full_name(*parsed));
    }
    if (!model.source.empty()) names.push_back(model.source);
    return names;
}

std::optional<std::string> alias_meant(catalog::Model const& model, std::string_view name) {
    if (model.name == name) return std::nullopt;
    auto const exact = std::ranges::find(model.aliases, name);
    if (exact != model.aliases.end()) return *exact;
    if (models::is_same_name(model.name, name)) return std::nullopt;
    auto const same =
        std::ranges::find_if(model.aliases, [&](auto const& alias) { return models::is_same_name(alias, name); });
    return same == model.aliases.end() ? std::nullopt : std::optional(*same);
}

Status pin(Keeper::Desk& desk, catalog::Model const& model) {
    HEARTH_TRY(auto* const catalog, desk.catalog());
    auto pinned = catalog::Pin::same;
    if (desk.writes()) {
        HEARTH_TRY(pinned, catalog->pin_template(model.name));
    } else if (model.template_changed()) {
        pinned = catalog::Pin::changed;
    }
    if (pinned != catalog::Pin::changed) return ok();
    return Error(Code::unsupported,
                 fmt::format("the chat template of model '{0}' is not the one it had at its first use; `hearth show "
                             "{0}` tells both, `hearth trust {0}` accepts the new one",
                             model.name),
                 std::string(kTemplateChanged));
}

Status copy_model(Keeper::Desk& desk, catalog::Model const& model, std::string const& destination) {
    HEARTH_CHECK(need_writer(desk));
    auto name = destination;
    if (name.ends_with(kLatest)) name.resize(name.size() - kLatest.size());
    bool const own_files = model.layout == catalog::Layout::folder && fetch::is_file_name(name);
    if (own_files) {
        auto const folder = fs::path(model.files.front().path).parent_path().string();
        // First: the copy is found once its weights are there.
        HEARTH_CHECK(catalog::copy_definition(folder, model.name, name));
        HEARTH_TRY(auto const placed, fetch::import_local({model.files.front().path}, name, folder));
        static_cast<void>(placed);
    } else {
        HEARTH_TRY(auto const parsed, models::parse_model_name(destination));
        HEARTH_TRY(auto* const catalog, desk.catalog());
        HEARTH_CHECK(catalog->set_alias(models::short_name(parsed), model.name));
    }
    return desk.scan();
}

Status may_delete(catalog::Model const& model) {
    switch (model.layout) {
        case catalog::Layout::folder: return ok();
        case catalog::Layout::ollama:
            return not_allowed(fmt::format(
                "'{}' lies in Ollama's folder and is used in place; `ollama rm` deletes it there", model.name));
        case catalog::Layout::hugging_face:
            return not_allowed(
                fmt::format("'{}' lies in Hugging Face's cache and is used in place; `hf cache delete` "
                            "deletes it there",
                            model.name));
        case catalog::Layout::lm_studio:
            return not_allowed(
                fmt::format("'{}' lies in LM Studio's folder and is used in place; it is deleted there", model.name));
    }
    return Error(Code::internal, "no such layout");
}

Status delete_model(Keeper::Desk& desk, catalog::Model const& model) {
    HEARTH_CHECK(need_writer(desk));
    // The first file goes first: without it the model is not found any more.
    for (auto const& file : model.files) HEARTH_CHECK(erase(file.path));
    for (auto const& file : model.files) HEARTH_CHECK(erase(file.path + std::string(kDamagedSuffix)));
    auto const folder = fs::path(model.files.front().path).parent_path();
    HEARTH_CHECK(catalog::remove_definition(folder.string(), model.name));
    HEARTH_TRY(auto* const catalog, desk.catalog());
    for (auto const& alias : model.aliases) HEARTH_CHECK(catalog->remove_alias(alias));
    return desk.scan();
}

Status remove_alias(Keeper::Desk& desk, std::string const& alias) {
    HEARTH_CHECK(need_writer(desk));
    HEARTH_TRY(auto* const catalog, desk.catalog());
    HEARTH_CHECK(catalog->remove_alias(alias));
    return desk.scan();
}

Status name_pulled(Keeper::Desk& desk, PullWish const& wish, fetch::Pulled const& pulled) {
    if (!desk.writes() || models::is_same_name(wish.model, pulled.model)) return ok();
    HEARTH_TRY(auto* const catalog, desk.catalog());
    // A folder of safetensors is pulled, too, and is no model to be found yet.
    if (!catalog->find(pulled.model) || wish.model.size() > catalog::kNamePartMax) return ok();
    HEARTH_CHECK(catalog->set_alias(wish.model, pulled.model));
    return desk.scan();
}

}  // namespace hearth::library

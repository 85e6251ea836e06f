#include "library/changes.h"

#include <algorithm>
#include <filesystem>
#include <ranges>
#include <set>
#include <system_error>

#include <fmt/format.h>

#include "catalog/create.h"
#include "fetch/folder_lock.h"
#include "library/keep_jobs.h"
#include "library/permits.h"
#include "models/report.h"
#include "names/names.h"

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

// The folder of these files and those in it, where nothing is left in them: other files are somebody else's.
Status erase_empty(fs::path const& folder, std::vector<catalog::ModelFile> const& files) {
    std::set<fs::path> folders{folder};
    for (auto const& file : files) folders.insert(fs::path(file.path).parent_path());
    // What lies deeper goes first.
    for (auto const& each : std::ranges::reverse_view(folders)) {
        std::error_code failed;
        bool const empty = fs::is_empty(each, failed);
        if (!failed && empty) HEARTH_CHECK(erase(each));
    }
    return ok();
}

std::string copy_name(CopyOrder const& order) {
    auto name = order.destination;
    if (name.ends_with(kLatest)) name.resize(name.size() - kLatest.size());
    return name;
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
    if (auto const parsed = names::parse_model_name(model.name)) {
        names.push_back(names::short_name(*parsed));
        names.push_back(names::full_name(*parsed));
    }
    if (!model.source.empty()) names.push_back(model.source);
    return names;
}

std::optional<std::string> alias_meant(catalog::Model const& model, std::string_view name) {
    if (model.name == name) return std::nullopt;
    auto const exact = std::ranges::find(model.aliases, name);
    if (exact != model.aliases.end()) return *exact;
    if (names::is_same_name(model.name, name)) return std::nullopt;
    auto const same =
        std::ranges::find_if(model.aliases, [&](auto const& alias) { return names::is_same_name(alias, name); });
    return same == model.aliases.end() ? std::nullopt : std::optional(*same);
}

Error other_template(std::string const& name) {
    return {Code::unsupported,
            fmt::format("the chat template of model '{0}' is not the one it had at its first use; `hearth show "
                        "{0}` tells both, `hearth trust {0}` accepts the new one",
                        name),
            std::string(kTemplateChanged)};
}

Status pin(Keeper::Desk& desk, catalog::Model const& model) {
    HEARTH_TRY(auto* const catalog, desk.catalog());
    auto pinned = catalog::Pin::same;
    if (desk.writes()) {
        HEARTH_TRY(pinned, catalog->pin_template(model.name));
    } else if (model.template_changed()) {
        pinned = catalog::Pin::changed;
    }
    return pinned == catalog::Pin::changed ? Status(other_template(model.name)) : ok();
}

Status pin_file(Keeper::Desk& desk, std::string const& id, std::string const& path, std::string const& file) {
    HEARTH_TRY(auto* const catalog, desk.catalog());
    auto const sha256 = models::check_model(file).chat_template_sha256;
    HEARTH_TRY(auto const pinned, catalog->compare_file(id, path, sha256));
    if (pinned == catalog::Pin::changed) return other_template(id);
    return pinned == catalog::Pin::now && desk.writes() ? catalog->confirm_file(id, path, sha256) : ok();
}

Status confirm_file(Keeper::Desk& desk, std::string const& id, std::string const& path, std::string const& file) {
    HEARTH_CHECK(need_writer(desk));
    HEARTH_TRY(auto* const catalog, desk.catalog());
    return catalog->confirm_file(id, path, models::check_model(file).chat_template_sha256);
}

bool is_last_name(catalog::Model const& model, std::string_view alias) {
    auto const names = model.names();
    return names.size() == 1 && names.front() == alias;
}

bool has_other_names(catalog::Model const& model) {
    auto const names = model.names();
    return names.size() > 1 && std::ranges::find(names, model.name) != names.end();
}

// Of a folder there is one; other names for it are aliases.
bool gets_own_files(CopyOrder const& order) {
    auto const& model = *order.model;
    return model.layout == catalog::Layout::folder && fetch::is_file_name(copy_name(order)) &&
           !catalog::is_folder(model.files);
}

Status copy_model(Keeper::Desk& desk, CopyOrder const& order) {
    HEARTH_CHECK(need_writer(desk));
    auto const& model = *order.model;
    if (order.copies) HEARTH_CHECK(check_unchanged(order.copies->of));
    if (order.replaced) HEARTH_CHECK(delete_model(desk, *order.replaced));
    if (gets_own_files(order)) {
        auto const name = copy_name(order);
        if (order.alias) {
            HEARTH_TRY(auto* const catalog, desk.catalog());
            HEARTH_CHECK(catalog->remove_alias(*order.alias));
        }
        auto const folder = fs::path(model.files.front().path).parent_path().string();
        HEARTH_TRY(auto const alone, fetch::FolderLock::take(folder));
        // First: the copy is found once its weights are there.
        HEARTH_CHECK(catalog::copy_definition(folder, models::model_id(model.files.front().path), name));
        auto const& from = order.copies ? order.copies->path : model.files.front().path;
        HEARTH_TRY(auto const placed, fetch::import_local({from}, name, folder));
        static_cast<void>(placed);
        HEARTH_CHECK(desk.scan());
        return note_made(desk, name);
    } else {
        HEARTH_TRY(auto const parsed, names::parse_model_name(order.destination));
        HEARTH_TRY(auto* const catalog, desk.catalog());
        HEARTH_CHECK(catalog->set_alias(names::short_name(parsed), model.name));
    }
    return desk.scan();
}

Status may_replace(catalog::Model const& model, std::string const& destination) {
    HEARTH_CHECK(may_delete(model));
    auto const names = model.names();
    if (names.size() == 1 && names.front() == model.name) return ok();
    auto const other = std::ranges::find_if(names, [&](auto const& name) { return name != model.name; });
    return Error(Code::invalid_argument,
                 fmt::format("'{}' is the file of model '{}', which would go with it: delete that first, or give the "
                             "copy another name",
                             destination, *other),
                 "destination");
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
    // The note lies beside what is served: beside the file, or beside the folder.
    fs::path const served(catalog::served_from(model.files));
    auto const folder = served.parent_path();
    {
        HEARTH_TRY(auto const alone, fetch::FolderLock::take(folder.string()));
        // The first file goes first: without it the model is not found any more.
        for (auto const& file : model.files) HEARTH_CHECK(erase(file.path));
        for (auto const& file : model.files) HEARTH_CHECK(erase(file.path + std::string(kDamagedSuffix)));
        HEARTH_CHECK(catalog::remove_definition(folder.string(), models::model_id(served.string())));
        if (catalog::is_folder(model.files)) HEARTH_CHECK(erase_empty(served, model.files));
    }
    HEARTH_TRY(auto* const catalog, desk.catalog());
    for (auto const& alias : model.aliases) HEARTH_CHECK(catalog->remove_alias(alias));
    return desk.scan();
}

Status remove_alias(Keeper::Desk& desk, catalog::Model const& model, std::string const& alias) {
    HEARTH_CHECK(need_writer(desk));
    HEARTH_TRY(auto* const catalog, desk.catalog());
    HEARTH_CHECK(catalog->remove_alias(alias));
    bool const pulled_as_it = model.pulled == std::vector<std::string>{alias};
    for (auto const& other : model.aliases)
        if (pulled_as_it && other != alias) HEARTH_CHECK(catalog->set_alias(other, model.name, catalog::AliasBy::pull));
    return desk.scan();
}

Status leave_to_others(Keeper::Desk& desk, catalog::Model const& model) {
    HEARTH_CHECK(need_writer(desk));
    HEARTH_TRY(auto* const catalog, desk.catalog());
    for (auto const& alias : model.aliases) HEARTH_CHECK(catalog->set_alias(alias, model.name, catalog::AliasBy::pull));
    return desk.scan();
}

Status name_at_desk(Keeper::Desk& desk, PullWish const& wish, fetch::Pulled const& pulled) {
    if (!desk.writes()) return ok();
    HEARTH_TRY(auto* const catalog, desk.catalog());
    HEARTH_CHECK(name_pulled(*catalog, wish, pulled));
    return desk.scan();
}

}  // namespace hearth::library

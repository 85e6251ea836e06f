#include "catalog/create.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <optional>
#include <system_error>
#include <utility>

#include <fmt/format.h>

#include "catalog/layouts.h"
#include "catalog/locate.h"
#include "catalog/notes.h"
#include "modelfile/known_templates.h"
#include "models/adapter.h"
#include "models/gguf.h"
#include "models/names.h"
#include "models/report.h"

namespace hearth::catalog {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kSource = "create";  // of a definition that create_model() wrote
constexpr std::string_view kBlobPrefix = "sha256-";

// The name of the files of a model of that name.
Result<std::string> stem_of(std::string const& name) {
    HEARTH_TRY(auto const parsed, models::parse_model_name(name));
    bool const plain = parsed.host == models::kNameHostDefault && parsed.space == models::kNameNamespaceDefault;
    if (!plain)
        return Error(Code::unsupported,
                     fmt::format("'{}': models with a namespace or a host in their name cannot be created yet", name),
                     "model");
    return parsed.tag == models::kNameTagDefault ? parsed.model : parsed.model + ":" + parsed.tag;
}

// Every file of the model whose first is `path`, with the name it gets.
std::vector<std::pair<std::string, std::string>> files_of(std::string const& path, std::string const& stem) {
    auto const split = models::parse_split_name(path);
    if (!split) return {{path, stem + ".gguf"}};
    std::vector<std::pair<std::string, std::string>> out;
    for (std::uint32_t i = 1; i <= split->count; ++i)
        out.emplace_back(models::split_path(split->prefix, i, split->count), models::split_path(stem, i, split->count));
    return out;
}

// What the model of that name has for files, and may lose; empty if there is none, or it is `from` itself.
Result<std::vector<std::string>> check_place(std::string const& stem, std::string const& from, std::string const& note,
                                             std::vector<std::string> const& folders) {
    std::vector<std::string> files;
    auto const there = locate(stem, folders);
    if (!there && there.error().code == Code::not_found) return files;
    if (!there) return there.error();
    std::error_code failed;
    if (!from.empty() && fs::equivalent(there->path, from, failed)) return files;
    HEARTH_TRY(auto const old, read_note(note));
    bool const ours =
        old && old->source == kSource && fs::path(there->path).parent_path() == fs::path(note).parent_path();
    for (auto const& [path, unused] : files_of(there->path, stem)) files.push_back(path);
    if (ours) return files;
    return Error(Code::invalid_argument,
                 fmt::format("there is a model '{}' already that was not created here; choose another name", stem),
                 "model");
}

// The adapters fit the model in `base`.
Status check_adapters(std::vector<modelfile::Adapter> const& adapters, std::string const& base) {
    if (adapters.empty()) return ok();
    HEARTH_TRY(auto const model, models::read_gguf_model(base));
    for (auto const& adapter : adapters) {
        HEARTH_TRY(auto const file, models::read_adapter(adapter.file));
        HEARTH_CHECK(models::check_adapter(file, model));
    }
    return ok();
}

}  // namespace

Result<Created> create_model(std::string const& name, modelfile::Modelfile const& modelfile,
                             std::vector<std::string> const& folders, std::string const& weights) {
    if (folders.empty()) return Error(Code::unavailable, "there is no models folder to create a model in");
    HEARTH_TRY(auto const stem, stem_of(name));
    Located base;
    modelfile::Definition old;
    if (!modelfile.from.empty()) {
        HEARTH_TRY(base, locate(modelfile.from, folders));
        HEARTH_TRY(old, definition_of(base.id, base.path, folders));
    }
    auto const& source = weights.empty() ? base.path : weights;
    auto const report = models::check_model(source);
    if (!report.problems.empty()) {
        // Where uploaded files lie is nobody's business.
        auto const shown = weights.empty() ? base.path : fs::path(weights).filename().string();
        return Error(Code::corrupt, fmt::format("'{}': {}", shown, report.problems.front()));
    }
    HEARTH_TRY(auto definition, modelfile::apply(modelfile, old));
    definition.source = kSource;
    definition.from = base.id;

    HEARTH_CHECK(check_adapters(definition.adapters, source));

    auto const& folder = folders.front();
    std::error_code failed;
    fs::create_directories(folder, failed);
    if (failed) return disk_error("make", folder, failed);
    auto const note = note_path(folder, stem);
    HEARTH_TRY(auto const replaced, check_place(stem, weights.empty() ? base.path : std::string(), note, folders));
    HEARTH_CHECK(place_definition(folder, stem, std::move(definition)));
    auto const files = files_of(source, stem);
    for (auto i = files.size(); i-- > 0;) HEARTH_CHECK(place(files[i].first, folder + "/" + files[i].second));
    for (auto const& path : replaced) {
        bool const taken =
            std::ranges::any_of(files, [&](auto const& file) { return folder + "/" + file.second == path; });
        if (!taken) fs::remove(path, failed);
    }

    Created created{stem, folder + "/" + files.front().second, {}};
    if (!modelfile.template_text.empty() && modelfile::find_known_template(modelfile.template_text) == nullptr)
        created.warnings.emplace_back(
            "TEMPLATE is none of the known ones: it is kept to be shown; the chat template of the model's file is "
            "used");
    return created;
}

Result<modelfile::Definition> definition_of(std::string const& id, std::string const& path,
                                            std::vector<std::string> const& folders) {
    fs::path const file(path);
    HEARTH_TRY(auto note, read_note(note_path(file.parent_path(), models::model_id(path))));
    if (note) {
        for (auto& adapter : note->adapters) adapter.file = (file.parent_path() / adapter.file).string();
        return *std::move(note);
    }
    modelfile::Definition out;
    if (!file.filename().string().starts_with(kBlobPrefix)) return out;
    // Several of Ollama's models may share a file; the name says which is meant.
    auto const findings = find_models(folders);
    Found const* found = nullptr;
    for (auto const& model : findings.models) {
        if (model.layout != Layout::ollama || model.files.front().path != path) continue;
        if (found == nullptr || models::is_same_name(model.name, id)) found = &model;
    }
    if (found == nullptr) return out;
    out.source = found->source;
    out.system = found->system;
    out.options = found->options;
    out.template_text = found->template_text;
    out.license = found->license;
    HEARTH_TRY(out.messages, modelfile::read_messages(found->messages));
    return out;
}

}  // namespace hearth::catalog

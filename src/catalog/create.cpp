#include "catalog/create.h"

#include <algorithm>
#include <filesystem>
#include <optional>
#include <system_error>
#include <utility>

#include <fmt/format.h>

#include "catalog/layouts.h"
#include "catalog/locate.h"
#include "catalog/notes.h"
#include "fetch/folder_lock.h"
#include "modelfile/known_templates.h"
#include "models/adapter.h"
#include "models/gguf.h"
#include "models/report.h"
#include "names/names.h"

namespace hearth::catalog {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kSource = "create";  // of a definition that create_model() wrote
constexpr std::string_view kBlobPrefix = "sha256-";
constexpr std::size_t kStemBytesMax = 200;

// What the model is called from now on.
Result<std::string> name_of(std::string const& name) {
    HEARTH_TRY(auto const parsed, names::parse_model_name(name));
    auto local = names::local_name(parsed);
    auto const bytes = names::to_file_stem(local).size();
    if (bytes > kStemBytesMax)
        return Error(
            Code::invalid_argument,
            fmt::format("'{}' would be a file's name of {} bytes, the limit is {}", local, bytes, kStemBytesMax),
            "model");
    return local;
}

// A folder of safetensors that is no model of `folders`, named by its path, gives its note to what was made of it.
Result<Located> base_of(std::string const& from, NewWeights const& weights, std::vector<std::string> const& folders) {
    std::error_code failed;
    bool const named = !weights.path.empty() && fs::path(from).is_absolute() && fs::is_directory(from, failed);
    return named ? Result<Located>({from, models::model_id(from)}) : locate(from, folders);
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
Result<std::vector<std::string>> check_place(std::string const& name, std::string const& from, std::string const& note,
                                             std::vector<std::string> const& folders) {
    std::vector<std::string> files;
    auto const there = locate(name, folders);
    if (!there && there.error().code == Code::not_found) return files;
    if (!there) return there.error();
    std::error_code failed;
    if (!from.empty() && fs::equivalent(there->path, from, failed)) return files;
    HEARTH_TRY(auto const old, read_note(note));
    bool const ours =
        old && old->source == kSource && fs::path(there->path).parent_path() == fs::path(note).parent_path();
    for (auto const& [path, unused] : files_of(there->path, name)) files.push_back(path);
    if (ours) return files;
    return Error(Code::invalid_argument,
                 fmt::format("there is a model '{}' already that was not created here; choose another name", name),
                 "model");
}

// The adapters fit the model in `base`.
Status check_adapters(std::vector<modelfile::Adapter> const& adapters, std::string const& base) {
    if (adapters.empty()) return ok();
    HEARTH_TRY(auto const model, models::read_gguf_model(base));
    for (auto const& adapter : adapters) {
        auto const file = models::read_adapter(adapter.file);
        auto const fits = file ? models::check_adapter(*file, model) : Status(file.error());
        if (!fits) return Error(fits.error().code, fits.error().message, std::string(kAdaptersParam));
    }
    return ok();
}

// What is recorded of the files of the model whose first one is `path`; nothing where not all of it is.
std::vector<std::string> recorded_sha256s(std::string const& path, std::vector<std::string> const& folders) {
    std::vector<std::string> out;
    auto const findings = find_models(folders);
    std::error_code failed;
    auto const found = std::ranges::find_if(
        findings.models, [&](auto const& model) { return fs::equivalent(model.files.front().path, path, failed); });
    if (found == findings.models.end() || !std::ranges::all_of(found->files, &ModelFile::recorded)) return out;
    for (auto const& file : found->files) out.push_back(file.sha256);
    return out;
}

// What the new files are: their names, sizes, and hashes where those are known.
std::vector<modelfile::RecordedFile> record(std::vector<std::pair<std::string, std::string>> const& files,
                                            std::vector<std::string> const& sha256s) {
    std::vector<modelfile::RecordedFile> out;
    for (std::size_t i = 0; i < files.size(); ++i) {
        std::error_code failed;
        auto const bytes = fs::file_size(files[i].first, failed);
        auto& file = out.emplace_back();
        file.name = files[i].second;
        file.size = failed ? 0 : bytes;
        if (sha256s.size() == files.size()) file.sha256 = sha256s[i];
    }
    return out;
}

}  // namespace

Result<Created> create_model(std::string const& name, modelfile::Modelfile const& modelfile,
                             std::vector<std::string> const& folders, NewWeights const& weights) {
    if (folders.empty()) return Error(Code::unavailable, "there is no models folder to create a model in");
    HEARTH_TRY(auto const local, name_of(name));
    auto const stem = names::to_file_stem(local);
    Located base;
    modelfile::Definition old;
    if (!modelfile.from.empty()) {
        HEARTH_TRY(base, base_of(modelfile.from, weights, folders));
        HEARTH_TRY(old, definition_of(base.id, base.path, folders));
    }
    auto const& source = weights.path.empty() ? base.path : weights.path;
    auto const report = models::check_model(source);
    if (!report.problems.empty()) {
        // Where uploaded files lie is nobody's business.
        auto const shown = weights.path.empty() ? base.path : fs::path(source).filename().string();
        return Error(Code::corrupt, fmt::format("'{}': {}", shown, report.problems.front()));
    }
    HEARTH_TRY(auto definition, modelfile::apply(modelfile, old));
    definition.source = kSource;
    definition.revision.clear();
    definition.from = base.id;
    auto const files = files_of(source, stem);
    bool const same = weights.path.empty() || weights.copied;
    definition.files = record(files, same ? recorded_sha256s(base.path, folders) : weights.sha256s);

    HEARTH_CHECK(check_adapters(definition.adapters, source));

    auto const& folder = folders.front();
    std::error_code failed;
    fs::create_directories(folder, failed);
    if (failed) return disk_error("make", folder, failed);
    HEARTH_TRY(auto const alone, fetch::FolderLock::take(folder));
    auto const note = note_path(folder, local);
    HEARTH_TRY(auto const replaced, check_place(local, same ? base.path : std::string(), note, folders));
    // First what may find no room: the weights that are there go on with the definition they have.
    std::vector<Arrivals::File> coming;
    coming.reserve(files.size());
    for (auto const& [from, to] : files) coming.push_back({from, fmt::format("{}/{}", folder, to)});
    HEARTH_TRY(auto arrivals, Arrivals::stage(coming));
    HEARTH_CHECK(place_definition(folder, local, std::move(definition)));
    HEARTH_CHECK(arrivals.settle());
    for (auto const& path : replaced) {
        bool const taken =
            std::ranges::any_of(files, [&](auto const& file) { return folder + "/" + file.second == path; });
        if (!taken) fs::remove(path, failed);
    }

    Created created{local, folder + "/" + files.front().second, {}};
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
        if (found == nullptr || names::is_same_name(model.name, id)) found = &model;
    }
    if (found == nullptr) return out;
    out.source = found->source;
    out.system = found->system;
    out.options = found->options;
    out.template_text = found->template_text;
    out.license = found->license;
    for (auto const& adapter : found->adapters) out.adapters.push_back({adapter, 1});
    HEARTH_TRY(out.messages, modelfile::read_messages(found->messages));
    return out;
}

}  // namespace hearth::catalog

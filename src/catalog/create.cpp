#include "catalog/create.h"

#include <fcntl.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>
#include <system_error>
#include <utility>

#include <fmt/format.h>

#include "catalog/layouts.h"
#include "catalog/locate.h"
#include "models/gguf.h"
#include "models/names.h"
#include "models/report.h"

namespace hearth::catalog {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kSource = "create";  // of a definition that create_model() wrote
constexpr std::string_view kBlobPrefix = "sha256-";

Error disk_error(std::string_view what, std::string const& path, std::error_code failed) {
    return {Code::io, fmt::format("cannot {} '{}': {}", what, path, failed.message())};
}

std::string note_path(fs::path const& folder, std::string const& model) {
    return (folder / (model + std::string(modelfile::kDefinitionSuffix))).string();
}

Result<std::optional<modelfile::Definition>> read_note(std::string const& path) {
    std::error_code failed;
    auto const bytes = fs::file_size(path, failed);
    if (failed) return std::optional<modelfile::Definition>();
    if (bytes > modelfile::kDefinitionBytesMax)
        return Error(Code::corrupt,
                     fmt::format("'{}' has {} bytes, the limit is {}", path, bytes, modelfile::kDefinitionBytesMax));
    std::ifstream file(path, std::ios::binary);
    auto read = modelfile::read_definition({std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()});
    if (!read) return Error(Code::corrupt, fmt::format("'{}': {}", path, read.error().message));
    return std::optional(*std::move(read));
}

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

// `made` gets its final name once it is on the medium.
Status settle(std::string const& made, std::string const& path) {
    int const file = ::open(made.c_str(), O_RDONLY | O_CLOEXEC);
    bool const synced = file >= 0 && ::fsync(file) == 0;
    if (file >= 0) ::close(file);
    std::error_code failed;
    if (!synced) failed = std::error_code(errno, std::generic_category());
    else fs::rename(made, path, failed);
    if (!failed) return ok();
    std::error_code ignored;
    fs::remove(made, ignored);
    return disk_error("write", path, failed);
}

Status write_note(std::string const& path, modelfile::Definition const& definition) {
    auto const made = path + ".new";
    std::ofstream file(made, std::ios::binary | std::ios::trunc);
    file << modelfile::write_definition(definition);
    file.close();
    if (!file) return disk_error("write", made, std::error_code(errno, std::generic_category()));
    return settle(made, path);
}

// A link, or a copy where there can be none.
Status place(fs::path const& from, std::string const& path) {
    std::error_code failed;
    if (fs::equivalent(from, path, failed)) return ok();
    auto const made = path + ".new";
    fs::remove(made, failed);
    auto const real = fs::canonical(from, failed);
    if (failed) return disk_error("read", from.string(), failed);
    fs::create_hard_link(real, made, failed);
    if (failed) {
        auto const bytes = fs::file_size(real, failed);
        auto const room = fs::space(fs::path(path).parent_path(), failed).available;
        if (!failed && room < bytes)
            return Error(Code::too_large, fmt::format("'{}' needs {} bytes, the disk has {} left", path, bytes, room));
        fs::copy_file(real, made, failed);
        if (failed) return disk_error("write", made, failed);
    }
    return settle(made, path);
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

Status check_place(std::string const& stem, std::string const& from_id, std::string const& note,
                   std::vector<std::string> const& folders) {
    if (models::is_same_name(stem, from_id)) return ok();
    auto const there = locate(stem, folders);
    if (!there) return there.error().code == Code::not_found ? ok() : Status(there.error());
    HEARTH_TRY(auto const old, read_note(note));
    if (old && old->source == kSource) return ok();
    return Error(Code::invalid_argument,
                 fmt::format("there is a model '{}' already that was not created here; choose another name", stem),
                 "model");
}

Status check_supported(modelfile::Modelfile const& modelfile) {
    if (modelfile.adapters.empty()) return ok();
    return Error(Code::unsupported, "ADAPTER: models with adapters cannot be created yet", "adapters");
}

}  // namespace

Result<Created> create_model(std::string const& name, modelfile::Modelfile const& modelfile,
                             std::vector<std::string> const& folders) {
    if (folders.empty()) return Error(Code::unavailable, "there is no models folder to create a model in");
    HEARTH_CHECK(check_supported(modelfile));
    HEARTH_TRY(auto const stem, stem_of(name));
    HEARTH_TRY(auto const base, locate(modelfile.from, folders));
    auto const report = models::check_model(base.path);
    if (!report.problems.empty())
        return Error(Code::corrupt, fmt::format("'{}': {}", base.path, report.problems.front()));
    HEARTH_TRY(auto const old, definition_of(base.id, base.path, folders));
    HEARTH_TRY(auto definition, modelfile::apply(modelfile, old));
    definition.source = kSource;
    definition.from = base.id;

    auto const& folder = folders.front();
    std::error_code failed;
    fs::create_directories(folder, failed);
    if (failed) return disk_error("make", folder, failed);
    auto const note = note_path(folder, stem);
    HEARTH_CHECK(check_place(stem, base.id, note, folders));
    HEARTH_CHECK(write_note(note, definition));
    auto const files = files_of(base.path, stem);
    for (auto i = files.size(); i-- > 0;) HEARTH_CHECK(place(files[i].first, folder + "/" + files[i].second));

    Created created{stem, folder + "/" + files.front().second, {}};
    if (!modelfile.template_text.empty())
        created.warnings.emplace_back("TEMPLATE is kept to be shown; the chat template of the model's file is used");
    return created;
}

Result<modelfile::Definition> definition_of(std::string const& id, std::string const& path,
                                            std::vector<std::string> const& folders) {
    fs::path const file(path);
    HEARTH_TRY(auto note, read_note(note_path(file.parent_path(), models::model_id(path))));
    if (note) return *std::move(note);
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

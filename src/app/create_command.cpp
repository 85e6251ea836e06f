// `hearth create`: a model of another one, or of files of this machine, and a Modelfile.
// A server that runs makes it, and is given the files; else this process does.

#include <algorithm>
#include <array>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <map>
#include <optional>
#include <utility>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "app/cli.h"
#include "app/commands.h"
#include "app/environment.h"
#include "app/library_commands.h"
#include "app/making.h"
#include "app/progress_line.h"
#include "base/ascii.h"
#include "catalog/create.h"
#include "catalog/locate.h"
#include "digest/sha256.h"
#include "formats/source.h"
#include "library/creation.h"
#include "models/gguf.h"

namespace hearth::app {
namespace {

namespace fs = std::filesystem;
using nlohmann::ordered_json;

// One byte more than may be there tells that there is too much.
Result<std::string> read_modelfile(std::string const& path) {
    std::ifstream opened;
    if (path != "-") {
        opened.open(path, std::ios::binary);
        if (!opened) return Error(Code::not_found, fmt::format("cannot read '{}'", path), "--file");
    }
    std::istream& in = path == "-" ? std::cin : opened;
    std::string text(modelfile::kBytesMax + 1, '\0');
    in.read(text.data(), static_cast<std::streamsize>(text.size()));
    text.resize(static_cast<std::size_t>(in.gcount()));
    return text;
}

bool is_source(fs::path const& path) {
    std::error_code failed;
    return fs::is_regular_file(path, failed) || formats::is_model_folder(path.string()) ||
           formats::is_adapter_folder(path.string());
}

// FROM and ADAPTER name a file or a folder beside the Modelfile, if there is one.
std::string source_or_name(std::string const& from, std::string const& modelfile) {
    if (modelfile == "-" || fs::path(from).is_absolute()) return from;
    auto const beside = fs::path(modelfile).parent_path() / from;
    return is_source(beside) ? beside.string() : from;
}

std::string dumped(ordered_json const& json) {
    return json.dump(-1, ' ', false, ordered_json::error_handler_t::replace);
}

// --- by the server -----------------------------------------------------------

// Which files of a folder belong to its model.
bool is_of_a_model(std::string const& name) {
    constexpr std::array<std::string_view, 6> kEndings{".safetensors", ".json", ".jinja",
                                                       ".model",       ".txt",  "readme.md"};
    auto const lower = ascii_lower(name);
    return !name.starts_with('.') &&
           std::ranges::any_of(kEndings, [&](std::string_view ending) { return lower.ends_with(ending); });
}

// Of folders inside, which hold a part's config, the JSON files, as FOLDER/FILE.
void add_files(fs::path const& folder, std::string const& prefix, std::map<std::string, std::string>& files) {
    std::error_code failed;
    for (fs::directory_iterator entry(folder, failed), end; !failed && entry != end; entry.increment(failed)) {
        auto const name = entry->path().filename().string();
        bool const wanted = prefix.empty() ? is_of_a_model(name) : name.ends_with(".json") && is_of_a_model(name);
        std::error_code unknown;
        if (entry->is_regular_file(unknown) && wanted) files[prefix + name] = entry->path().string();
        bool const inside = prefix.empty() && !name.starts_with('.') && entry->is_directory(unknown);
        if (inside) add_files(entry->path(), name + "/", files);
    }
}

// The files that FROM means, by the names they have.
Result<std::map<std::string, std::string>> files_of(std::string const& from) {
    std::map<std::string, std::string> files;
    if (formats::is_model_folder(from)) {
        add_files(from, "", files);
        if (files.size() > library::kCreateFilesMax)
            return Error(Code::too_large, fmt::format("'{}' holds {} files of a model, the limit is {}", from,
                                                      files.size(), library::kCreateFilesMax));
        return files;
    }
    auto const split = models::parse_split_name(from);
    for (std::uint32_t i = 1; split && i <= std::min<std::size_t>(split->count, library::kCreateFilesMax); ++i) {
        auto const path = models::split_path(split->prefix, i, split->count);
        files[fs::path(path).filename().string()] = path;
    }
    if (!split) files[fs::path(from).filename().string()] = from;
    return files;
}

// The files that ADAPTER means, each by a name of its own: two adapters may be called the same.
Result<std::vector<std::pair<std::string, std::string>>> adapter_files_of(modelfile::Modelfile const& modelfile) {
    std::vector<std::pair<std::string, std::string>> files;
    for (std::size_t i = 0; i < modelfile.adapters.size(); ++i) {
        auto const& path = modelfile.adapters[i];
        if (!formats::is_adapter_folder(path)) {
            files.emplace_back(fmt::format("{}-{}", i + 1, fs::path(path).filename().string()), path);
            continue;
        }
        for (auto const* const name : {"adapter_config.json", "adapter_model.safetensors"}) {
            auto const file = fs::path(path) / name;
            std::error_code failed;
            if (!fs::is_regular_file(file, failed))
                return Error(Code::not_found, fmt::format("{}: there is no such file", file.string()), "ADAPTER");
            files.emplace_back(fmt::format("{}/{}", i + 1, name), file.string());
        }
    }
    return files;
}

// Its digest, once the server has it.
Result<std::string> upload(ServerClient const& server, std::string const& name, std::string const& path,
                           ProgressLine& line) {
    line.show("reading " + name);
    HEARTH_TRY(auto const hex, digest::sha256_of_file(path));
    auto const digest = "sha256:" + hex;
    auto const target = "/api/blobs/" + digest;
    // It waits behind uploads that reach the medium at the moment.
    HEARTH_TRY(auto const there, server.ask("HEAD", target, {}, kWorkTimeout));
    if (there.status == 200) return digest;
    if (there.status != 404) return error_of(there);
    std::error_code failed;
    auto const bytes = fs::file_size(path, failed);
    if (failed) return Error(Code::io, fmt::format("cannot read '{}': {}", path, failed.message()));
    HEARTH_TRY(auto const answer, server.upload(target, path, bytes, [&](std::uint64_t sent) {
        line.show("uploading " + name, sent, bytes);
    }));
    if (answer.status / 100 != 2) return error_of(answer);
    return digest;
}

Result<ordered_json> body_of(CreateFlags const& flags, modelfile::Modelfile const& modelfile) {
    ordered_json body{{"model", flags.name}};
    if (!flags.quantize.empty()) body["quantize"] = flags.quantize;
    if (!modelfile.template_text.empty()) body["template"] = modelfile.template_text;
    if (!modelfile.system.empty()) body["system"] = modelfile.system;
    if (!modelfile.needs.empty()) body["requires"] = modelfile.needs;
    if (!modelfile.licenses.empty()) body["license"] = modelfile.licenses;
    HEARTH_TRY(auto const options, modelfile::to_options(modelfile.parameters));
    if (!options.empty()) body["parameters"] = ordered_json::parse(options);
    for (auto const& [role, content] : modelfile.messages)
        body["messages"].push_back({{"role", role}, {"content", content}});
    return body;
}

// Throws what the JSON library throws for an answer of another shape.
Result<catalog::Created> make_by(ServerClient const& server, CreateFlags const& flags,
                                 modelfile::Modelfile const& modelfile, ProgressLine& line) {
    HEARTH_TRY(auto body, body_of(flags, modelfile));
    if (is_source(modelfile.from)) {
        HEARTH_TRY(auto const files, files_of(modelfile.from));
        for (auto const& [name, path] : files) {
            HEARTH_TRY(auto const digest, upload(server, name, path, line));
            body["files"][name] = digest;
        }
    } else {
        body["from"] = modelfile.from;
    }
    HEARTH_TRY(auto const adapters, adapter_files_of(modelfile));
    for (auto const& [name, path] : adapters) {
        HEARTH_TRY(auto const digest, upload(server, name, path, line));
        body["adapters"][name] = digest;
    }
    constexpr std::string_view kWarning = "warning: ";
    catalog::Created created{flags.name, {}, {}};
    std::optional<Error> failed = Error(Code::io, "the server stopped before the model was made");
    HEARTH_TRY(auto const answer, server.post_stream("/api/create", dumped(body), [&](std::string_view text) {
        auto const said = ordered_json::parse(text);
        if (said.contains("error")) failed = Error(Code::io, said["error"].get<std::string>());
        auto const status = said.value("status", "");
        if (status == "success") failed.reset();
        if (status.starts_with(kWarning)) created.warnings.push_back(status.substr(kWarning.size()));
        else if (!status.empty())
            line.show(status, said.value("completed", std::uint64_t{0}), said.value("total", std::uint64_t{0}));
        return true;
    }));
    if (answer.status != 200) return error_of(answer);
    if (failed) return *failed;
    return created;
}

Result<catalog::Created> create_by(ServerClient const& server, CreateFlags const& flags,
                                   modelfile::Modelfile const& modelfile) {
    ProgressLine line;
    try {
        auto created = make_by(server, flags, modelfile, line);
        line.end();
        return created;
    } catch (nlohmann::json::exception const&) {
        return Error(Code::corrupt, fmt::format("the server at {} does not answer as Hearth does", server.url()));
    }
}

// --- in this process ---------------------------------------------------------

Status make_file(formats::Order const& order) {
    MakingLine line;
    HEARTH_TRY(auto const made, formats::make(order, workshop(),
                                              [&](formats::Progress const& progress) { return line.show(progress); }));
    static_cast<void>(made);
    return ok();
}

// The folder or the file that FROM means.
Result<std::string> source_of(std::string const& from, std::vector<std::string> const& folders) {
    if (formats::is_model_folder(from)) return from;
    HEARTH_TRY(auto located, catalog::locate(from, folders));
    return std::move(located.path);
}

// Adapters as PEFT saves them become files in `staging`, for the model whose file is `base`.
Status convert_adapters(modelfile::Modelfile& modelfile, std::string const& base, std::string const& staging) {
    for (std::size_t i = 0; i < modelfile.adapters.size(); ++i) {
        auto& adapter = modelfile.adapters[i];
        if (!formats::is_adapter_folder(adapter)) continue;
        auto const output = fmt::format("{}/adapter-{}.gguf", staging, i + 1);
        HEARTH_CHECK(make_file({.source = adapter, .base = base, .output = output, .form = {}}));
        adapter = output;
    }
    return ok();
}

Result<catalog::Created> create_here(CreateFlags const& flags, modelfile::Modelfile modelfile) {
    auto const folders = models_folders(flags.models_dirs);
    HEARTH_TRY(auto source, source_of(modelfile.from, folders));
    bool const made = formats::is_model_folder(source) || !flags.quantize.empty();
    bool const adapted = std::ranges::any_of(modelfile.adapters, formats::is_adapter_folder);
    if (!made && !adapted) return catalog::create_model(flags.name, modelfile, folders);
    if (folders.empty()) return Error(Code::unavailable, "there is no models folder to create a model in");
    formats::Form form;
    if (!flags.quantize.empty()) {
        HEARTH_TRY(form, form_for(flags.quantize, source));
    }
    HEARTH_TRY(auto const staging, library::StagingFolder::create(folders.front()));
    std::string weights;
    if (made) {
        weights = staging.path() + "/model.gguf";
        HEARTH_CHECK(make_file({.source = source, .output = weights, .form = form, .mode = usual_file_mode()}));
    }
    HEARTH_CHECK(convert_adapters(modelfile, made ? weights : source, staging.path()));
    // A folder that is named by its path is no model here.
    if (formats::is_model_folder(modelfile.from)) modelfile.from.clear();
    catalog::NewWeights files;
    if (made) {
        files.path = weights;
        HEARTH_TRY(auto sha256, digest::sha256_of_file(weights));
        files.sha256s.push_back(std::move(sha256));
    }
    return catalog::create_model(flags.name, modelfile, folders, files);
}

Result<catalog::Created> make(CreateFlags const& flags) {
    HEARTH_TRY(auto const text, read_modelfile(flags.file));
    HEARTH_TRY(auto modelfile, modelfile::parse_modelfile(text));
    modelfile.from = source_or_name(modelfile.from, flags.file);
    for (auto& adapter : modelfile.adapters) adapter = source_or_name(adapter, flags.file);
    HEARTH_TRY(auto const server, server_for(flags.host, !flags.models_dirs.empty()));
    return server ? create_by(*server, flags, modelfile) : create_here(flags, std::move(modelfile));
}

}  // namespace

int create(CreateFlags const& flags) {
    auto const created = make(flags);
    if (!created && created.error().code == Code::cancelled) {
        fmt::print(stderr, "hearth: stopped; nothing was written\n");
        return kExitInterrupted;
    }
    if (!created) return report_client(created.error());
    for (auto const& warning : created->warnings) fmt::print(stderr, "hearth: {}\n", warning);
    if (!flags.json) return write_out(fmt::format("created {}\n", created->name));
    ordered_json out = {{"model", created->name}};
    if (!created->path.empty()) out["path"] = created->path;  // of this machine, if it was made here
    out["warnings"] = created->warnings;
    return write_out(out.dump(2) + "\n");
}

}  // namespace hearth::app

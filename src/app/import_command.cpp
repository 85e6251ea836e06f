// `hearth import`: folders of models that are used where they are from now on.
//
// They are written down in the data folder, which a running server looks at.
#include <algorithm>
#include <array>
#include <filesystem>
#include <string>
#include <system_error>
#include <vector>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "app/cli.h"
#include "app/commands.h"
#include "app/environment.h"
#include "app/pull_display.h"
#include "app/text_table.h"
#include "catalog/catalog.h"
#include "catalog/imported.h"
#include "catalog/layouts.h"
#include "models/report.h"

namespace hearth::app {
namespace {

using nlohmann::ordered_json;

struct Looked {
    std::string folder;
    catalog::Findings findings;
    std::vector<std::string> problems;  // of each model: why it cannot be served; empty: it can
};

Result<std::vector<std::string>> folders_of(ImportFlags const& flags) {
    if (flags.folders.empty()) return well_known_folders();
    std::vector<std::string> folders;
    for (auto const& given : flags.folders) {
        std::error_code failed;
        auto const real = std::filesystem::canonical(given, failed);
        if (failed && flags.forget) folders.push_back(std::filesystem::absolute(given).string());
        else if (failed || !std::filesystem::is_directory(real, failed))
            return Error(Code::not_found, fmt::format("'{}' is no folder", given), "folder");
        else folders.push_back(real.string());
    }
    return folders;
}

std::uint64_t bytes_of(catalog::Found const& model) {
    std::uint64_t sum = 0;
    for (auto const& file : model.files) sum += file.bytes;
    return sum;
}

Looked look_into(std::string const& folder) {
    Looked looked{folder, catalog::find_models({folder}), {}};
    for (auto const& model : looked.findings.models) {
        looked.problems.push_back(catalog::problem_of(model));
    }
    return looked;
}

ordered_json to_json(Looked const& looked) {
    auto models = ordered_json::array(), refused = ordered_json::array();
    for (std::size_t i = 0; i < looked.problems.size(); ++i) {
        auto const& model = looked.findings.models[i];
        models.push_back({{"name", model.name},
                          {"layout", to_string(model.layout)},
                          {"size", bytes_of(model)},
                          {"problem", looked.problems[i]}});
    }
    for (auto const& [path, why] : looked.findings.refused) refused.push_back({{"path", path}, {"why", why}});
    return {{"folder", looked.folder}, {"models", models}, {"refused", refused}};
}

std::string to_text(Looked const& looked) {
    auto out = printable(looked.folder) + '\n';
    std::vector<std::array<std::string, 4>> rows;
    for (std::size_t i = 0; i < looked.problems.size(); ++i) {
        auto const& model = looked.findings.models[i];
        rows.push_back({"  " + printable(model.name), human_bytes(bytes_of(model)),
                        std::string(to_string(model.layout)),
                        looked.problems[i].empty() ? "" : "refused: " + printable(looked.problems[i])});
    }
    if (!rows.empty()) out += text_table(rows);
    for (auto const& [path, why] : looked.findings.refused)
        out += fmt::format("  refused: {}: {}\n", printable(path), printable(why));
    if (rows.empty()) out += "  no models\n";
    return out;
}

Status remember(std::string const& data, std::vector<std::string> const& folders, bool forget) {
    auto known = catalog::imported_folders(data);
    for (auto const& folder : folders) {
        auto const at = std::ranges::find(known, folder);
        if (forget && at != known.end()) known.erase(at);
        if (!forget && at == known.end()) known.push_back(folder);
    }
    return catalog::set_imported_folders(data, known);
}

int print(std::vector<Looked> const& all, bool json) {
    std::string out;
    auto array = ordered_json::array();
    for (auto const& looked : all) {
        out += to_text(looked);
        array.push_back(to_json(looked));
    }
    return write_out(json ? array.dump(2, ' ', false, ordered_json::error_handler_t::replace) + '\n' : out);
}

}  // namespace

int import_models(ImportFlags const& flags) {
    auto const data = data_folder(flags.data_dir);
    if (data.empty())
        return report(Error(Code::invalid_argument, "no folder to remember models in: give --data-dir, or set HOME",
                            "--data-dir"));
    auto const folders = folders_of(flags);
    if (!folders) return report(folders.error());
    if (flags.forget) {
        auto const forgotten = remember(data, *folders, true);
        return forgotten ? kExitOk : report(forgotten.error());
    }
    std::vector<Looked> all;
    std::vector<std::string> with_models;
    for (auto const& folder : *folders) {
        all.push_back(look_into(folder));
        bool const some = !all.back().findings.models.empty();
        if (some) with_models.push_back(folder);
    }
    if (auto const kept = remember(data, with_models, false); !kept) return report(kept.error());
    if (int const printed = print(all, flags.json); printed != kExitOk) return printed;
    if (!with_models.empty()) return kExitOk;
    return report(Error(Code::not_found, folders->empty()
                                             ? "no folder of Ollama, Hugging Face or LM Studio is here; name one"
                                             : "there are no models to import"));
}

}  // namespace hearth::app

// `hearth create`: a model of another one and a Modelfile, in the models folder.
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "app/cli.h"
#include "app/commands.h"
#include "app/environment.h"
#include "catalog/create.h"

namespace hearth::app {
namespace {

namespace fs = std::filesystem;

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

// FROM names a file beside the Modelfile, if there is one.
std::string file_or_name(std::string const& from, std::string const& modelfile) {
    if (modelfile == "-" || fs::path(from).is_absolute()) return from;
    auto const beside = fs::path(modelfile).parent_path() / from;
    std::error_code failed;
    return fs::is_regular_file(beside, failed) ? beside.string() : from;
}

Result<catalog::Created> make(CreateFlags const& flags) {
    HEARTH_TRY(auto const text, read_modelfile(flags.file));
    HEARTH_TRY(auto modelfile, modelfile::parse_modelfile(text));
    modelfile.from = file_or_name(modelfile.from, flags.file);
    return catalog::create_model(flags.name, modelfile, models_folders(flags.models_dirs));
}

}  // namespace

int create(CreateFlags const& flags) {
    auto const created = make(flags);
    if (!created) return report(created.error());
    for (auto const& warning : created->warnings) fmt::print(stderr, "hearth: {}\n", warning);
    if (!flags.json) return write_out(fmt::format("created {}\n", created->name));
    nlohmann::ordered_json const out = {
        {"model", created->name}, {"path", created->path}, {"warnings", created->warnings}};
    return write_out(out.dump(2) + "\n");
}

}  // namespace hearth::app

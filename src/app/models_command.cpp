// `hearth list` and `hearth show`: the catalog, brought up to date first.
#include <algorithm>
#include <array>
#include <string>
#include <utility>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "app/cli.h"
#include "app/commands.h"
#include "app/environment.h"
#include "app/library_commands.h"
#include "app/text_table.h"
#include "catalog/catalog.h"
#include "catalog/create.h"
#include "catalog/known_models.h"
#include "modelfile/definition.h"

namespace hearth::app {
namespace {

using nlohmann::ordered_json;

std::string scaled(std::uint64_t number, double step, std::array<std::string_view, 5> const& units) {
    auto value = static_cast<double>(number);
    std::size_t unit = 0;
    for (; value >= step && unit + 1 < units.size(); ++unit) value /= step;
    return unit == 0 ? fmt::format("{}{}", number, units[0]) : fmt::format("{:.1f}{}", value, units[unit]);
}
std::string bytes_text(std::uint64_t bytes) { return scaled(bytes, 1024, {" B", " KiB", " MiB", " GiB", " TiB"}); }
std::string count_text(std::uint64_t count) { return scaled(count, 1000, {"", " K", " M", " B", " T"}); }

// As this command always spelled it.
std::string layout_text(catalog::Layout layout) {
    auto text = std::string(to_string(layout));
    std::ranges::replace(text, '_', '-');
    return text;
}

std::string joined(std::vector<std::string> const& words) {
    std::string out;
    for (auto const& word : words) out += (out.empty() ? "" : ", ") + word;
    return out;
}

// What Ollama says is JSON text of somebody else.
ordered_json parsed(std::string const& text) {
    auto json = ordered_json::parse(text, nullptr, false);
    return json.is_discarded() ? ordered_json(text) : json;
}

bool is_whole(catalog::ModelFile const& file) { return file.soundness == catalog::Soundness::whole; }

ordered_json to_json(catalog::Model const& model) {
    auto files = ordered_json::array();
    for (auto const& file : model.files)
        files.push_back({{"path", file.path},
                         {"bytes", file.bytes},
                         {"sha256", file.sha256},
                         {"verified", is_whole(file)},
                         {"damage", file.damage}});
    return {{"name", model.name},
            {"aliases", model.aliases},
            {"layout", layout_text(model.layout)},
            {"source", model.source},
            {"title", model.title},
            {"license", model.license},
            {"architecture", model.architecture},
            {"parameters", model.parameters},
            {"quantization", model.quantization},
            {"context_train", model.context},
            {"file_bytes", model.bytes},
            {"capabilities", servable_capabilities(model)},
            {"chat_template_sha256", model.template_sha256},
            {"chat_template_pinned", model.template_pinned},
            {"chat_template_changed", model.template_changed()},
            {"options", model.options.empty() ? ordered_json() : parsed(model.options)},
            {"system", model.system},
            {"problem", model.problem},
            {"files", files}};
}

std::string dumped(ordered_json const& json) {
    return json.dump(2, ' ', false, ordered_json::error_handler_t::replace) + '\n';
}

std::string remark(catalog::Model const& model) {
    if (!model.damage().empty()) return "damaged: see `hearth show`";
    if (!model.problem.empty()) return "refused: see `hearth show`";
    if (model.template_changed()) return "chat template changed: see `hearth show`";
    return joined(servable_capabilities(model));
}

// One for each name.
std::vector<catalog::Model> entries(std::vector<catalog::Model> const& models) {
    std::vector<catalog::Model> out;
    for (auto const& model : models) {
        for (auto& name : model.names()) {
            out.push_back(model);
            out.back().name = std::move(name);
            out.back().aliases.push_back(model.name);
            std::erase(out.back().aliases, out.back().name);
        }
    }
    std::ranges::sort(out, {}, &catalog::Model::name);
    return out;
}

std::string table(std::vector<catalog::Model> const& models) {
    using Row = std::array<std::string, 6>;
    std::vector<Row> rows{{"NAME", "SIZE", "PARAMETERS", "QUANTIZATION", "CONTEXT", "CAPABILITIES"}};
    for (auto const& model : models) {
        rows.push_back({printable(model.name), bytes_text(model.bytes), count_text(model.parameters),
                        printable(model.quantization), fmt::format("{}", model.context), remark(model)});
    }
    return text_table(rows);
}

std::string template_text(catalog::Model const& model) {
    if (model.template_changed())
        return fmt::format("CHANGED: sha256 {}, pinned is {}; `hearth trust {}` accepts it", model.template_sha256,
                           model.template_pinned, model.name);
    if (model.template_sha256.empty()) return "none";
    return fmt::format("sha256 {}{}", model.template_sha256, model.template_pinned.empty() ? "" : ", pinned");
}

// A model, and what it is beside its weights.
struct Shown {
    catalog::Model model;
    modelfile::Definition definition;
    std::string as_modelfile;
};

ordered_json to_json(Shown const& shown) {
    auto json = to_json(shown.model);
    auto const& definition = shown.definition;
    json["from"] = definition.from;
    json["options"] = definition.options.empty() ? ordered_json() : parsed(definition.options);
    json["system"] = definition.system;
    json["template"] = definition.template_text;
    json["messages"] = ordered_json::array();
    for (auto const& [role, content] : definition.messages)
        json["messages"].push_back({{"role", role}, {"content", content}});
    json["adapters"] = ordered_json::array();
    for (auto const& [file, scale] : definition.adapters)
        json["adapters"].push_back({{"file", file}, {"scale", scale}});
    json["modelfile"] = shown.as_modelfile;
    return json;
}

std::string details(Shown const& shown) {
    auto const& model = shown.model;
    auto const& definition = shown.definition;
    auto out = printable(model.name) + '\n';
    auto const row = [&](std::string_view label, std::string const& value) {
        if (!value.empty()) out += fmt::format("  {:<14}{}\n", label, printable(value));
    };
    row("problem", model.problem);
    row("aliases", joined(model.aliases));
    row("title", model.title);
    row("source", model.source);
    row("license", model.license);
    row("architecture", model.architecture);
    row("parameters", count_text(model.parameters));
    row("quantization", model.quantization);
    row("context", fmt::format("{} tokens", model.context));
    row("capabilities", joined(servable_capabilities(model)));
    row("chat template", template_text(model));
    row("made of", definition.from);
    row("options", definition.options);
    row("system", definition.system);
    for (auto const& [role, content] : definition.messages) row("message", fmt::format("{}: {}", role, content));
    for (auto const& [file, scale] : definition.adapters) row("adapter", fmt::format("{}, scale {}", file, scale));
    row("size", bytes_text(model.bytes));
    for (auto const& file : model.files) {
        row("file", file.path);
        if (!file.damage.empty()) row("", "DAMAGED: " + file.damage);
        if (!file.sha256.empty()) row("", fmt::format("sha256 {}{}", file.sha256, is_whole(file) ? ", verified" : ""));
    }
    return out;
}

int list_known(ListFlags const& flags) {
    auto const models = known_models(flags.known_models, flags.catalog.data_dir);
    if (!models) return report(models.error());
    if (!flags.catalog.json) {
        std::string text;
        for (auto const& model : *models)
            text +=
                fmt::format("{}\n  {}\n  {}\n", printable(model.name), printable(model.about), printable(model.source));
        return write_out(text);
    }
    auto array = ordered_json::array();
    for (auto const& model : *models)
        array.push_back({{"name", model.name},
                         {"about", model.about},
                         {"source", model.source},
                         {"license", model.license},
                         {"bytes", model.bytes},
                         {"sha256", model.sha256}});
    return write_out(dumped(array));
}

// What a server says of a model; its files are its own affair.
catalog::Model from_server(ordered_json const& said) {
    catalog::Model model;
    model.name = said.value("name", "");
    model.aliases = said.value("aliases", std::vector<std::string>());
    model.source = said.value("source", "");
    model.license = said.value("license", "");
    model.architecture = said.value("architecture", "");
    model.template_sha256 = said.value("template_sha256", "");
    model.bytes = said.value("size", std::uint64_t{0});
    model.parameters = said.value("parameters", std::uint64_t{0});
    model.quantization = said.value("quantization", "");
    model.context = said.value("context", std::uint64_t{0});
    model.capabilities = said.value("capabilities", std::vector<std::string>());
    model.problem = said.value("problem", "");
    if (said.value("state", "") == "damaged") {
        auto& file = model.files.emplace_back();
        file.soundness = catalog::Soundness::damaged;
        file.damage = model.problem;
    }
    if (said.value("template_changed", false)) model.template_pinned = "another";
    return model;
}

// The same with what a server says of one alone. Throws as print_list().
Shown shown_by_server(ordered_json const& said) {
    Shown shown{from_server(said), {}, said.value("modelfile", "")};
    auto& definition = shown.definition;
    definition.from = said.value("from", "");
    definition.system = said.value("system", "");
    if (said.contains("options") && said["options"].is_object()) definition.options = said["options"].dump();
    for (auto const& message : said.value("messages", ordered_json::array()))
        definition.messages.push_back({message.value("role", ""), message.value("content", "")});
    for (auto const& adapter : said.value("adapters", ordered_json::array()))
        definition.adapters.push_back({adapter.value("file", ""), adapter.value("scale", 1.0F)});
    return shown;
}

// Throws what the JSON library throws for members of other types.
int print_list(ordered_json const& root, ServerClient const& server, bool json) {
    if (json) return write_out(dumped(root.at("models")));
    std::vector<catalog::Model> models;
    for (auto const& each : root.at("models")) models.push_back(from_server(each));
    if (!models.empty()) return write_out(table(models));
    fmt::print(stderr, "hearth: the server at {} has no models; `hearth pull` gets one\n", server.url());
    return kExitOk;
}

int list_of(ServerClient const& server, bool json) {
    auto const answer = server.ask("GET", "/api/v1/models");
    if (!answer) return report_client(answer.error());
    if (answer->status != 200) return report(Error(Code::io, message_of(*answer)));
    try {
        return print_list(ordered_json::parse(answer->body), server, json);
    } catch (nlohmann::json::exception const&) {
        return report(
            Error(Code::corrupt, fmt::format("the server at {} does not answer as Hearth does", server.url())));
    }
}

int show_of(ServerClient const& server, ShowFlags const& flags) {
    auto const answer = server.ask("GET", "/api/v1/models/" + encode_segment(flags.model));
    if (!answer) return report_client(answer.error());
    if (answer->status != 200) return report(error_of(*answer));
    try {
        auto const said = ordered_json::parse(answer->body);
        auto const shown = shown_by_server(said);
        if (flags.modelfile) return write_out(shown.as_modelfile);
        return write_out(flags.catalog.json ? dumped(said) : details(shown));
    } catch (nlohmann::json::exception const&) {
        return report(
            Error(Code::corrupt, fmt::format("the server at {} does not answer as Hearth does", server.url())));
    }
}

// It keeps the catalog, so what is read and what is accepted is its affair.
int show_by(ServerClient const& server, ShowFlags const& flags) {
    if (flags.confirm_template) {
        if (auto const trusted = trust_by(server, flags.model); !trusted) return report_client(trusted.error());
    }
    if (flags.verify) {
        if (auto const verified = verify_by(server, flags.model); !verified) return report_client(verified.error());
        fmt::print(stderr, "hearth: {} was read whole, and is as it should be\n", printable(flags.model));
    }
    return show_of(server, flags);
}

}  // namespace

Result<std::unique_ptr<catalog::Catalog>> open_catalog(CatalogFlags const& flags) {
    auto const folder = data_folder(flags.data_dir);
    if (folder.empty())
        return Error(Code::invalid_argument, "no folder to remember models in: give --data-dir, or set HOME",
                     "--data-dir");
    auto const path = folder + "/catalog.db";
    auto opened = catalog::Catalog::open(path, catalog::Access::read_write);
    if (!opened && opened.error().code == Code::unavailable) {
        fmt::print(stderr, "hearth: {}; this is what it last recorded\n", opened.error().message);
        return catalog::Catalog::open(path, catalog::Access::read_only);
    }
    if (!opened) return opened;
    HEARTH_TRY(auto const scanned, (*opened)->scan(models_folders(flags.models_dirs, flags.data_dir)));
    for (auto const& refused : scanned.refused)
        fmt::print(stderr, "hearth: {}: {}\n", printable(refused.path), printable(refused.why));
    return opened;
}

int list(ListFlags const& list_flags) {
    if (list_flags.known) return list_known(list_flags);
    auto const server = server_for(list_flags.host, is_local(list_flags.catalog));
    if (!server) return report_client(server.error());
    if (*server) return list_of(**server, list_flags.catalog.json);
    auto const& flags = list_flags.catalog;
    auto const catalog = open_catalog(flags);
    if (!catalog) return report(catalog.error());
    auto const models = (*catalog)->list();
    if (!models) return report(models.error());
    if (flags.json) {
        auto array = ordered_json::array();
        for (auto const& model : entries(*models)) array.push_back(to_json(model));
        return write_out(dumped(array));
    }
    if (!models->empty()) return write_out(table(entries(*models)));
    std::string where;
    for (auto const& folder : models_folders(flags.models_dirs, flags.data_dir))
        where += (where.empty() ? "" : ", ") + folder;
    fmt::print(stderr, "hearth: no models in {}; --models-dir names another folder\n", printable(where));
    return kExitOk;
}

int show(ShowFlags const& flags) {
    auto const server = server_for(flags.host, is_local(flags.catalog));
    if (!server) return report_client(server.error());
    if (*server) return show_by(**server, flags);
    auto const catalog = open_catalog(flags.catalog);
    if (!catalog) return report(catalog.error());
    if (flags.confirm_template) {
        if (auto const confirmed = (*catalog)->confirm_template(flags.model); !confirmed)
            return report(confirmed.error());
    }
    if (flags.verify) {
        if (auto const verified = (*catalog)->verify(flags.model, {}); !verified) return report(verified.error());
    }
    auto const model = (*catalog)->find(flags.model);
    if (!model) return report(model.error());
    auto const path = catalog::served_from(model->files);
    auto definition =
        catalog::definition_of(model->name, path, models_folders(flags.catalog.models_dirs, flags.catalog.data_dir));
    if (!definition) return report(definition.error());
    auto text = modelfile::modelfile_text(modelfile::to_modelfile(*definition, path));
    if (flags.modelfile) return write_out(text);
    Shown const shown{*model, *std::move(definition), std::move(text)};
    return write_out(flags.catalog.json ? dumped(to_json(shown)) : details(shown));
}

}  // namespace hearth::app

// `hearth convert` and `hearth quantize`: a GGUF file out of a folder or of another file.
#include <string>
#include <utility>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "app/cli.h"
#include "app/commands.h"
#include "app/environment.h"
#include "app/making.h"
#include "base/ascii.h"
#include "catalog/locate.h"
#include "formats/make.h"
#include "formats/maker.h"
#include "formats/source.h"

namespace hearth::app {
namespace {

std::string render(formats::Made const& made, bool json) {
    if (!json) return made.output + "\n";
    nlohmann::ordered_json const object{
        {"output", made.output},    {"architecture", made.architecture}, {"type", made.type},
        {"tensors", made.tensors},  {"parameters", made.parameters},     {"file_bytes", made.file_bytes},
        {"sandbox", made.isolation}};
    return object.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
}

int finish(Result<formats::Made> const& made, bool json) {
    if (!made && made.error().code == Code::cancelled) {
        fmt::print(stderr, "hearth: stopped; nothing was written\n");
        return kExitInterrupted;
    }
    if (!made) return report(made.error());
    return write_out(render(*made, json));
}

formats::Existing existing(bool force) { return force ? formats::Existing::replace : formats::Existing::refuse; }

// A folder as it is; else a file as serve and run find it.
Result<std::string> source_of(std::string const& model, std::vector<std::string> const& folders) {
    if (formats::is_model_folder(model)) return model;
    HEARTH_TRY(auto located, catalog::locate(model, folders));
    return std::move(located.path);
}

Result<formats::Made> make_quantized(QuantizeFlags const& flags) {
    HEARTH_TRY(auto const source, source_of(flags.model, models_folders(flags.models_dirs)));
    HEARTH_TRY(auto const form, form_for(flags.form, source));
    if (flags.form == "auto" && form.as_source() && !formats::is_folder(source)) {
        return Error(
            Code::invalid_argument,
            fmt::format("{}: small enough for the memory that is free to be left as it is; a profile or a type "
                        "makes it smaller",
                        source),
            "auto");
    }
    MakingLine line;
    return formats::make({.source = source,
                          .output = flags.output,
                          .form = form,
                          .existing = existing(flags.force),
                          .mode = usual_file_mode()},
                         workshop(), [&](formats::Progress const& progress) { return line.show(progress); });
}

// Of an adapter; of a model nothing.
Result<std::string> base_of(ConvertFlags const& flags) {
    bool const adapter = formats::is_adapter_folder(flags.folder);
    if (adapter && flags.base.empty())
        return Error(Code::invalid_argument,
                     fmt::format("{} holds a LoRA adapter: say by --base which model it is for", flags.folder),
                     "--base");
    if (!adapter && !flags.base.empty())
        return Error(Code::invalid_argument,
                     fmt::format("--base is for adapters, and there is no adapter_config.json in {}", flags.folder),
                     "--base");
    if (!adapter) return std::string();
    HEARTH_TRY(auto located, catalog::locate(flags.base, models_folders(flags.models_dirs)));
    return std::move(located.path);
}

}  // namespace

int convert(ConvertFlags const& flags) {
    formats::Form form;
    if (flags.type != "auto") {
        auto const parsed = formats::parse_form(flags.type);
        if (!parsed) return report(parsed.error());
        form = *parsed;
    }
    auto made = [&]() -> Result<formats::Made> {
        if (!formats::is_folder(flags.folder)) {
            return Error(Code::not_found, fmt::format("{}/config.json: there is no such file", flags.folder),
                         flags.folder);
        }
        HEARTH_TRY(auto base, base_of(flags));
        MakingLine line;
        return formats::make({.source = flags.folder,
                              .base = std::move(base),
                              .output = flags.output,
                              .form = form,
                              .existing = existing(flags.force),
                              .mode = usual_file_mode()},
                             workshop(), [&](formats::Progress const& progress) { return line.show(progress); });
    }();
    if (made) made->type = ascii_lower(made->type);
    return finish(made, flags.json);
}

int quantize(QuantizeFlags const& flags) { return finish(make_quantized(flags), flags.json); }

int maker(std::vector<std::string> const& arguments) {
    auto const task = formats::parse_maker_arguments(arguments);
    if (!task) {
        fmt::print(stderr, "hearth: {}\n", task.error().message);
        return kExitUsage;
    }
    return formats::run_maker(*task);
}

}  // namespace hearth::app

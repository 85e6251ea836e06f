#include "app/cli_models.h"

#include <CLI/CLI.hpp>

namespace hearth::app {
namespace {

void add_pull(CLI::App& app, PullFlags& flags, Action& action) {
    auto& command = *app.add_subcommand("pull", "Download a model into the models folder");
    command.footer(
        "NAME says where from: hf.co/ORG/REPO[@REVISION][:QUANT], HOST[:PORT]/[NAMESPACE/]MODEL[:TAG] of a registry\n"
        "that speaks Ollama's protocol, https://HOST/FILE, ./FILE. Stopped, it goes on where it was.\n"
        "Exit codes: 0 ok, 1 error, 2 usage, 3 no such model, 4 unreachable, 130 interrupted.\n"
        "Example:\n  hearth pull hf.co/unsloth/SmolLM2-135M-Instruct-GGUF:Q4_K_M\n"
        "  hearth pull small --source https://example.org/model.gguf");
    command.add_option("name", flags.name, "What to get; with --source, what to call it")->required();
    command.add_option("--source", flags.source, "Where from, written as NAME is")->type_name("FROM");
    command.add_option("--models-dir", flags.models_dir,
                       "Folder to put it in (default: $HEARTH_MODELS_DIR, else the user's cache)");
    command.add_option("--limit-rate", flags.limit_rate, "Bytes a second at most, e.g. 2MiB")->type_name("SIZE");
    command.add_option("--connections", flags.connections, "Connections to fetch one file with")
        ->check(CLI::Range(1U, 16U))
        ->capture_default_str();
    command.add_flag("--insecure", flags.insecure, "Also without TLS from other machines than this one");
    command.add_flag("--json", flags.json, "Print one JSON object about what was pulled");
    command.callback([&] { action = [&] { return pull(flags); }; });
}

void add_check(CLI::App& app, CheckFlags& flags, Action& action) {
    auto& command = *app.add_subcommand("check", "Validate model files and say what is in them");
    command.footer("Exit code 1 if any file is bad.");
    command.add_option("files", flags.files, "GGUF files (of a split model, any part)")->required();
    command.add_flag("--json", flags.json, "Print a JSON array with one report a file");
    command.callback([&] { action = [&] { return check(flags); }; });
}

void add_catalog_flags(CLI::App& command, CatalogFlags& flags) {
    add_models_dir(command, flags.models_dirs);
    command
        .add_option("--data-dir", flags.data_dir,
                    "Folder of what is remembered of models (default: $HEARTH_DATA_DIR, else $XDG_DATA_HOME/hearth)")
        ->type_name("DIR");
    command.add_flag("--json", flags.json, "Print JSON instead of text");
}

void add_list(CLI::App& app, ListFlags& flags, Action& action) {
    auto& command = *app.add_subcommand("list", "List the models there are");
    command.footer(
        "Found in place, and served by these names: *.gguf files directly in a models folder, Ollama's models\n"
        "(a folder with manifests/ and blobs/) and Hugging Face's cache (models--ORG--REPO).\n"
        "Example:\n  hearth list --models-dir ~/.ollama/models --models-dir ~/.cache/huggingface");
    add_catalog_flags(command, flags.catalog);
    auto* const known =
        command.add_flag("--known", flags.known, "List the short names Hearth knows a source for instead");
    command
        .add_option("--known-models", flags.known_models, "FILE with further ones, or others of the same names: JSON")
        ->type_name("FILE")
        ->needs(known);
    command.callback([&] { action = [&] { return list(flags); }; });
}

void add_show(CLI::App& app, ShowFlags& flags, Action& action) {
    auto& command = *app.add_subcommand("show", "Say what is known of a model");
    command.footer("Exit codes: 0 ok, 1 error, also of --verify, 2 usage, 3 no such model.");
    command.add_option("model", flags.model, "NAME as `hearth list` prints it, or an alias")->required();
    add_catalog_flags(command, flags.catalog);
    command.add_flag("--verify", flags.verify, "Read all of its files and compare their SHA-256 with what is known");
    command.add_flag("--confirm-template", flags.confirm_template,
                     "Accept the chat template its file has now, after a change");
    command.callback([&] { action = [&] { return show(flags); }; });
}

void add_create(CLI::App& app, CreateFlags& flags, Action& action) {
    auto& command = *app.add_subcommand("create", "Make a model of another one and a Modelfile");
    command.footer(
        "The weights are shared with the other model; what the Modelfile says is kept beside them. FROM names a "
        "model,\n"
        "or a GGUF file by its path from the Modelfile's folder. A running server finds the model by itself.\n"
        "Example:\n  printf 'FROM smollm2\\nSYSTEM You are a pirate.\\n' | hearth create pirate -f -");
    command.add_option("name", flags.name, "What to call it: NAME or NAME:TAG")->required();
    command.add_option("-f,--file", flags.file, "The Modelfile; - reads standard input")
        ->default_str("Modelfile")
        ->type_name("FILE");
    add_models_dir(command, flags.models_dirs);
    command.add_flag("--json", flags.json, "Print one JSON object about what was made");
    command.callback([&] { action = [&] { return create(flags); }; });
}

void add_convert(CLI::App& app, ConvertFlags& flags, Action& action) {
    auto& command = *app.add_subcommand("convert", "Turn a Hugging Face folder (safetensors) into a GGUF file");
    command.footer(
        "The file appears whole or not at all; Ctrl-C leaves nothing behind. Its path is printed.\n"
        "Example:\n  hearth convert ./SmolLM2-135M-Instruct -o smollm2.gguf --type bf16");
    command.add_option("folder", flags.folder, "Folder with config.json, tokenizer.json and safetensors")->required();
    command.add_option("-o,--output", flags.output, "File to write (default: FOLDER-TYPE.gguf in the current folder)");
    command.add_option("--type", flags.type, "Type of matrices: auto, f32, f16 or bf16")
        ->check(CLI::IsMember({"auto", "f32", "f16", "bf16"}))
        ->capture_default_str();
    command.add_flag("--force", flags.force, "Replace the file if it exists");
    command.add_flag("--json", flags.json, "Print a JSON object instead of the path");
    command.callback([&] { action = [&] { return convert(flags); }; });
}

}  // namespace

void add_model_commands(CLI::App& app, ModelFlags& flags, Action& action) {
    add_pull(app, flags.pull, action);
    add_check(app, flags.check, action);
    add_list(app, flags.list, action);
    add_show(app, flags.show, action);
    add_create(app, flags.create, action);
    add_convert(app, flags.convert, action);
}

void add_library_flags(CLI::App& command, ServeFlags& flags) {
    command.add_option("-m,--model", flags.models,
                       "GGUF file, NAME in a models folder, or ID=FILE to have loaded from the start (repeatable; the "
                       "first is the default)");
    add_models_dir(command, flags.models_dirs);
    command
        .add_option("--data-dir", flags.data_dir,
                    "Folder of what is remembered of models and downloads (default: $HEARTH_DATA_DIR, else "
                    "$XDG_DATA_HOME/hearth)")
        ->type_name("DIR");
    command
        .add_option("--allow-model", flags.allowed_models,
                    "Models that may be loaded, pulled and removed, by name or source: a pattern with * and ? "
                    "(repeatable; default: all, but beyond loopback none is pulled or removed)")
        ->type_name("PATTERN")
        ->allow_extra_args(false);
    command.add_option("--pulls", flags.pulls, "Models downloaded at the same time")
        ->check(CLI::Range(1U, 16U))
        ->capture_default_str();
}

void add_models_dir(CLI::App& command, std::vector<std::string>& folders) {
    // What follows a flag's value is a positional, though the flag may be repeated.
    command
        .add_option("--models-dir", folders,
                    "Folder in which a model NAME is looked up (repeatable; also $HEARTH_MODELS_DIR)")
        ->allow_extra_args(false);
}

}  // namespace hearth::app

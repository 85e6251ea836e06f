#include "app/cli_models.h"

#include <CLI/CLI.hpp>

namespace hearth::app {
namespace {

void add_host(CLI::App& command, std::string& host) {
    command
        .add_option("--host", host,
                    "HOST[:PORT] of a running server (default: $HEARTH_HOST and $HEARTH_PORT, else 127.0.0.1:8080, "
                    "where one answers)")
        ->type_name("HOST");
}

void add_data_dir(CLI::App& command, std::string& folder) {
    command
        .add_option("--data-dir", folder,
                    "Folder of what is remembered of models (default: $HEARTH_DATA_DIR, else $XDG_DATA_HOME/hearth)")
        ->type_name("DIR");
}

void add_pull(CLI::App& app, PullFlags& flags, Action& action) {
    auto& command = *app.add_subcommand("pull", "Download a model into the models folder");
    command.footer(
        "NAME says where from: hf.co/ORG/REPO[@REVISION][:QUANT], HOST[:PORT]/[NAMESPACE/]MODEL[:TAG] of a registry\n"
        "that speaks Ollama's protocol, https://HOST/FILE. Stopped, it goes on where it was.\n"
        "./FILE or ./FOLDER, or the short name of a known model (hearth list --known), else of one in Ollama's "
        "library.\n"
        "A server that runs does it; with --models-dir, --data-dir, --known-models, --connections or a ./FILE this\n"
        "process does.\n"
        "Exit codes: 0 ok, 1 error, 2 usage, 3 no such model, 4 unreachable, 130 interrupted.\n"
        "Example:\n  hearth pull hf.co/unsloth/SmolLM2-135M-Instruct-GGUF:Q4_K_M\n"
        "  hearth pull small --source https://example.org/model.gguf");
    command.add_option("name", flags.name, "What to get; with --source, what to call it")->required();
    add_host(command, flags.host);
    command.add_option("--source", flags.source, "Where from, written as NAME is")->type_name("FROM");
    command.add_option("--models-dir", flags.models_dir,
                       "Folder to put it in (default: $HEARTH_MODELS_DIR, else the user's cache)");
    add_data_dir(command, flags.data_dir);
    add_known_models(command, flags.known_models);
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

void add_folders(CLI::App& command, CatalogFlags& flags) {
    add_models_dir(command, flags.models_dirs);
    add_data_dir(command, flags.data_dir);
}

void add_json(CLI::App& command, bool& json) { command.add_flag("--json", json, "Print JSON instead of text"); }

void add_catalog_flags(CLI::App& command, CatalogFlags& flags) {
    add_folders(command, flags);
    add_json(command, flags.json);
}

void add_change(CLI::App& app, char const* name, char const* what, ChangeFlags& flags, int (*act)(ChangeFlags const&),
                Action& action) {
    auto& command = *app.add_subcommand(name, what);
    command.footer(
        "A server that runs does it; with --models-dir or --data-dir this process does.\n"
        "Exit codes: 0 ok, 1 error, 2 usage, 3 no such model, 4 no server at --host.");
    command.add_option("model", flags.model, "NAME as `hearth list` prints it, or an alias")->required();
    if (act == copy_model) command.add_option("destination", flags.destination, "What the copy is called")->required();
    add_host(command, flags.host);
    add_catalog_flags(command, flags.catalog);
    command.callback([&flags, &action, act] { action = [&flags, act] { return act(flags); }; });
}

void add_list(CLI::App& app, ListFlags& flags, Action& action) {
    auto& command = *app.add_subcommand("list", "List the models there are");
    command.footer(
        "Found in place, and served by these names: *.gguf files in a models folder and one folder down, folders\n"
        "of safetensors there, Ollama's models (manifests/ and blobs/), LM Studio's (PUBLISHER/REPO) and Hugging\n"
        "Face's cache (models--ORG--REPO).\n"
        "Example:\n  hearth list --models-dir ~/.ollama/models --models-dir ~/.cache/huggingface");
    add_host(command, flags.host);
    add_catalog_flags(command, flags.catalog);
    auto* const known =
        command.add_flag("--known", flags.known, "List the short names Hearth knows a source for instead");
    add_known_models(command, flags.known_models)->needs(known);
    command.callback([&] { action = [&] { return list(flags); }; });
}

void add_show(CLI::App& app, ShowFlags& flags, Action& action) {
    auto& command = *app.add_subcommand("show", "Say what is known of a model");
    command.footer(
        "A server that runs tells it, and does what --verify and --confirm-template say; with --models-dir or\n"
        "--data-dir this process does.\n"
        "Exit codes: 0 ok, 1 error, also of --verify, 2 usage, 3 no such model, 4 no server at --host.");
    command.add_option("model", flags.model, "NAME as `hearth list` prints it, or an alias")->required();
    add_host(command, flags.host);
    add_catalog_flags(command, flags.catalog);
    command.add_flag("--verify", flags.verify, "Read all of its files and compare their SHA-256 with what is known");
    command.add_flag("--confirm-template", flags.confirm_template,
                     "Accept the chat template its file has now, after a change");
    command.add_flag("--modelfile", flags.modelfile, "Print the Modelfile that would make it, and nothing else");
    command.callback([&] { action = [&] { return show(flags); }; });
}

void add_import(CLI::App& app, ImportFlags& flags, Action& action) {
    auto& command = *app.add_subcommand("import", "Use models that other programs keep, where they are");
    command.footer(
        "Without FOLDER those of Ollama, Hugging Face's cache and LM Studio are looked into. Nothing is copied; "
        "folders\n"
        "with models are models folders from then on, of a running server, too. What is refused is said.\n"
        "Exit codes: 0 ok, 1 error, 2 usage, 3 no models there.\n"
        "Example:\n  hearth import\n  hearth import ~/gguf --json");
    command.add_option("folder", flags.folders,
                       "Folder of *.gguf files, of Ollama, of Hugging Face's cache or of LM Studio");
    add_data_dir(command, flags.data_dir);
    command.add_flag("--forget", flags.forget, "They are no models folders any more; their files stay");
    command.add_flag("--json", flags.json, "Print JSON instead of text");
    command.callback([&] { action = [&] { return import_models(flags); }; });
}

void add_create(CLI::App& app, CreateFlags& flags, Action& action) {
    auto& command = *app.add_subcommand("create", "Make a model of another one, or of files, and a Modelfile");
    command.footer(
        "The weights are shared with the other model; what the Modelfile says is kept beside them. FROM names a "
        "model,\n"
        "or by its path from the Modelfile's folder a GGUF file or a Hugging Face folder, which is converted.\n"
        "A server that runs makes it, and is sent the files; with --models-dir this process does.\n"
        "Example:\n  printf 'FROM smollm2\\nSYSTEM You are a pirate.\\n' | hearth create pirate -f -");
    command.add_option("name", flags.name, "What to call it: NAME or NAME:TAG")->required();
    command.add_option("-f,--file", flags.file, "The Modelfile; - reads standard input")
        ->default_str("Modelfile")
        ->type_name("FILE");
    command.add_option("-q,--quantize", flags.quantize, "Make the weights smaller: as of `hearth quantize`")
        ->type_name("PROFILE|TYPE");
    add_host(command, flags.host);
    add_models_dir(command, flags.models_dirs);
    command.add_flag("--json", flags.json, "Print one JSON object about what was made");
    command.callback([&] { action = [&] { return create(flags); }; });
}

void add_push(CLI::App& app, PushFlags& flags, Action& action) {
    auto& command = *app.add_subcommand("push", "Give a model to the registry its name says");
    command.footer(
        "The name is [HOST/]NAMESPACE/MODEL[:TAG]; `hearth cp` gives a model one. What is there is not sent again.\n"
        "A server that runs does it; with --models-dir or --data-dir this process does.\n"
        "Exit codes: 0 ok, 1 error, 2 usage, 3 no such model, 4 unreachable.\n"
        "Example:\n  hearth cp smollm2 127.0.0.1:5000/me/smollm2 && hearth push 127.0.0.1:5000/me/smollm2");
    command.add_option("model", flags.model, "NAME that says where it goes")->required();
    add_host(command, flags.host);
    add_folders(command, flags.catalog);
    command.add_flag("--insecure", flags.insecure, "Without TLS; only to this machine, where there is none anyway");
    add_json(command, flags.json);
    command.callback([&] { action = [&] { return push(flags); }; });
}

void add_convert(CLI::App& app, ConvertFlags& flags, Action& action) {
    auto& command = *app.add_subcommand("convert", "Turn a Hugging Face folder (safetensors) into a GGUF file");
    command.footer(
        "The file appears whole or not at all; Ctrl-C leaves nothing behind. Its path is printed.\n"
        "Example:\n  hearth convert ./SmolLM2-135M-Instruct -o smollm2.gguf --type bf16");
    command
        .add_option("folder", flags.folder,
                    "Folder with config.json, tokenizer.json and safetensors; or a LoRA adapter as PEFT saves it")
        ->required();
    command.add_option("--base", flags.base, "Of an adapter the model it is for: GGUF file or NAME in a models folder");
    add_models_dir(command, flags.models_dirs);
    command.add_option("-o,--output", flags.output, "File to write (default: FOLDER-TYPE.gguf in the current folder)");
    command.add_option("--type", flags.type, "Type of matrices: auto, f32, f16 or bf16")
        ->check(CLI::IsMember({"auto", "f32", "f16", "bf16"}))
        ->capture_default_str();
    command.add_flag("--force", flags.force, "Replace the file if it exists");
    command.add_flag("--json", flags.json, "Print a JSON object instead of the path");
    command.callback([&] { action = [&] { return convert(flags); }; });
}

void add_quantize(CLI::App& app, QuantizeFlags& flags, Action& action) {
    auto& command = *app.add_subcommand("quantize", "Make a smaller GGUF file of a model");
    command.footer(
        "PROFILE: fast (INT4), balanced, quality (INT8), full (folders only), or auto: by the model's size and the\n"
        "memory that is free. TYPE: as upstream names them, e.g. Q4_K_M. Weights that are quantised already are not\n"
        "quantised again. The file appears whole or not at all; Ctrl-C leaves nothing behind. Its path is printed.\n"
        "Example:\n  hearth quantize ./SmolLM2-135M-Instruct fast -o smollm2.gguf\n"
        "  hearth quantize model-f16.gguf Q4_K_M");
    command.add_option("model", flags.model, "GGUF file, Hugging Face folder, or NAME in a models folder")->required();
    command.add_option("form", flags.form, "PROFILE or TYPE")->type_name("PROFILE|TYPE")->capture_default_str();
    command.add_option("-o,--output", flags.output, "File to write (default: NAME-TYPE.gguf in the current folder)");
    add_models_dir(command, flags.models_dirs);
    command.add_flag("--force", flags.force, "Replace the file if it exists");
    command.add_flag("--json", flags.json, "Print a JSON object instead of the path");
    command.callback([&] { action = [&] { return quantize(flags); }; });
}

void add_ps(CLI::App& app, PsFlags& flags, Action& action) {
    auto& command = *app.add_subcommand("ps", "List the models a running server has in memory");
    command.footer("Exit codes: 0 ok, 1 error, 2 usage, 4 no server answers.");
    add_host(command, flags.host);
    command.add_flag("--json", flags.json, "Print JSON, with the server's budget of memory");
    command.callback([&] { action = [&] { return ps(flags); }; });
}

void add_stop(CLI::App& app, StopFlags& flags, Action& action) {
    auto& command = *app.add_subcommand("stop", "Have a running server let a model go");
    command.footer(
        "What runs is answered first; the next request for the model loads it again.\n"
        "Exit codes: 0 ok, 1 error, 2 usage, 3 no such model, 4 no server answers.");
    command.add_option("model", flags.model, "NAME as the server has it")->required();
    add_host(command, flags.host);
    add_json(command, flags.json);
    command.callback([&] { action = [&] { return stop(flags); }; });
}

void add_estimate(CLI::App& app, EstimateFlags& flags, Action& action) {
    auto& command = *app.add_subcommand("estimate", "Say what a model takes in memory, without loading it");
    command.footer(
        "A NAME is one of the server that runs, as it serves it; without one, or with --models-dir, it is looked for "
        "in "
        "the folders.\nExit codes: 0 ok, 1 error, 2 usage, 3 no such model, 4 the server of --host does not answer.");
    command.add_option("model", flags.model, "GGUF file or NAME in a models folder")->required();
    add_host(command, flags.host);
    add_models_dir(command, flags.models_dirs);
    command.add_option("--ctx", flags.context, "Most tokens one request may use, as of serve")
        ->check(CLI::Range(16U, 1U << 24));
    command.add_option("--kv-cells", flags.kv_cells, "Tokens the KV cache holds, as of serve")
        ->check(CLI::Range(16U, 1U << 24));
    command.add_flag("--json", flags.json, "Print a JSON object");
    command.callback([&] { action = [&] { return estimate(flags); }; });
}

}  // namespace

void add_model_commands(CLI::App& app, ModelFlags& flags, Action& action) {
    add_pull(app, flags.pull, action);
    add_check(app, flags.check, action);
    add_list(app, flags.list, action);
    add_show(app, flags.show, action);
    add_import(app, flags.import_models, action);
    add_change(app, "rm", "Delete a model", flags.remove, remove_model, action);
    add_change(app, "cp", "Give a model another name as well", flags.copy, copy_model, action);
    add_change(app, "trust", "Accept the chat template a model's file has now", flags.trust, trust_model, action);
    add_create(app, flags.create, action);
    add_push(app, flags.push, action);
    add_convert(app, flags.convert, action);
    add_quantize(app, flags.quantize, action);
    add_ps(app, flags.ps, action);
    add_stop(app, flags.stop, action);
    add_estimate(app, flags.estimate, action);
}

void add_library_flags(CLI::App& command, ServeFlags& flags) {
    command.add_option(
        "-m,--model", flags.models,
        "GGUF file, Hugging Face folder, NAME in a models folder, or ID=one of them, to have loaded from "
        "the start (repeatable; the first is the default)");
    command
        .add_option("--lora", flags.adapters,
                    "NAME=BASE:FILE[:SCALE]: serve the model BASE with the LoRA adapter in FILE on top as NAME, by the "
                    "same worker (repeatable; with the same NAME one adapter more; SCALE: 1)")
        ->type_name("ADAPTER")
        ->allow_extra_args(false);
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
    command
        .add_option("--while-quantizing", flags.while_quantizing,
                    "What requests get for a model that --quantize is to make first, unless --model names it: wait, or "
                    "original, until it is made and also if it cannot be")
        ->check(CLI::IsMember({"wait", "original"}))
        ->capture_default_str();
    command.add_option("--pulls", flags.pulls, "Models downloaded at the same time")
        ->check(CLI::Range(1U, 16U))
        ->capture_default_str();
    command
        .add_option("--limit-rate", flags.pull_limit,
                    "Bytes a second of all downloads and pushes together at most, e.g. 2MiB")
        ->type_name("SIZE");
    add_known_models(command, flags.known_models);
}

CLI::Option* add_known_models(CLI::App& command, std::string& file) {
    return command
        .add_option("--known-models", file,
                    "FILE with further short names, or others of the same names: JSON (default: known-models.json in "
                    "the data folder)")
        ->type_name("FILE");
}

void add_memory_flags(CLI::App& command, ServeFlags& flags) {
    command.add_flag("--lazy", flags.lazy, "Load a model when the first request for it comes")->group("Limits");
    command
        .add_option(
            "--memory", flags.memory,
            "Memory of all loaded models together, e.g. 4GiB: idle ones make room for others; auto: nine tenths of the "
            "control group's limit, and at most four fifths of the machine's memory; unlimited: no bound")
        ->capture_default_str()
        ->group("Limits");
    command
        .add_option("--parked", flags.parked,
                    "Models that made room for others and of which a worker keeps the vocabulary, so that they come "
                    "back in a fraction of the time; what they keep counts; 0: none")
        ->check(CLI::Range(0U, 64U))
        ->capture_default_str()
        ->type_name("N")
        ->group("Limits");
    command
        .add_option(
            "--keep-alive", flags.keep_alives,
            "Seconds after which a model that nobody uses leaves memory; the next request loads it again; 0: never, "
            "the default; with --ollama 300, as there. NAME=SECONDS: of that model, also one of a models folder "
            "(repeatable). A request may say otherwise (keep_alive)")
        ->type_name("[NAME=]SECONDS")
        ->allow_extra_args(false)
        ->group("Limits");
    command
        .add_option("--instances", flags.instances,
                    "NAME=N: N workers serve the model, from the same pages of its file, and split its requests "
                    "(repeatable; with fewer threads each where --threads does not say how many)")
        ->type_name("NAME=N")
        ->allow_extra_args(false)
        ->group("Limits");
    command
        .add_option("--pin", flags.pins,
                    "NAME of a model, also one of a models folder, that stays once it is loaded, whoever wants room "
                    "(repeatable)")
        ->type_name("NAME")
        ->allow_extra_args(false)
        ->group("Limits");
    command
        .add_option("--preload", flags.preloads,
                    "NAME of a model that is loaded at start although it is --lazy or only lies in a models folder, or "
                    "most-used[:N]: the N (3, at most 16) used most in the last week, as far as --memory goes "
                    "(repeatable)")
        ->type_name("NAME")
        ->allow_extra_args(false)
        ->group("Limits");
}

void add_models_dir(CLI::App& command, std::vector<std::string>& folders) {
    // What follows a flag's value is a positional, though the flag may be repeated.
    command
        .add_option("--models-dir", folders,
                    "Folder in which a model NAME is looked up (repeatable; also $HEARTH_MODELS_DIR)")
        ->allow_extra_args(false);
}

}  // namespace hearth::app

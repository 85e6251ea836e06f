#include "app/cli.h"

#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include "app/cli_models.h"
#include "app/commands.h"
#include "app/completion.h"
#include "app/environment.h"
#include "bench/serve.h"
#include "bench/tree.h"
#include "sim/policy.h"
#include "sim/workload.h"
#include "traffic/trace.h"

namespace hearth::app {
namespace {

void add_log_flags(CLI::App& command, LogFlags& flags) {
    command.add_flag("--debug", flags.debug, "Log more, with what the engine says")->group("Logging");
    command.add_option("--log-format", flags.format, "human or json (one object a line)")
        ->check(CLI::IsMember({"human", "json"}))
        ->envname("HEARTH_LOG_FORMAT")
        ->group("Logging");
    command.add_option("--log-file", flags.file, "Append the log to FILE instead of stderr")->group("Logging");
}

void add_quantize_flags(CLI::App& command, EngineFlags& flags) {
    command
        .add_option(
            "--quantize", flags.quantize,
            "Weights of a model that has them in F32, F16 or BF16: fast (INT4), balanced, quality (INT8), full, "
            "a type like Q4_K_M, or auto (by size and free memory); made once, kept")
        ->type_name("PROFILE|TYPE")
        ->group("Engine");
    command
        .add_option("--quant-cache-size", flags.quant_cache_size,
                    "Disk space for models made by --quantize or of folders: those used longest ago go")
        ->type_name("SIZE")
        ->capture_default_str()
        ->group("Engine");
    command
        .add_option("--quant-cache-dir", flags.quant_cache_dir,
                    "Folder for them (default: $XDG_CACHE_HOME/hearth/quantised)")
        ->type_name("DIR")
        ->group("Engine");
}

void add_engine_flags(CLI::App& command, EngineFlags& flags) {
    command
        .add_option("--ctx", flags.context,
                    "Most tokens one request may use, prompt and answer (default: the model's, at most 8192)")
        ->check(CLI::Range(16U, 1U << 24))
        ->group("Engine");
    command
        .add_option(
            "--kv-cells", flags.kv_cells,
            "Tokens all running requests may hold together (default: 32768 or --ctx, less when memory is short)")
        ->check(CLI::Range(16U, 1U << 26))
        ->group("Engine");
    command.add_option("--max-seqs", flags.max_seqs, "Answers computed at the same time")
        ->check(CLI::Range(1U, 256U))
        ->capture_default_str()
        ->group("Engine");
    command.add_option("--threads", flags.threads, "Compute threads (default: the cores that are free)")
        ->check(CLI::Range(1U, 512U))
        ->group("Engine");
    command
        .add_option("--cpu-variant", flags.cpu_variant,
                    "Force the CPU kernels (default: the best this machine runs; `hearth version` lists them)")
        ->group("Engine");
    command.add_flag("--no-prefix-cache", flags.no_prefix_cache, "Compute every prompt from its start")
        ->group("Engine");
    command
        .add_flag("--no-speculation", flags.no_speculation, "Guess no tokens ahead (guesses never change an answer)")
        ->group("Engine");
    command
        .add_option("--draft", flags.drafts,
                    "A smaller model with the same vocabulary that guesses tokens ahead where that is faster (answers "
                    "stay the same): GGUF file, NAME, or ID=FILE for one of several models")
        ->type_name("FILE")
        ->allow_extra_args(false)
        ->group("Engine");
    command.add_option("--draft-max", flags.draft_max, "Most tokens it guesses for one answer in one step")
        ->check(CLI::Range(1U, 64U))
        ->capture_default_str()
        ->group("Engine");
    command
        .add_option("--step-target-ms", flags.step_target_ms,
                    "How long a step may take while answers are generated: shorter, and prompts of others disturb less")
        ->check(CLI::Range(1U, 10000U))
        ->capture_default_str()
        ->group("Engine");
    command
        .add_flag("--deterministic", flags.deterministic,
                  "Same answers whatever else runs, for every kind of weights (may be slower)")
        ->group("Engine");
    add_quantize_flags(command, flags);
}

void add_cache_flags(CLI::App& command, EngineFlags& flags) {
    command
        .add_option("--cache-memory", flags.cache_memory,
                    "Host memory for prompts that leave the KV cache, e.g. 512MiB; 0 for none (default: a twentieth of "
                    "the memory, at most 1GiB)")
        ->type_name("SIZE")
        ->group("Engine");
    command
        .add_option("--cache-disk", flags.cache_disk,
                    "Disk space on which conversations outlive a restart, per model, e.g. 20GiB; 0 for none (default: "
                    "4GiB)")
        ->type_name("SIZE")
        ->group("Engine");
    command
        .add_option("--cache-disk-total", flags.cache_disk_total,
                    "Disk space for the conversations of all models together: when one is loaded, folders of models "
                    "that no process uses go, those unused longest first; 0 for "
                    "no bound (default: four times --cache-disk)")
        ->type_name("SIZE")
        ->group("Engine");
    command.add_option("--cache-dir", flags.cache_dir, "Folder for them (default: $XDG_CACHE_HOME/hearth/kv)")
        ->type_name("DIR")
        ->group("Engine");
    command
        .add_option("--cache-key-file", flags.cache_key_file,
                    "Encrypt them with the key in FILE: 64 hexadecimal digits, as from `openssl rand -hex 32`")
        ->type_name("FILE")
        ->group("Engine");
}

void add_scheduling_flags(CLI::App& command, ServeFlags& flags) {
    struct Deadline {
        char const* name;
        char const* help;
        double& seconds;
    };
    for (auto const& [name, help, seconds] :
         {Deadline{"--queue-timeout", "Seconds a request may wait for its turn, if it does not say; 0: no limit",
                   flags.queue_timeout_s},
          Deadline{"--prefill-timeout", "Seconds from its turn to its first token; 0: no limit",
                   flags.prefill_timeout_s},
          Deadline{"--decode-timeout", "Seconds from its first token to its last; 0: no limit",
                   flags.decode_timeout_s}}) {
        command.add_option(name, seconds, help)
            ->check(CLI::Range(0.0, 86400.0))
            ->capture_default_str()
            ->group("Limits");
    }
    command
        .add_option("--tenant-header", flags.tenant_header,
                    "Header whose value is the caller's tenant: prefixes are shared within one, computing is shared "
                    "fairly among them. Only behind a proxy that sets it and strips it from what clients send")
        ->group("Tenants");
    command
        .add_option("--tenant-weight", flags.tenant_weights,
                    "NAME=N: the tenant gets N times the share of one that is not named (repeatable)")
        ->group("Tenants");
    command
        .add_option("--public-prefix", flags.public_prefixes,
                    "File with a system message that is no secret: what is computed of it is shared among all "
                    "tenants (repeatable)")
        ->type_name("FILE")
        ->group("Tenants");
    command.add_flag("--no-slots", flags.no_slots, "Do not answer GET /slots")->group("Network");
}

void add_serve(CLI::App& app, ServeFlags& flags, Action& action) {
    auto& command = *app.add_subcommand("serve", "Serve models over HTTP, in OpenAI's and Ollama's dialects");
    command.footer(
        "All models in the models folders are served by their names, loaded when they are asked for.\n"
        "Example:\n  hearth serve\n"
        "  hearth serve --model SmolLM2-135M-Instruct.Q4_1.gguf --port 8080\n"
        "  hearth serve --model chat=a.gguf --model code=b.gguf --ctx 4096");
    add_library_flags(command, flags);
    command.add_option("--host", flags.host, "Address to listen on")
        ->envname("HEARTH_HOST")
        ->capture_default_str()
        ->group("Network");
    command.add_option("-p,--port", flags.port, "Port to listen on; 0 takes a free one")
        ->check(CLI::Range(0U, 65535U))
        ->envname("HEARTH_PORT")
        ->capture_default_str()
        ->group("Network");
    command
        .add_flag("--ollama", flags.ollama,
                  "Also listen where Ollama's clients look: on OLLAMA_HOST, or else on 127.0.0.1:11434")
        ->group("Network");
    command
        .add_option("--allowed-host", flags.allowed_hosts,
                    "Further name accepted in the Host header (repeatable; * = any)")
        ->group("Network");
    command
        .add_option("--allowed-origin", flags.allowed_origins,
                    "Web origin that may call the API from a browser (repeatable; * = any)")
        ->group("Network");
    command
        .add_flag("--allow-unauthenticated", flags.allow_unauthenticated,
                  "Listen beyond loopback although there are no keys")
        ->group("Network");
    command.add_option("--max-connections", flags.connections, "Connections at the same time")
        ->check(CLI::Range(1U, 65536U))
        ->capture_default_str()
        ->group("Network");
    command.add_option("--max-body-mib", flags.body_mib, "Largest request body in MiB")
        ->check(CLI::Range(1U, 1024U))
        ->capture_default_str()
        ->group("Network");
    add_engine_flags(command, flags.engine);
    add_cache_flags(command, flags.engine);
    add_memory_flags(command, flags);
    command
        .add_option("--queue", flags.queue,
                    "Requests inside one model, running and waiting; above it the answer is 429. An eighth is left to "
                    "interactive ones")
        ->check(CLI::Range(1U, 65536U))
        ->capture_default_str()
        ->group("Limits");
    command.add_option("--request-timeout", flags.request_timeout_s, "Seconds one request may take")
        ->check(CLI::Range(0.001, 86400.0))
        ->capture_default_str()
        ->group("Limits");
    command
        .add_option("--ping-interval", flags.ping_interval_s,
                    "Seconds between comments that keep a waiting stream open")
        ->check(CLI::Range(0.01, 3600.0))
        ->capture_default_str()
        ->group("Limits");
    command.add_option("--grace", flags.grace_s, "Seconds running requests get after SIGTERM")
        ->check(CLI::Range(0.0, 3600.0))
        ->capture_default_str()
        ->group("Limits");
    add_scheduling_flags(command, flags);
    add_log_flags(command, flags.log);
    command.callback([&] { action = [&] { return serve(flags); }; });
}

void add_run(CLI::App& app, RunFlags& flags, Action& action) {
    auto& command = *app.add_subcommand("run", "Answer one prompt on stdout");
    command.footer(
        "The answer goes to stdout and nothing else does; text piped in follows the prompt.\n"
        "What a model says of itself (its Modelfile) goes before the defaults in brackets; flags go before both.\n"
        "Exit codes: 0 ok, 1 error, 2 usage, 3 no such model, 130 interrupted.\n"
        "Example:\n  hearth run SmolLM2-135M-Instruct.Q4_1 \"Sum this up:\" < notes.txt");
    command.add_option("model", flags.model, "GGUF file, Hugging Face folder or NAME in a models folder")->required();
    command.add_option("prompt", flags.prompt, "What to ask; read from stdin if absent");
    add_models_dir(command, flags.models_dirs);
    add_known_models(command, flags.known_models);
    auto* const system = command.add_option("-s,--system", flags.system, "System message");
    command.add_option("-n,--max-tokens", flags.max_tokens, "Stop after so many tokens (default: when the model ends)")
        ->check(CLI::Range(1U, 1U << 24));
    command.add_option("-t,--temperature", flags.temperature, "0 always picks the likeliest token [0.7]")
        ->check(CLI::Range(0.0F, 100.0F))
        ->group("Sampling");
    command.add_option("--top-p", flags.top_p, "Keep the likeliest tokens up to this sum of probability [1]")
        ->check(CLI::Range(0.0F, 1.0F))
        ->group("Sampling");
    command.add_option("--top-k", flags.top_k, "Keep so many likeliest tokens; 0 keeps all [0]")
        ->check(CLI::Range(0, 1 << 24))
        ->group("Sampling");
    command.add_option("--min-p", flags.min_p, "Keep tokens at least so likely, relative to the likeliest [0]")
        ->check(CLI::Range(0.0F, 1.0F))
        ->group("Sampling");
    command.add_option("--seed", flags.seed, "Same seed, same answer; negative draws one")->group("Sampling");
    command.add_option("--stop", flags.stop, "End the answer before this text (repeatable)")->allow_extra_args(false);
    command.add_flag("--raw", flags.raw, "Continue the prompt as it stands, without the chat template")
        ->excludes(system);
    command.add_flag("--json", flags.json, "Print one JSON object with the answer and its usage");
    command.add_flag("-q,--quiet", flags.quiet, "No statistics on stderr");
    add_engine_flags(command, flags.engine);
    flags.engine.cache_memory = flags.engine.cache_disk = "0";  // one answer leaves nothing
    add_log_flags(command, flags.log);
    command.callback([&] { action = [&] { return run(flags); }; });
}

void add_bench_tree(CLI::App& bench, BenchTreeFlags& flags, Action& action) {
    auto& command = *bench.add_subcommand("tree", "Measure look-ups in the scheduler's prefix tree");
    command.add_option("--tokens", flags.tokens, "Tokens in the tree")
        ->check(CLI::Range(bench::kTreeTokensMin, bench::kTreeTokensMax))
        ->capture_default_str();
    command
        .add_option("--prompt", flags.prompt, "Tokens of the prompts that are looked up, at most a quarter of those")
        ->check(CLI::Range(bench::kTreePromptMin, bench::kTreeTokensMax / 4))
        ->capture_default_str();
    command.add_option("--lookups", flags.lookups, "Look-ups of each kind")
        ->check(CLI::Range(1U, bench::kTreeLookupsMax))
        ->capture_default_str();
    command.add_option("--seed", flags.seed, "Names the texts")->capture_default_str();
    command.add_flag("--json", flags.json, "Print JSON instead of a table");
    command.add_option("--output", flags.output, "Also write the JSON to FILE");
    command.callback([&] { action = [&] { return bench_tree(flags); }; });
}

struct BenchFlags {
    BenchServeFlags serve;
    BenchMachineFlags machine;
    BenchTreeFlags tree;
};

void add_bench(CLI::App& app, BenchFlags& flags, Action& action) {
    auto& command = *app.add_subcommand("bench", "Measure a server, this machine or the prefix tree");
    command.require_subcommand(1);
    auto& [serve_flags, machine_flags, tree_flags] = flags;
    add_bench_tree(command, tree_flags, action);
    auto& serve =
        *command.add_subcommand("serve", "Drive any server of OpenAI's dialect and print latencies and throughput");
    serve.footer("Example:\n  hearth bench serve --url http://127.0.0.1:8080 --concurrency 16 --requests 64");
    for (auto const& spec : bench::serve_option_table()) {
        auto const name = "--" + std::string(spec.name);
        auto const store = [&serve_flags, &spec](std::string const& value) {
            serve_flags.options.emplace_back(spec.name, value);
        };
        if (spec.value.empty()) {
            serve.add_flag_callback(name, [store] { store(""); }, std::string(spec.help));
        } else {
            serve.add_option_function<std::string>(name, store, std::string(spec.help))
                ->type_name(std::string(spec.value));
        }
    }
    serve.add_flag("--json", serve_flags.json, "Print JSON instead of a table");
    serve.add_option("--output", serve_flags.output, "Also write the JSON to FILE");
    serve.callback([&] { action = [&] { return bench_serve(serve_flags); }; });

    auto& machine = *command.add_subcommand(
        "machine", "Measure this machine's own limits: memory bandwidth, INT8, BF16 and FP32 peaks");
    machine.add_flag("--json", machine_flags.json, "Print JSON instead of a table");
    machine.add_option("--output", machine_flags.output, "Also write the JSON to FILE");
    machine.callback([&] { action = [&] { return bench_machine(machine_flags); }; });
}

void add_sim_model(CLI::App& command, SimFlags& flags) {
    command.add_option("--ctx", flags.context, "Most tokens one request may use")
        ->check(CLI::Range(16U, 1U << 20))
        ->capture_default_str()
        ->group("Model");
    command.add_option("--kv-cells", flags.kv_cells, "Tokens the KV cache holds")
        ->check(CLI::Range(16U, 1U << 26))
        ->capture_default_str()
        ->group("Model");
    command.add_option("--seqs", flags.sequences, "Answers computed at the same time")
        ->check(CLI::Range(1U, 256U))
        ->capture_default_str()
        ->group("Model");
    command.add_option("--kept-seqs", flags.kept_sequences, "Sequence ids beyond those, for prefixes that wait")
        ->check(CLI::Range(0U, 1U << 16))
        ->capture_default_str()
        ->group("Model");
    command.add_option("--batch", flags.batch, "Tokens the backend takes in one step")
        ->check(CLI::Range(1U, 1U << 16))
        ->capture_default_str()
        ->group("Model");
    command.add_option("--queue", flags.queue, "Requests inside, running and waiting; above it they are refused")
        ->check(CLI::Range(1U, 65536U))
        ->capture_default_str()
        ->group("Model");
    command
        .add_option("--cache-memory", flags.cache_memory,
                    "Host memory for prefixes that leave the KV cache, e.g. 2GiB; 0 for none")
        ->capture_default_str()
        ->group("Model");
    command.add_option("--cell-bytes", flags.cell_bytes, "What a token of that takes")
        ->check(CLI::Range(1U, 1U << 30))
        ->capture_default_str()
        ->group("Model");
    command
        .add_option("--cost-from", flags.cost_from,
                    "FILE with what GET /api/v1/engine of a busy server said: costs as its scheduler learnt them; "
                    "--cost changes single ones")
        ->group("Model");
    command
        .add_option("--cost", flags.costs,
                    "NAME=NUMBER (repeatable): step-ms, row-ms, prompt-token-ms, attended-us, save-us-per-cell, "
                    "restore-us-per-cell, copy-us-per-cell, noise (0..1); default: SmolLM2-135M on two cores")
        ->group("Model");
}

void add_sim(CLI::App& app, SimFlags& flags, Action& action) {
    auto& command = *app.add_subcommand("sim", "Run the scheduler on recorded or made-up traffic, in virtual time");
    std::string footer = "Policies:\n";
    for (auto const& policy : sim::policies()) footer += fmt::format("  {:<12}{}\n", policy.name, policy.help);
    footer += "Shapes:\n";
    for (auto const& shape : sim::shapes()) footer += fmt::format("  {:<12}{}\n", shape.name, shape.help);
    footer +=
        "Example:\n  hearth sim --shape stall --policy hearth --policy fifo\n"
        "  hearth sim --trace mooncake_conversation.jsonl --length-scale 0.0625 --time-scale 2 --policy unbounded";
    command.footer(footer);
    auto* const trace =
        command.add_option("--trace", flags.trace, "File with recorded requests: Azure's CSV or Mooncake's JSON lines");
    command.add_option("--trace-format", flags.trace_format, "azure or mooncake (default: by the file's ending)")
        ->check(CLI::IsMember({"azure", "mooncake"}));
    command.add_option("--shape", flags.shape, "Made-up traffic, see below")->capture_default_str()->excludes(trace);
    command.add_option("--policy", flags.policies,
                       "Policy to simulate, see below (repeatable; default: hearth, no-cache, fifo)");
    command.add_option("--requests", flags.requests, "Requests of the shape, or of the trace at most")
        ->check(CLI::Range(1U, traffic::kTraceRowsMax))
        ->capture_default_str();
    command
        .add_option("--rate", flags.rate_per_s,
                    "Arrivals per second of shapes with open arrivals (default: the shape's)")
        ->check(CLI::Range(0.0, 1e6));
    command.add_option("--time-scale", flags.time_scale, "Multiplies the trace's times between arrivals")
        ->check(CLI::Range(0.0, 1e6))
        ->capture_default_str();
    command.add_option("--length-scale", flags.length_scale, "Multiplies the trace's prompt and answer lengths")
        ->check(CLI::Range(1e-6, 1e3))
        ->capture_default_str();
    command.add_option("--seed", flags.seed, "Names the run; equal seeds give equal results")->capture_default_str();
    command.add_option("--export", flags.export_file,
                       "Write the requests to FILE as JSON instead of simulating them, to be played to a real server");
    add_sim_model(command, flags);
    command.add_option("--good-ttft-ms", flags.good_ttft_ms, "First token within this time for a request to be good")
        ->check(CLI::Range(0.0, 1e9))
        ->capture_default_str()
        ->group("Report");
    command.add_option("--good-gap-ms", flags.good_gap_ms, "No longer gap between its tokens")
        ->check(CLI::Range(0.0, 1e9))
        ->capture_default_str()
        ->group("Report");
    command.add_option("--peer-slots", flags.peer_slots, "Slots of the llama-server it is compared with")
        ->check(CLI::Range(1U, 256U))
        ->capture_default_str()
        ->group("Report");
    command.add_option("--peer-ram-cells", flags.peer_ram_cells, "Tokens that one's cache in RAM holds")
        ->check(CLI::Range(std::uint64_t{1}, std::uint64_t{1} << 40))
        ->capture_default_str()
        ->group("Report");
    command.add_flag("--json", flags.json, "Print JSON instead of tables")->group("Report");
    auto* const check =
        command.add_flag("--check", flags.check, "Instead: random traffic, every invariant at every step")
            ->excludes(trace)
            ->group("Check");
    command.add_option("--seeds", flags.seeds, "Seeds to check, from --seed on")
        ->check(CLI::Range(std::uint64_t{1}, std::uint64_t{1} << 40))
        ->capture_default_str()
        ->needs(check)
        ->group("Check");
    command.callback([&] { action = [&] { return sim(flags); }; });
}

void add_version(CLI::App& app, bool& json, Action& action) {
    auto& command = *app.add_subcommand("version", "Print versions, and the CPU kernels of this machine");
    command.add_flag("--json", json, "Print a JSON object");
    command.callback([&] { action = [&] { return version(json); }; });
}

void add_completion(CLI::App& app, std::string& shell, Action& action) {
    auto& command = *app.add_subcommand("completion", "Print a completion script for bash, zsh or fish");
    command.footer("Example:\n  hearth completion bash > ~/.local/share/bash-completion/completions/hearth");
    command.add_option("shell", shell, "bash, zsh or fish")->required()->check(CLI::IsMember({"bash", "zsh", "fish"}));
    command.callback([&] {
        action = [&] {
            auto const script = completion_script(app, shell);
            if (!script) return kExitUsage;
            return write_out(*script);
        };
    });
}

// Names close to what was typed, for "did you mean".
std::size_t distance(std::string_view a, std::string_view b) {
    std::vector<std::size_t> row(b.size() + 1);
    for (std::size_t j = 0; j <= b.size(); ++j) row[j] = j;
    for (std::size_t i = 1; i <= a.size(); ++i) {
        std::size_t diagonal = row[0];
        row[0] = i;
        for (std::size_t j = 1; j <= b.size(); ++j) {
            auto const replaced = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
            diagonal = row[j];
            row[j] = std::min({row[j] + 1, row[j - 1] + 1, replaced});
        }
    }
    return row.back();
}

void suggest(CLI::App const& app, std::vector<std::string> const& arguments) {
    CLI::App const* command = &app;
    for (auto const& argument : arguments) {
        auto const subs = command->get_subcommands([&](CLI::App const* sub) { return sub->get_name() == argument; });
        if (!subs.empty()) {
            command = subs.front();
            continue;
        }
        auto const typed = argument.substr(0, argument.find('='));
        std::string best;
        std::size_t best_distance = 3;  // further apart is no typing error
        auto const consider = [&](std::string const& name) {
            auto const d = distance(typed, name);
            if (d > 0 && d < best_distance) best = name, best_distance = d;
        };
        if (typed.starts_with("--")) {
            if (command->get_option_no_throw(typed) != nullptr) continue;
            for (auto const* option : command->get_options()) {
                for (auto const& name : option->get_lnames()) consider("--" + name);
            }
        } else if (command == &app) {
            for (auto const* sub : app.get_subcommands([](CLI::App const*) { return true; })) consider(sub->get_name());
        }
        if (!best.empty()) fmt::print(stderr, "Did you mean '{}' instead of '{}'?\n", best, typed);
    }
}

int usage_error(CLI::App& app, CLI::ParseError const& error, std::vector<std::string> const& arguments) {
    if (error.get_exit_code() == static_cast<int>(CLI::ExitCodes::Success)) return app.exit(error);  // --help
    std::string command = "hearth";
    for (auto const* sub : app.get_subcommands()) command += " " + sub->get_name();
    bool const unknown = app.get_subcommands().empty() && !arguments.empty() && !arguments.front().starts_with('-');
    fmt::print(stderr, "hearth: {}\n", unknown ? "there is no command '" + arguments.front() + "'" : error.what());
    suggest(app, arguments);
    fmt::print(stderr, "Run `{} --help` for what there is.\n", command);
    return kExitUsage;
}

}  // namespace

int run_command_line(std::vector<std::string> arguments) {
    // Not parsed by CLI11: a worker's start is on the path of every load.
    if (!arguments.empty() && arguments.front() == "worker") {
        arguments.erase(arguments.begin());
        return worker(arguments);
    }
    if (!arguments.empty() && arguments.front() == "maker") {
        arguments.erase(arguments.begin());
        return maker(arguments);
    }
    CLI::App app("Hearth: a self-hosted AI inference server", "hearth");
    app.require_subcommand(1);
    app.get_formatter()->column_width(36);
    app.footer("`hearth COMMAND --help` explains a command.");
    bool print_version = false;
    app.add_flag("--version", print_version, "Print the version");

    Action action;
    ServeFlags serve_flags;
    RunFlags run_flags;
    ModelFlags model_flags;
    BenchFlags bench_flags;
    SimFlags sim_flags;
    std::string shell;
    bool json = false;
    add_serve(app, serve_flags, action);
    add_run(app, run_flags, action);
    add_model_commands(app, model_flags, action);
    add_bench(app, bench_flags, action);
    add_sim(app, sim_flags, action);
    add_version(app, json, action);
    add_completion(app, shell, action);

    if (arguments == std::vector<std::string>{"--version"}) return version(false);
    auto reversed = std::vector<std::string>(arguments.rbegin(), arguments.rend());  // as CLI11 wants them
    try {
        app.parse(std::move(reversed));
    } catch (CLI::ParseError const& error) {
        return usage_error(app, error, arguments);
    }
    return action();
}

}  // namespace hearth::app

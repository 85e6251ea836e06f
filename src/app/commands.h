// One plain struct of options and one function per command; cli.cpp fills the
// former and calls the latter. Each function returns the exit code (cli.h),
// writes results to stdout and everything else to stderr.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/result.h"

namespace hearth::app {

struct LogFlags {
    bool debug = false;
    std::string format = "human";  // human, json
    std::string file;              // empty: stderr
};

// Limits of one model's engine, shared by serve and run.
struct EngineFlags {
    std::uint32_t context = 0;   // 0: min(the model's, 8192)
    std::uint32_t kv_cells = 0;  // 0: max(context, 32768), less when memory is short
    std::uint64_t memory_bytes =
        0;  // what one model may take: 0: any; else it gets fewer cells where those are too many
    std::uint32_t max_seqs = 16;
    std::uint32_t threads = 0;  // 0: the cores this process may use
    std::string cpu_variant;    // empty: the best this machine runs
    bool no_prefix_cache = false;
    bool no_speculation = false;
    std::vector<std::string> drafts;  // FILE, NAME or, with several models, ID=FILE
    std::uint32_t draft_max = 12;
    std::uint32_t step_target_ms = 60;
    bool deterministic = false;
    std::string cache_memory;    // SIZE; empty: by the machine
    std::string cache_disk_total;  // SIZE; empty: four times that
    std::string cache_disk;      // SIZE; empty: kCacheDiskDefault for serve, none for run
    std::string cache_dir;       // empty: the user's cache folder
    std::string cache_key_file;  // empty: files are not sealed
    std::string quantize;        // profile, type or auto; empty: a model's weights as they are
    std::string quant_cache_size = "20GiB";
    std::string quant_cache_dir;  // empty: the user's cache folder
};

struct ServeFlags {
    std::vector<std::string> models;  // FILE, NAME or ID=FILE
    std::vector<std::string> adapters;         // NAME=BASE:FILE[:SCALE]
    std::vector<std::string> models_dirs;
    std::string data_dir;                      // empty: the user's data folder
    std::vector<std::string> allowed_models;   // patterns
    std::string known_models;                  // FILE; empty: the data folder's, if it has one
    std::uint32_t pulls = 2;                   // at once
    std::string pull_limit;                    // SIZE a second of all downloads and pushes; empty: none
    std::string while_quantizing = "wait";     // or original: what of a model that was not named is served
    std::string host = "127.0.0.1";
    std::uint16_t port = 8080;
    bool ollama = false;  // also listen where Ollama's clients look
    EngineFlags engine;
    std::uint32_t queue = 256;  // requests inside one model, running and waiting
    bool lazy = false;          // models are loaded by the first request for them
    std::string memory = "auto";  // of all loaded models: a size, auto (automatic_budget()), or unlimited
    std::uint32_t parked = 2;  // models that made room and come back fast, at most
    std::vector<std::string> keep_alives;  // SECONDS or NAME=SECONDS: as read_keep_alives() has it
    std::vector<std::string> instances;  // NAME=N: so many workers of one model
    std::vector<std::string> pins;       // names of models that stay once they are loaded
    std::vector<std::string> preloads;   // names of those that are loaded at start though `lazy`
    double request_timeout_s = 120;
    double grace_s = 30;
    double ping_interval_s = 15;
    double queue_timeout_s = 0, prefill_timeout_s = 0, decode_timeout_s = 0;  // 0: none
    std::string tenant_header;                                                // empty: one tenant
    std::vector<std::string> tenant_weights;                                  // NAME=N
    std::vector<std::string> public_prefixes;                                 // files
    bool no_slots = false;
    std::uint32_t connections = 1024;
    std::uint32_t body_mib = 32;
    std::vector<std::string> allowed_hosts, allowed_origins;
    bool allow_unauthenticated = false;
    LogFlags log;
};
int serve(ServeFlags const& given);

struct RunFlags {
    std::string model;
    std::string prompt;  // joined with stdin when that is not a terminal
    std::string system;
    std::vector<std::string> models_dirs;
    std::string known_models;  // as of ServeFlags
    EngineFlags engine;
    // Absent, and for `stop` empty: as the model says, else Hearth's default.
    std::optional<std::uint32_t> max_tokens;
    std::optional<float> temperature, top_p, min_p;
    std::optional<std::int32_t> top_k;
    std::optional<std::int64_t> seed;  // negative: random
    std::vector<std::string> stop;
    bool raw = false;   // no chat template
    bool json = false;  // one object instead of text
    bool quiet = false;
    LogFlags log;
};
int run(RunFlags const& flags);

struct PullFlags {
    std::string host;        // HOST[:PORT] of a server; empty: the usual one, if it answers
    std::string name;
    std::string source;      // empty: the name says it
    std::string models_dir;  // empty: the first of models_folders()
    std::string data_dir;      // empty: the user's data folder
    std::string known_models;  // as of ServeFlags
    std::string limit_rate;  // SIZE a second; empty: none
    std::uint32_t connections = 4;
    bool insecure = false;
    bool json = false;
};
int pull(PullFlags const& flags);

// For `run`: the file of a model that was pulled by that name; else pulls it, if its name says
// where it is: a known model's, or one with a host (hf.co/.., HOST/.., https://..), and says so
// on stderr. A folder of safetensors is its path. Nothing where the name does not say.
[[nodiscard]] Result<std::optional<std::string>> pull_to_run(RunFlags const& flags);

struct CreateFlags {
    std::string host;  // as of PullFlags
    std::string name;
    std::string file = "Modelfile";  // "-": standard input
    std::string quantize;            // profile, type or auto; empty: the weights as they are
    std::vector<std::string> models_dirs;
    bool json = false;
};
int create(CreateFlags const& flags);

struct ConvertFlags {
    std::string folder;
    std::string base;           // of an adapter: its model; else empty
    std::vector<std::string> models_dirs;
    std::string output;         // empty: FOLDER-TYPE.gguf here
    std::string type = "auto";  // auto, f32, f16, bf16
    bool force = false;
    bool json = false;
};
int convert(ConvertFlags const& flags);

struct QuantizeFlags {
    std::string model;          // FILE, FOLDER or NAME
    std::string form = "auto";  // profile, type or auto
    std::string output;         // empty: NAME-TYPE.gguf here
    std::vector<std::string> models_dirs;
    bool force = false;
    bool json = false;
};
int quantize(QuantizeFlags const& flags);

struct CheckFlags {
    std::vector<std::string> files;
    bool json = false;
};
int check(CheckFlags const& flags);

// Where models are looked for, and where what is known of them is kept.
struct CatalogFlags {
    std::vector<std::string> models_dirs;
    std::string data_dir;  // empty: the user's data folder
    bool json = false;
};

struct ListFlags {
    std::string host;          // as of PullFlags
    CatalogFlags catalog;
    bool known = false;       // names that can be got instead of models that are there
    std::string known_models;  // FILE with more of them
};
int list(ListFlags const& flags);

struct ShowFlags {
    std::string host;  // as of PullFlags
    CatalogFlags catalog;
    std::string model;
    bool verify = false;            // compute checksums
    bool confirm_template = false;  // a template that changed is the pinned one from now on
    bool modelfile = false;         // print the Modelfile that says the same, and nothing else
};
int show(ShowFlags const& flags);

struct ImportFlags {
    std::vector<std::string> folders;  // empty: well_known_folders()
    std::string data_dir;              // empty: the user's data folder
    bool forget = false;               // these are no models folders any more
    bool json = false;
};
int import_models(ImportFlags const& flags);

// `rm`, `cp` and `trust`: by the server, or in this process.
struct ChangeFlags {
    std::string host;  // as of PullFlags
    CatalogFlags catalog;
    std::string model;
    std::string destination;  // of cp
};  // with `catalog.json`: an object about what was done
int remove_model(ChangeFlags const& flags);
int copy_model(ChangeFlags const& flags);
int trust_model(ChangeFlags const& flags);

struct PushFlags {
    std::string host;  // as of PullFlags
    CatalogFlags catalog;
    std::string model;
    bool insecure = false;
    bool json = false;
};
int push(PushFlags const& flags);

struct PsFlags {
    std::string host;  // HOST[:PORT]; empty: the usual one
    bool json = false;
};
int ps(PsFlags const& flags);

struct StopFlags {
    std::string model;
    std::string host;  // HOST[:PORT]; empty: the usual one
    bool json = false;
};
int stop(StopFlags const& flags);

// Of a server that runs, unless the model is a file, or folders are given.
struct EstimateFlags {
    std::string model;
    std::string host;
    std::vector<std::string> models_dirs;
    std::uint32_t context = 0;   // 0: as serve has it by default
    std::uint32_t kv_cells = 0;  // likewise
    bool json = false;
};
int estimate(EstimateFlags const& flags);

// Options of `bench serve` as (name, value) pairs of bench::serve_option_table().
struct BenchServeFlags {
    std::vector<std::pair<std::string, std::string>> options;
    bool json = false;
    std::string output;  // also write the JSON here
};
int bench_serve(BenchServeFlags const& flags);

struct BenchMachineFlags {
    bool json = false;
    std::string output;
};
int bench_machine(BenchMachineFlags const& flags);

struct BenchTreeFlags {
    std::uint32_t tokens = 1'000'000;
    std::uint32_t prompt = 32'768;
    std::uint32_t lookups = 200;
    std::uint64_t seed = 1;
    bool json = false;
    std::string output;
};
int bench_tree(BenchTreeFlags const& flags);

struct SimFlags {
    std::string trace;         // empty: `shape`
    std::string trace_format;  // empty: by the file's ending
    std::string shape = "chat";
    std::vector<std::string> policies;  // empty: hearth, no-cache, fifo
    std::uint32_t requests = 2000;
    double rate_per_s = 0;  // 0: the shape's own
    double time_scale = 1;
    double length_scale = 1;
    std::uint64_t seed = 1;
    std::uint32_t context = 8192;
    std::uint32_t kv_cells = 32768;
    std::uint32_t sequences = 16;
    std::uint32_t kept_sequences = 64;
    std::uint32_t batch = 512;
    std::uint32_t queue = 256;
    std::string cost_from;           // a file
    std::vector<std::string> costs;  // NAME=NUMBER
    std::string cache_memory = "0";
    std::uint32_t cell_bytes = 23'040;  // of SmolLM2-135M with F16 KV
    std::string export_file;            // instead of simulating
    double good_ttft_ms = 5000;
    double good_gap_ms = 500;
    std::uint32_t peer_slots = 4;
    std::uint64_t peer_ram_cells = 372'827;  // 8 GiB at SmolLM2-135M's 23,040 bytes a token
    bool json = false;
    bool check = false;       // seeds instead of a table
    std::uint64_t seeds = 1000;  // with check
};
int sim(SimFlags const& flags);

// `hearth worker ...`: internal; arguments as serving::worker_arguments makes them.
int worker(std::vector<std::string> const& arguments);

// `hearth maker ...`: internal; arguments as formats::maker_arguments makes them.
int maker(std::vector<std::string> const& arguments);

int version(bool json);

}  // namespace hearth::app

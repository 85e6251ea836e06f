// What depends on the machine and the user's environment; read here and nowhere
// else, then handed down as plain values.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "app/commands.h"
#include "app/ollama_host.h"
#include "base/result.h"
#include "catalog/known_models.h"
#include "kvstore/options.h"
#include "library/puller.h"
#include "serving/launcher.h"
#include "telemetry/log.h"

namespace hearth::app {

// Those of models_folders() that were not imported.
[[nodiscard]] std::vector<std::string> own_models_folders(std::vector<std::string> const& given);

// Folders in which a model NAME is looked up: those given, then the user's cache, then
// what was imported into the data folder that `data_dir` means (data_folder()).
[[nodiscard]] std::vector<std::string> models_folders(std::vector<std::string> const& given,
                                                      std::string const& data_dir = {});

// Where other programs keep models, as their own variables and habits say: Ollama, Hugging
// Face's cache, LM Studio. Those that are there.
[[nodiscard]] std::vector<std::string> well_known_folders();

// The folder of what Hearth remembers: `given`, else $HEARTH_DATA_DIR, else the
// user's data folder; empty without a home.
[[nodiscard]] std::string data_folder(std::string const& given);

// The folder of models that were made of others: `given`, else in the user's cache;
// empty without a home.
[[nodiscard]] std::string quant_cache_folder(std::string const& given);

// What downloads are told by the environment; each is empty where nothing is set.
struct NetworkEnvironment {
    std::string hub_endpoint;  // HF_ENDPOINT
    std::string hub_token;     // HF_TOKEN
    std::string proxy;         // HTTPS_PROXY, https_proxy or ALL_PROXY
    std::string no_proxy;      // NO_PROXY or no_proxy
    std::string ca_file;       // SSL_CERT_FILE
};
[[nodiscard]] NetworkEnvironment network_environment();

// Path of this very binary, for starting workers.
[[nodiscard]] std::string executable_path();

// Variables that workers get: those of the sanitizers and of coverage, nothing else.
[[nodiscard]] std::vector<std::string> worker_environment();

[[nodiscard]] std::int64_t unix_seconds();
[[nodiscard]] std::int64_t unix_nanoseconds();

// Where Ollama's clients look for a server. Fails as parse_ollama_host().
[[nodiscard]] Result<Address> ollama_address();
// And who may call it from a browser. Fails as parse_ollama_origins().
[[nodiscard]] Result<std::vector<std::string>> ollama_origins();

// Where commands look for a server: HOST[:PORT] as `given`, else $HEARTH_HOST; the port is
// else $HEARTH_PORT, or 8080. Fails with `invalid_argument`.
[[nodiscard]] Result<Address> server_address(std::string const& given);

// 24 random letters and digits, for ids that nobody can guess.
[[nodiscard]] std::string random_suffix();

// Resolves `FILE`, `NAME` or `ID=FILE`, validates the file and fills the spec.
// `not_found` when there is no such file, `corrupt` when it is refused; the
// message says what to do.
// `weights`, if there is one, is what was made of the file and is served in its place; what
// the model is beside its weights is said where the file lies.
[[nodiscard]] Result<serving::ModelSpec> model_spec(std::string const& argument,
                                                    std::vector<std::string> const& folders, EngineFlags const& engine,
                                                    std::string const& weights = {});

// What takes a GGUF file, and would have to convert a folder of safetensors first, says so: `unsupported`.
[[nodiscard]] Status check_no_folder(std::string const& path);

// The same of a file that is known, for a model that is called `id`.
[[nodiscard]] Result<serving::ModelSpec> spec_of(std::string id, std::string const& path,
                                                 std::vector<std::string> const& folders, EngineFlags const& engine,
                                                 std::string const& weights = {});

// Nobody chose --ctx for what is served from `path` without being named: it gets what it can use of that.
// Fails as models::read_gguf_model().
[[nodiscard]] Result<EngineFlags> engine_for(std::string const& path, EngineFlags engine);

// Its cache gets what `engine.memory_bytes` leaves of one worker's part, beside the pages that its workers
// share, unless --kv-cells says how much: for who added adapters or workers to what spec_of() made.
// Fails as models::read_gguf_model().
[[nodiscard]] Status fit_cache(serving::ModelSpec& spec, EngineFlags const& engine);

// The short names there are: of `file`, else of known-models.json in the data folder if that
// is there, and the built-in ones. Fails, naming the file, for one that is no such list.
[[nodiscard]] Result<std::vector<catalog::KnownModel>> known_models(std::string const& file,
                                                                    std::string const& data_dir);

// How downloads reach others, as the environment says. Fails for a proxy that is none.
[[nodiscard]] Result<library::Network> network_settings();

// Gives each spec the draft model that `engine` names for it: `FILE` or `NAME` where
// there is one model, `ID=FILE` where there are several. Fails as model_spec(), and with
// `invalid_argument` for one that is not asked for, or whose model is not served.
[[nodiscard]] Status assign_drafts(std::vector<serving::ModelSpec>& specs, std::vector<std::string> const& folders,
                                   EngineFlags const& engine);

// "0", "4096", "512KiB", "1.5GiB"; `flag` is named in errors.
[[nodiscard]] Result<std::uint64_t> parse_size(std::string const& text, std::string const& flag);

// 32 bytes, written as 64 hexadecimal digits. Fails also when others than the user may read the file.
[[nodiscard]] Result<kvstore::SealKey> read_cache_key(std::string const& path);

// The texts of these files, each without its last line break. Few enough, and
// short enough, to be arguments of a worker.
[[nodiscard]] Result<std::vector<std::string>> read_public_prefixes(std::vector<std::string> const& paths);

[[nodiscard]] telemetry::LogOptions log_options(LogFlags const& flags);

// Prints "hearth: MESSAGE" to stderr and returns the exit code that fits.
int report(Error const& error);

// Writes `text` to stdout, all of it: a command whose result is lost on a full
// disk has failed. Returns kExitOk, or reports and returns what report() says.
[[nodiscard]] int write_out(std::string_view text);

}  // namespace hearth::app

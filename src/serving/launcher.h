// Launcher: starts a worker and hands back its connection. A parameter of the
// pool, so that tests run the same supervision against workers in threads.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "modelfile/definition.h"

namespace hearth::serving {

// A name for the model with adapters on top, for which its worker answers as well; or without
// any, with a definition of its own: what its requests begin with is the front's.
struct Variant {
    std::string id;  // the model's own: it is always served so
    std::vector<modelfile::Adapter> adapters;  // paths of GGUF files that passed models::check_adapter()
    std::shared_ptr<modelfile::Definition const> definition;  // the front's, as the model's
    std::uint64_t bytes = 0;  // the front's: of its matrices, those that no name before it has
    std::optional<Duration> keep_alive{};  // the front's, of one that joined: as the model's
    bool joined = false;  // the front's: a model with files of its own, see Pool::join()
    bool pinned = false;  // the front's: that model is, and so is the worker
    bool gone = false;    // nobody is served by that name; its place stays, since sets go by number
    [[nodiscard]] bool plain() const { return adapters.empty(); }  // no worker needs to know of it
    bool operator==(Variant const&) const = default;
};

inline constexpr std::uint32_t kInstancesMax = 16;

// What one model's worker is started with.
struct ModelSpec {
    std::string id;                       // the name clients use
    std::vector<std::string> aliases;
    std::string path;                     // GGUF file (first split)
    std::uint32_t context_request = 0;    // 0: the engine's default
    std::uint32_t context_default = 0;    // the front's: what that comes to; 0: not known
    std::uint32_t kv_cells = 0;           // 0: the engine's default
    std::uint32_t sequences_max = 16;
    std::uint32_t threads = 0;            // 0: the engine's default
    std::uint32_t prefix_cache = 1;       // 0: every prompt is computed from its start
    std::uint32_t speculation = 1;        // 0: no token is guessed ahead
    std::string draft_path;               // GGUF file of a smaller model that guesses ahead; empty: none
    std::uint32_t draft_max = 0;          // tokens it guesses in one step; 0: the engine's default
    std::uint32_t step_ms_target = 0;     // 0: the engine's default
    std::uint32_t deterministic = 0;      // 1: no answer depends on what else is computed
    std::uint64_t cache_memory_bytes = 0; // for prefixes that leave the KV cache
    std::uint64_t cache_disk_total_bytes = 0;  // for the files of all models; 0: no bound
    std::uint64_t cache_disk_bytes = 0;   // and for their files in
    std::string cache_folder;             // this folder; empty: none
    std::string cache_key_file;           // files are sealed with the key in there; empty: they are not
    std::string cpu_variant;              // empty: best
    std::string chat_template;            // Jinja, in place of the file's; empty: the file's
    std::vector<Variant> variants;  // at most domain::kAdapterSetsMax; the N-th is the worker's N-th set of adapters
    std::vector<std::pair<std::string, double>> tenant_weights;  // shares of tenants; 1 for one that is not named
    std::vector<std::string> public_prefixes;  // system messages whose prefixes all tenants share
    std::shared_ptr<modelfile::Definition const> definition;  // the front's: what requests begin with; null: nothing
    std::uint64_t memory_bytes = 0;  // the front's: what it is thought to take when loaded; 0: not known
    std::uint64_t weights_bytes = 0;  // the front's: of that, what is read of the file; 0: not known
    std::uint64_t scratch_bytes = 0;  // the front's: of that, what computing takes
    std::uint64_t adapter_bytes = 0;  // the front's: of that, matrices of adapters
    std::uint64_t process_bytes = 0;  // the front's: of that, program and vocabulary; 0: not known, it is never parked
    std::uint64_t shared_bytes = 0;  // the front's: of that, weights all its workers share; 0: none, or not known
    std::uint32_t instances = 1;  // the front's: workers that serve it, at most kInstancesMax
    bool lazy = false;  // the front's: loaded by the first request for it
    bool pinned = false;  // the front's: once loaded it stays
    std::optional<Duration> keep_alive;  // the front's: idle for so long, it goes; absent: never by itself
    std::uint32_t requests_max = 0;  // set by the pool: what the engine must be able to hold
    std::uint32_t credit_tokens = 0;  // set by the pool: tokens a request may emit before the first grant
    bool operator==(ModelSpec const&) const = default;
};

// The set of adapters behind one of the model's names; 0: none.
[[nodiscard]] std::uint32_t adapters_of(ModelSpec const& spec, std::string_view name);

// The set that its worker puts on for that name: of a plain one none.
[[nodiscard]] std::uint32_t worn_by(ModelSpec const& spec, std::string_view name);

// Whether a worker of `base` is what one of `other` would be but for its adapters: they are the
// same file, which is not looked at. A context may be larger than was wished, and workers more, each
// with its part of the cores and the cache; cells are what memory left either.
[[nodiscard]] bool can_share_worker(ModelSpec const& base, ModelSpec other);

// One running worker. Destroying the handle kills what still runs. One thread.
class WorkerHandle {
public:
    virtual ~WorkerHandle() = default;
    [[nodiscard]] virtual int fd() const = 0;  // our end of the socketpair, -1 once released
    virtual int release_fd() = 0;  // hands it to the caller, who closes it
    virtual void kill() = 0;  // at once, SIGKILL; idempotent
    // How it ended, in words ("exit status 1", "signal 11 (Segmentation fault)"), empty while it runs. Never blocks.
    [[nodiscard]] virtual std::string exit_reason() = 0;
    [[nodiscard]] virtual std::int64_t pid() const = 0;  // 0 for a thread
};

// One thread. A handle may outlive its launcher.
class Launcher {
public:
    virtual ~Launcher() = default;
    // Fails with `io`: the executable cannot be started, no descriptors are left.
    [[nodiscard]] virtual Result<std::unique_ptr<WorkerHandle>> launch(ModelSpec const& spec) = 0;
};

// Starts `executable worker --fd N ...` over a socketpair: stdin and stdout are
// /dev/null, stderr is ours, all other descriptors closed, signals as a new
// program expects them, a process group of its own (a terminal's Ctrl-C stops
// the front, which lets requests finish), the environment exactly
// `environment` ("KEY=value"). The worker itself sees to it that it dies with
// its parent (worker::prepare_process()). No zombie stays: ended workers are
// reaped by exit_reason(), the next launch() or the launcher's end.
[[nodiscard]] std::unique_ptr<Launcher> make_process_launcher(std::string executable,
                                                              std::vector<std::string> environment);

// The arguments a process launcher passes after "worker", and what the worker
// parses. Aliases, ids of variants and what says "the front's" are not passed; a
// variant that is gone is one without adapters.
[[nodiscard]] std::vector<std::string> worker_arguments(ModelSpec const& spec, int fd);
// Fails with `invalid_argument` naming the argument.
[[nodiscard]] Result<std::pair<ModelSpec, int>> parse_worker_arguments(std::vector<std::string> const& arguments);

}  // namespace hearth::serving

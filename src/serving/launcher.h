// Launcher: starts a worker and hands back its connection. A parameter of the
// pool, so that tests run the same supervision against workers in threads.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/result.h"

namespace hearth::serving {

// What one model's worker is started with.
struct ModelSpec {
    std::string id;                       // the name clients use
    std::vector<std::string> aliases;
    std::string path;                     // GGUF file (first split)
    std::uint32_t context_request = 0;    // 0: the engine's default
    std::uint32_t kv_cells = 0;           // 0: the engine's default
    std::uint32_t sequences_max = 16;
    std::uint32_t threads = 0;            // 0: the engine's default
    std::string cpu_variant;              // empty: best
};

class WorkerHandle {
public:
    virtual ~WorkerHandle() = default;
    [[nodiscard]] virtual int fd() const = 0;      // our end of the socketpair; the pool takes it with release_fd()
    virtual int release_fd() = 0;
    virtual void kill() = 0;                       // at once, SIGKILL
    // How it ended, in words ("exit status 1", "signal 11 (SIGSEGV)"), empty while it runs. Never blocks.
    [[nodiscard]] virtual std::string exit_reason() = 0;
    [[nodiscard]] virtual std::int64_t pid() const = 0;  // 0 for a thread
};

class Launcher {
public:
    virtual ~Launcher() = default;
    [[nodiscard]] virtual Result<std::unique_ptr<WorkerHandle>> launch(ModelSpec const& spec) = 0;
};

// `executable worker --fd N ...` over a socketpair, all other descriptors
// closed, default signal mask, parent-death signal set, environment emptied but
// for what `environment` lists.
[[nodiscard]] std::unique_ptr<Launcher> make_process_launcher(std::string executable, std::vector<std::string> environment);

// The arguments a process launcher passes, and what `hearth worker` parses.
[[nodiscard]] std::vector<std::string> worker_arguments(ModelSpec const& spec, int fd);
[[nodiscard]] Result<std::pair<ModelSpec, int>> parse_worker_arguments(std::vector<std::string> const& arguments);

}  // namespace hearth::serving

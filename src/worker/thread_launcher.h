// ThreadLauncher: workers as threads of this process, behind the same interface
// and the same frames as processes. For tests of everything above, and for
// measuring without a process boundary.
//
// kill() cuts the connection, as the end of a process would; the thread itself
// ends after its current load or step. The destructor waits for all threads, so
// whatever blocks a backend must have been released by then.
//
// Threads: one.
#pragma once

#include <functional>
#include <memory>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "serving/launcher.h"
#include "worker/worker.h"

namespace hearth::worker {

class ThreadLauncher final : public serving::Launcher {
public:
    // What a model's worker loads; called at each launch.
    using Load = std::function<BackendFactory(serving::ModelSpec const&)>;

    ThreadLauncher(Load load, engine::Options engine, Clock const& clock);
    ~ThreadLauncher() override;
    ThreadLauncher(ThreadLauncher const&) = delete;
    ThreadLauncher& operator=(ThreadLauncher const&) = delete;

    // `spec.requests_max` and `credit_tokens` override the engine options, if set.
    [[nodiscard]] Result<std::unique_ptr<serving::WorkerHandle>> launch(serving::ModelSpec const& spec) override;

    // Kills the running workers of that model.
    void kill_all(std::string_view id);

private:
    class Thread;
    class Handle;

    Load const load_;
    engine::Options const engine_;
    Clock const& clock_;
    std::vector<std::shared_ptr<Thread>> threads_;
};

}  // namespace hearth::worker

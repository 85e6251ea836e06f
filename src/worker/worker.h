// Worker: the thin host of an engine at the end of a connection.
//
// run() sends Loading frames, loads the backend, sends Ready, then answers
// frames until the connection closes or Close arrives. One reader thread (the
// caller's) handles frames and templates; the engine thread writes one Step
// frame per step. A front that is gone ends the worker at once.
#pragma once

#include <functional>
#include <memory>

#include "base/clock.h"
#include "base/result.h"
#include "engine/engine.h"
#include "llama/backend.h"

namespace hearth::worker {

// Reports load progress 0..1.
using Progress = std::function<void(float)>;
using BackendFactory = std::function<Result<std::unique_ptr<llama::Backend>>(Progress const&)>;

struct Options {
    int fd = -1;                // the connection; owned by run()
    engine::Options engine;
    std::string isolation;      // copied into ModelInfo
};

// Returns when the worker is done: ok() after Close or a closed connection, the
// load's error after LoadFailed, `corrupt` for a broken frame.
[[nodiscard]] Status run(Options options, BackendFactory const& load, Clock const& clock);

}  // namespace hearth::worker

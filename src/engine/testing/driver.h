// Driver: an EngineCore on a recording backend and a manual clock, with a
// transcript per request. Every step checks the books against the backend's.
//
// What it does is in driver.cpp: two dozen tests include this, in three builds.
#pragma once

#include <cstddef>
#include <map>
#include <string>

#include "engine/engine_core.h"
#include "engine/testing/recording_backend.h"
#include "engine/testing/transcript.h"

namespace hearth::engine::testing {

// A prompt of `size` byte tokens.
[[nodiscard]] domain::GenerateRequest prompt_of(std::size_t size);

// "0 ", "1 ", ... so that every token of a text is told apart.
[[nodiscard]] std::string counted(int count);

// A model that says that.
[[nodiscard]] llama::ScriptedOptions counting(int count);

class Driver {
public:
    static constexpr std::uint32_t kPromptTokens = 256;

    explicit Driver(llama::ScriptedOptions scripted = {},
                    Options options = {.prompt_tokens = kPromptTokens, .prefix_cache = false, .reserve_output = false});
    ~Driver();

    ManualClock clock;
    RecordingBackend backend;
    Preparer preparer;
    EngineCore core;
    std::map<RequestId, Transcript> transcripts;

    Transcript& of(RequestId id);
    void submit(RequestId id, domain::GenerateRequest request);
    void cancel(RequestId id);
    void step();
    // Until nothing is left to do; fails the test if that takes absurdly long.
    void run();
    void collect();
    void expect_empty();
};

}  // namespace hearth::engine::testing

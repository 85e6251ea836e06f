// Driver: an EngineCore on a recording backend and a manual clock, with a
// transcript per request. Every step checks the books against the backend's.
#pragma once

#include <cmath>
#include <map>
#include <memory>
#include <string>
#include <utility>

#include "engine/engine_core.h"
#include "engine/testing/recording_backend.h"
#include "engine/testing/transcript.h"

namespace hearth::engine::testing {

// A prompt of `size` byte tokens.
inline domain::GenerateRequest prompt_of(std::size_t size) {
    domain::GenerateRequest request;
    request.prompt = domain::TokenPrompt{std::vector<domain::Token>(size, 'x')};
    request.sampling.temperature = 0;
    return request;
}

// "0 ", "1 ", ... so that every token of a text is told apart.
inline std::string counted(int count) {
    std::string text;
    for (int i = 0; i < count; ++i) text += std::to_string(i) + " ";
    return text;
}

// A model that says that.
inline llama::ScriptedOptions counting(int count) {
    llama::ScriptedOptions options;
    for (int i = 0; i < count; ++i) options.pieces.push_back(std::to_string(i) + " ");
    return options;
}

class Driver {
public:
    static constexpr std::uint32_t kPromptTokens = 256;

    explicit Driver(llama::ScriptedOptions scripted = {},
                    Options options = {.prompt_tokens = kPromptTokens, .prefix_cache = false, .reserve_output = false})
        : backend(std::move(scripted)), preparer(backend, 1), core(backend, options, clock, preparer.end_tokens()) {}

    ManualClock clock;
    RecordingBackend backend;
    Preparer preparer;
    EngineCore core;
    std::map<RequestId, Transcript> transcripts;

    Transcript& of(RequestId id) { return transcripts[id]; }

    void submit(RequestId id, domain::GenerateRequest request) {
        auto prepared = preparer.prepare(id, std::move(request), clock.now());
        ASSERT_TRUE(prepared.has_value()) << prepared.error().message;
        core.add(std::move(prepared).value());
    }

    void cancel(RequestId id) {
        core.cancel(id);
        collect();
    }

    void step() {
        core.step();
        collect();
    }

    // Until nothing is left to do; fails the test if that takes absurdly long.
    void run() {
        for (int i = 0; core.has_work(); ++i) {
            ASSERT_LT(i, 100000) << "the engine does not get anywhere";
            step();
        }
    }

    void collect() {
        for (auto const& event : core.events()) transcripts[event.request].add(event.event);
        core.clear_events();
        core.check_integrity();
        ASSERT_EQ(core.stats().kv_used, backend.scripted().cells_used());
    }

    void expect_empty() {
        core.forget();
        core.check_integrity();
        EXPECT_EQ(core.stats().kv_used, 0U);
        EXPECT_EQ(core.stats().running, 0U);
        EXPECT_EQ(core.stats().waiting, 0U);
        EXPECT_EQ(backend.scripted().sequences_used(), 0U);
    }
};

}  // namespace hearth::engine::testing
